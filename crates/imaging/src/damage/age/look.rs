//! Tones and colours of an old print: black-and-white, toned or in colour; contrast, blacks, a vignette.

use crate::damage::canvas::Canvas;
use crate::damage::material::Color;
use crate::damage::pixel::{Row, luma, rounded};
use crate::damage::random::{Random, lerp};

/// Steps of the tone curve's table.
const STEPS: usize = 1024;

/// Black, middle and white of toned prints: sepia from strong to weak, selenium, gold, cold, platinum, blueprint.
const TONES: [[Color; 3]; 8] = [
    [[0.10, 0.05, 0.02], [0.50, 0.38, 0.24], [0.98, 0.92, 0.78]],
    [[0.16, 0.10, 0.06], [0.53, 0.42, 0.30], [0.96, 0.89, 0.74]],
    [[0.07, 0.05, 0.04], [0.51, 0.46, 0.39], [0.97, 0.95, 0.88]],
    [[0.09, 0.06, 0.08], [0.50, 0.45, 0.47], [0.96, 0.94, 0.93]],
    [[0.12, 0.07, 0.03], [0.56, 0.43, 0.27], [0.93, 0.85, 0.66]],
    [[0.05, 0.06, 0.09], [0.46, 0.49, 0.54], [0.93, 0.96, 0.99]],
    [[0.20, 0.18, 0.15], [0.53, 0.50, 0.45], [0.94, 0.92, 0.86]],
    [[0.05, 0.10, 0.22], [0.36, 0.50, 0.64], [0.90, 0.95, 0.97]],
];

enum Style {
    /// Neutral greys, from film that weighs the colours like this.
    Mono(Color),
    /// The same, printed in these tones.
    Toned(Color, [Color; 3]),
    /// Colour, with saturation and the strength of each dye.
    Color(f32, Color),
}

/// Tones and colours of one picture.
pub(super) struct Look {
    style: Style,
    curve: Vec<f32>,
    /// Loss (or, below 0, gain) of light in the corners, the middle, and pixels to the corner.
    vignette: f32,
    center: (f32, f32),
    reach: f32,
}

impl Look {
    /// Draws the look of the picture on `canvas`.
    pub(super) fn draw(canvas: &Canvas, random: &mut Random) -> Self {
        // 1. Film: panchromatic mostly, blind to red at times, behind a yellow filter at others.
        let film = match random.below(5) {
            0 => [0.10, 0.45, 0.45],
            1 => [0.50, 0.42, 0.08],
            _ => [0.299, 0.587, 0.114],
        };
        let style = match random.unit() {
            kind if kind < 0.40 => Style::Mono(film),
            kind if kind < 0.65 => Style::Toned(film, TONES[random.below(TONES.len())]),
            _ => {
                let dye = |random: &mut Random| 1.0 + 0.06 * random.normal();
                let dyes = [dye(random), dye(random), dye(random)];
                Style::Color(random.range(0.55, 1.15), dyes)
            }
        };
        // 2. Contrast: a bias for the gamma, an S or its opposite, other ends.
        let bias = (0.5 + 0.09 * random.normal()).clamp(0.25, 0.75);
        let contrast = if random.chance(0.7) { random.range(-0.35, 0.6) } else { 0.0 };
        let (mut black, mut white) = (0.0, 1.0);
        if random.chance(0.55) {
            black = random.skewed(-0.06, 0.24);
            white = 1.0 - random.skewed(-0.08, 0.25);
        }
        let curve = (0..=STEPS)
            .map(|step| {
                let x = step as f32 / STEPS as f32;
                // Schlick's bias (Graphics Gems IV, 1994): a gamma without powers.
                let x = x / ((1.0 / bias - 2.0) * (1.0 - x) + 1.0);
                let s = x * x * (3.0 - 2.0 * x);
                (black + lerp(x, s, contrast) * (white - black)).clamp(0.0, 1.0)
            })
            .collect();
        // 3. Less light in the corners, or more where they faded.
        let (width, height) = (canvas.width(), canvas.height());
        let vignette = if random.chance(0.4) { random.skewed(-0.12, 0.5) } else { 0.0 };
        let center = (random.range(0.4, 0.6) * width, random.range(0.4, 0.6) * height);
        let reach = 0.5 * (width * width + height * height).sqrt();
        Self { style, curve, vignette, center, reach }
    }

    /// True for pictures in colour.
    pub(super) const fn keeps_color(&self) -> bool {
        matches!(self.style, Style::Color(..))
    }

    /// Gives a row its tones. Of prints without colour all channels are the same until they are tinted.
    #[inline(always)]
    pub(super) fn row(&self, row: &mut Row<'_>) {
        // 1. Colour.
        let Row { red, green, blue, .. } = row;
        let pixels = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
        match self.style {
            Style::Mono([r, g, b]) | Style::Toned([r, g, b], _) => {
                for ((red, green), blue) in pixels {
                    let grey = r * *red + g * *green + b * *blue;
                    (*red, *green, *blue) = (grey, grey, grey);
                }
            }
            Style::Color(saturation, [r, g, b]) => {
                for ((red, green), blue) in pixels {
                    let grey = luma([*red, *green, *blue]);
                    *red = lerp(grey, *red, saturation) * r;
                    *green = lerp(grey, *green, saturation) * g;
                    *blue = lerp(grey, *blue, saturation) * b;
                }
            }
        }
        // 2. Light, then the curve.
        let dy = (row.y as f32 - self.center.1) / self.reach;
        self.tone(row.red, dy);
        if self.keeps_color() {
            self.tone(row.green, dy);
            self.tone(row.blue, dy);
        } else {
            row.green.copy_from_slice(row.red);
            row.blue.copy_from_slice(row.red);
        }
    }

    #[inline(always)]
    fn tone(&self, channel: &mut [f32], dy: f32) {
        if self.vignette != 0.0 {
            for (x, value) in channel.iter_mut().enumerate() {
                let dx = (x as f32 - self.center.0) / self.reach;
                let square = dx * dx + dy * dy;
                *value *= 1.0 - self.vignette * square * (0.5 + 0.5 * square);
            }
        }
        for value in channel {
            let step = rounded(value.clamp(0.0, 1.0) * STEPS as f32) as usize;
            *value = self.curve[step.min(STEPS)];
        }
    }

    /// Tints a toned print's row; all others stay.
    #[inline(always)]
    pub(super) fn tint(&self, row: &mut Row<'_>) {
        let Style::Toned(_, [black, middle, white]) = self.style else { return };
        let channels = row.channels();
        for (channel, values) in channels.into_iter().enumerate() {
            let (low, half, high) = (black[channel], middle[channel], white[channel]);
            for value in values {
                // The parabola through the three tones.
                let bow = 4.0 * half - 2.0 * (low + high);
                *value = lerp(low, high, *value) + bow * *value * (1.0 - *value);
            }
        }
    }
}
