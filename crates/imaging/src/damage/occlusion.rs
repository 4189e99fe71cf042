//! Heavy occlusion: something large lies over the picture and hides it.
//!
//! A pasted label, a strip of old tape, a scribble with a thick pen, a burn with its charred rim.

use super::blob::Blob;
use super::canvas::{Bounds, Canvas, Cover, Layer, Shape};
use super::material::{Color, Material};
use super::random::{Noise, Random, lerp, rotated, smoothstep};
use super::stroke::{Brush, Knot, stroke};

const INKS: [Color; 5] = [
    [0.06, 0.06, 0.08],
    [0.10, 0.14, 0.45],
    [0.62, 0.10, 0.10],
    [0.88, 0.88, 0.86],
    [0.08, 0.30, 0.16],
];
const LABELS: [Color; 4] =
    [[0.93, 0.91, 0.85], [0.86, 0.80, 0.66], [0.75, 0.70, 0.60], [0.55, 0.60, 0.62]];

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let noise = Noise::new(random);
    for index in 0..random.count(1.6 * severity) as u32 + 1 {
        let noise = noise.other(100 * index + 1);
        match random.below(4) {
            0 => label(canvas, random, severity, noise),
            1 => tape(canvas, random, severity, noise),
            2 => scribble(canvas, random, severity, noise),
            _ => burn(canvas, random, severity, noise),
        }
    }
}

fn side(canvas: &Canvas) -> f32 {
    canvas.width().min(canvas.height())
}

fn inside(canvas: &Canvas, random: &mut Random) -> (f32, f32) {
    (random.range(0.1, 0.9) * canvas.width(), random.range(0.1, 0.9) * canvas.height())
}

fn label(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let size = side(canvas) * random.range(0.08, 0.14 + 0.14 * severity);
    let color = LABELS[random.below(LABELS.len())];
    let (center, axis) = (inside(canvas, random), rotated((1.0, 0.0), random.range(-0.06, 0.06)));
    let half = (size * random.range(1.0, 1.7), size * random.range(0.5, 1.0));
    let torn = random.range(0.6, 2.6) * canvas.unit;
    let patch = Patch {
        center,
        axis,
        half,
        torn,
        tooth: (5.0 * canvas.unit).max(1.0),
        softness: canvas.softness(),
        strength: 1.0,
        noise,
    };
    // A label stands above the picture: its edge casts the shadow outwards.
    let mut layer = Layer::new(Material::Flat { color, grain: 0.025 }, -0.4);
    layer.push(patch);
    canvas.paint(&layer);
    if random.chance(0.6) {
        let tone = random.range(0.1, 0.35);
        let ink = Material::Flat { color: [tone, tone, tone * 1.2], grain: 0.1 };
        writing(canvas, random, ink, center, axis, half, noise);
    }
}

/// Lines of illegible handwriting.
fn writing(
    canvas: &mut Canvas,
    random: &mut Random,
    ink: Material,
    center: (f32, f32),
    axis: (f32, f32),
    half: (f32, f32),
    noise: Noise,
) {
    let mut layer = Layer::new(ink, 0.0);
    let rows = 2 + random.below(3);
    let pitch = 2.0 * half.1 / (rows as f32 + 1.0);
    for row in 0..rows {
        let base = -half.1 + pitch * (row as f32 + 1.0);
        let end = half.0 * random.range(0.2, 0.8);
        let steps = 90;
        let noise = noise.other(row as u32 + 1);
        let knots: Vec<Knot> = (0..=steps)
            .map(|at| {
                let t = at as f32 / steps as f32;
                let u = lerp(-0.82 * half.0, end, t) + 0.25 * pitch * noise.along(t * 60.0);
                let v = base + 0.32 * pitch * noise.other(9).along(t * 45.0);
                let gap = noise.other(8).along(t * 11.0);
                Knot {
                    x: center.0 + u * axis.0 - v * axis.1,
                    y: center.1 + u * axis.1 + v * axis.0,
                    half_width: (0.035 * pitch).max(0.35),
                    strength: 0.85 * smoothstep(-0.6, -0.4, gap),
                }
            })
            .collect();
        stroke(&mut layer, canvas, &knots, Brush { fray: 0.1, ..Brush::plain(canvas, noise) });
    }
    canvas.paint(&layer);
}

fn tape(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let width = side(canvas) * random.range(0.025, 0.04 + 0.035 * severity);
    let length = side(canvas) * random.range(0.15, 0.3 + 0.3 * severity);
    let color = [random.range(0.70, 0.86), random.range(0.52, 0.66), random.range(0.26, 0.42)];
    let amount = random.range(0.3, 0.7);
    let mut layer = Layer::new(Material::Veil { color, amount }, -0.14);
    layer.push(Patch {
        center: inside(canvas, random),
        axis: random.direction(),
        half: (length, width),
        torn: 0.8 * canvas.unit,
        tooth: (2.5 * canvas.unit).max(1.0),
        softness: canvas.softness(),
        strength: random.range(0.8, 1.0),
        noise,
    });
    canvas.paint(&layer);
}

