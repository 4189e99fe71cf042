//! Window frames, grids, fences and tiles: regular bars, bright or dark, seen at a slant.

use super::line::straight;
use super::quad::{corners, inside};
use super::scene::Scene;
use crate::damage::random::{Random, rotated};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let center = scene.place(random);
    // Built things stand upright; wire fences run along the diagonals.
    let diagonal = random.chance(0.2);
    let turn = if diagonal { 0.125 } else { 0.0 } + 0.012 * random.normal();
    let axis = rotated((1.0, 0.0), turn);
    let half = (unit * random.range(25.0, 230.0), unit * random.range(25.0, 170.0));
    let slant = if random.chance(0.6) { random.range(0.0, 0.9) } else { 0.05 };
    let frame = corners(random, center, half, axis, slant);
    let cell = unit * random.range(7.0, 60.0);
    let many = |half: f32| ((2.0 * half / cell).round() as usize).clamp(1, 40);
    let (columns, rows) = match random.below(5) {
        // Pickets, or shelves and shutters.
        0 => (many(half.0), 1),
        1 => (1, many(half.1)),
        _ => (many(half.0), many(half.1)),
    };
    let thick = unit * random.skewed(0.4, 3.0);
    let color = scene.contrast(random, center);
    let mut layer = scene.layer(color, 0.05);
    let strength = random.range(0.7, 1.0);
    // A brick wall has every other row shifted.
    let bricks = columns > 1 && rows > 2 && random.chance(0.2);
    for column in 0..=columns {
        let u = column as f32 / columns as f32;
        let outer = column == 0 || column == columns;
        let half = thick * if outer { 1.5 } else { 1.0 };
        if bricks && !outer {
            for row in 0..rows {
                let shift = if row % 2 == 0 { 0.0 } else { 0.5 / columns as f32 };
                let ends =
                    [row, row + 1].map(|row| inside(&frame, u - shift, row as f32 / rows as f32));
                straight(scene, &mut layer, random, (ends[0], ends[1]), half, strength);
            }
        } else {
            let ends = (inside(&frame, u, 0.0), inside(&frame, u, 1.0));
            straight(scene, &mut layer, random, ends, half, strength);
        }
    }
    for row in 0..=rows {
        let v = row as f32 / rows as f32;
        let half = thick * if row == 0 || row == rows { 1.5 } else { 1.0 };
        let ends = (inside(&frame, 0.0, v), inside(&frame, 1.0, v));
        straight(scene, &mut layer, random, ends, half, strength);
    }
    scene.canvas.paint(&layer);
}
