//! Bright windows, white rectangles, signs: wide even areas, alone or in rows.

use super::quad::{Corners, Quad, corners, inside};
use super::scene::Scene;
use crate::damage::material::Color;
use crate::damage::random::{Random, lerp, rotated};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let center = scene.place(random);
    let axis = rotated((1.0, 0.0), 0.02 * random.normal());
    let slant = random.range(0.0, 0.6);
    let color = fill(scene, random);
    let strength = random.range(0.85, 1.0);
    if random.chance(0.4) {
        // 1. A façade: rows of windows, some of them unlit.
        let half = (unit * random.range(40.0, 200.0), unit * random.range(30.0, 150.0));
        let wall = corners(random, center, half, axis, slant);
        let (columns, rows) = (2 + random.below(7), 1 + random.below(5));
        let gap = random.range(0.15, 0.4);
        let dark = scene.dark(random);
        let lit = random.range(0.4, 1.0);
        let mut layers = [scene.layer(color, 0.03), scene.layer(dark, 0.05)];
        for cell in 0..columns * rows {
            let (column, row) = (cell % columns, cell / columns);
            let at = |u: f32, v: f32| {
                let u = (column as f32 + lerp(gap, 1.0 - gap, u)) / columns as f32;
                inside(&wall, u, (row as f32 + lerp(gap, 1.0 - gap, v)) / rows as f32)
            };
            let window = [at(0.0, 0.0), at(1.0, 0.0), at(1.0, 1.0), at(0.0, 1.0)];
            let layer = &mut layers[usize::from(!random.chance(lit))];
            layer.push(Quad::new(window, scene.canvas.softness(), strength));
        }
        layers.iter().for_each(|layer| scene.canvas.paint(layer));
    } else {
        // 2. One or a few sheets, with a frame or a second sheet inside now and then.
        for _ in 0..1 + random.below(3) {
            let half = (unit * random.skewed(6.0, 90.0), unit * random.skewed(6.0, 70.0));
            let place = (
                center.0 + unit * 60.0 * random.normal(),
                center.1 + unit * 60.0 * random.normal(),
            );
            let sheet = corners(random, place, half, axis, slant);
            paint(scene, sheet, color, strength);
            if random.chance(0.4) {
                let inset = random.range(0.04, 0.25);
                let inner = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)].map(|(u, v)| {
                    inside(&sheet, lerp(inset, 1.0 - inset, u), lerp(inset, 1.0 - inset, v))
                });
                let color = fill(scene, random);
                paint(scene, inner, color, strength);
            }
        }
    }
}

fn paint(scene: &mut Scene<'_>, corners: Corners, color: Color, strength: f32) {
    let mut layer = scene.layer(color, 0.03);
    layer.push(Quad::new(corners, scene.canvas.softness(), strength));
    scene.canvas.paint(&layer);
}

/// Mostly bright, also the scene's own colours.
fn fill(scene: &Scene<'_>, random: &mut Random) -> Color {
    match random.below(5) {
        0 => scene.tone(random),
        1 => [random.range(0.85, 1.0); 3],
        _ => scene.light(random),
    }
}