fn scribble(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let unit = canvas.unit;
    let color = INKS[random.below(INKS.len())];
    let mut layer = Layer::new(Material::Flat { color, grain: 0.025 }, 0.0);
    let center = inside(canvas, random);
    let reach = side(canvas) * random.range(0.10, 0.18 + 0.22 * severity);
    let half = unit * random.range(1.4, 3.0 + 4.5 * severity);
    let (ax, ay) = rotated((1.0, 0.0), random.range(-0.15, 0.15));
    let swings = random.range(3.0, 5.0 + 8.0 * severity);
    let steps = (swings * 26.0) as usize;
    let knots: Vec<Knot> = (0..=steps)
        .map(|at| {
            let t = at as f32 / steps as f32;
            let phase = t * swings;
            let (swing, _) = super::random::direction(phase);
            let wide = reach * (0.75 + 0.35 * noise.along(phase * 0.9));
            let u = wide * swing + 0.2 * reach * noise.other(1).along(phase * 1.3);
            let v =
                reach * 0.75 * (2.0 * t - 1.0) + 0.25 * reach * noise.other(2).along(phase * 1.1);
            Knot {
                x: center.0 + u * ax - v * ay,
                y: center.1 + u * ay + v * ax,
                half_width: half * (1.0 + 0.2 * noise.other(3).along(phase * 2.0)),
                strength: 0.97,
            }
        })
        .collect();
    stroke(&mut layer, canvas, &knots, Brush { fray: 0.08, ..Brush::plain(canvas, noise) });
    canvas.paint(&layer);
}

fn burn(canvas: &mut Canvas, random: &mut Random, severity: f32, noise: Noise) {
    let unit = canvas.unit;
    let radius = side(canvas) * random.range(0.06, 0.10 + 0.14 * severity);
    let center = inside(canvas, random);
    let stretch = random.range(0.7, 1.0);
    let hole = Blob {
        radii: (radius / stretch, radius * stretch),
        axis: random.direction(),
        rough: 0.35,
        feature: 0.8,
        ..Blob::new(canvas, center, radius, noise)
    };
    let grown = |by: f32, softness: f32| Blob {
        radii: (hole.radii.0 * by, hole.radii.1 * by),
        softness: softness * radius + 1.0,
        ..hole
    };
    // Scorched, charred, gone: each inside the last, along the same outline.
    let mut scorch = Layer::new(Material::Tint([0.42, 0.24, 0.10]), 0.0);
    scorch.push(grown(1.35, 0.55));
    canvas.paint(&scorch);
    let mut char = Layer::new(Material::Flat { color: [0.07, 0.05, 0.04], grain: 0.10 }, 0.0);
    char.push(grown(1.1, 0.16));
    canvas.paint(&char);
    if random.chance(0.7) {
        let color = canvas.medium.backing;
        let mut gone = Layer::new(Material::Flat { color, grain: 0.02 }, 0.3);
        gone.push(Blob { softness: canvas.softness() + 0.3 * unit, ..grown(0.97, 0.0) });
        canvas.paint(&gone);
    }
}

/// A rectangle of any direction with torn edges.
struct Patch {
    center: (f32, f32),
    /// The direction of the first half length, a unit vector.
    axis: (f32, f32),
    /// Half the length and half the width, in pixels.
    half: (f32, f32),
    /// How far the edges stray, in pixels.
    torn: f32,
    /// Length of their teeth, in pixels.
    tooth: f32,
    softness: f32,
    strength: f32,
    noise: Noise,
}

impl Shape for Patch {
    fn bounds(&self) -> Bounds {
        let reach = self.half.0 + self.half.1 + self.torn + self.softness;
        let (x, y) = self.center;
        [x - reach, y - reach, x + reach, y + reach]
    }

    fn cover(&self, x: f32, y: f32) -> Cover {
        let (px, py) = (x - self.center.0, y - self.center.1);
        let u = (px * self.axis.0 + py * self.axis.1).abs();
        let v = (py * self.axis.0 - px * self.axis.1).abs();
        let edge = (self.half.0 - u).min(self.half.1 - v);
        if edge < -self.torn - self.softness {
            return Cover::default();
        }
        let scale = 1.0 / self.tooth;
        let stray = self.torn * self.noise.fractal(x * scale, y * scale, 3, 0.6);
        let soft = 0.5 * self.softness;
        Cover { alpha: self.strength * smoothstep(-soft, soft, edge + stray), height: 0.0 }
    }
}
