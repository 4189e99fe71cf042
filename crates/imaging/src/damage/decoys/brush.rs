//! Strokes of a brush: bundles of soft parallel bristle lines that share a curve, in neighbouring colours.

use super::line::{Line, clean};
use super::scene::Scene;
use crate::damage::random::{Random, lerp, rotated};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let center = scene.place(random);
    let heading = random.direction();
    let spread = unit * random.range(10.0, 90.0);
    let wide = unit * random.range(4.0, 16.0);
    let length = unit * random.range(30.0, 150.0);
    for _ in 0..2 + random.below(9) {
        let middle = (center.0 + spread * random.normal(), center.1 + spread * random.normal());
        let way = rotated(heading, 0.03 * random.normal());
        let base = scene.color_at((middle.0.max(0.0), middle.1.max(0.0)));
        let other = scene.contrast(random, middle);
        let mix = random.range(0.3, 1.0);
        let bend = 0.06 * random.normal();
        let start = (middle.0 - 0.5 * length * way.0, middle.1 - 0.5 * length * way.1);
        let bristles = 3 + random.below(6);
        for bristle in 0..bristles {
            let offset = wide * ((bristle as f32 + 0.5) / bristles as f32 - 0.5);
            let light = 1.0 + 0.16 * random.normal();
            let color = [0, 1, 2].map(|i| lerp(base[i], other[i], mix) * light);
            let mut layer = scene.layer(color, 0.10);
            let line = Line {
                start: (
                    start.0 - offset * way.1 + unit * 3.0 * random.normal() * way.0,
                    start.1 + offset * way.0 + unit * 3.0 * random.normal() * way.1,
                ),
                heading: way,
                length: length * random.range(0.75, 1.1),
                half: (0.6 * wide / bristles as f32, 0.35 * wide / bristles as f32),
                bend,
                sway: 0.01,
                strength: random.range(0.5, 0.95),
            };
            let knots = line.knots(random, 12);
            clean(scene, &mut layer, random, &knots);
            scene.canvas.paint(&layer);
        }
    }
}
