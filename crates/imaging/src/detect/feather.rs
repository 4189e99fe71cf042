//! Softens a hard mask for compositing.

use rayon::prelude::*;

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::imgproc::distance_transform;
use crate::mask::Mask;

/// Rows that one task softens.
const STRIP: usize = 256;
/// Rows above and below them in which the core and the outside are looked for; distances are bounded by it.
const HALO: usize = 64;

/// The blend weights for a hard mask: 255 on `core`, falling as a Gaussian of the distance from the core
/// to 0 at the outline of `mask`, exactly 0 outside it.
///
/// `sigma` is in pixels, `0 ..= 50`; 0 gives `mask` itself at full weight. With `d` the distance from the
/// core, `D` that plus the distance from the outside, and `g(d) = exp(-d² / 2σ²)`, the weight is
/// `(g(d) - g(D)) / (1 - g(D))`: the core keeps its full weight however thin it is, and there is no step
/// at the outline.
///
/// # Errors
/// `Size` if the masks differ in size, `Argument` if `sigma` is out of range.
pub fn feather(core: &Mask, mask: &Mask, sigma: f32) -> Result<Mask> {
    ImagingError::check_size("core of the mask", mask.size(), core.size())?;
    if !(0.0..=50.0).contains(&sigma) {
        return Err(ImagingError::argument("sigma", "0 to 50", sigma));
    }
    let mut soft = mask.binarized(1);
    let (width, height) = mask.size();
    if sigma == 0.0 || width == 0 || height == 0 {
        return Ok(soft);
    }
    let gaussian = |distance: f32| (-0.5 * (distance / sigma).powi(2)).exp();
    let furthest = HALO as f32;
    soft.plane_mut().data_mut().par_chunks_mut(STRIP * width).enumerate().for_each(
        |(strip, out)| {
            let (core, mask) = (core.plane().data(), mask.plane().data());
            let from = strip * STRIP * width;
            let core_rows = &core[from..from + out.len()];
            // Most strips of a scan need no softening at all.
            if out.iter().zip(core_rows).all(|(&mask, &core)| mask == 0 || core > 0) {
                return;
            }
            let rows =
                Rect::new(0, strip * STRIP, width, out.len() / width).grown(HALO, width, height);
            let part = rows.y * width..rows.bottom() * width;
            let crop = |values: &[u8], damaged: fn(u8) -> bool| {
                distance_transform(&Mask::from_fn(width, rows.height, |x, y| {
                    damaged(values[y * width + x])
                }))
            };
            let to_core = crop(&core[part.clone()], |core| core == 0);
            let to_outside = crop(&mask[part], |mask| mask > 0);
            let skip = from - rows.y * width;
            let distances = to_core.data()[skip..].iter().zip(&to_outside.data()[skip..]);
            for (out, (&inner, &outer)) in out.iter_mut().zip(distances) {
                if *out > 0 && inner > 0.0 {
                    let (inner, outer) = (inner.min(furthest), outer.min(furthest));
                    let rest = gaussian(inner + outer);
                    *out = (255.0 * (gaussian(inner) - rest) / (1.0 - rest)).round() as u8;
                }
            }
        },
    );
    Ok(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_on_the_core_falling_inside_nothing_outside() {
        let core = Mask::from_fn(41, 600, |x, _| x == 20);
        let mask = Mask::from_fn(41, 600, |x, _| (15..=25).contains(&x));
        let soft = feather(&core, &mask, 2.0).expect("same size");
        for row in soft.plane().rows() {
            assert_eq!(row[20], 255);
            assert!(row[20..27].windows(2).all(|pair| pair[0] > pair[1]), "{:?}", &row[20..27]);
            assert!(row[26..].iter().chain(&row[..15]).all(|&weight| weight == 0));
        }
        // d = 1, D = 6: (exp(-1/8) - exp(-36/8)) / (1 - exp(-36/8)) · 255 = 224.7
        assert_eq!(soft.plane().get(21, 300), 225);
    }

    #[test]
    fn no_core_no_mask_and_no_softening() {
        let mask = Mask::from_fn(9, 9, |x, _| x > 4);
        assert_eq!(feather(&mask, &mask, 3.0).expect("same size"), mask);
        assert_eq!(feather(&Mask::empty(9, 9), &mask, 0.0).expect("same size"), mask);
        assert!(feather(&Mask::empty(9, 9), &Mask::empty(9, 9), 1.0).expect("empty").is_empty());
        assert!(feather(&Mask::empty(9, 8), &mask, 1.0).is_err());
        assert!(feather(&mask, &mask, f32::NAN).is_err());
    }
}
