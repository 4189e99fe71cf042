//! The surface of a print and the noise of its scan: paper, embossed textures, a halftone screen.

use crate::damage::canvas::Canvas;
use crate::damage::noise_rows::NoiseRows;
use crate::damage::pixel::{Row, luma};
use crate::damage::random::{Noise, Random, rotated};

/// What one print's surface adds.
pub(super) struct Surface {
    noise: Noise,
    /// Amplitude of the fibres, and pixels to a fibre.
    paper: f32,
    fibre: f32,
    /// Amplitude of the scanner's noise.
    scan: f32,
    embossed: Option<Screen>,
    halftone: Option<Screen>,
}

/// A regular pattern of dots.
#[derive(Clone, Copy)]
struct Screen {
    /// Along its first axis, in cells a pixel.
    step: (f32, f32),
    /// How strong it is, in `[0, 1]`.
    amount: f32,
}

/// What neighbouring rows share.
pub(super) struct SurfaceRows {
    paper: [NoiseRows; 2],
    sum: Vec<f32>,
}

impl Surface {
    /// Draws the surface of the picture on `canvas`.
    pub(super) fn draw(canvas: &Canvas, random: &mut Random) -> Self {
        let unit = canvas.unit;
        let noise = Noise::new(random);
        let paper = if random.chance(0.25) { random.skewed(0.01, 0.07) } else { 0.0 };
        let fibre = (unit * random.range(0.8, 3.0)).max(1.0);
        let scan = if random.chance(0.6) { random.skewed(0.002, 0.03) } else { 0.0 };
        let mut screen = |chance: f32, pitch: (f32, f32), amount: (f32, f32)| {
            let pitch = (unit * random.range(pitch.0, pitch.1)).max(3.0);
            let step = rotated((1.0 / pitch, 0.0), random.range(0.0, 0.25));
            let amount = random.range(amount.0, amount.1);
            random.chance(chance).then_some(Screen { step, amount })
        };
        let embossed = screen(0.06, (2.5, 6.0), (0.02, 0.09));
        let halftone = screen(0.05, (2.0, 4.5), (0.25, 0.9));
        Self { noise, paper, fibre, scan, embossed, halftone }
    }

    /// The state for a strip of rows.
    pub(super) fn rows(&self, width: usize) -> SurfaceRows {
        let used = if self.paper > 0.0 { width } else { 0 };
        let field = |index, scale| NoiseRows::new(self.noise.other(index), scale, used);
        let scale = 1.0 / self.fibre;
        SurfaceRows { paper: [field(0, scale), field(1, 0.11 * scale)], sum: vec![0.0; width] }
    }

    /// Adds the surface to one row.
    #[inline(always)]
    pub(super) fn row(&self, rows: &mut SurfaceRows, row: &mut Row<'_>) {
        if self.paper > 0.0 {
            let SurfaceRows { paper: [fine, coarse], sum } = rows;
            sum.fill(1.0);
            fine.add(row.y, self.paper, sum);
            coarse.add(row.y, 0.8 * self.paper, sum);
            multiply(row, sum);
        }
        if let Some(screen) = self.embossed {
            for (x, light) in rows.sum.iter_mut().enumerate() {
                *light = 1.0 + screen.amount * screen.at(x, row.y);
            }
            multiply(row, &rows.sum);
        }
        if let Some(screen) = self.halftone {
            // Ink covers what lies below the screen's height there.
            for (x, light) in rows.sum.iter_mut().enumerate() {
                let tone = luma([row.red[x], row.green[x], row.blue[x]]).clamp(0.02, 0.98);
                let height = 0.5 + 0.5 * screen.at(x, row.y);
                let ink = ((height - tone) * 2.5 + 0.5).clamp(0.0, 1.0);
                let printed = 1.0 - ink;
                *light = 1.0 + screen.amount * (printed - tone) / tone.max(0.25);
            }
            multiply(row, &rows.sum);
        }
        if self.scan > 0.0 {
            let y = row.y as i32;
            for (channel, values) in row.channels().into_iter().enumerate() {
                // Photographs without colour are mostly scanned without it, too; a little is left.
                let own = self.noise.other(20 + channel as u32);
                for (x, value) in values.iter_mut().enumerate() {
                    *value += self.scan * own.lattice(x as i32, y);
                }
            }
        }
    }
}

impl Screen {
    /// The pattern's height at a pixel, in `[-1, 1]`, highest in the middle of the cells.
    #[inline(always)]
    fn at(&self, x: usize, y: usize) -> f32 {
        let (x, y) = (x as f32, y as f32);
        let wave = |t: f32| {
            // A parabola for each half wave of a cosine.
            let t = t - t.floor();
            let half = if t < 0.5 { t - 0.25 } else { t - 0.75 };
            let bow = 1.0 - 16.0 * half * half;
            if t < 0.5 { bow } else { -bow }
        };
        let (a, b) = self.step;
        0.5 * (wave(a * x + b * y) + wave(a * y - b * x))
    }
}

#[inline(always)]
fn multiply(row: &mut Row<'_>, factors: &[f32]) {
    for values in row.channels() {
        for (value, &factor) in values.iter_mut().zip(factors) {
            *value *= factor;
        }
    }
}
