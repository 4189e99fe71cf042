//! Connected components with their statistics, as OpenCV's `connectedComponentsWithStats`.
//!
//! Two passes over *runs* (stretches of damaged pixels in a row) with union-find, following He, Chao and
//! Suzuki, "A run-based two-scan labeling algorithm" (IEEE TIP 2008). Runs are found and joined strip by
//! strip in parallel, then strips are joined. Labels count up in raster order of each component's first
//! pixel, which is OpenCV's partition with possibly other numbers. [`component_runs`] never makes the
//! plane of labels, which matters for large scans.

use rayon::prelude::*;

use crate::geometry::Rect;
use crate::mask::Mask;
use crate::plane::Plane;

/// Rows that one task scans.
const STRIP: usize = 128;

/// Which pixels touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    /// Those that share a side.
    Four,
    /// Those that share a side or a corner.
    Eight,
}

/// One component's statistics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Component {
    /// Pixels.
    pub area: usize,
    /// The smallest rectangle that holds it.
    pub bounds: Rect,
    /// The mean position of its pixels, x then y, in pixel coordinates.
    pub centroid: (f64, f64),
}

/// A stretch of a component in one row: columns `start .. end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first column.
    pub start: u32,
    /// One past the last column.
    pub end: u32,
    /// The component's label, from 1.
    pub label: u32,
}

/// The components of a mask as runs.
#[derive(Clone, Debug)]
pub struct ComponentRuns {
    width: usize,
    /// Where each row's runs begin in `runs`; one more entry than rows.
    row_starts: Vec<usize>,
    runs: Vec<Run>,
    components: Vec<Component>,
}

/// The components of a mask as a plane of labels.
#[derive(Clone, Debug)]
pub struct Components {
    /// 0 outside every component, else the label: the position in `components` plus 1.
    pub labels: Plane<u32>,
    /// Statistics, in order of label.
    pub components: Vec<Component>,
}

impl ComponentRuns {
    /// Width and height of the mask.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.row_starts.len() - 1)
    }

    /// Statistics in order of label: the component labelled `n` is at position `n - 1`.
    #[must_use]
    pub fn components(&self) -> &[Component] {
        &self.components
    }

    /// The runs of row `y`, from left to right.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, y: usize) -> &[Run] {
        &self.runs[self.row_starts[y]..self.row_starts[y + 1]]
    }

    /// The label of every pixel, 0 outside every component.
    #[must_use]
    pub fn labels(&self) -> Plane<u32> {
        let (width, height) = self.size();
        let mut labels = Plane::filled(width, height, 0u32);
        self.paint(labels.data_mut(), |run| run.label);
        labels
    }

    /// The hard mask of the components for which `keep(label, statistics)` holds.
    #[must_use]
    pub fn select(&self, mut keep: impl FnMut(u32, &Component) -> bool) -> Mask {
        let values: Vec<u8> = (1..)
            .zip(&self.components)
            .map(|(label, component)| if keep(label, component) { Mask::DAMAGED } else { 0 })
            .collect();
        let (width, height) = self.size();
        let mut mask = Mask::empty(width, height);
        self.paint(mask.plane_mut().data_mut(), |run| values[run.label as usize - 1]);
        mask
    }

    fn paint<T: Copy + Send>(&self, out: &mut [T], value: impl Fn(&Run) -> T + Sync) {
        if self.width == 0 {
            return;
        }
        out.par_chunks_mut(self.width * STRIP).enumerate().for_each(|(strip, out)| {
            for (row, out) in out.chunks_exact_mut(self.width).enumerate() {
                for run in self.row(strip * STRIP + row) {
                    out[run.start as usize..run.end as usize].fill(value(run));
                }
            }
        });
    }
}

/// Labels the components of the pixels with a weight above 0.
#[must_use]
pub fn connected_components(mask: &Mask, connectivity: Connectivity) -> Components {
    let runs = component_runs(mask, connectivity);
    Components { labels: runs.labels(), components: runs.components }
}

