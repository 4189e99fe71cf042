//! Wide losses: missing emulsion or paint, holes, torn corners.
//!
//! A loss is *even* inside, *unlike* what surrounds it along its whole outline, and does not drift from
//! one side to the other as a sky does. Candidates are the components of level sets, as in Matas et al.'s
//! maximally stable extremal regions (BMVC 2002): bright, dark, and flat at several levels, on a reduced
//! copy. Each is measured and scored by a logistic model whose five weights were fitted on synthetic
//! losses of other styles than the tests'.

use rayon::prelude::*;

use super::preset::LossParams;
use crate::error::Result;
use crate::geometry::Rect;
use crate::imgproc::{
    Connectivity, Gaussian, Interpolation, StructuringElement, component_runs, dilate, erode,
    gaussian_blur, morphological_gradient, resize,
};
use crate::mask::Mask;
use crate::observer::Observer;
use crate::plane::Plane;

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

/// Finds wide losses; hard, at full size. `channels` holds one plane (grey) or three.
pub(super) fn find_losses(
    channels: &[Plane<u8>],
    params: &LossParams,
    observer: &dyn Observer,
) -> Result<Mask> {
    let (width, height) = channels[0].size();
    let longer = width.max(height);
    if width.min(height) < 2 * MARGIN {
        return Ok(Mask::empty(width, height));
    }
    if longer <= params.max_side {
        return find_at_this_size(channels, params, observer);
    }
    let scale = params.max_side as f64 / longer as f64;
    let reduced = |side: usize| ((side as f64 * scale).round() as usize).max(1);
    let (small_width, small_height) = (reduced(width), reduced(height));
    if small_width.min(small_height) < 2 * MARGIN {
        return Ok(Mask::empty(width, height));
    }
    let small = channels
        .iter()
        .map(|plane| resize(plane, small_width, small_height, Interpolation::Area))
        .collect::<Result<Vec<_>>>()?;
    observer.check()?;
    let found = find_at_this_size(&small, params, observer)?;
    // Interpolating and cutting at one half keeps the outline smooth when it is enlarged.
    let enlarged = resize(found.plane(), width, height, Interpolation::Linear)?;
    Ok(Mask::from_plane(enlarged).binarized(128))
}

fn find_at_this_size(
    channels: &[Plane<u8>],
    params: &LossParams,
    observer: &dyn Observer,
) -> Result<Mask> {
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
    for (set, is_flat) in &sets {
        observer.check()?;
        let runs = component_runs(set, Connectivity::Four);
        let wanted: Vec<_> = (1u32..)
            .zip(runs.components())
            .filter(|(_, component)| (least..=most).contains(&(component.area as f64)))
            .collect();
        let losses: Vec<Option<(Rect, Plane<u8>)>> = wanted
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
                let needed = if measured.dark { params.dark_score } else { params.score };
                (measured.score() > f64::from(needed)).then_some((window, region))
            })
            .collect();
        for (window, region) in losses.into_iter().flatten() {
            for (y, row) in region.rows().enumerate() {
                let out = &mut found.plane_mut().row_mut(window.y + y)[window.x..window.right()];
                for (out, &value) in out.iter_mut().zip(row) {
                    *out |= value;
                }
            }
        }
    }
    Ok(found)
}

fn combine(out: &mut Plane<u8>, plane: &Plane<u8>, choose: impl Fn(u8, u8) -> u8) {
    for (out, &value) in out.data_mut().iter_mut().zip(plane.data()) {
        *out = choose(*out, value);
    }
}

/// The structuring elements in use.
struct Elements {
    cross: StructuringElement,
    square5: StructuringElement,
    square7: StructuringElement,
}

impl Elements {
    fn new() -> Result<Self> {
        Ok(Self {
            cross: StructuringElement::cross(3, 3)?,
            square5: StructuringElement::square(5)?,
            square7: StructuringElement::square(7)?,
        })
    }
}

/// Which sides of a window are sides of the picture.
#[derive(Clone, Copy)]
struct Edges {
    left: bool,
    top: bool,
    right: bool,
    bottom: bool,
}

/// What tells a loss from a part of the picture.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Distance in colour (largest channel difference) of the surroundings from the region: the quarter
    /// of the outline that differs least reaches this.
    contrast: f64,
    /// Distance in colour within the region that nine tenths of it stay below.
    spread: f64,
    /// Difference in brightness between the region's halves.
    drift: f64,
    /// Share of the outline that clearly differs.
    closed: f64,
    /// `4π · area / perimeter²`.
    compactness: f64,
    /// The region is as dark as a shadow.
    dark: bool,
}

impl Measured {
    /// Log-odds of a loss.
    fn score(&self) -> f64 {
        2.84 * (self.contrast + 5.0).ln()
            - 1.77 * (self.drift + 0.5).ln()
            - 0.92 * (self.spread + 3.0).ln()
            - 0.60 * self.closed
            + 0.82 * self.compactness.ln()
            - 7.89
    }
}

