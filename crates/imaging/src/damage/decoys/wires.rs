//! Wires, ropes and masts: long even lines, straight or hanging, side by side.

use super::line::{clean, knot, straight};
use super::scene::Scene;
use crate::damage::random::{Random, rotated};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let place = scene.place(random);
    let color = if random.chance(0.5) { scene.dark(random) } else { scene.contrast(random, place) };
    let mut layer = scene.layer(color, 0.03);
    let half = unit * random.skewed(0.45, 2.2);
    match random.below(3) {
        0 => hanging(scene, random, &mut layer, half),
        1 => stays(scene, random, &mut layer, half),
        _ => parallel(scene, random, &mut layer, half),
    }
    scene.canvas.paint(&layer);
}

type Layer = crate::damage::canvas::Layer;

/// Wires that sag between the sides of the picture, in sets.
fn hanging(scene: &Scene<'_>, random: &mut Random, layer: &mut Layer, half: f32) {
    let (width, height) = (scene.canvas.width(), scene.canvas.height());
    let unit = scene.canvas.unit;
    let (left, right) = (random.range(-0.1, 1.0) * height, random.range(-0.1, 1.0) * height);
    let sag = random.range(0.0, 0.16) * width;
    let apart = unit * random.range(4.0, 26.0);
    // They come closer together with the distance.
    let far = random.range(0.4, 1.0);
    for index in 0..1 + random.below(7) {
        let pieces = ((width / (14.0 * unit)).ceil() as usize).clamp(2, 300);
        let offset = index as f32 * apart;
        let knots: Vec<_> = (0..=pieces)
            .map(|at| {
                let t = at as f32 / pieces as f32;
                let y = left + offset + (right + far * offset - left - offset) * t;
                let y = y + 4.0 * sag * t * (1.0 - t);
                knot((t * width, y), half * (1.0 + (far - 1.0) * t), 1.0)
            })
            .collect();
        clean(scene, layer, random, &knots);
    }
}

/// A mast or pole with stays and cross-bars.
fn stays(scene: &Scene<'_>, random: &mut Random, layer: &mut Layer, half: f32) {
    let unit = scene.canvas.unit;
    let foot = scene.place(random);
    let tall = unit * random.range(80.0, 360.0);
    let top = (foot.0 + 0.03 * tall * random.normal(), foot.1 - tall);
    let thick = half * random.range(2.0, 4.0);
    straight(scene, layer, random, (foot, top), thick, 1.0);
    for side in [-1.0, 1.0] {
        let spread = tall * random.range(0.15, 0.6);
        for index in 0..random.below(5) {
            let t = 1.0 - 0.16 * index as f32;
            let from = (foot.0 + (top.0 - foot.0) * t, foot.1 + (top.1 - foot.1) * t);
            let to = (foot.0 + side * spread * (1.0 - 0.1 * index as f32), foot.1);
            straight(scene, layer, random, (from, to), half * 0.7, 1.0);
        }
    }
    for index in 0..random.below(4) {
        let t = 0.95 - 0.14 * index as f32 * random.range(0.6, 1.4);
        let y = foot.1 - tall * t;
        let x = foot.0 + (top.0 - foot.0) * t;
        let reach = tall * random.range(0.06, 0.2);
        straight(scene, layer, random, ((x - reach, y), (x + reach, y)), half * 1.3, 1.0);
    }
}

/// Straight lines of one direction, evenly apart: rails, rigging, cables.
fn parallel(scene: &Scene<'_>, random: &mut Random, layer: &mut Layer, half: f32) {
    let unit = scene.canvas.unit;
    let center = scene.place(random);
    let heading = random.direction();
    let long = unit * random.range(150.0, 900.0);
    let apart = unit * random.range(3.0, 30.0);
    // Perspective lets them converge.
    let converge = if random.chance(0.5) { 0.01 * random.normal() } else { 0.0 };
    for index in 0..1 + random.below(9) {
        let way = rotated(heading, converge * index as f32);
        let offset = apart * index as f32;
        let middle = (center.0 - offset * heading.1, center.1 + offset * heading.0);
        let from = (middle.0 - 0.5 * long * way.0, middle.1 - 0.5 * long * way.1);
        let to = (middle.0 + 0.5 * long * way.0, middle.1 + 0.5 * long * way.1);
        straight(scene, layer, random, (from, to), half, 1.0);
    }
}
