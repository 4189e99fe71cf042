//! Telea's fast marching inpainting, as OpenCV's `inpaint(…, INPAINT_TELEA)` computes it.
//!
//! A. Telea, "An Image Inpainting Technique Based on the Fast Marching Method", Journal of Graphics Tools 9(1), 2004.
//! Masked pixels are filled in the order of their distance from the kept ones. Each becomes the mean of the pixels
//! within a radius that are known by then, weighted by direction, distance and level line, plus a step along the
//! mean gradient. OpenCV 5.0 differs from the paper in ways that show, and it is OpenCV that is followed: the step
//! has a length of at most √2 levels, 0.5 is added before rounding to even, central differences are doubled where
//! the paper halves them, and the first rows and columns use their neighbours' values.
//!
//! Different from OpenCV on purpose:
//! - masked pixels in the picture's first row and column are filled (OpenCV leaves the damage there): last, when
//!   all others are;
//! - no masked pixel's old value is looked at (OpenCV reads some, one pixel from the first row and column);
//! - where all gradients are 0 the mean is rounded as it is, so that a flat area stays flat (OpenCV adds the 0.5
//!   there too, which makes 101 of a flat 100 and noise of the pixels after it).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::regions::Region;
use super::ribbon::Ribbon;
use super::{FillMethod, FillOptions, Progress, fill_planes};
use crate::error::{ImagingError, Result};
use crate::mask::Mask;
use crate::plane::Plane;

/// What filled values are rounded to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Depth {
    /// Whole levels, `0 ..= max`.
    Levels(f32),
    /// Nothing; `0 ..= max`.
    Continuous(f32),
}

/// Fills the masked pixels of planes in `[0, 1]`; a mask weight above 0 counts as masked.
///
/// Nothing is rounded; the gradient step is that of 8-bit pictures. Groups of three planes are filled together,
/// which gives the same as one by one.
///
/// # Errors
/// `Size` if a plane and the mask differ; `Argument` if every pixel is masked or `radius` is not in `1 ..= 100`.
pub fn inpaint(planes: &[Plane<f32>], mask: &Mask, radius: f32) -> Result<Vec<Plane<f32>>> {
    fill_planes(planes, mask, &FillOptions { method: FillMethod::Telea, radius })
}

/// The radius as OpenCV takes it, in whole pixels.
pub(crate) fn checked_radius(radius: f32) -> Result<usize> {
    let rounded = radius.round_ties_even();
    if (1.0..=100.0).contains(&rounded) {
        Ok(rounded as usize)
    } else {
        Err(ImagingError::argument("radius", "1 to 100 pixels", radius))
    }
}

/// Regions further apart than this cannot see each other: arrival times are needed within the radius of both.
pub(crate) const fn reach(radius: usize) -> usize {
    2 * radius + 1
}

/// Fills one region; returns its pixels row by row in the units of `read`.
pub(crate) fn march<const C: usize>(
    region: &Region,
    size: (usize, usize),
    radius: usize,
    depth: Depth,
    read: &impl Fn(usize, usize) -> [f32; C],
    progress: &Progress<'_>,
) -> Result<Vec<[f32; C]>> {
    let mut march = March::new(region, size, radius, depth, read);
    march.times_outside(region);
    march.fill(region, progress)?;
    Ok(region.positions().map(|(x, y)| march.colors[march.place_in_picture(x, y)]).collect())
}

/// States of a pixel. Whatever is not `UNKNOWN` counts as known, beyond the picture's edge too.
const OUTSIDE: u8 = 0;
const KNOWN: u8 = 1;
const UNKNOWN: u8 = 2;
/// Kept, within the radius, without an arrival time yet.
const RING: u8 = 3;
/// Kept, with an edge in common with a masked pixel.
const BAND: u8 = 4;

/// The arrival time of pixels that no front has reached.
const FAR: f32 = 1.0e6;

/// Pixels between two looks at the observer.
const STRIDE: usize = 4096;