/// Grows a candidate to its true outline and measures it; `None` if it is too thin.
fn measure(
    channels: &[Plane<u8>],
    seed: &Plane<u8>,
    is_flat: bool,
    edges: Edges,
    elements: &Elements,
) -> Option<(Plane<u8>, Measured)> {
    let (width, height) = seed.size();
    let core = erode(seed, &elements.cross);
    let inside: Vec<usize> = (0..width * height).filter(|&i| core.data()[i] > 0).collect();
    if inside.len() < 10 {
        return None;
    }

    // 1. the region's colour and how far its pixels stray from it
    let colour: Vec<i32> = channels
        .iter()
        .map(|plane| {
            let mut counts = [0usize; 256];
            inside.iter().for_each(|&i| counts[usize::from(plane.data()[i])] += 1);
            quantile(&counts, inside.len(), 0.5) as i32
        })
        .collect();
    let distance = |i: usize| {
        let differences = channels.iter().zip(&colour);
        differences.map(|(plane, &c)| (i32::from(plane.data()[i]) - c).unsigned_abs()).max()
    };
    let distances =
        Plane::from_fn(width, height, |x, y| distance(y * width + x).unwrap_or(0) as u8);
    let mut counts = [0usize; 256];
    inside.iter().for_each(|&i| counts[usize::from(distances.data()[i])] += 1);
    let spread = quantile(&counts, inside.len(), 0.9);
    let deviation = 1.4 * quantile(&counts, inside.len(), 0.5) + 0.5;

    // 2. grow to the true outline
    let reach = if is_flat { &elements.square7 } else { &elements.square5 };
    let mut region = dilate(seed, reach);
    let tolerance = (3.0 * deviation).max(12.0);
    for ((region, &seed), &distance) in
        region.data_mut().iter_mut().zip(seed.data()).zip(distances.data())
    {
        *region =
            if seed > 0 || (*region > 0 && f64::from(distance) < tolerance) { 255 } else { 0 };
    }

    // 3. the surroundings: a ring from one to three pixels outside
    let near = dilate(&region, &elements.cross);
    let far = dilate(&near, &elements.square5);
    let mut counts = [0usize; 256];
    let (mut ring, mut clear) = (0usize, 0usize);
    let clearly = (4.0 * deviation).max(20.0);
    for ((&near, &far), &distance) in near.data().iter().zip(far.data()).zip(distances.data()) {
        if far > 0 && near == 0 {
            ring += 1;
            clear += usize::from(f64::from(distance) > clearly);
            counts[usize::from(distance)] += 1;
        }
    }
    if ring < 10 {
        return None;
    }
    let contrast = quantile(&counts, ring, 0.25);

    // 4. drift between the halves, left and right, top and bottom
    let brightness = |i: usize| {
        channels.iter().map(|plane| f64::from(plane.data()[i])).sum::<f64>() / channels.len() as f64
    };
    let drift = [0, 1].map(|axis| {
        let position = |i: usize| if axis == 0 { i % width } else { i / width };
        let mut counts = vec![0usize; width.max(height)];
        inside.iter().for_each(|&i| counts[position(i)] += 1);
        let middle = quantile(&counts, inside.len(), 0.5);
        let mut sums = [(0.0, 0usize); 2];
        for &i in &inside {
            let (sum, count) = &mut sums[usize::from(position(i) as f64 >= middle)];
            *sum += brightness(i);
            *count += 1;
        }
        let [(one, few), (other, many)] = sums;
        if few == 0 || many == 0 { 0.0 } else { (one / few as f64 - other / many as f64).abs() }
    });

    // 5. shape; the picture's own sides count as outline
    let area = region.data().iter().filter(|&&value| value > 0).count();
    let perimeter = (0..width * height)
        .filter(|&i| {
            let (x, y) = (i % width, i / width);
            let outside =
                |dx: isize, dy: isize| match (x.checked_add_signed(dx), y.checked_add_signed(dy)) {
                    (Some(x), Some(y)) if x < width && y < height => region.get(x, y) == 0,
                    (None, _) => edges.left,
                    (_, None) => edges.top,
                    (Some(x), _) if x >= width => edges.right,
                    _ => edges.bottom,
                };
            region.data()[i] > 0
                && (outside(-1, 0) || outside(1, 0) || outside(0, -1) || outside(0, 1))
        })
        .count();
    let measured = Measured {
        contrast,
        spread,
        drift: drift[0].max(drift[1]),
        closed: clear as f64 / ring as f64,
        compactness: 4.0 * std::f64::consts::PI * area as f64 / (perimeter.max(1) as f64).powi(2),
        dark: colour.iter().all(|&value| value <= i32::from(DARK[DARK.len() - 1])),
    };
    Some((region, measured))
}

/// The smallest value that at least `share` of the `total` counted values do not exceed.
fn quantile(counts: &[usize], total: usize, share: f64) -> f64 {
    let wanted = (total as f64 * share).max(1.0);
    let mut below = 0;
    for (value, &count) in counts.iter().enumerate() {
        below += count;
        if below as f64 >= wanted {
            return value as f64;
        }
    }
    counts.len() as f64 - 1.0
}
