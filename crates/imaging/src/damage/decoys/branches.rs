//! Branches and twigs: every one thinner than what it leaves, the last with leaves or buds now and then.

use super::line::{Line, clean};
use super::scene::Scene;
use crate::damage::blob::Blob;
use crate::damage::canvas::Layer;
use crate::damage::material::Color;
use crate::damage::random::{Noise, Random, rotated};

const BARK: [Color; 5] = [
    [0.10, 0.08, 0.07],
    [0.20, 0.14, 0.10],
    [0.34, 0.26, 0.19],
    [0.46, 0.42, 0.37],
    [0.82, 0.80, 0.75],
];

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    // Trunks rise from below or reach in from a side.
    let (width, height) = (scene.canvas.width(), scene.canvas.height());
    let (start, heading) = match random.below(4) {
        0 => ((-4.0, random.unit() * height), (1.0, 0.0)),
        1 => ((width + 4.0, random.unit() * height), (-1.0, 0.0)),
        2 => ((random.unit() * width, height + 4.0), (0.0, -1.0)),
        _ => (scene.place(random), (0.0, -1.0)),
    };
    let color = if random.chance(0.5) {
        scene.contrast(random, start)
    } else {
        scene.natural(random, &BARK)
    };
    let mut wood = scene.layer(color, 0.12);
    let trunk = Line {
        start,
        heading: rotated(heading, 0.05 * random.normal()),
        length: unit * random.range(70.0, 300.0),
        half: (unit * random.range(1.5, 7.5), 0.0),
        bend: 0.04 * random.normal(),
        sway: 0.08,
        strength: 1.0,
    };
    let mut tips = Vec::new();
    grow(scene, random, &mut wood, trunk, 4, &mut tips);
    scene.canvas.paint(&wood);
    if random.chance(0.35) {
        let mut leaves = scene.layer(scene.tone(random), 0.1);
        let size = unit * random.range(1.2, 4.5);
        let noise = Noise::new(random);
        for (index, &tip) in tips.iter().enumerate() {
            let stretch = random.range(1.0, 1.6);
            let size = size * random.range(0.6, 1.2);
            leaves.push(Blob {
                radii: (size * stretch, size / stretch),
                axis: random.direction(),
                rough: 0.15,
                octaves: 2,
                ..Blob::new(&scene.canvas, tip, size, noise.other(index as u32))
            });
        }
        scene.canvas.paint(&leaves);
    }
}

fn grow(
    scene: &Scene<'_>,
    random: &mut Random,
    layer: &mut Layer,
    branch: Line,
    generations: u32,
    tips: &mut Vec<(f32, f32)>,
) {
    let unit = scene.canvas.unit;
    let thin = branch.half.0 * 0.25;
    let branch = Line { half: (branch.half.0, thin), ..branch };
    let pieces = ((branch.length / (7.0 * unit)).ceil() as usize).clamp(4, 40);
    let knots = branch.knots(random, pieces);
    clean(scene, layer, random, &knots);
    tips.extend(knots.last().map(|knot| (knot.x, knot.y)));
    if generations == 0 || tips.len() > 260 {
        return;
    }
    let children = 3 + random.below(5);
    let mut side = random.sign();
    for child in 0..children {
        let t = 0.25 + 0.7 * (child as f32 + random.unit()) / children as f32;
        let at = ((t * pieces as f32) as usize).min(pieces - 1);
        let (here, next) = (knots[at], knots[at + 1]);
        let (dx, dy) = (next.x - here.x, next.y - here.y);
        let long = (dx * dx + dy * dy).sqrt().max(1e-3);
        // Mostly to one side, then to the other.
        side = if random.chance(0.8) { -side } else { side };
        let twig = Line {
            start: (here.x, here.y),
            heading: rotated((dx / long, dy / long), side * random.range(0.06, 0.17)),
            length: branch.length * random.range(0.3, 0.75) * (1.15 - 0.5 * t),
            half: (branch.half.0 * (1.0 - 0.6 * t) * random.range(0.45, 0.8), 0.0),
            bend: -side * random.range(0.0, 0.07),
            ..branch
        };
        if twig.length > 5.0 * unit {
            grow(scene, random, layer, twig, generations - 1, tips);
        }
    }
}
