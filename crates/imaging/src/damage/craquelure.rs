//! The network of fine cracks in old paint or varnish.
//!
//! A drying or ageing layer shrinks and splits: first into large cells, then each cell again, every crack
//! running until it meets an older one, mostly at a right angle. Cracks of later generations are finer.

use super::canvas::{Canvas, Layer};
use super::material::Material;
use super::network::{Growth, Network, Path, distance, roughened};
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let (width, height) = (canvas.width(), canvas.height());
    // Cracks hold dirt, or on a dark picture show the light ground.
    let light = random.chance(0.28);
    let material = if light {
        Material::Paper { age: random.range(0.3, 1.0) }
    } else {
        let black = random.range(0.05, 0.16);
        Material::Flat { color: [black * 1.2, black, black * 0.8], grain: 0.2 }
    };
    let mut layer = Layer::new(material, if light { 0.10 } else { 0.04 });
    let noise = Noise::new(random);

    // 1. Grow the cells, one generation after the other.
    let mut network = Network::new(width, height, 2.5 * unit, random);
    let grain = random.unit();
    let size = random.range(26.0, 58.0) * lerp(1.25, 0.7, severity) * unit;
    let opacity = random.range(0.5, 0.95);
    let base = lerp(0.32, 0.62, severity) * random.range(0.85, 1.25);
    // How much of the picture has cracked: patches at first, everything at last.
    let limit = lerp(0.35, -0.7, severity);
    let patch = 1.0 / (150.0 * unit);
    let mut cracks: Vec<(Path, f32)> = Vec::new();
    for (generation, (spacing, weight)) in
        [(1.0, 1.0), (0.55, 0.72), (0.30, 0.5)].iter().enumerate()
    {
        let radius = size * spacing;
        let growth = Growth {
            step: 2.5 * unit,
            length: radius * [24.0, 14.0, 9.0][generation],
            jitter: 0.016,
            wander: 0.004,
            kinks: 0.05,
        };
        let tries = (2.2 * width * height / (radius * radius)).min(30_000.0) as usize + 1;
        for _ in 0..tries {
            let start = (random.unit() * width, random.unit() * height);
            let spread = noise.fractal(start.0 * patch, start.1 * patch, 2, 0.5);
            // Finer generations need more stress.
            if spread < limit + 0.16 * generation as f32 || network.occupied(start, 0.5 * radius) {
                continue;
            }
            // Along or across the grain of the support, which itself wanders over the picture.
            let wander = 0.10 * noise.other(1).at(start.0 * patch * 0.7, start.1 * patch * 0.7);
            let across = if random.chance(0.5) { 0.25 } else { 0.0 };
            let turn = grain + wander + across + 0.025 * random.normal();
            let heading = rotated((1.0, 0.0), turn);
            for way in [heading, (-heading.0, -heading.1)] {
                let path = network.grow(random, start, way, &growth);
                cracks.push((path, weight * random.range(0.7, 1.3)));
            }
        }
    }

    // 2. Paint them.
    let brush = Brush {
        fray: 0.4,
        relief: if random.chance(0.45) { 2.0 * unit.max(0.8) } else { 0.0 },
        slope: random.range(0.08, 0.16),
        ..Brush::plain(canvas, noise.other(2))
    };
    for (index, (path, weight)) in cracks.iter().enumerate() {
        let noise = noise.other(50 + index as u32);
        let points = roughened(&path.points, 1, 0.3, random);
        let (total, mut walked) = (path.length().max(1e-3), 0.0);
        let mut last = path.points[0];
        let knots: Vec<Knot> = points
            .iter()
            .map(|&point| {
                walked += distance(last, point);
                last = point;
                let tip = if path.met { 1.0 } else { smoothstep(0.0, 0.3, 1.0 - walked / total) };
                let along = walked / unit;
                let slow = noise.along(along / 30.0);
                let quick = noise.other(1).along(along / 5.0);
                let spread = noise_at(brush.noise, point, patch);
                let half = base * weight * (1.0 + 0.45 * slow + 0.3 * quick) * (0.6 + 0.4 * tip);
                let strength = opacity
                    * (0.45 + 0.55 * weight).min(1.0)
                    * tip
                    * smoothstep(-0.95, -0.45, slow + 0.4 * quick)
                    * (0.8 + 0.2 * spread);
                let half_width = (half * unit).max(0.28);
                Knot { x: point.0, y: point.1, half_width, strength: strength.clamp(0.0, 1.0) }
            })
            .collect();
        stroke(&mut layer, canvas, &knots, brush);
    }
    canvas.paint(&layer);
}

/// Slow unevenness over the picture.
fn noise_at(noise: Noise, (x, y): (f32, f32), scale: f32) -> f32 {
    noise.other(3).at(x * scale, y * scale)
}
