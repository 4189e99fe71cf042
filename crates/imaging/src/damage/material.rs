//! What damage shows: paper, ground, ink, water; and the light on it.

use super::random::{Noise, Random, lerp, rotated};

/// Red, green and blue in `[0, 1]`, sRGB-encoded.
pub(super) type Color = [f32; 3];

/// The print itself, the same for all damage on one picture.
pub(super) struct Medium {
    /// The paper under the emulsion.
    pub(super) paper: Color,
    /// What shows through a hole: the scanner's lid, or dark.
    pub(super) backing: Color,
    /// The way the light goes, a unit vector: away from the lamp.
    pub(super) light: (f32, f32),
    /// Fibres and unevenness of everything.
    pub(super) noise: Noise,
    /// Pixels that a fibre is wide.
    pub(super) fibre: f32,
    /// How much softer than sharp the scan is, from 1 on.
    pub(super) blur: f32,
    /// How colourful the picture is, in `[0, 1]`: what a print without dyes loses shows none.
    pub(super) colorful: f32,
}

/// Papers and grounds as scans show them, from white to brown.
const PAPERS: [Color; 6] = [
    [0.97, 0.96, 0.94],
    [0.95, 0.93, 0.88],
    [0.94, 0.90, 0.80],
    [0.91, 0.85, 0.70],
    [0.88, 0.80, 0.62],
    [0.93, 0.92, 0.92],
];

impl Medium {
    /// A print drawn from `seed`, for a picture with `unit` pixels to a unit of length.
    pub(super) fn new(seed: u64, unit: f32) -> Self {
        let mut random = Random::new(seed, "medium");
        let paper = PAPERS[random.below(PAPERS.len())];
        let brightness = random.range(0.86, 1.0);
        let paper = paper.map(|value| (value * brightness).min(1.0));
        let backing = match random.below(5) {
            0 => [0.06, 0.06, 0.06],
            1 => [0.82, 0.82, 0.80],
            _ => [0.98, 0.98, 0.98],
        };
        // Lamps stand above and to the left more often than not.
        let away = if random.chance(0.8) { 0.125 } else { 0.375 };
        let light = rotated((1.0, 0.0), away + random.range(-0.06, 0.06));
        let noise = Noise::new(&mut random);
        // Some scanners, and small pictures enlarged, are soft.
        let blur = if random.chance(0.3) { random.skewed(1.0, 4.0) } else { 1.0 };
        Self { paper, backing, light, noise, fibre: (unit * 0.9).max(0.8), blur, colorful: 1.0 }
    }
}

/// What covers the picture.
pub(super) enum Material {
    /// Paper with its fibres; `age` in `[0, 1]` darkens and yellows it.
    Paper {
        /// How aged it is.
        age: f32,
    },
    /// One colour, uneven by `grain`.
    Flat {
        /// The colour.
        color: Color,
        /// Relative unevenness.
        grain: f32,
    },
    /// Something translucent: the picture's own colour times this.
    Tint(Color),
    /// A faded or rubbed surface: the picture's colour moved towards `color` by `amount`.
    Veil {
        /// The colour of the haze.
        color: Color,
        /// How much of it at full coverage.
        amount: f32,
    },
    /// Two colours that mix in patches of `size` fibres.
    Mottled {
        /// One colour.
        first: Color,
        /// The other.
        second: Color,
        /// Of the patches, in widths of a fibre.
        size: f32,
    },
    /// A thing in the picture: its colour, uneven by `mottle`, with the picture's own noise.
    Solid {
        /// The colour.
        color: Color,
        /// Relative unevenness.
        mottle: f32,
        /// Standard deviation of the noise.
        sigma: f32,
    },
}

impl Material {
    /// The colour that the material shows at `(x, y)` over `under`, `alpha` of which it covers.
    pub(super) fn color(
        &self,
        (x, y): (f32, f32),
        under: Color,
        alpha: f32,
        medium: &Medium,
    ) -> Color {
        match *self {
            Self::Paper { age } => {
                let f = medium.fibre;
                let fine = medium.noise.at(x / f, y / f);
                let coarse = medium.noise.other(1).fractal(x / (f * 9.0), y / (f * 9.0), 2, 0.6);
                let bright = 1.0 + 0.045 * fine + 0.06 * coarse - 0.10 * age;
                // Torn fibres hold dirt, and aged paper loses its blue first.
                let yellow = (0.35 * age + (0.06 + 0.2 * age) * (coarse + 0.2).max(0.0)) * 0.35;
                let [r, g, b] = medium.paper;
                [r * bright, g * bright * (1.0 - 0.35 * yellow), b * bright * (1.0 - yellow)]
            }
            Self::Flat { color, grain } => {
                let f = medium.fibre;
                let noise = medium.noise.other(2).at(x / f, y / f);
                color.map(|value| value * (1.0 + grain * noise) + 0.25 * grain * noise)
            }
            Self::Tint(color) => {
                // Where the stain is thin it is also paler: pigment is absorbed with the depth of the layer.
                [0, 1, 2].map(|i| under[i] * lerp(1.0, color[i], 0.6 + 0.4 * alpha))
            }
            Self::Veil { color, amount } => [0, 1, 2].map(|i| lerp(under[i], color[i], amount)),
            Self::Mottled { first, second, size } => {
                let f = 1.0 / (medium.fibre * size);
                let t = (0.5 + 0.9 * medium.noise.other(3).fractal(x * f, y * f, 3, 0.6))
                    .clamp(0.0, 1.0);
                [0, 1, 2].map(|i| lerp(first[i], second[i], t))
            }
            Self::Solid { color, mottle, sigma } => {
                let f = 0.12 / medium.fibre;
                let light = 1.0 + mottle * medium.noise.other(4).at(x * f, y * f);
                // Uniform in ±√3 σ: any noise of this deviation looks alike at the size of a pixel.
                let noise = 1.732 * sigma * medium.noise.other(5).lattice(x as i32, y as i32);
                color.map(|value| value * light + noise)
            }
        }
    }
}
