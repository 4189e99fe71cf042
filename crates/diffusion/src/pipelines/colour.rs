//! Colour matched on the kept ring: what the decoder does to pixels that are known tells what to undo on those
//! that are not.
//!
//! The difference between original and repainted picture is known on kept pixels. Its Gaussian average over the
//! kept pixels nearby (normalised convolution, Knutsson and Westin 1993) is added to the repainted ones, so that
//! thin damage meets its surroundings without a seam, and wide damage follows their tone.

use imaging::imgproc::{Gaussian, gaussian_blur_f32};
use imaging::{Mask, Plane};

use crate::error::Result;

/// Adds to each plane of `repainted` the local mean of `original − repainted` over kept pixels.
///
/// - planes: `[0, 1]`, one a colour channel, the size of `mask`
/// - `mask`: 0 = kept; above, repainted
/// - `sigma`: how far "nearby" is, in pixels
///
/// # Errors
/// Those of the Gaussian blur.
pub(super) fn match_kept_ring(
    repainted: &mut [Plane<f32>],
    original: &[Plane<f32>],
    mask: &Mask,
    sigma: f64,
) -> Result<()> {
    let gaussian = Gaussian::sigma(sigma);
    let kept = mask.plane().map(|weight| if weight == 0 { 1.0_f32 } else { 0.0 });
    let share = gaussian_blur_f32(&kept, gaussian)?;
    for (plane, original) in repainted.iter_mut().zip(original) {
        let mut difference = original.clone();
        let known = kept.data().iter().zip(plane.data());
        for (value, (&kept, &painted)) in difference.data_mut().iter_mut().zip(known) {
            *value = kept * (*value - painted);
        }
        let difference = gaussian_blur_f32(&difference, gaussian)?;
        let local = difference.data().iter().zip(share.data());
        for (value, (&difference, &share)) in plane.data_mut().iter_mut().zip(local) {
            // Far inside wide damage nothing is known: the correction fades.
            *value += difference / share.max(1e-4);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_cast_is_undone_up_to_the_middle_of_the_damage() {
        let original = [Plane::from_fn(60, 40, |x, y| 0.3 + 0.001 * (x + y) as f32)];
        let mask = Mask::from_fn(60, 40, |x, _| (27..33).contains(&x));
        let mut repainted = [original[0].map(|value| value + 0.07)];
        match_kept_ring(&mut repainted, &original, &mask, 6.0).expect("a blur in range");
        for (&is, &was) in repainted[0].data().iter().zip(original[0].data()) {
            assert!((is - was).abs() < 1e-3, "{was} became {is}");
        }
    }
}