struct March<const C: usize> {
    ribbon: Ribbon,
    size: (isize, isize),
    depth: Depth,
    disc: Disc,
    state: Vec<u8>,
    /// Distance from the mask's edge: positive inside the mask, negative outside.
    time: Vec<f32>,
    colors: Vec<[f32; C]>,
}

/// The offsets within the radius.
struct Disc {
    radius: isize,
    /// For each row from the top: how many columns it reaches to each side.
    half: Vec<isize>,
    /// For each row: `1 / distance³` from its leftmost to its rightmost column.
    falloff: Vec<Vec<f32>>,
}

impl Disc {
    /// OpenCV takes the root of grey pixels' squared distances in single precision, of colour's in double.
    fn new(radius: usize, channels: usize) -> Self {
        let cube = |square: isize| match channels {
            1 => f64::from(square as f32 * (square as f32).sqrt()),
            _ => square as f64 * (square as f64).sqrt(),
        };
        let radius = radius as isize;
        let half: Vec<isize> =
            (-radius..=radius).map(|dy| (radius * radius - dy * dy).isqrt()).collect();
        let falloff = (-radius..=radius)
            .zip(&half)
            .map(|(dy, &half)| {
                (-half..=half).map(|dx| (1.0 / cube(dx * dx + dy * dy)) as f32).collect()
            })
            .collect();
        Self { radius, half, falloff }
    }
}

/// A front of pixels, earliest first; of equals, the one that came first.
#[derive(Default)]
struct Front {
    heap: BinaryHeap<Reverse<(u64, u32, u32)>>,
    pushed: u32,
}

impl Front {
    fn push(&mut self, time: f32, (x, y): (usize, usize)) {
        // The bits of floats that are not negative are in the order of the floats; adding 0 makes 0 of −0.
        let key = u64::from((time.max(0.0) + 0.0).to_bits()) << 32 | u64::from(self.pushed);
        self.pushed += 1;
        self.heap.push(Reverse((key, x as u32, y as u32)));
    }

    fn pop(&mut self) -> Option<(usize, usize)> {
        self.heap.pop().map(|Reverse((_, x, y))| (x as usize, y as usize))
    }
}

impl<const C: usize> March<C> {
    fn new(
        region: &Region,
        (width, height): (usize, usize),
        radius: usize,
        depth: Depth,
        read: &impl Fn(usize, usize) -> [f32; C],
    ) -> Self {
        // Gradients look one pixel beyond the radius, the first column's one more.
        let ribbon = Ribbon::around(region, radius + 2);
        let mut state = vec![OUTSIDE; ribbon.len()];
        let mut colors = vec![[0.0; C]; ribbon.len()];
        for (x, y) in region.positions() {
            let (x, y) = ribbon.local(x, y);
            state[ribbon.place(x, y)] = UNKNOWN;
        }
        let (columns, rows) = (width as isize, height as isize);
        ribbon.for_each(|place, x, y| {
            let inside = (0..columns).contains(&x) && (0..rows).contains(&y);
            if inside && state[place] != UNKNOWN {
                state[place] = KNOWN;
                colors[place] = read(x as usize, y as usize);
            }
        });
        let time = vec![FAR; ribbon.len()];
        Self {
            ribbon,
            size: (columns, rows),
            depth,
            disc: Disc::new(radius, C),
            state,
            time,
            colors,
        }
    }

    fn place_in_picture(&self, x: usize, y: usize) -> usize {
        let (x, y) = self.ribbon.local(x, y);
        self.ribbon.place(x, y)
    }

    /// Up, left, down, right: OpenCV's order, which decides between equal arrival times.
    fn neighbours(&self, (x, y): (usize, usize)) -> [(usize, usize, usize); 4] {
        [(x, y - 1), (x - 1, y), (x, y + 1), (x + 1, y)]
            .map(|(x, y)| (x, y, self.ribbon.place(x, y)))
    }

