//! What tells a wide loss from a part of the picture.

use super::DARK;
use crate::error::Result;
use crate::imgproc::{StructuringElement, dilate, erode};
use crate::plane::Plane;

/// The structuring elements in use.
pub(super) struct Elements {
    cross: StructuringElement,
    square3: StructuringElement,
    square5: StructuringElement,
    square7: StructuringElement,
}

impl Elements {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            cross: StructuringElement::cross(3, 3)?,
            square3: StructuringElement::square(3)?,
            square5: StructuringElement::square(5)?,
            square7: StructuringElement::square(7)?,
        })
    }
}

/// Which sides of a window are sides of the picture.
#[derive(Clone, Copy)]
pub(super) struct Edges {
    pub(super) left: bool,
    pub(super) top: bool,
    pub(super) right: bool,
    pub(super) bottom: bool,
}

/// What tells a loss from a part of the picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
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
    pub(super) dark: bool,
    /// As `contrast`, for the tenth of the outline that differs least.
    least_contrast: f64,
    /// How much a pixel inside strays from its neighbours: the median of the brightness's second differences both ways.
    grain: f64,
    /// Pixels.
    area: usize,
}

impl Measured {
    /// Log-odds of a loss.
    pub(super) fn score(&self) -> f64 {
        2.84 * (self.contrast + 5.0).ln()
            - 1.77 * (self.drift + 0.5).ln()
            - 0.92 * (self.spread + 3.0).ln()
            - 0.60 * self.closed
            + 0.82 * self.compactness.ln()
            - 7.89
    }

    /// What is weighed for who has another witness, that gives the region's pixels the log-odds `other` on average; the
    /// picture has `pixels`.
    pub(super) fn terms(&self, other: f64, pixels: usize) -> [f64; 8] {
        [
            (self.least_contrast + 3.0).ln(),
            (self.drift + 0.5).ln(),
            (self.spread + 3.0).ln(),
            (self.grain + 0.5).ln(),
            self.compactness.ln(),
            (self.area as f64 / pixels as f64).ln(),
            f64::from(u8::from(self.dark)),
            other,
        ]
    }
}

/// Grows a candidate to its true outline and measures it; `None` if it is too thin.
pub(super) fn measure(
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
    let least_contrast = quantile(&counts, ring, 0.1);

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

    // 5. grain
    let inner = erode(&region, &elements.square3);
    let inner = if inner.data().iter().any(|&value| value > 0) { &inner } else { &region };
    let grain = median_grain(channels, inner);

    // 6. shape; the picture's own sides count as outline
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
        least_contrast,
        grain,
        area,
    };
    Some((region, measured))
}

/// The median over `inner` of the absolute second difference, along x and then along y, of the channels' mean.
fn median_grain(channels: &[Plane<u8>], inner: &Plane<u8>) -> f64 {
    let (width, height) = inner.size();
    let mut grains = Vec::new();
    for y in 0..height {
        let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
        for x in (0..width).filter(|&x| inner.get(x, y) > 0) {
            let columns = [x.saturating_sub(1), x, (x + 1).min(width - 1)];
            let difference = |plane: &Plane<u8>| -> i32 {
                let along = |y: usize| {
                    let [left, middle, right] = columns.map(|x| i32::from(plane.get(x, y)));
                    left - 2 * middle + right
                };
                let [above, here, below] = rows.map(along);
                above - 2 * here + below
            };
            grains.push(channels.iter().map(difference).sum::<i32>().unsigned_abs());
        }
    }
    let middle = grains.len() / 2;
    if grains.is_empty() {
        return 0.0;
    }
    let (_, &mut median, _) = grains.select_nth_unstable(middle);
    f64::from(median) / channels.len() as f64
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
