//! Fading: the whole picture loses contrast and gains a cast, unevenly.

use super::canvas::Canvas;
use super::material::Color;
use super::noise_rows::NoiseRows;
use super::pixel::{Row, luma};
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
    let fade = Fade::draw(canvas, random, severity);
    let width = canvas.width() as usize;
    canvas.recolor(|| fade.rows(width), |rows, mut row| fade.row(rows, &mut row));
}

/// How one picture fades.
pub(super) struct Fade {
    noise: Noise,
    white: Color,
    black: Color,
    strength: f32,
    drained: f32,
    from_border: bool,
    size: (f32, f32),
}

/// What neighbouring rows share: two octaves of unevenness, and room for the unevenness of one row.
pub(super) struct FadeRows(NoiseRows, NoiseRows, Vec<f32>);

impl Fade {
    /// Draws the fading of a picture; `severity` in `0 ..= 1`.
    pub(super) fn draw(canvas: &Canvas, random: &mut Random, severity: f32) -> Self {
        let noise = Noise::new(random);
        let (white, black) = CASTS[random.below(CASTS.len())];
        let strength = lerp(0.12, 0.78, severity) * random.range(0.85, 1.1);
        let drained = lerp(0.1, 0.65, severity) * random.range(0.6, 1.2);
        // Light reaches the middle or creeps in from the border, behind a frame.
        let from_border = random.chance(0.5);
        let size = (canvas.width(), canvas.height());
        Self { noise, white, black, strength, drained, from_border, size }
    }

    /// The state for a strip of rows.
    pub(super) fn rows(&self, width: usize) -> FadeRows {
        let scale = 1.6 / self.size.0.max(self.size.1);
        let octave = |index, scale| NoiseRows::new(self.noise.other(index), scale, width);
        FadeRows(octave(0, scale), octave(1, 2.0 * scale), vec![0.0; width])
    }

    /// Fades one row.
    #[inline(always)]
    pub(super) fn row(&self, rows: &mut FadeRows, row: &mut Row<'_>) {
        let FadeRows(coarse, fine, uneven) = rows;
        // 1. How much: 0.3 of two octaves, the second with 0.4 of the weight of the first.
        uneven.fill(0.78);
        coarse.add(row.y, 0.3 / 1.4, uneven);
        fine.add(row.y, 0.12 / 1.4, uneven);
        let (width, height) = self.size;
        let y = row.y as f32;
        let edge = y.min(height - y) / height;
        for (x, uneven) in uneven.iter_mut().enumerate() {
            let x = x as f32;
            let place = smoothstep(0.0, 0.35, (x.min(width - x) / width).min(edge));
            *uneven += 0.25 * if self.from_border { 1.0 - place } else { place };
        }
        // 2. Blacks lift towards their faded tone, whites take the paper's.
        let (white, black) = (self.white, self.black);
        let Row { red, green, blue, .. } = row;
        let pixels = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
        for (((red, green), blue), &uneven) in pixels.zip(uneven.iter()) {
            let amount = (self.strength * uneven).clamp(0.0, 0.95);
            let drain = (self.drained * uneven).clamp(0.0, 1.0);
            let grey = luma([*red, *green, *blue]);
            for (channel, value) in [red, green, blue].into_iter().enumerate() {
                let drained = lerp(*value, grey, drain);
                let range = (white[channel] - black[channel]) * 0.92;
                *value = lerp(drained, black[channel] + drained * range, amount);
            }
        }
    }
}