    /// The arrival time at a pixel whose neighbours' times are known unless their state is `waiting`.
    fn arrival(&self, at: (usize, usize), waiting: u8) -> f32 {
        let [up, left, down, right] = self
            .neighbours(at)
            .map(|(_, _, place)| (f64::from(self.time[place]), self.state[place] != waiting));
        eikonal(up, left).min(eikonal(down, left)).min(eikonal(up, right)).min(eikonal(down, right))
    }

    /// Gives the kept pixels within the radius their negative arrival times, marching outwards.
    fn times_outside(&mut self, region: &Region) {
        let radius = self.disc.radius as usize;
        for run in &region.runs {
            let (start, y) = self.ribbon.local(run.start as usize, run.y as usize);
            for y in y - radius..=y + radius {
                let first = self.ribbon.place(start - radius, y);
                for state in &mut self.state[first..first + run.len() + 2 * radius] {
                    if *state == KNOWN {
                        *state = RING;
                    }
                }
            }
        }
        for (x, y) in region.positions() {
            let (x, y) = self.ribbon.local(x, y);
            for (_, _, place) in self.neighbours((x, y)) {
                if matches!(self.state[place], KNOWN | RING) {
                    self.state[place] = BAND;
                    self.time[place] = 0.0;
                }
            }
        }

        // In this march only the ring waits; masked pixels and those further out are FAR but not waiting.
        let mut front = Front::default();
        for at in self.band() {
            front.push(0.0, at);
        }
        while let Some(at) = front.pop() {
            for (x, y, place) in self.neighbours(at) {
                if self.state[place] == RING {
                    let time = self.arrival((x, y), RING);
                    self.time[place] = time;
                    self.state[place] = KNOWN;
                    front.push(time, (x, y));
                }
            }
        }
        for (time, state) in self.time.iter_mut().zip(&self.state) {
            if *state == KNOWN && *time < FAR {
                *time = -*time;
            }
        }
    }

    /// The local positions of the band, row by row.
    fn band(&self) -> Vec<(usize, usize)> {
        let mut band = Vec::new();
        let (left, top) = self.ribbon.origin();
        self.ribbon.for_each(|place, x, y| {
            if self.state[place] == BAND {
                band.push(((x - left) as usize, (y - top) as usize));
            }
        });
        band
    }

    /// Fills every masked pixel, marching inwards.
    fn fill(&mut self, region: &Region, progress: &Progress<'_>) -> Result<()> {
        // 1. everything but the first row and column, as OpenCV does
        let mut front = Front::default();
        for at in self.band() {
            front.push(0.0, at);
        }
        let mut left = region.pixels;
        left -= self.march_inwards(front, progress, |x, y| x > 0 && y > 0)?;
        if left == 0 {
            return Ok(());
        }

        // 2. the first row and column, and what can be reached only from there
        let mut front = Front::default();
        let mut seeds: Vec<(usize, usize)> = Vec::new();
        for (x, y) in region.positions() {
            let at = self.ribbon.local(x, y);
            if self.state[self.ribbon.place(at.0, at.1)] == UNKNOWN {
                let known = self
                    .neighbours(at)
                    .into_iter()
                    .filter(|&(_, _, place)| !matches!(self.state[place], UNKNOWN | OUTSIDE));
                seeds.extend(known.map(|(x, y, _)| (x, y)));
            }
        }
        seeds.sort_unstable_by_key(|&(x, y)| (y, x));
        seeds.dedup();
        for at in seeds {
            front.push(self.time[self.ribbon.place(at.0, at.1)], at);
        }
        self.march_inwards(front, progress, |_, _| true).map(|_| ())
    }