/// Finds the components of the pixels with a weight above 0, without a plane of labels.
#[must_use]
pub fn component_runs(mask: &Mask, connectivity: Connectivity) -> ComponentRuns {
    let (width, height) = mask.size();
    if width == 0 {
        let row_starts = vec![0; height + 1];
        return ComponentRuns { width, row_starts, runs: vec![], components: vec![] };
    }
    // Runs touch if their columns overlap, after growing them by one for 8-connectivity.
    let reach = u32::from(connectivity == Connectivity::Eight);

    // 1. Every strip by itself: its runs, each with the strip's own provisional parent.
    let strips: Vec<Strip> = mask
        .plane()
        .data()
        .par_chunks(width * STRIP)
        .map(|pixels| Strip::scan(pixels, width, reach))
        .collect();

    // 2. One list of runs; parents become positions in it.
    let mut runs = Vec::with_capacity(strips.iter().map(|strip| strip.runs.len()).sum());
    let mut row_starts = Vec::with_capacity(height + 1);
    let mut parents: Vec<u32> = Vec::with_capacity(runs.capacity());
    for strip in strips {
        let base = runs.len();
        row_starts.extend(strip.row_starts.iter().map(|start| base + start));
        parents.extend(strip.parents.iter().map(|parent| base as u32 + parent));
        runs.extend(strip.runs);
    }
    row_starts.push(runs.len());

    // 3. Join across the seams between strips.
    for y in (STRIP..height).step_by(STRIP) {
        let above = row_starts[y - 1]..row_starts[y];
        let below = row_starts[y]..row_starts[y + 1];
        join_rows(&runs, above, below, reach, &mut parents);
    }

    // 4. A parent never comes after its child, so one pass gives final labels in raster order.
    let mut sums: Vec<Sums> = Vec::new();
    for y in 0..height {
        for index in row_starts[y]..row_starts[y + 1] {
            let parent = parents[index] as usize;
            let label = if parent == index {
                sums.push(Sums::new(y));
                sums.len() as u32
            } else {
                runs[parent].label
            };
            runs[index].label = label;
            sums[label as usize - 1].add(runs[index], y);
        }
    }
    let components = sums.iter().map(Sums::component).collect();
    ComponentRuns { width, row_starts, runs, components }
}

/// The runs of a few rows and how they hang together.
struct Strip {
    row_starts: Vec<usize>,
    runs: Vec<Run>,
    parents: Vec<u32>,
}

impl Strip {
    fn scan(pixels: &[u8], width: usize, reach: u32) -> Self {
        let rows = pixels.len() / width;
        let mut strip =
            Self { row_starts: Vec::with_capacity(rows), runs: vec![], parents: vec![] };
        let mut above = 0..0;
        for row in pixels.chunks_exact(width) {
            let first = strip.runs.len();
            strip.row_starts.push(first);
            find_runs(row, &mut strip.runs);
            let below = first..strip.runs.len();
            strip.parents.extend(below.start as u32..below.end as u32);
            join_rows(&strip.runs, above, below.clone(), reach, &mut strip.parents);
            above = below;
        }
        strip
    }
}

/// Appends the runs of non-zero pixels of a row.
fn find_runs(row: &[u8], runs: &mut Vec<Run>) {
    // 64 pixels at a time as bits; a set bit of `edges` is where a run begins or ends.
    let mut last = 0u64;
    let mut open = None;
    let mut edge = |x: u32| match open.take() {
        None => open = Some(x),
        Some(start) => runs.push(Run { start, end: x, label: 0 }),
    };
    for (index, pixels) in row.chunks(64).enumerate() {
        let bits = match pixels.try_into() {
            Ok(pixels) => non_zero_bits(pixels),
            Err(_) => {
                let mut padded = [0; 64];
                padded[..pixels.len()].copy_from_slice(pixels);
                non_zero_bits(&padded)
            }
        };
        let mut edges = bits ^ (bits << 1 | last);
        last = bits >> 63;
        while edges != 0 {
            edge(index as u32 * 64 + edges.trailing_zeros());
            edges &= edges - 1;
        }
    }
    if last == 1 && row.len().is_multiple_of(64) {
        edge(row.len() as u32);
    }
}

/// Bit `i` is set where `pixels[i]` is not zero.
fn non_zero_bits(pixels: &[u8; 64]) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let mut bits = 0;
    for (index, bytes) in pixels.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        if word == 0 {
            continue;
        }
        // The top bit of each byte: set if the byte is not zero; then gathered by a product in which
        // no two partial products meet.
        let tops = (((word & LOW) + LOW) | word) & !LOW;
        bits |= ((tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * index);
    }
    bits
}

/// Joins every run of one row with the runs that it touches in the row above.
fn join_rows(
    runs: &[Run],
    above: std::ops::Range<usize>,
    below: std::ops::Range<usize>,
    reach: u32,
    parents: &mut [u32],
) {
    let mut first = above.start;
    for index in below {
        let run = runs[index];
        while first < above.end && runs[first].end + reach <= run.start {
            first += 1;
        }
        let mut other = first;
        while other < above.end && runs[other].start < run.end + reach {
            join(parents, other as u32, index as u32);
            other += 1;
        }
        // The last one touched may reach on to the next run of this row.
        first = other.saturating_sub(1).max(first);
    }
}

