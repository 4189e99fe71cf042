//! Storage for the pixels near a region, and for no others.
//!
//! A crack that runs across a scan has a bounding box as large as the scan. A ribbon keeps the pixels within a
//! margin of the region, in blocks of 16 columns of one row. Neighbouring blocks of a row follow each other, so the
//! `2 · margin + 1` pixels of any row around a masked pixel are one slice.

use super::regions::Region;

const BLOCK: usize = 16;
const ABSENT: u32 = u32::MAX;

/// Maps positions to places in arrays that hold one value a stored pixel, in row-major order.
///
/// Positions are local: the region's bounding box starts at `(margin, margin)`, so that none is negative.
pub(crate) struct Ribbon {
    /// The picture's column and row at the local position (0, 0); negative near its top left corner.
    origin: (isize, isize),
    blocks_a_row: usize,
    table: Vec<u32>,
    len: usize,
}

impl Ribbon {
    /// The ribbon of the pixels at most `margin` columns and rows away from the region.
    pub(crate) fn around(region: &Region, margin: usize) -> Self {
        let bounds = region.bounds;
        let origin = (bounds.x as isize - margin as isize, bounds.y as isize - margin as isize);
        let blocks_a_row = (bounds.width + 2 * margin).div_ceil(BLOCK);
        let mut table = vec![ABSENT; blocks_a_row * (bounds.height + 2 * margin)];
        // 1. mark the blocks within the margin; a row is reached by the runs of 2 · margin + 1 rows
        for run in &region.runs {
            let (start, end) = (run.start as usize - bounds.x, run.end as usize - bounds.x);
            let blocks = start / BLOCK..=(end - 1 + 2 * margin) / BLOCK;
            let top = run.y as usize - bounds.y;
            for y in top..=top + 2 * margin {
                let row = &mut table[y * blocks_a_row..(y + 1) * blocks_a_row];
                row[blocks.clone()].fill(0);
            }
        }
        // 2. number them
        let mut count = 0;
        for block in table.iter_mut().filter(|block| **block != ABSENT) {
            *block = count;
            count += 1;
        }
        Self { origin, blocks_a_row, table, len: count as usize * BLOCK }
    }

    /// Values an array needs.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The picture's column and row at the local position (0, 0).
    pub(crate) const fn origin(&self) -> (isize, isize) {
        self.origin
    }

    /// The local position of a pixel of the picture.
    pub(crate) const fn local(&self, x: usize, y: usize) -> (usize, usize) {
        ((x as isize - self.origin.0) as usize, (y as isize - self.origin.1) as usize)
    }

    /// The place of a local position, which must be stored.
    #[inline]
    pub(crate) fn place(&self, x: usize, y: usize) -> usize {
        let block = self.table[y * self.blocks_a_row + x / BLOCK];
        debug_assert_ne!(block, ABSENT);
        block as usize * BLOCK + x % BLOCK
    }

    /// The place of a position in the picture, if it is stored.
    pub(crate) fn find(&self, x: isize, y: isize) -> Option<usize> {
        let (x, y) = (x - self.origin.0, y - self.origin.1);
        if x < 0 || y < 0 || x as usize >= self.blocks_a_row * BLOCK {
            return None;
        }
        let (x, y) = (x as usize, y as usize);
        let block = *self.table.get(y * self.blocks_a_row + x / BLOCK)?;
        (block != ABSENT).then(|| block as usize * BLOCK + x % BLOCK)
    }

    /// Calls `each(place, x, y)` for every stored pixel, in the order of the places. `x` and `y` are the picture's
    /// and may lie outside it.
    pub(crate) fn for_each(&self, mut each: impl FnMut(usize, isize, isize)) {
        let mut place = 0;
        for (y, row) in (self.origin.1..).zip(self.table.chunks_exact(self.blocks_a_row)) {
            for (block, _) in row.iter().enumerate().filter(|(_, number)| **number != ABSENT) {
                let first = self.origin.0 + (block * BLOCK) as isize;
                for x in first..first + BLOCK as isize {
                    each(place, x, y);
                    place += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::regions;
    use crate::mask::Mask;

    #[test]
    fn every_pixel_within_the_margin_has_its_own_place_in_row_major_order() {
        // A diagonal: its bounding box is 60 × 60, its ribbon much smaller.
        let mask = Mask::from_fn(64, 64, |x, y| x == y && (2..62).contains(&x));
        let regions = regions::find(&mask, 1);
        let ribbon = Ribbon::around(&regions[0], 3);
        assert!(ribbon.len() < 66 * 66 * 2 / 3);

        let mut last = None;
        ribbon.for_each(|place, x, y| {
            assert_eq!(place, last.map_or(0, |last| last + 1));
            last = Some(place);
            let local = ((x - ribbon.origin().0) as usize, (y - ribbon.origin().1) as usize);
            assert_eq!(ribbon.place(local.0, local.1), place);
        });
        assert_eq!(last, Some(ribbon.len() - 1));
        for (x, y) in regions[0].positions() {
            let (x, y) = ribbon.local(x, y);
            for y in y - 3..=y + 3 {
                let first = ribbon.place(x - 3, y);
                assert_eq!(ribbon.place(x + 3, y), first + 6, "one slice");
            }
        }
    }
}
