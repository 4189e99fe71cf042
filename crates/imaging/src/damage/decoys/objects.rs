//! Things that people make: plates, balls, cups, boxes and stripes of even colours with smooth outlines, shaded, one before
//! another.

use super::quad::{Quad, corners, inside};
use super::scene::Scene;
use crate::damage::blob::Blob;
use crate::damage::material::Color;
use crate::damage::random::{Noise, Random, lerp};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let center = scene.place(random);
    let spread = unit * random.range(20.0, 160.0);
    for _ in 0..1 + random.below(9) {
        let place = (center.0 + spread * random.normal(), center.1 + spread * random.normal());
        let radius = unit * random.skewed(5.0, 130.0);
        let color = paint(scene, random);
        match random.below(4) {
            0 => round(scene, random, place, radius, color),
            1 => ring(scene, random, place, radius, color),
            2 => block(scene, random, place, radius, color),
            _ => stripes(scene, random, place, radius, color),
        }
    }
}

/// Colours of the scene, and those of paint, which few landscapes have.
fn paint(scene: &Scene<'_>, random: &mut Random) -> Color {
    match random.below(6) {
        0 => [random.range(0.8, 1.0); 3],
        1 => [random.range(0.0, 0.15); 3],
        2 | 3 => {
            let (high, low) = (random.range(0.5, 1.0), random.range(0.0, 0.4));
            let mut color = [low, lerp(low, high, random.unit()), high];
            color.rotate_left(random.below(3));
            if random.chance(0.5) {
                color.swap(0, 1);
            }
            // Nothing is red in a black-and-white picture.
            scene.natural(random, &[color])
        }
        _ => scene.tone(random),
    }
}

fn ellipse(
    scene: &Scene<'_>,
    random: &mut Random,
    place: (f32, f32),
    radius: f32,
    stretch: f32,
    axis: (f32, f32),
) -> Blob {
    let rough = if random.chance(0.7) { 0.0 } else { random.range(0.0, 0.1) };
    Blob {
        radii: (radius, radius * stretch),
        axis,
        rough,
        octaves: 1,
        ..Blob::new(&scene.canvas, place, radius, Noise::new(random))
    }
}

/// A ball or a plate, with the shade on its far side and the light on its near one.
fn round(scene: &mut Scene<'_>, random: &mut Random, place: (f32, f32), radius: f32, color: Color) {
    let (stretch, axis) = (random.range(0.3, 1.0), random.direction());
    let body = ellipse(scene, random, place, radius, stretch, axis);
    let mut layer = scene.layer(color, random.range(0.0, 0.08));
    layer.push(body);
    scene.canvas.paint(&layer);
    shade(scene, random, place, radius * stretch, color);
}

/// Soft light and shade on what has been painted.
fn shade(scene: &mut Scene<'_>, random: &mut Random, place: (f32, f32), radius: f32, color: Color) {
    let towards = random.direction();
    for (side, goal) in [(1.0, 0.0), (-1.0, 1.0)] {
        if random.chance(0.4) {
            continue;
        }
        let at = (
            place.0 + side * 0.45 * radius * towards.0,
            place.1 + side * 0.45 * radius * towards.1,
        );
        let size = radius * random.range(0.15, 0.5);
        let strength = random.range(0.2, 0.7);
        let amount = random.range(0.4, 0.9);
        let mut layer = scene.layer(color.map(|value| lerp(value, goal, amount)), 0.0);
        layer.push(Blob {
            softness: size * random.range(0.3, 1.5) + scene.canvas.softness(),
            rough: 0.0,
            strength,
            ..Blob::new(&scene.canvas, at, size, Noise::new(random))
        });
        scene.canvas.paint(&layer);
    }
}

/// A rim with something else inside: a cup, a wheel, a lens.
fn ring(scene: &mut Scene<'_>, random: &mut Random, place: (f32, f32), radius: f32, color: Color) {
    let (stretch, axis) = (random.range(0.4, 1.0), random.direction());
    let mut size = radius;
    let mut color = color;
    for _ in 0..2 + random.below(3) {
        let body = ellipse(scene, random, place, size, stretch, axis);
        let mut layer = scene.layer(color, random.range(0.0, 0.08));
        layer.push(Blob { rough: 0.0, ..body });
        scene.canvas.paint(&layer);
        size *= random.range(0.5, 0.95);
        color = paint(scene, random);
    }
    shade(scene, random, place, size, color);
}

/// A box, seen from anywhere.
fn block(scene: &mut Scene<'_>, random: &mut Random, place: (f32, f32), radius: f32, color: Color) {
    let half = (radius, radius * random.range(0.2, 1.0));
    let (axis, slant) = (random.direction(), random.range(0.0, 0.7));
    let sheet = corners(random, place, half, axis, slant);
    let mut layer = scene.layer(color, random.range(0.0, 0.08));
    layer.push(Quad::new(sheet, scene.canvas.softness(), 1.0));
    scene.canvas.paint(&layer);
    shade(scene, random, place, half.1, color);
}

/// A flag, a slatted wall, a keyboard: stripes of two colours in turn.
fn stripes(
    scene: &mut Scene<'_>,
    random: &mut Random,
    place: (f32, f32),
    radius: f32,
    color: Color,
) {
    let half = (radius, radius * random.range(0.3, 1.0));
    let (axis, slant) = (random.direction(), random.range(0.0, 0.5));
    let sheet = corners(random, place, half, axis, slant);
    let other = paint(scene, random);
    let count = 2 + random.below(9);
    let share = random.range(0.25, 0.75);
    let mut ground = scene.layer(other, 0.03);
    ground.push(Quad::new(sheet, scene.canvas.softness(), 1.0));
    let mut bands = scene.layer(color, 0.03);
    for band in 0..count {
        let from = band as f32 / count as f32;
        let to = from + share / count as f32;
        let band = [(0.0, from), (1.0, from), (1.0, to), (0.0, to)];
        let band = band.map(|(u, v)| inside(&sheet, u, v));
        bands.push(Quad::new(band, scene.canvas.softness(), 1.0));
    }
    scene.canvas.paint(&ground);
    scene.canvas.paint(&bands);
    shade(scene, random, place, half.1, other);
}
