//! From a mask of pixels to a mask of latents.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{DiffusionError, Result};

/// How a mask of pixels becomes one of latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskShrink {
    /// A latent is repainted if any of its pixels is: thin cracks survive.
    #[default]
    Max,
    /// What the pixel at the latent's top left corner says: diffusers' way, which drops thin cracks.
    Nearest,
}

/// The mask at the resolution of the latents.
///
/// # Shapes
/// - mask: `(b, 1, h, w)`, 1 = repaint; `h` and `w` multiples of `factor`
/// - returns: `(b, 1, h/factor, w/factor)`
///
/// # Errors
/// [`DiffusionError::Shape`] if the mask has another shape.
pub fn latent_mask(mask: &Tensor, factor: usize, shrink: MaskShrink) -> Result<Tensor> {
    let problem = || {
        let expected = format!("(b, 1, h, w) with h and w multiples of {factor}");
        DiffusionError::shape("mask", expected, mask.dims())
    };
    let (b, channels, height, width) = mask.dims4().map_err(|_| problem())?;
    if channels != 1 || height % factor != 0 || width % factor != 0 || height * width == 0 {
        return Err(problem());
    }
    let (rows, columns) = (height / factor, width / factor);
    let blocks = mask.reshape((b, rows, factor, columns, factor))?;
    let small = match shrink {
        MaskShrink::Max => blocks.max(4)?.max(2)?, // (b, rows, columns)
        MaskShrink::Nearest => blocks.narrow(4, 0, 1)?.narrow(2, 0, 1)?.contiguous()?,
    };
    Ok(small.reshape((b, 1, rows, columns))?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use proptest::prelude::*;

    use super::*;

    fn tensor(values: &[f32], height: usize, width: usize) -> Tensor {
        Tensor::from_slice(values, (1, 1, height, width), &Device::Cpu).expect("the right number")
    }

    #[test]
    fn nearest_sees_only_the_corner() {
        let mut values = [0.0; 64];
        values[9] = 1.0;
        let mask = tensor(&values, 8, 8);
        for (shrink, expected) in [(MaskShrink::Nearest, 0.0_f32), (MaskShrink::Max, 1.0)] {
            let small = latent_mask(&mask, 8, shrink).expect("multiples of 8");
            assert_eq!(
                small.flatten_all().and_then(|all| all.to_vec1()).ok(),
                Some(vec![expected])
            );
        }
    }

    #[test]
    fn sides_that_are_no_multiples_are_named() {
        let error = latent_mask(&tensor(&[0.0; 12], 3, 4), 2, MaskShrink::Max).expect_err("odd");
        assert_eq!(
            error.to_string(),
            "mask: expected (b, 1, h, w) with h and w multiples of 2, found [1, 1, 3, 4]"
        );
    }

    proptest! {
        /// Thin masks survive: every masked pixel lies under a masked latent, and no other latent is masked.
        #[test]
        fn every_masked_pixel_is_covered_by_a_masked_latent(
            rows in 1_usize..6,
            columns in 1_usize..6,
            factor in 1_usize..9,
            dots in proptest::collection::vec((0_usize..48, 0_usize..48), 0..8),
        ) {
            let (height, width) = (rows * factor, columns * factor);
            let mut values = vec![0.0_f32; height * width];
            for (y, x) in dots {
                values[(y % height) * width + x % width] = 1.0;
            }
            let small = latent_mask(&tensor(&values, height, width), factor, MaskShrink::Max)?;
            let small: Vec<f32> = small.flatten_all().and_then(|all| all.to_vec1())?;
            let mut covered = vec![0.0_f32; rows * columns];
            for (at, &value) in values.iter().enumerate() {
                let latent = (at / width / factor) * columns + at % width / factor;
                prop_assert!(small[latent] >= value);
                covered[latent] = value.max(covered[latent]);
            }
            prop_assert_eq!(small, covered);
        }
    }
}
