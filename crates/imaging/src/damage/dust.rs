//! Specks, hairs and fibres on the print or on the scanner's glass.

use super::blob::Blob;
use super::canvas::{Canvas, Layer};
use super::exposed::exposed;
use super::material::Material;
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let unit = canvas.unit;
    let (width, height) = (canvas.width(), canvas.height());
    let noise = Noise::new(random);
    let mut light = Layer::new(Material::Paper { age: random.skewed(0.0, 0.6) }, 0.0);
    let black = random.range(0.03, 0.16);
    let mut dark = Layer::new(Material::Flat { color: [black; 3], grain: 0.1 }, 0.0);
    let dark_share = if random.chance(0.25) { 0.7 } else { 0.12 };
    let mut grey = Layer::new(exposed(canvas, random), 0.0);
    let grey_share = if random.chance(0.3) { 0.4 } else { 0.05 };

    // 1. Specks: most are barely a pixel, a few are grains with a shape. They gather in places.
    let gather = 1.0 / (110.0 * unit);
    let wanted = random.count(lerp(30.0, 420.0, severity)) as u32;
    for index in 0..wanted {
        let center = (random.unit() * width, random.unit() * height);
        let density = 0.55 + 0.9 * noise.fractal(center.0 * gather, center.1 * gather, 2, 0.5);
        if !random.chance(density) {
            continue;
        }
        let large = random.chance(0.06 + 0.05 * severity);
        let radius = if large { random.skewed(1.0, 3.2) } else { random.range(0.35, 0.9) };
        let radius = (radius * unit).max(0.4);
        let stretch = random.range(0.55, 1.0);
        let speck = Blob {
            radii: (radius / stretch, radius * stretch),
            axis: random.direction(),
            rough: 0.5,
            strength: if large { random.range(0.6, 1.0) } else { random.skewed(0.2, 0.95) },
            ..Blob::new(canvas, center, radius, noise.other(index + 1))
        };
        let layer = if random.chance(grey_share) {
            &mut grey
        } else if random.chance(dark_share) {
            &mut dark
        } else {
            &mut light
        };
        layer.push(speck);
    }

    // 2. Hairs and fibres, curling.
    for index in 0..random.count(lerp(1.0, 9.0, severity)) as u32 {
        let noise = noise.other(20_000 + index);
        let mut position = (random.unit() * width, random.unit() * height);
        let mut heading = random.direction();
        let length = unit * random.skewed(7.0, 40.0 + 50.0 * severity);
        let step = 1.6 * unit;
        let steps = ((length / step).ceil() as usize).clamp(3, 400);
        let curl = random.normal() * 0.014;
        let half = random.range(0.28, 0.6);
        let opacity = random.range(0.35, 0.95);
        let knots: Vec<Knot> = (0..=steps)
            .map(|at| {
                let t = at as f32 / steps as f32;
                let along = at as f32 * 1.6;
                let knot = Knot {
                    x: position.0,
                    y: position.1,
                    half_width: (half * unit).max(0.3),
                    // Out of focus where it stands off the surface.
                    strength: opacity
                        * (0.7 + 0.3 * noise.other(1).along(along / 12.0))
                        * smoothstep(0.0, 0.12, t)
                        * smoothstep(0.0, 0.12, 1.0 - t),
                };
                let turn = curl + 0.035 * noise.along(along / 14.0);
                heading = rotated(heading, turn);
                position = (position.0 + step * heading.0, position.1 + step * heading.1);
                knot
            })
            .collect();
        let brush = Brush { fray: 0.1, ..Brush::plain(canvas, noise) };
        let layer = if random.chance(grey_share) {
            &mut grey
        } else if random.chance(dark_share.max(0.3)) {
            &mut dark
        } else {
            &mut light
        };
        stroke(layer, canvas, &knots, brush);
    }
    canvas.paint(&grey);
    canvas.paint(&dark);
    canvas.paint(&light);
}
