//! The thin contour of a shape: closed, smooth or angular, sometimes with a second line beside it.

use super::line::{clean, knot};
use super::scene::Scene;
use crate::damage::random::{Random, direction, lerp};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let half = unit * random.skewed(0.45, 2.0);
    for _ in 0..1 + random.below(4) {
        let center = scene.place(random);
        let color = scene.contrast(random, center);
        let mut layer = scene.layer(color, 0.05);
        let radius = unit * random.skewed(12.0, 150.0);
        let stretch = random.range(0.5, 1.0);
        let axis = random.direction();
        // Harmonics of the radius, or corners on it.
        let angular = random.chance(0.35);
        let corners = 3 + random.below(6);
        let waves: [(f32, f32); 4] = std::array::from_fn(|order| {
            (0.22 * random.normal() / (order + 1) as f32, random.unit())
        });
        let away = |turn: f32| -> f32 {
            let strays = waves.iter().enumerate().map(|(order, &(size, phase))| {
                size * direction((order + 2) as f32 * turn + phase).0
            });
            (1.0 + strays.sum::<f32>()).max(0.1)
        };
        let point = |turn: f32, radius: f32| {
            let (x, y) = direction(turn);
            let (x, y) = (x * radius, y * radius * stretch);
            (center.0 + x * axis.0 - y * axis.1, center.1 + x * axis.1 + y * axis.0)
        };
        let pieces = ((radius * 6.3 / (7.0 * unit)) as usize).clamp(16, 200);
        // An arc of it, or all.
        let share = if random.chance(0.4) { random.range(0.3, 0.8) } else { 1.0 };
        let start = random.unit();
        for line in 0..1 + random.below(2) {
            let radius = radius * (1.0 - 0.05 * line as f32 * random.range(1.0, 2.0));
            let knots: Vec<_> = (0..=pieces)
                .map(|index| {
                    let t = index as f32 / pieces as f32;
                    let turn = start + share * t;
                    let at = if angular {
                        // Straight from corner to corner.
                        let side = (turn * corners as f32).floor();
                        let [from, to] = [side, side + 1.0].map(|corner| {
                            let turn = corner.rem_euclid(corners as f32) / corners as f32;
                            point(turn, radius * away(turn))
                        });
                        let t = turn * corners as f32 - side;
                        (lerp(from.0, to.0, t), lerp(from.1, to.1, t))
                    } else {
                        point(turn, radius * away(turn))
                    };
                    // The line swells like light along an edge.
                    knot(at, half * (1.0 + 0.5 * direction(2.0 * turn).0), 0.9)
                })
                .collect();
            clean(scene, &mut layer, random, &knots);
        }
        scene.canvas.paint(&layer);
    }
}