    /// Marches until the front is empty; fills pixels whose picture position is `allowed` and counts them.
    fn march_inwards(
        &mut self,
        mut front: Front,
        progress: &Progress<'_>,
        allowed: impl Fn(isize, isize) -> bool,
    ) -> Result<usize> {
        let (left, top) = self.ribbon.origin();
        let (mut filled, mut reported) = (0, 0);
        while let Some(at) = front.pop() {
            for (x, y, place) in self.neighbours(at) {
                if self.state[place] != UNKNOWN || !allowed(x as isize + left, y as isize + top) {
                    continue;
                }
                let time = self.arrival((x, y), UNKNOWN);
                self.time[place] = time;
                self.colors[place] = self.paint((x, y), place);
                self.state[place] = KNOWN;
                front.push(time, (x, y));
                filled += 1;
            }
            if filled - reported >= STRIDE {
                progress.advance(filled - reported)?;
                reported = filled;
            }
        }
        progress.advance(filled - reported)?;
        Ok(filled)
    }

    /// The gradient of the arrival time, one-sided next to masked pixels.
    fn time_gradient(&self, at: (usize, usize), place: usize) -> (f32, f32) {
        let here = self.time[place];
        let [up, left, down, right] = self
            .neighbours(at)
            .map(|(_, _, place)| (self.state[place] != UNKNOWN).then(|| self.time[place]));
        let slope = |before: Option<f32>, after: Option<f32>| match (before, after) {
            (Some(before), Some(after)) => (after - before) * 0.5,
            (None, Some(after)) => after - here,
            (Some(before), None) => here - before,
            (None, None) => 0.0,
        };
        (slope(left, right), slope(up, down))
    }

    /// The value of a masked pixel whose arrival time is set.
    fn paint(&self, at: (usize, usize), place: usize) -> [f32; C] {
        let (time_x, time_y) = self.time_gradient(at, place);
        let here = self.time[place];
        let (left, top) = self.ribbon.origin();
        let (x, y) = (at.0 as isize, at.1 as isize);
        let (columns, rows) = self.size;

        let mut mean = [0.0f32; C];
        let mut step = [[0.0f32; C]; 2];
        let mut sum = 1.0e-20f32;
        for (dy, (&half, falloff)) in
            (-self.disc.radius..).zip(self.disc.half.iter().zip(&self.disc.falloff))
        {
            let row = y + dy + top;
            if !(0..rows).contains(&row) {
                continue;
            }
            // Column x − half is at place first + 1 of its row; the rows above and below are alike.
            let (from, long) = ((x - half - 1) as usize, (2 * half + 3) as usize);
            let first = self.ribbon.place(from, (y + dy) as usize);
            let above = self.ribbon.place(from, (y + dy - 1) as usize);
            let below = self.ribbon.place(from, (y + dy + 1) as usize);
            let states = &self.state[first..first + long];
            let states_above = &self.state[above..above + long];
            let states_below = &self.state[below..below + long];
            let times = &self.time[first..first + long];
            let colors = &self.colors[first..first + long];
            let colors_above = &self.colors[above..above + long];
            let colors_below = &self.colors[below..below + long];
            let inner_row = row > 0 && row < rows - 1;

            for (k, (dx, &falloff)) in (1..long - 1).zip((-half..).zip(falloff)) {
                let column = x + dx + left;
                if states[k] == UNKNOWN || !(0..columns).contains(&column) {
                    continue;
                }
                let (to_x, to_y) = (-dx as f32, -dy as f32);
                let level = 1.0 / (1.0 + (times[k] - here).abs());
                let mut direction = to_x * time_x + to_y * time_y;
                if direction.abs() <= 0.01 {
                    direction = 1.0e-6;
                }
                let weight = (falloff * level * direction).abs();

                let known = [
                    states[k - 1] != UNKNOWN,
                    states[k + 1] != UNKNOWN,
                    states_above[k] != UNKNOWN,
                    states_below[k] != UNKNOWN,
                ];
                let (value, [across, down]) = if inner_row && column > 0 && column < columns - 1 {
                    let across = difference(
                        known[0],
                        known[1],
                        [&colors[k - 1], &colors[k], &colors[k + 1]],
                    );
                    let down = difference(
                        known[2],
                        known[3],
                        [&colors_above[k], &colors[k], &colors_below[k]],
                    );
                    (&colors[k], [across, down])
                } else {
                    self.at_edge(column, row, known)
                };
                for c in 0..C {
                    mean[c] += weight * value[c];
                    step[0][c] -= weight * (across[c] * to_x);
                    step[1][c] -= weight * (down[c] * to_y);
                }
                sum += weight;
            }
        }
        std::array::from_fn(|c| self.rounded(mean[c] / sum, step[0][c], step[1][c]))
    }

