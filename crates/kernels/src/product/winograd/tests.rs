//! Against the sum in f64 and the direct engine.

use candle_core::{Device, Result, Tensor};

use super::*;
use crate::isa::Tier;
use crate::product::{Call, Epilogue, PackedWeight, Rows, single};
use crate::testing::{Numbers, tiers};

/// A convolution of a padded picture.
struct Case {
    images: usize,
    out: (usize, usize),
    channels: usize,
    outputs: usize,
    /// `(images, height + 2, width + 2, channels)`.
    picture: Vec<f32>,
    /// `(outputs, channels, 3, 3)`.
    weight: Vec<f32>,
}

impl Case {
    fn new([images, height, width, channels, outputs]: [usize; 5], random: &mut Numbers) -> Self {
        Self {
            images,
            out: (height, width),
            channels,
            outputs,
            picture: random.take(images * (height + 2) * (width + 2) * channels),
            weight: random.take(outputs * channels * 9),
        }
    }

    /// `(images, height, width, outputs)`.
    fn exact(&self) -> Vec<f64> {
        let (height, width) = self.out;
        let mut sums = Vec::new();
        for row in 0..self.images * height * width {
            let (image, y, x) = (row / (height * width), row / width % height, row % width);
            for output in 0..self.outputs {
                let mut sum = 0.0;
                for tap in 0..9 {
                    let line = image * (height + 2) + y + tap / 3;
                    let pixel = (line * (width + 2) + x + tap % 3) * self.channels;
                    for channel in 0..self.channels {
                        let weight = self.weight[(output * self.channels + channel) * 9 + tap];
                        sum += f64::from(self.picture[pixel + channel]) * f64::from(weight);
                    }
                }
                sums.push(sum);
            }
        }
        sums
    }

    /// By tiles of a side, or directly.
    fn run(&self, packed: &PackedWeight, tile: Option<usize>) -> Vec<f32> {
        let (height, width) = self.out;
        let covered = |side: usize| side.next_multiple_of(tile.unwrap_or(1)) + 2;
        let padded = (covered(height), covered(width));
        let map = Map::exact(self.images, self.out, padded, self.channels, 1);
        let numbers = self.images * padded.0 * padded.1 * self.channels;
        let mut a = vec![0.0; numbers + map.slack((3, 3)) * self.channels];
        for line in 0..self.images * (height + 2) {
            let (image, y) = (line / (height + 2), line % (height + 2));
            let len = (width + 2) * self.channels;
            let to = (image * padded.0 + y) * padded.1 * self.channels;
            a[to..to + len].copy_from_slice(&self.picture[line * len..][..len]);
        }
        let side = Side::Forward(packed.get());
        let mut out = vec![f32::NAN; self.images * height * width * self.outputs];
        let epilogue = Epilogue {
            bias: None,
            image_bias: None,
            residual: None,
            gated: false,
            columns: self.outputs,
            out: crate::output::Target::new(out.as_mut_ptr()),
        };
        match tile {
            Some(tile) => multiply(&Windowed { map, a: &a, side, tile, epilogue }),
            None => {
                let pixel = |tap: usize| (tap / 3 * padded.1 + tap % 3) * self.channels;
                let taps: [usize; 9] = std::array::from_fn(pixel);
                let rows = Rows::Pixels(map);
                single::multiply(&Call { rows, a: &a, side, taps: &taps, extra: None, epilogue });
            }
        }
        out
    }

    fn packed(&self, tier: Tier) -> Result<PackedWeight> {
        let dims = (self.outputs, self.channels, 3, 3);
        let weight = Tensor::from_vec(self.weight.clone(), dims, &Device::Cpu)?;
        PackedWeight::new_on(tier, &weight, None, false)
    }
}

/// The largest error as a part of the largest number.
fn error(found: &[f32], exact: &[f64]) -> f64 {
    let scale = exact.iter().fold(0.0, |scale: f64, x| scale.max(x.abs()));
    let errors = found.iter().zip(exact).map(|(&found, exact)| (f64::from(found) - exact).abs());
    // What is not a number is an error too.
    errors.fold(0.0, |most, error| if error <= most { most } else { error }) / scale
}

/// Images, height, width, channels and outputs: a line, odd sides, whole and broken registers, panels and blocks.
const SIZES: [[usize; 5]; 6] = [
    [1, 1, 6, 3, 5],
    [3, 5, 2, 4, 7],
    [2, 13, 15, 64, 49],
    [1, 16, 16, 320, 16],
    [1, 20, 61, 18, 100],
    [1, 9, 8, 1280, 16],
];

#[test]
fn tiles_are_almost_as_exact_as_the_direct_sum() -> Result<()> {
    let mut random = Numbers::new(71);
    for sizes in SIZES {
        let case = Case::new(sizes, &mut random);
        let exact = case.exact();
        for tier in tiers() {
            let packed = case.packed(tier)?;
            for (tile, most) in [(None, 5e-7), (Some(2), 6e-7), (Some(4), 3e-6)] {
                let error = error(&case.run(&packed, tile), &exact);
                assert!(error <= most, "{sizes:?} on {tier} by {tile:?}: {error:.2e}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_beyond_the_tiles_is_not_read_into_them() -> Result<()> {
    let mut random = Numbers::new(72);
    // Channels that fill no register: those of the next pixel follow.
    let mut case = Case::new([1, 8, 8, 5, 6], &mut random);
    let packed = case.packed(Tier::current())?;
    let before = case.run(&packed, Some(4));
    let pixel = 9 * 10 + 9;
    case.picture[pixel * 5..].fill(f32::INFINITY);
    let after = case.run(&packed, Some(4));
    // The last pixel is under the last tile alone: outputs (4..8, 4..8).
    for (at, (before, after)) in before.iter().zip(&after).enumerate() {
        let (y, x) = (at / 6 / 8, at / 6 % 8);
        assert!((y >= 4 && x >= 4) || before == after, "({y}, {x})");
    }
    Ok(())
}
