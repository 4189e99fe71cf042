//! Fading: the whole picture loses contrast and gains a cast, unevenly.

use super::canvas::{Canvas, luma};
use super::material::Color;
use super::random::{Noise, Random, lerp, smoothstep};

/// What whites and blacks of colour prints turn into, as factors on white and as the tone of faded black.
const CASTS: [(Color, Color); 5] = [
    // Yellowed paper.
    ([1.0, 0.95, 0.80], [0.36, 0.29, 0.20]),
    // Magenta: the cyan dye went first.
    ([1.0, 0.88, 0.86], [0.42, 0.24, 0.26]),
    // Sepia.
    ([0.98, 0.92, 0.78], [0.34, 0.25, 0.17]),
    // Cold silver.
    ([0.95, 0.97, 1.0], [0.30, 0.32, 0.36]),
    // Green-blue, as some papers from the 1970s.
    ([0.92, 1.0, 0.93], [0.26, 0.33, 0.30]),
];

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let (width, height) = (canvas.width(), canvas.height());
    let noise = Noise::new(random);
    let (white, black) = CASTS[random.below(CASTS.len())];
    let strength = lerp(0.12, 0.78, severity) * random.range(0.85, 1.1);
    let drained = lerp(0.1, 0.65, severity) * random.range(0.6, 1.2);
    let scale = 1.6 / width.max(height);
    // Light reaches the middle or creeps in from the border, behind a frame.
    let from_border = random.chance(0.5);
    canvas.recolor(|x, y, color| {
        let edge = (x.min(width - x) / width).min(y.min(height - y) / height);
        let place = smoothstep(0.0, 0.35, edge);
        let place = if from_border { 1.0 - place } else { place };
        let uneven = 0.78 + 0.3 * noise.fractal(x * scale, y * scale, 2, 0.4) + 0.25 * place;
        let amount = (strength * uneven).clamp(0.0, 0.95);
        let grey = luma(color);
        let drain = (drained * uneven).clamp(0.0, 1.0);
        [0, 1, 2].map(|i| {
            let value = lerp(color[i], grey, drain);
            // Blacks lift towards their faded tone, whites take the paper's.
            let faded = black[i] + value * (white[i] - black[i]) * 0.92;
            lerp(value, faded, amount)
        })
    });
}