/// Joins two trees under the earlier of their roots.
fn join(parents: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b) as usize] = a.min(b);
}

/// The root of `node`'s tree, halving the path on the way.
fn root(parents: &mut [u32], mut node: u32) -> u32 {
    while parents[node as usize] != node {
        let up = parents[parents[node as usize] as usize];
        parents[node as usize] = up;
        node = up;
    }
    node
}

/// A component's statistics while they are being summed.
struct Sums {
    area: u64,
    x: u64,
    y: u64,
    left: u32,
    right: u32,
    top: usize,
    bottom: usize,
}

impl Sums {
    const fn new(y: usize) -> Self {
        Self { area: 0, x: 0, y: 0, left: u32::MAX, right: 0, top: y, bottom: y }
    }

    fn add(&mut self, run: Run, y: usize) {
        let (start, end) = (u64::from(run.start), u64::from(run.end));
        let length = end - start;
        self.area += length;
        // start + … + (end − 1); one of the factors is even.
        self.x += (start + end - 1) * length / 2;
        self.y += y as u64 * length;
        self.left = self.left.min(run.start);
        self.right = self.right.max(run.end);
        self.bottom = y;
    }

    fn component(&self) -> Component {
        let (left, right) = (self.left as usize, self.right as usize);
        let area = self.area as f64;
        Component {
            area: self.area as usize,
            bounds: Rect::new(left, self.top, right - left, self.bottom + 1 - self.top),
            centroid: (self.x as f64 / area, self.y as f64 / area),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Labels by flood fill from each pixel in raster order.
    fn flood(mask: &Mask, connectivity: Connectivity) -> Plane<u32> {
        let (width, height) = mask.size();
        let mut labels = Plane::filled(width, height, 0u32);
        let mut next = 0;
        for start in 0..width * height {
            if mask.plane().data()[start] == 0 || labels.data()[start] != 0 {
                continue;
            }
            next += 1;
            labels.data_mut()[start] = next;
            let mut stack = vec![(start % width, start / width)];
            while let Some((x, y)) = stack.pop() {
                for ny in y.saturating_sub(1)..(y + 2).min(height) {
                    for nx in x.saturating_sub(1)..(x + 2).min(width) {
                        let diagonal = nx != x && ny != y;
                        if (diagonal && connectivity == Connectivity::Four)
                            || mask.plane().get(nx, ny) == 0
                            || labels.get(nx, ny) != 0
                        {
                            continue;
                        }
                        labels.set(nx, ny, next);
                        stack.push((nx, ny));
                    }
                }
            }
        }
        labels
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn labels_equal_a_flood_fill(
            width in 1usize..150,
            height in 1usize..160,
            density in 0u8..=100,
            seed in any::<u64>(),
            eight in any::<bool>(),
        ) {
            use rand::{RngExt, SeedableRng};
            let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
            let mask = Mask::from_fn(width, height, |_, _| rng.random_range(0..100u8) < density);
            let connectivity = if eight { Connectivity::Eight } else { Connectivity::Four };
            let found = connected_components(&mask, connectivity);
            prop_assert_eq!(&found.labels, &flood(&mask, connectivity));
            for (label, component) in (1..).zip(&found.components) {
                let area = found.labels.data().iter().filter(|&&l| l == label).count();
                prop_assert_eq!(component.area, area);
            }
            let all = component_runs(&mask, connectivity).select(|_, _| true);
            prop_assert_eq!(all, mask);
        }
    }

    #[test]
    fn a_u_shape_is_one_component() {
        let mask = Mask::from_fn(5, 3, |x, y| x == 0 || x == 4 || y == 2);
        let found = connected_components(&mask, Connectivity::Four);
        // 5 + 2 · 2 pixels; x: (0·3 + 1 + 2 + 3 + 4·3) / 9 = 2, y: (2·0 + 2·1 + 5·2) / 9 = 12 / 9
        let expected =
            Component { area: 9, bounds: Rect::new(0, 0, 5, 3), centroid: (2.0, 12.0 / 9.0) };
        assert_eq!(found.components, [expected]);
    }

    #[test]
    fn a_mask_without_pixels_has_no_components() {
        for size in [(0, 0), (0, 5), (5, 0)] {
            let runs = component_runs(&Mask::empty(size.0, size.1), Connectivity::Eight);
            assert!(runs.components().is_empty());
            assert_eq!(runs.size(), size);
            assert_eq!(runs.labels().size(), size);
        }
    }
}
