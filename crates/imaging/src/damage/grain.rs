//! Film grain: strongest in the mid tones, mostly the same in all channels.

use super::canvas::Canvas;
use super::noise_rows::NoiseRows;
use super::pixel::{Row, luma};
use super::random::{Noise, Random, lerp};

pub(super) fn apply(canvas: &mut Canvas, random: &mut Random, severity: f32) {
    let noise = Noise::new(random);
    let clump = (canvas.unit * random.range(0.7, 1.3)).max(1.15);
    let strength = lerp(0.025, 0.17, severity) * random.range(0.85, 1.15);
    let grain = Grain { noise, clump, strength, colored: random.range(0.0, 0.35) };
    let width = canvas.width() as usize;
    canvas.recolor(|| grain.rows(width), |rows, mut row| grain.row(rows, &mut row));
}

/// The grain of one picture.
pub(super) struct Grain {
    /// Where the grains lie.
    pub(super) noise: Noise,
    /// Pixels that a clump of grains is wide.
    pub(super) clump: f32,
    /// Amplitude in the mid tones, of a range of 1.
    pub(super) strength: f32,
    /// What each channel has of its own, relative to what they share.
    pub(super) colored: f32,
}

/// What neighbouring rows share, and room for the noise of one.
pub(super) struct GrainRows {
    shared: [NoiseRows; 2],
    own: Vec<NoiseRows>,
    seen: Vec<f32>,
    sum: Vec<f32>,
}

impl Grain {
    /// The state for a strip of rows.
    pub(super) fn rows(&self, width: usize) -> GrainRows {
        let scale = 1.0 / self.clump;
        let field = |index, scale| NoiseRows::new(self.noise.other(index), scale, width);
        let own = if self.colored > 0.0 { 2..5 } else { 2..2 };
        GrainRows {
            shared: [field(0, scale), field(1, 1.9 * scale)],
            own: own.map(|index| field(index, scale)).collect(),
            seen: vec![0.0; width],
            sum: vec![0.0; width],
        }
    }

    /// Grains one row.
    #[inline(always)]
    pub(super) fn row(&self, rows: &mut GrainRows, row: &mut Row<'_>) {
        let GrainRows { shared, own, seen, sum } = rows;
        // Little grain shows where the film is clear or full.
        let pixels = row.red.iter().zip(row.green.iter()).zip(row.blue.iter());
        for (((&red, &green), &blue), seen) in pixels.zip(seen.iter_mut()) {
            let tone = luma([red, green, blue]);
            *seen = self.strength * (0.35 + 2.6 * (tone * (1.0 - tone)).max(0.0));
        }
        sum.fill(0.0);
        shared[0].add(row.y, 0.75, sum);
        shared[1].add(row.y, 0.45, sum);
        let y = row.y;
        for channel in row.channels() {
            for ((value, &seen), &sum) in channel.iter_mut().zip(seen.iter()).zip(sum.iter()) {
                *value += seen * sum;
            }
        }
        for (own, channel) in own.iter_mut().zip(row.channels()) {
            sum.fill(0.0);
            own.add(y, self.colored, sum);
            for ((value, &seen), &sum) in channel.iter_mut().zip(seen.iter()).zip(sum.iter()) {
                *value += seen * sum;
            }
        }
    }
}
