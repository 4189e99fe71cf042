//! Highlights: points of light with rays, glints on water, soft reflections.

use super::line::{Line, clean};
use super::scene::Scene;
use crate::damage::blob::Blob;
use crate::damage::random::{Noise, Random, lerp, rotated};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let tint = scene.light(random);
    let white = random.range(0.6, 1.0);
    let mut layer = scene.layer(tint.map(|value| lerp(value, 1.0, white)), 0.02);
    let noise = Noise::new(random);
    let center = scene.place(random);
    let even = |blob: Blob| Blob { rough: 0.12, octaves: 1, ..blob };
    match random.below(3) {
        0 => {
            // 1. Glints on water: flat, in a band, smaller with the distance.
            let wide = unit * random.range(30.0, 200.0);
            for index in 0..random.range(30.0, 160.0) as u32 {
                let depth = random.unit();
                let place = (
                    center.0 + wide * random.normal() * (0.4 + 0.6 * depth),
                    center.1 + unit * 120.0 * depth,
                );
                let radius = unit * random.skewed(0.8, 4.0) * (0.4 + 0.6 * depth);
                layer.push(even(Blob {
                    radii: (radius * random.range(2.0, 4.0), radius.max(0.5)),
                    strength: random.range(0.4, 1.0),
                    ..Blob::new(&scene.canvas, place, radius, noise.other(index))
                }));
            }
        }
        1 => {
            // 2. Lamps: a core with a halo, and rays now and then.
            let rays = random.chance(0.5);
            let turn = random.unit();
            for index in 0..1 + random.below(14) as u32 {
                let place = scene.place(random);
                let radius = unit * random.skewed(1.2, 6.0);
                layer.push(even(Blob::new(&scene.canvas, place, radius, noise.other(index))));
                layer.push(even(Blob {
                    softness: radius * 2.5 + 1.0,
                    strength: random.range(0.2, 0.5),
                    ..Blob::new(&scene.canvas, place, radius * 2.2, noise.other(index))
                }));
                for ray in 0..if rays { 4 } else { 0 } {
                    let line = Line {
                        start: place,
                        heading: rotated((1.0, 0.0), turn + 0.25 * ray as f32),
                        length: radius * random.range(3.0, 7.0),
                        half: (radius * 0.4, 0.1),
                        bend: 0.0,
                        sway: 0.0,
                        strength: 0.9,
                    };
                    let knots = line.knots(random, 5);
                    clean(scene, &mut layer, random, &knots);
                }
            }
        }
        _ => {
            // 3. Reflections on something glossy: soft, burnt-out areas.
            for index in 0..1 + random.below(6) as u32 {
                let place = (
                    center.0 + unit * 40.0 * random.normal(),
                    center.1 + unit * 40.0 * random.normal(),
                );
                let radius = unit * random.skewed(3.0, 38.0);
                let stretch = random.range(0.35, 1.0);
                layer.push(even(Blob {
                    radii: (radius / stretch, radius * stretch),
                    axis: random.direction(),
                    softness: radius * random.range(0.15, 0.9) + scene.canvas.softness(),
                    strength: random.range(0.7, 1.0),
                    ..Blob::new(&scene.canvas, place, radius, noise.other(index))
                }));
            }
        }
    }
    scene.canvas.paint(&layer);
}
