//! Cloth and hatching: fields of evenly spaced lines that follow the folds of something soft.

use super::scene::Scene;
use crate::damage::canvas::{Bounds, Cover, Shape};
use crate::damage::random::{Noise, Random, rotated, smoothstep};

pub(super) fn draw(scene: &mut Scene<'_>, random: &mut Random) {
    let unit = scene.canvas.unit;
    let center = scene.place(random);
    let radius = unit * random.range(20.0, 110.0);
    let stretch = random.range(0.6, 1.0);
    let axis = random.direction();
    let pitch = unit * random.skewed(2.6, 16.0);
    let noise = Noise::new(random);
    let wave = if random.chance(0.6) { random.range(0.5, 3.0) } else { 0.1 };
    let crossings = if random.chance(0.45) { 2 } else { 1 };
    let angle = if random.chance(0.7) { 0.25 } else { random.range(0.1, 0.4) };
    for crossing in 0..crossings {
        let color = scene.contrast(random, center);
        let mut layer = scene.layer(color, 0.08);
        layer.push(Hatch {
            center,
            radii: (radius / stretch, radius * stretch),
            axis,
            across: rotated(axis, angle * crossing as f32),
            pitch: pitch.max(2.5),
            share: random.range(0.2, 0.5),
            wave: wave * pitch,
            long: radius * random.range(0.4, 1.0),
            softness: scene.canvas.softness(),
            strength: random.range(0.3, 0.85),
            noise,
        });
        scene.canvas.paint(&layer);
    }
}

/// Lines at even distances within an ellipse that fades at its border.
struct Hatch {
    center: (f32, f32),
    /// Half axes, in pixels.
    radii: (f32, f32),
    /// The direction of the first axis, a unit vector.
    axis: (f32, f32),
    /// Unit vector across the lines.
    across: (f32, f32),
    /// From line to line, in pixels.
    pitch: f32,
    /// Of the pitch that a line covers.
    share: f32,
    /// How far the lines stray, in pixels, and over what length.
    wave: f32,
    long: f32,
    softness: f32,
    strength: f32,
    noise: Noise,
}

impl Shape for Hatch {
    fn bounds(&self) -> Bounds {
        let reach = self.radii.0.max(self.radii.1) * 1.3;
        let (x, y) = self.center;
        [x - reach, y - reach, x + reach, y + reach]
    }

    fn cover(&self, x: f32, y: f32) -> Cover {
        let (px, py) = (x - self.center.0, y - self.center.1);
        let (u, v) = (px * self.axis.0 + py * self.axis.1, py * self.axis.0 - px * self.axis.1);
        let (u, v) = (u / self.radii.0, v / self.radii.1);
        let square = u * u + v * v;
        if square > 1.69 {
            return Cover::default();
        }
        let (fx, fy) = (px / self.long, py / self.long);
        let fold = self.noise.at(fx, fy);
        let fade = 1.0 - smoothstep(0.5, 1.0, square.sqrt() + 0.3 * fold);
        if fade <= 0.0 {
            return Cover::default();
        }
        let at = px * self.across.0 + py * self.across.1 + self.wave * fold;
        let line = at / self.pitch;
        let away = (line - line.round()).abs() * self.pitch;
        let half = 0.5 * self.share * self.pitch;
        let soft = 0.5 * self.softness;
        let covered = ((away + soft).min(half) - (away - soft).max(-half)) / self.softness;
        Cover { alpha: fade * self.strength * covered.clamp(0.0, 1.0), height: 0.0 }
    }
}
