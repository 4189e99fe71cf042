//! Hysteresis and reconstruction: keeping what hangs together with a seed.

use std::collections::VecDeque;

use super::components::{Connectivity, component_runs};
use crate::error::{ImagingError, Result};
use crate::mask::Mask;
use crate::plane::Plane;

/// The components of `low` that hold at least one pixel of `high`.
///
/// # Errors
/// `Size` if the masks differ in size.
pub fn hysteresis(low: &Mask, high: &Mask, connectivity: Connectivity) -> Result<Mask> {
    ImagingError::check_size("mask of sure pixels", low.size(), high.size())?;
    let runs = component_runs(low, connectivity);
    let mut held = vec![false; runs.components().len()];
    for (y, row) in high.plane().rows().enumerate() {
        for run in runs.row(y) {
            let held = &mut held[run.label as usize - 1];
            *held = *held || row[run.start as usize..run.end as usize].iter().any(|&v| v > 0);
        }
    }
    Ok(runs.select(|label, _| held[label as usize - 1]))
}

/// The pixels above `low` that hang together with a pixel above `high`.
///
/// With [`Connectivity::Four`] it equals scikit-image's `filters.apply_hysteresis_threshold`.
///
/// # Errors
/// `Argument` if `low` is not at most `high`.
pub fn hysteresis_threshold<T>(
    src: &Plane<T>,
    low: T,
    high: T,
    connectivity: Connectivity,
) -> Result<Mask>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    let in_order = low <= high;
    if !in_order {
        let expected = format!("at most the high threshold, {high}");
        return Err(ImagingError::argument("low threshold", expected, low));
    }
    let above = |threshold: T| {
        Mask::from_plane(src.map(|value| if value > threshold { Mask::DAMAGED } else { 0 }))
    };
    hysteresis(&above(low), &above(high), connectivity)
}

/// Grey-level reconstruction of `mask` from `seed` by dilation: the seed is dilated by one pixel and
/// cut to the mask, until nothing changes.
///
/// Vincent, "Morphological grayscale reconstruction in image analysis" (IEEE TIP 1993), the hybrid
/// algorithm: one pass down, one up, and a queue for the rest. Equals scikit-image's
/// `morphology.reconstruction` (which is 8-connected unless told otherwise).
///
/// # Errors
/// `Size` if the planes differ in size; `Argument` if the seed exceeds the mask somewhere.
pub fn reconstruct_by_dilation(
    seed: &Plane<u8>,
    mask: &Plane<u8>,
    connectivity: Connectivity,
) -> Result<Plane<u8>> {
    ImagingError::check_size("mask of the reconstruction", seed.size(), mask.size())?;
    if let Some(index) = seed.data().iter().zip(mask.data()).position(|(s, m)| s > m) {
        let (x, y) = (index % seed.width(), index / seed.width());
        let expected = format!("at most the mask, {} at column {x}, row {y}", mask.data()[index]);
        return Err(ImagingError::argument("seed", expected, seed.data()[index]));
    }
    let (width, height) = seed.size();
    let mut out = seed.clone();
    // The neighbours that come before a pixel in raster order; the others are their mirror images.
    let before: &[(isize, isize)] = match connectivity {
        Connectivity::Four => &[(0, -1), (-1, 0)],
        Connectivity::Eight => &[(-1, -1), (0, -1), (1, -1), (-1, 0)],
    };
    let neighbours = |x: usize, y: usize, sign: isize| {
        before.iter().filter_map(move |&(dx, dy)| {
            let x = x.checked_add_signed(sign * dx).filter(|&x| x < width)?;
            let y = y.checked_add_signed(sign * dy).filter(|&y| y < height)?;
            Some((x, y))
        })
    };

    // 1. Down, then up, each pixel taking what its earlier neighbours have.
    for y in 0..height {
        for x in 0..width {
            let best = neighbours(x, y, 1).map(|(x, y)| out.get(x, y)).max().unwrap_or(0);
            out.set(x, y, best.max(out.get(x, y)).min(mask.get(x, y)));
        }
    }
    let mut queue = VecDeque::new();
    for y in (0..height).rev() {
        for x in (0..width).rev() {
            let best = neighbours(x, y, -1).map(|(x, y)| out.get(x, y)).max().unwrap_or(0);
            let value = best.max(out.get(x, y)).min(mask.get(x, y));
            out.set(x, y, value);
            // 2. A later neighbour that could still rise on account of this pixel.
            let rises = |(x, y): (usize, usize)| {
                let other = out.get(x, y);
                other < value && other < mask.get(x, y)
            };
            if neighbours(x, y, -1).any(rises) {
                queue.push_back((x, y));
            }
        }
    }

    // 3. Spread what is left.
    while let Some((x, y)) = queue.pop_front() {
        let value = out.get(x, y);
        for (nx, ny) in neighbours(x, y, 1).chain(neighbours(x, y, -1)) {
            let limit = mask.get(nx, ny);
            let other = out.get(nx, ny);
            if other < value && other < limit {
                out.set(nx, ny, value.min(limit));
                queue.push_back((nx, ny));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hysteresis_keeps_whole_components() {
        let src = Plane::from_vec(7, 1, vec![0u8, 5, 9, 5, 0, 5, 5]).unwrap();
        let kept = hysteresis_threshold(&src, 4, 8, Connectivity::Four).unwrap();
        assert_eq!(kept.plane().data(), [0, 255, 255, 255, 0, 0, 0]);
        assert!(hysteresis_threshold(&src, 8, 4, Connectivity::Four).is_err());
        assert!(hysteresis(&Mask::empty(2, 2), &Mask::empty(2, 3), Connectivity::Four).is_err());
    }

    #[test]
    fn reconstruction_fills_up_to_the_seed() {
        let mask = Plane::from_vec(6, 1, vec![3u8, 7, 5, 2, 6, 6]).unwrap();
        let seed = Plane::from_vec(6, 1, vec![0u8, 4, 0, 0, 0, 0]).unwrap();
        let out = reconstruct_by_dilation(&seed, &mask, Connectivity::Four).unwrap();
        assert_eq!(out.data(), [3, 4, 4, 2, 2, 2]);
        assert!(reconstruct_by_dilation(&mask, &seed, Connectivity::Four).is_err());
    }
}
