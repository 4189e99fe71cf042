//! Thin damage: cracks and scratches.
//!
//! The response of [`lines`](super::lines) is compared with a threshold that rises with the activity
//! around: the mean response, mostly that of the *other* polarity, since texture has ridges of both kinds
//! while a crack is dark only and so does not hide itself. Then hysteresis, and a least extent.

use rayon::prelude::*;

use super::lines::{Polarity, line_response};
use super::preset::LineParams;
use crate::error::Result;
use crate::imgproc::{
    BoxFilter, Connectivity, Gaussian, Interpolation, StructuringElement, black_hat, box_filter,
    component_runs, gaussian_blur, resize, top_hat,
};
use crate::mask::Mask;
use crate::observer::Observer;
use crate::plane::Plane;

/// The brightest and the darkest colour channel of each pixel; the same for a grey picture.
///
/// A dark crack lowers the brightest channel even where it crosses a deep colour that is dark in luma,
/// and bare paper raises the darkest.
#[derive(Debug)]
pub(super) struct Extremes {
    pub(super) brightest: Plane<u8>,
    pub(super) darkest: Plane<u8>,
}

/// Thin damage by polarity, hard.
pub(super) struct Ridges {
    pub(super) dark: Mask,
    pub(super) bright: Mask,
}

/// Finds thin damage at full size and in the octaves below.
pub(super) fn find_ridges(
    extremes: &Extremes,
    noise: f32,
    params: &LineParams,
    observer: &dyn Observer,
) -> Result<Ridges> {
    let mut found = find_at_one_size(extremes, noise, params, observer)?;
    let (width, height) = extremes.brightest.size();
    let mut octave: Option<Extremes> = None;
    loop {
        let from = octave.as_ref().unwrap_or(extremes);
        let (half_width, half_height) =
            (from.brightest.width().div_ceil(2), from.brightest.height().div_ceil(2));
        if half_width.max(half_height) < params.octave_side {
            return Ok(found);
        }
        let halve = |plane| resize(plane, half_width, half_height, Interpolation::Area);
        let half = Extremes { brightest: halve(&from.brightest)?, darkest: halve(&from.darkest)? };
        // Each halving averages four pixels. The noise left is smaller, the floor with it; using the full
        // one errs on the side of leaving pixels alone.
        let coarse = find_at_one_size(&half, noise, params, observer)?;
        let enlarge = |mask: Mask| -> Result<Mask> {
            Ok(Mask::from_plane(resize(mask.plane(), width, height, Interpolation::Nearest)?))
        };
        found.dark.merge(&enlarge(coarse.dark)?)?;
        found.bright.merge(&enlarge(coarse.bright)?)?;
        octave = Some(half);
    }
}

fn find_at_one_size(
    extremes: &Extremes,
    noise: f32,
    params: &LineParams,
    observer: &dyn Observer,
) -> Result<Ridges> {
    // 1. how much each pixel looks like a line, and how busy its surroundings are
    let dark = line_response(&extremes.brightest, Polarity::Dark, params, observer)?;
    let bright = line_response(&extremes.darkest, Polarity::Bright, params, observer)?;
    let dark_activity = activity(&dark, params)?;
    let bright_activity = activity(&bright, params)?;
    observer.check()?;

    // 2. thresholds, hysteresis, extent
    let (width, height) = dark.size();
    let side = ((width * height) as f32).sqrt();
    let min_length = (params.min_length * side).clamp(MIN_LENGTH.0, MIN_LENGTH.1);
    let element = StructuringElement::disc(2 * params.far + 3)?;
    let soften = |hat: Plane<u8>| gaussian_blur(&hat, Gaussian::sigma(0.7));
    let own = soften(black_hat(&extremes.brightest, &element))?;
    let seeds = candidates(&dark, &own, &bright_activity, &dark_activity, noise, params);
    drop(dark);
    let dark = keep_lines(&seeds, min_length);
    observer.check()?;
    let own = soften(top_hat(&extremes.darkest, &element))?;
    let seeds = candidates(&bright, &own, &dark_activity, &bright_activity, noise, params);
    let bright = keep_lines(&seeds, min_length);
    Ok(Ridges { dark, bright })
}

/// The least extent of a line is never below or above these, in pixels.
const MIN_LENGTH: (f32, f32) = (12.0, 80.0);

/// Activities are kept in tenths of a grey level: the cap is at most 25.
const ACTIVITY_SCALE: f32 = 10.0;

/// The mean response around each pixel in tenths of a grey level.
fn activity(response: &Plane<u8>, params: &LineParams) -> Result<Plane<u8>> {
    let capped = response
        .map(|value| (f32::from(value).min(params.activity_cap) * ACTIVITY_SCALE).round() as u8);
    box_filter(&capped, BoxFilter::square(params.window))
}

/// 255 where a line surely is, 1 where it may go on, 0 elsewhere.
fn candidates(
    response: &Plane<u8>,
    own: &Plane<u8>,
    other_activity: &Plane<u8>,
    same_activity: &Plane<u8>,
    noise: f32,
    params: &LineParams,
) -> Mask {
    let (width, height) = response.size();
    let mut out = Mask::empty(width, height);
    let (low, high) = (params.low, params.high);
    let floor = (params.noise * noise).max(1.0);
    let (other_weight, same_weight) =
        (params.other_activity / ACTIVITY_SCALE, params.same_activity / ACTIVITY_SCALE);
    const CHUNK: usize = 1 << 16;
    let arch = pulp::Arch::new();
    out.plane_mut()
        .data_mut()
        .par_chunks_mut(CHUNK)
        .zip(response.data().par_chunks(CHUNK))
        .zip(own.data().par_chunks(CHUNK))
        .zip(other_activity.data().par_chunks(CHUNK))
        .zip(same_activity.data().par_chunks(CHUNK))
        .for_each(|((((out, response), own), other), same)| {
            arch.dispatch(
                #[inline(always)]
                || {
                    let inputs = response.iter().zip(own).zip(other).zip(same);
                    for (out, (((&response, &own), &other), &same)) in out.iter_mut().zip(inputs) {
                        let response = f32::from(response);
                        let excess = response
                            - other_weight * f32::from(other)
                            - same_weight * f32::from(same);
                        let possible = excess > low
                            && response > floor
                            && f32::from(own) > params.own_contrast * response;
                        let sure = possible && excess > high;
                        *out = if sure { 255 } else { u8::from(possible) };
                    }
                },
            );
        });
    out
}

/// The components that hold a sure pixel and extend far enough.
fn keep_lines(candidates: &Mask, min_length: f32) -> Mask {
    let runs = component_runs(candidates, Connectivity::Eight);
    let mut sure = vec![false; runs.components().len()];
    for (y, row) in candidates.plane().rows().enumerate() {
        for run in runs.row(y) {
            let held = &mut sure[run.label as usize - 1];
            *held = *held || row[run.start as usize..run.end as usize].contains(&255);
        }
    }
    runs.select(|label, component| {
        let (width, height) = (component.bounds.width as f32, component.bounds.height as f32);
        sure[label as usize - 1] && width.hypot(height) >= min_length
    })
}