    fn rounded(&self, mean: f32, step_x: f32, step_y: f32) -> f32 {
        let flat = step_x == 0.0 && step_y == 0.0;
        let step = (step_x + step_y) / ((step_x * step_x + step_y * step_y).sqrt() + 1.0e-20);
        match self.depth {
            Depth::Levels(max) if flat => mean.round_ties_even().clamp(0.0, max),
            Depth::Levels(max) => (mean + step + 0.5).round_ties_even().clamp(0.0, max),
            Depth::Continuous(max) => (mean + step).clamp(0.0, max),
        }
    }

    /// Value and gradients of a pixel at the picture's edge, where OpenCV's places are shifted by one.
    fn at_edge(&self, x: isize, y: isize, known: [bool; 4]) -> (&[f32; C], [[f32; C]; 2]) {
        let (columns, rows) = self.size;
        let (x_low, x_high) = (x + isize::from(x == 0), x - isize::from(x == columns - 1));
        let (y_low, y_high) = (y + isize::from(y == 0), y - isize::from(y == rows - 1));
        let color = |x: isize, y: isize| {
            let (x, y) = (x.clamp(0, columns - 1), y.clamp(0, rows - 1));
            let place = self.place_in_picture(x as usize, y as usize);
            (self.state[place] != UNKNOWN).then(|| &self.colors[place])
        };
        let own = &self.colors[self.place_in_picture(x as usize, y as usize)];
        let value = color(x_low, y_low);
        // A place that is masked has no value: then there is no gradient either.
        let gradient =
            |before, after, middle: [Option<&[f32; C]>; 2], ends: [Option<&[f32; C]>; 2]| {
                let (low, high, factor) = match (before, after) {
                    (true, true) => (ends[0], ends[1], 2.0),
                    (false, true) => (middle[0], ends[1], 1.0),
                    (true, false) => (ends[0], middle[1], 1.0),
                    (false, false) => (None, None, 0.0),
                };
                match (low, high) {
                    (Some(low), Some(high)) => std::array::from_fn(|c| (high[c] - low[c]) * factor),
                    _ => [0.0; C],
                }
            };
        let across = gradient(
            known[0],
            known[1],
            [value, color(x_high, y_low)],
            [color(x_low - 1, y_low), color(x_high + 1, y_low)],
        );
        let down = gradient(
            known[2],
            known[3],
            [value, color(x_low, y_high)],
            [color(x_low, y_low - 1), color(x_low, y_high + 1)],
        );
        (value.unwrap_or(own), [across, down])
    }
}

/// OpenCV's difference of the values before, at and after a pixel, of which the outer two may be masked.
#[inline(always)]
fn difference<const C: usize>(
    before: bool,
    after: bool,
    [low, here, high]: [&[f32; C]; 3],
) -> [f32; C] {
    let (low, high, factor) = match (before, after) {
        (true, true) => (low, high, 2.0),
        (false, true) => (here, high, 1.0),
        (true, false) => (low, here, 1.0),
        (false, false) => (here, here, 0.0),
    };
    std::array::from_fn(|c| (high[c] - low[c]) * factor)
}

/// The arrival time that solves the eikonal equation with one vertical and one horizontal neighbour: their times,
/// and whether those count.
fn eikonal((a, a_known): (f64, bool), (b, b_known): (f64, bool)) -> f32 {
    let time = match (a_known, b_known) {
        (true, true) if (a - b).abs() < 1.0 => (a + b + (2.0 - (a - b) * (a - b)).sqrt()) * 0.5,
        (true, false) => 1.0 + a,
        (false, true) => 1.0 + b,
        _ => 1.0 + a.min(b),
    };
    time as f32
}
