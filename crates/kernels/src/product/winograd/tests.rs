//! Against the sum in f64 and the direct engine.

use candle_core::{DType, Device, Result, Tensor};

use super::*;
use crate::isa::Tier;
use crate::product::{Call, Epilogue, PackedWeight, Rows, Shared, single};
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
            out: Shared(out.as_mut_ptr()),
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
        PackedWeight::new_on(tier, &weight.to_dtype(DType::F32)?, None, false)
    }
}

/// The largest error and the root of the mean square, as parts of the largest number.
fn errors(found: &[f32], exact: &[f64]) -> (f64, f64) {
    let scale = exact.iter().fold(0.0, |scale: f64, x| scale.max(x.abs()));
    let errors = found.iter().zip(exact).map(|(&found, exact)| (f64::from(found) - exact).abs());
    let (most, squares) = errors.fold((0.0, 0.0), |(most, squares): (f64, f64), error| {
        // Not a number is an error too.
        (if error <= most { most } else { error }, squares + error * error)
    });
    (most / scale, (squares / exact.len() as f64).sqrt() / scale)
}

#[test]
fn tiles_are_as_exact_as_they_are_said_to_be() -> Result<()> {
    let mut random = Numbers::new(71);
    for sizes in [[1, 13, 15, 64, 40], [1, 16, 16, 320, 16], [2, 8, 8, 1280, 16]] {
        let case = Case::new(sizes, &mut random);
        let exact = case.exact();
        for tier in tiers() {
            let packed = case.packed(tier)?;
            for tile in [None, Some(2), Some(4)] {
                let (most, mean) = errors(&case.run(&packed, tile), &exact);
                println!("{sizes:?} {tier} {tile:?}: {most:.2e} {mean:.2e}");
            }
        }
    }
    Ok(())
}
