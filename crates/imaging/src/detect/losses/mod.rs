//! Wide losses: missing emulsion or paint, holes, torn corners.
//!
//! A loss is *even* inside, *unlike* what surrounds it along its whole outline, and does not drift from
//! one side to the other as a sky does. Candidates are the components of level sets, as in Matas et al.'s
//! maximally stable extremal regions (BMVC 2002): bright, dark, and flat at several levels, on a reduced
//! copy. Each is measured and scored by a logistic model whose five weights were fitted on synthetic
//! losses of other styles than the tests'. For who has another witness, a second model weighs both
//! ([`LossCandidates`]).

mod candidates;
mod measure;

pub use candidates::{LossArea, LossCandidates, LossRegion};

use rayon::prelude::*;

use super::preset::LossParams;
use crate::error::Result;
use crate::imgproc::{
    Connectivity, Gaussian, Interpolation, StructuringElement, component_runs, gaussian_blur,
    morphological_gradient, resize,
};
use crate::mask::Mask;
use crate::observer::Observer;
use crate::plane::Plane;
use candidates::LossCandidate;
use measure::{Edges, Elements, measure};

/// Levels of the darkest channel above which a region is a bright candidate.
const BRIGHT: [u8; 9] = [144, 156, 168, 180, 192, 204, 216, 228, 240];
/// Levels of the brightest channel below which a region is a dark candidate.
const DARK: [u8; 5] = [16, 28, 40, 56, 72];
/// Gradients below which a region is a flat candidate.
const FLAT: [u8; 4] = [6, 10, 16, 24];
/// Pixels kept around a candidate's bounding box.
const MARGIN: usize = 8;
/// The smallest candidate in pixels of the reduced copy.
const MIN_PIXELS: usize = 40;

/// Finds wide losses; hard, at full size; and the regions that another witness could make one. `channels` holds one plane
/// (grey) or three.
pub(super) fn find_losses(
    channels: &[Plane<u8>],
    params: &LossParams,
    observer: &dyn Observer,
) -> Result<(Mask, LossCandidates)> {
    let full @ (width, height) = channels[0].size();
    let scale = (params.max_side as f64 / width.max(height) as f64).min(1.0);
    let reduced = |side: usize| ((side as f64 * scale).round() as usize).max(1);
    let small @ (small_width, small_height) = (reduced(width), reduced(height));
    if small_width.min(small_height) < 2 * MARGIN {
        return Ok((Mask::empty(width, height), LossCandidates::none(full)));
    }
    if small == full {
        let (found, list) = find_at_this_size(channels, params, observer)?;
        return Ok((found, LossCandidates::new(full, full, list)));
    }
    let copies = channels
        .iter()
        .map(|plane| resize(plane, small_width, small_height, Interpolation::Area))
        .collect::<Result<Vec<_>>>()?;
    observer.check()?;
    let (found, list) = find_at_this_size(&copies, params, observer)?;
    // Interpolating and cutting at one half keeps the outline smooth when it is enlarged.
    let enlarged = resize(found.plane(), width, height, Interpolation::Linear)?;
    let found = Mask::from_plane(enlarged).binarized(128);
    Ok((found, LossCandidates::new(full, small, list)))
}

fn find_at_this_size(
    channels: &[Plane<u8>],
    params: &LossParams,
    observer: &dyn Observer,
) -> Result<(Mask, Vec<LossCandidate>)> {
    let (width, height) = channels[0].size();
    // 1. level sets
    let square = StructuringElement::square(3)?;
    let mut gradient = Plane::filled(width, height, 0u8);
    let mut darkest = Plane::filled(width, height, 255u8);
    let mut brightest = Plane::filled(width, height, 0u8);
    for channel in channels {
        let smooth = gaussian_blur(channel, Gaussian::sigma(1.0))?;
        let steps = morphological_gradient(&smooth, &square);
        combine(&mut gradient, &steps, u8::max);
        combine(&mut darkest, &smooth, u8::min);
        combine(&mut brightest, &smooth, u8::max);
    }
    let below = |plane: &Plane<u8>, level: u8| {
        Mask::from_plane(plane.map(|value| if value < level { Mask::DAMAGED } else { 0 }))
    };
    let flat = FLAT.iter().map(|&level| (below(&gradient, level), true));
    let bright = BRIGHT.iter().map(|&level| {
        let mask = darkest.map(|value| if value >= level { Mask::DAMAGED } else { 0 });
        (Mask::from_plane(mask), false)
    });
    let dark = DARK.iter().map(|&level| (below(&brightest, level + 1), false));
    let sets: Vec<(Mask, bool)> = flat.chain(bright).chain(dark).collect();

    // 2. measure their components, keep the losses
    let (least, most) =
        (f64::from(params.min_area), f64::from(params.max_area) * (width * height) as f64);
    let least = (least * (width * height) as f64).max(MIN_PIXELS as f64);
    let elements = Elements::new()?;
    let mut found = Mask::empty(width, height);
    let mut candidates = Vec::new();
    for (set, is_flat) in &sets {
        observer.check()?;
        let runs = component_runs(set, Connectivity::Four);
        let wanted: Vec<_> = (1u32..)
            .zip(runs.components())
            .filter(|(_, component)| (least..=most).contains(&(component.area as f64)))
            .collect();
        let measured: Vec<Option<LossCandidate>> = wanted
            .par_iter()
            .map(|&(label, component)| {
                let window = component.bounds.grown(MARGIN, width, height);
                let mut region = Plane::filled(window.width, window.height, 0u8);
                for y in component.bounds.y..component.bounds.bottom() {
                    for run in runs.row(y).iter().filter(|run| run.label == label) {
                        region.row_mut(y - window.y)
                            [run.start as usize - window.x..run.end as usize - window.x]
                            .fill(255);
                    }
                }
                let crops: Vec<_> = channels.iter().map(|plane| plane.crop(window)).collect();
                let at_edge = Edges {
                    left: window.x == 0,
                    top: window.y == 0,
                    right: window.right() == width,
                    bottom: window.bottom() == height,
                };
                let (region, measured) = measure(&crops, &region, *is_flat, at_edge, &elements)?;
                Some(LossCandidate { area: LossArea { bounds: window, region }, measured })
            })
            .collect();
        for candidate in measured.into_iter().flatten() {
            let measured = &candidate.measured;
            let needed = if measured.dark { params.dark_score } else { params.score };
            if measured.score() > f64::from(needed) {
                candidate.area.paint(found.plane_mut(), Mask::DAMAGED);
            }
            if candidate.is_open((width, height)) {
                candidates.push(candidate);
            }
        }
    }
    Ok((found, candidates))
}

fn combine(out: &mut Plane<u8>, plane: &Plane<u8>, choose: impl Fn(u8, u8) -> u8) {
    for (out, &value) in out.data_mut().iter_mut().zip(plane.data()) {
        *out = choose(*out, value);
    }
}
