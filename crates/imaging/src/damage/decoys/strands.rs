//! Hair, whiskers and blades of grass: thin, tapering, together.

use super::line::{Line, clean};
use super::scene::Scene;
use crate::damage::material::Color;
use crate::damage::random::{Random, lerp, rotated};

/// Black, brown, red, blond, grey.
const HAIR: [Color; 6] = [
    [0.07, 0.06, 0.05],
    [0.22, 0.14, 0.09],
    [0.45, 0.27, 0.14],
    [0.78, 0.64, 0.42],
    [0.72, 0.70, 0.68],
    [0.93, 0.90, 0.85],
];

const GRASS: [Color; 5] = [
    [0.30, 0.42, 0.16],
    [0.48, 0.52, 0.24],
    [0.70, 0.62, 0.36],
    [0.16, 0.24, 0.10],
    [0.82, 0.78, 0.58],
];

/// A few strands of their own, a tuft that hangs together, or whiskers from one spot.
pub(super) fn hair(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let root = scene.place(random);
    let sampled = random.chance(0.6);
    let base = if sampled { scene.contrast(random, root) } else { scene.natural(random, &HAIR) };
    let style = random.below(3);
    let (count, length, half) = match style {
        0 => (random.range(3.0, 30.0), random.range(50.0, 260.0), random.range(0.5, 1.5)),
        1 => (random.range(40.0, 170.0), random.range(60.0, 280.0), random.range(0.5, 1.5)),
        _ => (random.range(4.0, 12.0), random.range(50.0, 190.0), random.range(0.7, 1.7)),
    };
    let along = random.direction();
    let down = rotated(along, 0.25 + 0.05 * random.normal());
    let wide = match style {
        0 => 0.5 * scene.side(),
        1 => unit * random.range(20.0, 120.0),
        _ => unit * random.range(3.0, 14.0),
    };
    let fan = [0.10, 0.02, 0.09][style];
    let bend = 0.16 * random.normal();
    // Strands of different brightness, the lighter ones on top.
    let shades = if style == 1 { 3 } else { 1 };
    for shade in 0..shades {
        let light = lerp(0.65, 1.25, (shade as f32 + 1.0) / (shades as f32 + 1.0));
        let mut layer = scene.layer(base.map(|value| value * light), 0.05);
        for _ in 0..(count / shades as f32).ceil() as usize {
            let at = random.normal() * 0.6;
            let start = (
                root.0 + wide * at * along.0 + unit * 5.0 * random.normal(),
                root.1 + wide * at * along.1 + unit * 5.0 * random.normal(),
            );
            let strand = Line {
                start,
                heading: rotated(down, fan * (random.normal() + at)),
                length: unit * length * random.range(0.5, 1.15),
                half: (unit * half * random.range(0.7, 1.3), 0.1),
                bend: bend + 0.05 * random.normal(),
                sway: 0.12,
                strength: random.range(0.6, 1.0),
            };
            let knots = strand.knots(random, 14);
            clean(scene, &mut layer, random, &knots);
        }
        scene.canvas.paint(&layer);
    }
}

/// A stand of blades on a common ground line.
pub(super) fn grass(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let ground = scene.place(random);
    let wide = unit * random.range(40.0, 260.0);
    let tall = unit * random.range(25.0, 130.0);
    let half = unit * random.range(0.6, 2.2);
    let wind = 0.05 * random.normal();
    let sampled = random.chance(0.5);
    let count = random.range(12.0, 45.0);
    for depth in 0..3 {
        let color = if sampled { scene.tone(random) } else { scene.natural(random, &GRASS) };
        let mut layer = scene.layer(color, 0.08);
        for _ in 0..random.count(count) {
            let blade = Line {
                start: (
                    ground.0 + wide * 0.6 * random.normal(),
                    ground.1 + unit * (4.0 * random.normal() + 5.0 * depth as f32),
                ),
                heading: rotated((0.0, -1.0), wind + 0.03 * random.normal()),
                length: tall * random.range(0.4, 1.2),
                half: (half * random.range(0.6, 1.3), 0.15),
                bend: wind + 0.09 * random.normal(),
                sway: 0.03,
                strength: random.range(0.8, 1.0),
            };
            let knots = blade.knots(random, 8);
            clean(scene, &mut layer, random, &knots);
        }
        scene.canvas.paint(&layer);
    }
}
