//! Stains: water with its tide line, foxing, ink.
//!
//! Water dissolves dirt and leaves it where it dries, so the rim is darker than the inside. Foxing is rusty,
//! soft and comes in swarms. Ink is nearly opaque, with droplets around it.

use super::blob::Blob;
use super::canvas::{Canvas, Layer};
use super::material::{Color, Material};
use super::random::{Noise, Random, lerp};

const WATER: [Color; 3] = [[0.70, 0.56, 0.36], [0.62, 0.54, 0.42], [0.76, 0.60, 0.44]];
const FOXING: [Color; 2] = [[0.58, 0.36, 0.18], [0.66, 0.46, 0.26]];
const INK: [Color; 4] =
    [[0.05, 0.05, 0.07], [0.07, 0.09, 0.24], [0.20, 0.11, 0.06], [0.30, 0.19, 0.10]];

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let noise = Noise::new(random);
    // One sort for certain, the others now and then.
    let sure = random.below(3);
    for (sort, chance) in [0.25, 0.3, 0.15].into_iter().enumerate() {
        if sort != sure && !random.chance(chance * severity) {
            continue;
        }
        let noise = noise.other(sort as u32 + 1);
        match sort {
            0 => water(canvas, random, severity, noise),
            1 => foxing(canvas, random, severity, noise),
            _ => ink(canvas, random, severity, noise),
        }
    }
}

fn anywhere(canvas: &Canvas, random: &mut Random) -> (f32, f32) {
    // Some stains come in over the border.
    (random.range(-0.08, 1.08) * canvas.width(), random.range(-0.08, 1.08) * canvas.height())
}

fn water(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let unit = canvas.unit;
    for index in 0..random.count(lerp(0.2, 1.6, severity)) as u32 + 1 {
        // Each stain dried by itself, so overlapping ones add up.
        let mut layer = Layer::new(Material::Tint(WATER[random.below(WATER.len())]), 0.0);
        let radius = unit * random.range(22.0, 50.0 + 70.0 * severity);
        let stretch = random.range(0.65, 1.0);
        let noise = noise.other(10 * index + 1);
        let blob = Blob {
            radii: (radius / stretch, radius * stretch),
            axis: random.direction(),
            rough: random.range(0.2, 0.45),
            feature: random.range(0.6, 1.2),
            softness: unit * random.range(2.0, 5.0) + 1.0,
            strength: random.range(0.14, 0.24 + 0.3 * severity),
            rim: random.range(0.15, 0.3 + 0.4 * severity),
            ..Blob::new(canvas, anywhere(canvas, random), radius, noise)
        };
        layer.push(blob);
        // Where it dried in stages there are lines within the line.
        if random.chance(0.6) {
            let inner = random.range(0.6, 0.88);
            layer.push(Blob {
                radii: (blob.radii.0 * inner, blob.radii.1 * inner),
                strength: blob.strength * 0.8,
                rim: blob.rim * random.range(0.4, 0.9),
                ..blob
            });
        }
        canvas.paint(&layer);
    }
}

fn foxing(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let unit = canvas.unit;
    let mut layer = Layer::new(Material::Tint(FOXING[random.below(FOXING.len())]), 0.0);
    let swarm = anywhere(canvas, random);
    let spread = random.range(0.2, 0.6);
    for index in 0..random.count(lerp(14.0, 130.0, severity)) as u32 {
        let center = (
            swarm.0 + spread * canvas.width() * random.normal(),
            swarm.1 + spread * canvas.height() * random.normal(),
        );
        let radius = (unit * random.skewed(0.8, 3.0 + 5.0 * severity)).max(0.5);
        layer.push(Blob {
            rough: 0.5,
            softness: radius * random.range(0.7, 1.5) + 0.8,
            strength: random.range(0.35, 0.95),
            ..Blob::new(canvas, center, radius, noise.other(index + 1))
        });
    }
    canvas.paint(&layer);
}

fn ink(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let unit = canvas.unit;
    let color = INK[random.below(INK.len())];
    let mut layer = Layer::new(Material::Flat { color, grain: 0.03 }, 0.0);
    for index in 0..random.count(lerp(0.3, 2.2, severity)) as u32 + 1 {
        let noise = noise.other(100 * index + 1);
        let center = anywhere(canvas, random);
        let radius = unit * random.range(4.0, 9.0 + 24.0 * severity);
        let strength = random.range(0.82, 1.0);
        layer.push(Blob {
            rough: random.range(0.15, 0.35),
            feature: random.range(0.7, 1.2),
            octaves: 2,
            softness: unit * 1.2 + 0.6,
            strength,
            rim: 0.1,
            ..Blob::new(canvas, center, radius.max(0.5), noise)
        });
        let flung = random.direction();
        for drop in 0..random.count(3.0 + 12.0 * severity) as u32 {
            let (dx, dy) = random.direction();
            let away = radius * random.range(1.05, 1.8);
            let thrown = radius * random.skewed(0.0, 3.0);
            let center =
                (center.0 + away * dx + thrown * flung.0, center.1 + away * dy + thrown * flung.1);
            let radius = (radius * random.skewed(0.04, 0.22)).max(0.5);
            let noise = noise.other(drop + 1);
            layer.push(Blob { rough: 0.15, strength, ..Blob::new(canvas, center, radius, noise) });
        }
    }
    canvas.paint(&layer);
}
