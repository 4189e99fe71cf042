//! Splits a mask into regions that can be filled independently of each other.
//!
//! A region is kept as its horizontal runs, so that the memory is that of the damage and not of the picture.

use rayon::prelude::*;

use crate::geometry::Rect;
use crate::mask::Mask;

/// Neighbouring masked pixels of one row: columns `start .. end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) y: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Run {
    pub(crate) const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// The pixels `(x, y)` from left to right.
    pub(crate) fn pixels(self) -> impl Iterator<Item = (usize, usize)> {
        (self.start as usize..self.end as usize).map(move |x| (x, self.y as usize))
    }
}

/// Masked pixels that are filled together.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// Row by row, from left to right.
    pub(crate) runs: Vec<Run>,
    pub(crate) bounds: Rect,
    pub(crate) pixels: usize,
}

impl Region {
    /// The pixels `(x, y)`, row by row.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.runs.iter().flat_map(|run| run.pixels())
    }
}

/// The regions of the pixels whose weight is above 0, in the order of their first pixels.
///
/// Two pixels belong together when a chain of masked pixels joins them whose steps are at most `reach` columns
/// and `reach` rows long.
pub(crate) fn find(mask: &Mask, reach: usize) -> Vec<Region> {
    let (runs, first_of_row) = runs(mask);
    let mut sets = Sets::new(runs.len());
    let reach = u32::try_from(reach).unwrap_or(u32::MAX);
    for y in 0..mask.height() {
        let here = first_of_row[y]..first_of_row[y + 1];
        if here.is_empty() {
            continue;
        }
        for at in here.clone().skip(1) {
            // The gap of columns between two pixels `d` apart is `d − 1`, and `end` is one past the last.
            if runs[at].start - runs[at - 1].end < reach {
                sets.join(at as u32, at as u32 - 1);
            }
        }
        for above in y.saturating_sub(reach as usize)..y {
            let row = first_of_row[above]..first_of_row[above + 1];
            join_rows(&runs, row, here.clone(), reach, &mut sets);
        }
    }
    gather(&runs, &mut sets)
}

/// Joins every run of one row with the runs of another that are at most `reach` columns away.
fn join_rows(
    runs: &[Run],
    above: std::ops::Range<usize>,
    here: std::ops::Range<usize>,
    reach: u32,
    sets: &mut Sets,
) {
    let mut first = above.start;
    for at in here {
        let run = runs[at];
        // Both rows run from left to right, so what lies too far left for this run does for the next.
        while first < above.end && runs[first].end - 1 + reach < run.start {
            first += 1;
        }
        let mut other = first;
        while other < above.end && runs[other].start < run.end + reach {
            sets.join(at as u32, other as u32);
            other += 1;
        }
    }
}

/// All runs, and for each row the number of its first run (with one more entry at the end).
fn runs(mask: &Mask) -> (Vec<Run>, Vec<usize>) {
    const ROWS: usize = 64;
    let (width, height) = mask.size();
    let bands: Vec<Vec<Run>> = mask
        .plane()
        .data()
        .par_chunks((width * ROWS).max(1))
        .enumerate()
        .map(|(band, rows)| {
            let mut runs = Vec::new();
            for (y, row) in rows.chunks_exact(width.max(1)).enumerate() {
                row_runs(row, (band * ROWS + y) as u32, &mut runs);
            }
            runs
        })
        .collect();
    let runs = bands.concat();
    let mut first_of_row = vec![0; height + 1];
    for run in &runs {
        first_of_row[run.y as usize + 1] += 1;
    }
    for y in 0..height {
        first_of_row[y + 1] += first_of_row[y];
    }
    (runs, first_of_row)
}

fn row_runs(row: &[u8], y: u32, runs: &mut Vec<Run>) {
    const BLOCK: usize = 64;
    let mut open: Option<u32> = None;
    for (block, weights) in row.chunks(BLOCK).enumerate() {
        let first = (block * BLOCK) as u32;
        // Most of a mask is empty: one test dismisses a whole block.
        if open.is_none() && weights.iter().fold(0, |any, &weight| any | weight) == 0 {
            continue;
        }
        for (x, &weight) in (first..).zip(weights) {
            match (open, weight > 0) {
                (None, true) => open = Some(x),
                (Some(start), false) => {
                    runs.push(Run { y, start, end: x });
                    open = None;
                }
                _ => {}
            }
        }
    }
    if let Some(start) = open {
        runs.push(Run { y, start, end: row.len() as u32 });
    }
}

fn gather(runs: &[Run], sets: &mut Sets) -> Vec<Region> {
    const NONE: u32 = u32::MAX;
    let mut region_of_root = vec![NONE; runs.len()];
    let mut regions: Vec<Region> = Vec::new();
    for (at, &run) in runs.iter().enumerate() {
        let root = sets.root(at as u32) as usize;
        let (start, y) = (run.start as usize, run.y as usize);
        let bounds = Rect::new(start, y, run.len(), 1);
        if region_of_root[root] == NONE {
            region_of_root[root] = regions.len() as u32;
            regions.push(Region { runs: vec![run], bounds, pixels: run.len() });
        } else {
            let region = &mut regions[region_of_root[root] as usize];
            region.runs.push(run);
            region.bounds = region.bounds.union(&bounds);
            region.pixels += run.len();
        }
    }
    regions
}

/// Disjoint sets with path halving; the smaller number is the root, so that roots do not depend on the order.
struct Sets(Vec<u32>);

impl Sets {
    fn new(len: usize) -> Self {
        Self((0..len as u32).collect())
    }

    fn root(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            let parent = self.0[at as usize];
            self.0[at as usize] = self.0[parent as usize];
            at = parent;
        }
        at
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask_of(rows: &[&str]) -> Mask {
        let rows: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
        Mask::from_fn(rows[0].len(), rows.len(), |x, y| rows[y][x] == b'#')
    }

    #[test]
    fn reach_decides_what_belongs_together() {
        let mask = mask_of(&["#..#....", "........", "........", "....##.."]);
        assert_eq!(find(&mask, 1).len(), 3);
        assert_eq!(find(&mask, 2).len(), 3);
        // (0, 0) and (3, 0) are 3 columns apart; (3, 0) and (4, 3) are 3 rows apart.
        let one = find(&mask, 3);
        assert_eq!(one.len(), 1);
        assert_eq!((one[0].pixels, one[0].bounds), (4, Rect::new(0, 0, 6, 4)));
        assert_eq!(
            one[0].positions().collect::<Vec<_>>(),
            [(0, 0), (3, 0), (4, 3), (5, 3)],
            "row by row"
        );
    }

    #[test]
    fn runs_cross_blocks_and_end_with_the_row() {
        let mask = Mask::from_fn(200, 130, |x, y| (60..70).contains(&x) || (y == 129 && x > 150));
        let regions = find(&mask, 2);
        assert_eq!(regions.len(), 2);
        assert_eq!(regions[0].bounds, Rect::new(60, 0, 10, 130));
        assert_eq!(regions[1].runs, [Run { y: 129, start: 151, end: 200 }]);
    }

    #[test]
    fn an_empty_mask_has_no_region() {
        assert!(find(&Mask::empty(70, 3), 8).is_empty());
    }
}
