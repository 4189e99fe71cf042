//! From damage to work windows: where a network that sees a fixed number of pixels should look.
//!
//! One look at a whole scan leaves a crack less than a latent wide, so each window shows a cluster of damage as
//! large as it can with room around it for context. Damage that is too long for one window is cut into tiles; damage
//! that is wider than a window can see around is shown smaller. The clusters are a greedy cover: the widest
//! damage first, and each window takes in all other damage that fits.

use crate::error::{ImagingError, Result};
use crate::geometry::Rect;
use crate::imgproc::{Connectivity, component_runs, distance_transform};
use crate::mask::Mask;

/// How windows are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowOptions {
    /// The side of what the network sees, in its pixels; `64 ..= 4096`. Default: 512.
    pub size: usize,
    /// The strongest enlargement of the picture, `1 ..= 8`: small damage is not shown larger. Default: 2.
    pub max_zoom: f64,
    /// The least room for context around a window's damage, as a share of the window's side, `0 ..= 0.4`.
    /// Default: 1/8.
    pub margin: f64,
}

impl Default for WindowOptions {
    fn default() -> Self {
        Self { size: 512, max_zoom: 2.0, margin: 0.125 }
    }
}

/// A part of the picture to look at, and the damage in it that this window answers for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// What the network sees. Square, unless the picture is too small for that.
    pub rect: Rect,
    /// The damage that this window answers for lies in here.
    pub core: Rect,
    /// The width of the widest damage in `core`, in pixels of the picture.
    pub damage_width: f64,
}

impl Window {
    /// The enlargement from picture to network when the longer side becomes `size`.
    #[must_use]
    pub fn zoom(&self, size: usize) -> f64 {
        size as f64 / self.rect.width.max(self.rect.height) as f64
    }
}

/// Lays windows over all damage (weights above 0), from top to bottom. No damage, no windows.
///
/// # Errors
/// [`ImagingError::Argument`] if an option is out of range.
pub fn plan(mask: &Mask, options: &WindowOptions) -> Result<Vec<Window>> {
    options.check()?;
    let layout = Layout { options: *options, bounds: mask.size() };

    // 1. boxes: a component, or the parts of one that is too long for a window
    let mut boxes = layout.boxes(mask);

    // 2. widest first, each window takes in what fits
    boxes.sort_by_key(|found| (std::cmp::Reverse(layout.side(found)), found.core.y, found.core.x));
    let mut open: Vec<Option<Window>> = boxes.into_iter().map(Some).collect();
    let mut rows = RowIndex::new(&open, mask.height());
    let mut windows = Vec::new();
    for at in 0..open.len() {
        let Some(mut window) = open[at].take() else { continue };
        rows.remove(at, &window);
        let side = layout.side(&window);
        while let Some(other) = rows.nearest(&window, &open, |union| layout.fits(union, side)) {
            let taken = open[other].take().expect("the index holds open boxes only");
            rows.remove(other, &taken);
            window.core = window.core.union(&taken.core);
            window.damage_width = window.damage_width.max(taken.damage_width);
        }
        window.rect = layout.place(&window);
        windows.push(window);
    }
    windows.sort_by_key(|window| (window.rect.y, window.rect.x));
    Ok(windows)
}

impl WindowOptions {
    fn check(&self) -> Result<()> {
        let problem = |name: &str, expected: &str, found: f64| {
            Err(ImagingError::argument(name, expected, found))
        };
        if !(64..=4096).contains(&self.size) {
            return problem("window size", "64 to 4096 pixels", self.size as f64);
        }
        if !(1.0..=8.0).contains(&self.max_zoom) {
            return problem("maximum zoom", "1 to 8", self.max_zoom);
        }
        if !(0.0..=0.4).contains(&self.margin) {
            return problem("window margin", "0 to 0.4 of the side", self.margin);
        }
        Ok(())
    }

    /// Pixels of damage that a window of this side can answer for.
    fn usable(&self, side: usize) -> usize {
        ((side as f64 * (1.0 - 2.0 * self.margin)) as usize).max(1)
    }
}

/// The geometry of one plan.
struct Layout {
    options: WindowOptions,
    /// Width and height of the picture.
    bounds: (usize, usize),
}

impl Layout {
    /// The side of the smallest window for this damage, in pixels of the picture.
    fn side(&self, found: &Window) -> usize {
        let least = (self.options.size as f64 / self.options.max_zoom).ceil() as usize;
        let extent = found.core.width.max(found.core.height) as f64;
        let with_context = extent / (1.0 - 2.0 * self.options.margin);
        // Half of the window for the hole, half for what surrounds it.
        least.max(with_context.ceil() as usize).max((2.0 * found.damage_width).ceil() as usize)
    }

    /// True if damage within `union` can be answered for by a window of `side`.
    fn fits(&self, union: &Rect, side: usize) -> bool {
        union.width.max(union.height) <= self.options.usable(side)
    }

    /// The window around its damage, inside the picture.
    fn place(&self, window: &Window) -> Rect {
        let side = self.side(window);
        let span = |start: usize, length: usize, bound: usize| {
            let side = side.min(bound);
            let centred = (start + length / 2).saturating_sub(side / 2);
            (centred.min(bound - side), side)
        };
        let (x, width) = span(window.core.x, window.core.width, self.bounds.0);
        let (y, height) = span(window.core.y, window.core.height, self.bounds.1);
        Rect::new(x, y, width, height)
    }

    /// The damage as boxes that each fit one window; `rect` is not set yet.
    fn boxes(&self, mask: &Mask) -> Vec<Window> {
        let runs = component_runs(mask, Connectivity::Eight);
        let distances = distance_transform(mask);
        let widths = self.widths(&runs, &distances);
        let tile = |width: f64| {
            let side = (self.options.size as f64).max(2.0 * width).ceil() as usize;
            self.options.usable(side)
        };

        let mut boxes = Vec::new();
        // Long components get a grid of cells, found again from their runs below.
        let mut grids: Vec<Option<Grid>> = Vec::with_capacity(widths.len());
        for (component, &width) in runs.components().iter().zip(&widths) {
            let Rect { width: across, height: down, .. } = component.bounds;
            if across.max(down) <= tile(width) {
                let core = component.bounds;
                boxes.push(Window { rect: core, core, damage_width: width });
                grids.push(None);
            } else {
                grids.push(Some(Grid::new(component.bounds, tile(width))));
            }
        }
        if grids.iter().any(Option::is_some) {
            for y in 0..mask.height() {
                for run in runs.row(y) {
                    if let Some(grid) = &mut grids[run.label as usize - 1] {
                        grid.mark(y, run.start as usize, run.end as usize, distances.row(y));
                    }
                }
            }
        }
        boxes.extend(grids.into_iter().flatten().flat_map(Grid::into_boxes));
        boxes
    }

    /// The greatest width of each component in pixels: twice the distance to the nearest kept pixel, less one.
    fn widths(
        &self,
        runs: &crate::imgproc::ComponentRuns,
        distances: &crate::Plane<f32>,
    ) -> Vec<f64> {
        let mut widths = vec![1.0_f64; runs.components().len()];
        for y in 0..self.bounds.1 {
            let row = distances.row(y);
            for run in runs.row(y) {
                let width = &mut widths[run.label as usize - 1];
                for &distance in &row[run.start as usize..run.end as usize] {
                    *width = width.max(self.width_at(distance));
                }
            }
        }
        widths
    }

    /// The width of damage whose middle is `distance` from kept pixels; a picture without any is all damage.
    fn width_at(&self, distance: f32) -> f64 {
        let most = self.bounds.0.max(self.bounds.1) as f64;
        (2.0 * f64::from(distance) - 1.0).min(most)
    }
}

/// One long component cut into cells, each with the bounds and the width of the damage in it.
struct Grid {
    bounds: Rect,
    cell: usize,
    columns: usize,
    cells: Vec<Option<Window>>,
}

impl Grid {
    fn new(bounds: Rect, most: usize) -> Self {
        // Equal cells instead of full ones and a rest.
        let columns = bounds.width.div_ceil(most);
        let rows = bounds.height.div_ceil(most);
        let cell = bounds.width.div_ceil(columns).max(bounds.height.div_ceil(rows));
        let (columns, rows) = (bounds.width.div_ceil(cell), bounds.height.div_ceil(cell));
        Self { bounds, cell, columns, cells: vec![None; columns * rows] }
    }

    /// Adds columns `start .. end` of row `y`; `distances` is that row of the distance transform.
    fn mark(&mut self, y: usize, start: usize, end: usize, distances: &[f32]) {
        let row = (y - self.bounds.y) / self.cell;
        let mut x = start;
        while x < end {
            let column = (x - self.bounds.x) / self.cell;
            let next = (self.bounds.x + (column + 1) * self.cell).min(end);
            let core = Rect::new(x, y, next - x, 1);
            let widest = distances[x..next].iter().copied().fold(1.0_f32, f32::max);
            // No damage is wider than its component is long.
            let most = self.bounds.width.max(self.bounds.height) as f64;
            let width = (2.0 * f64::from(widest) - 1.0).min(most);
            let cell = self.cells[row * self.columns + column].get_or_insert(Window {
                rect: core,
                core,
                damage_width: width,
            });
            cell.core = cell.core.union(&core);
            cell.damage_width = cell.damage_width.max(width);
            x = next;
        }
    }

    fn into_boxes(self) -> impl Iterator<Item = Window> {
        self.cells.into_iter().flatten()
    }
}

/// Open boxes by the row they start in, so that neighbours are found without looking at all.
struct RowIndex {
    rows: Vec<Vec<usize>>,
}

/// Rows of the picture to one row of the index.
const BAND: usize = 64;

impl RowIndex {
    fn new(open: &[Option<Window>], height: usize) -> Self {
        let mut rows = vec![Vec::new(); height / BAND + 1];
        for (at, window) in open.iter().enumerate() {
            if let Some(window) = window {
                rows[window.core.y / BAND].push(at);
            }
        }
        Self { rows }
    }

    fn remove(&mut self, at: usize, window: &Window) {
        self.rows[window.core.y / BAND].retain(|&other| other != at);
    }

    /// The open box whose union with `window` is smallest among those that `fit`.
    fn nearest(
        &self,
        window: &Window,
        open: &[Option<Window>],
        fit: impl Fn(&Rect) -> bool,
    ) -> Option<usize> {
        // A union that fits is never taller than what `fit` allows; probing tells how far that reaches.
        let reach = |rows: usize| fit(&Rect::new(0, 0, 1, rows));
        let mut tallest = window.core.height;
        while reach(tallest + BAND) {
            tallest += BAND;
        }
        let tallest = tallest + BAND;
        let first = window.core.bottom().saturating_sub(tallest) / BAND;
        let last = ((window.core.y + tallest) / BAND).min(self.rows.len() - 1);
        self.rows[first..=last]
            .iter()
            .flatten()
            .filter_map(|&at| {
                let union = window.core.union(&open[at].as_ref()?.core);
                fit(&union).then_some((union.area(), at))
            })
            .min()
            .map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> WindowOptions {
        WindowOptions::default()
    }

    fn mask_of(width: usize, height: usize, marks: &[Rect]) -> Mask {
        Mask::from_fn(width, height, |x, y| {
            marks.iter().any(|mark| mark.overlaps(&Rect::new(x, y, 1, 1)))
        })
    }

    #[test]
    fn no_damage_needs_no_window() {
        assert_eq!(plan(&Mask::empty(100, 80), &options()).expect("valid options"), []);
    }

    #[test]
    fn a_spot_is_enlarged_and_a_second_one_near_it_shares_the_window() {
        let mask = mask_of(2000, 1500, &[Rect::new(1000, 700, 3, 3), Rect::new(1100, 760, 4, 2)]);
        let windows = plan(&mask, &options()).expect("valid options");
        assert_eq!(windows.len(), 1);
        // size 512 / max_zoom 2 = 256 pixels, around (1000..1104, 700..762)
        assert_eq!(windows[0].rect, Rect::new(924, 603, 256, 256));
        assert_eq!(windows[0].core, Rect::new(1000, 700, 104, 62));
    }

    #[test]
    fn a_long_crack_is_cut_into_tiles_with_context() {
        let mask = mask_of(3000, 600, &[Rect::new(100, 300, 2800, 2)]);
        let windows = plan(&mask, &options()).expect("valid options");
        // 512 · 3/4 = 384 usable pixels a window; 2800 / 384 = 7.3
        assert_eq!(windows.len(), 8);
        for window in &windows {
            assert!(window.core.width <= 384 && window.rect.width <= 512, "{window:?}");
        }
    }

    #[test]
    fn a_wide_loss_is_shown_with_as_much_around_it() {
        let mask = mask_of(4000, 4000, &[Rect::new(1500, 1500, 900, 900)]);
        let windows = plan(&mask, &options()).expect("valid options");
        assert_eq!(windows.len(), 1);
        // 900 pixels wide, and about as much of what surrounds it.
        assert!(windows[0].rect.width >= 1790, "{windows:?}");
        assert!(windows[0].zoom(512) < 0.3);
    }

    #[test]
    fn a_small_picture_is_one_window() {
        let mask = mask_of(90, 50, &[Rect::new(10, 10, 5, 5)]);
        let windows = plan(&mask, &options()).expect("valid options");
        assert_eq!(windows.len(), 1);
        assert_eq!(windows[0].rect, Rect::new(0, 0, 90, 50));
    }

    #[test]
    fn options_out_of_range_are_named() {
        let bad = WindowOptions { size: 8, ..options() };
        let error = plan(&Mask::empty(9, 9), &bad).expect_err("too small");
        assert_eq!(error.to_string(), "window size: expected 64 to 4096 pixels, found 8");
    }

    proptest::proptest! {
        /// Every damaged pixel lies in the core of some window, cores lie in their windows, windows in the picture.
        #[test]
        fn all_damage_is_answered_for(
            width in 1_usize..900,
            height in 1_usize..700,
            marks in proptest::collection::vec((0_usize..900, 0_usize..700, 1_usize..600, 1_usize..90), 1..12),
            size in 64_usize..300,
        ) {
            let marks: Vec<_> =
                marks.into_iter().map(|(x, y, w, h)| Rect::new(x, y, w, h)).collect();
            let mask = mask_of(width, height, &marks);
            let windows = plan(&mask, &WindowOptions { size, ..options() }).expect("in range");
            let mut answered = Mask::empty(width, height);
            for Window { rect, core, .. } in windows {
                assert!(rect.x <= core.x && core.right() <= rect.right());
                assert!(rect.y <= core.y && core.bottom() <= rect.bottom());
                assert!(rect.right() <= width && rect.bottom() <= height);
                for y in core.y..core.bottom() {
                    for x in core.x..core.right() {
                        answered.plane_mut().set(x, y, Mask::DAMAGED);
                    }
                }
            }
            for (&given, &seen) in mask.plane().data().iter().zip(answered.plane().data()) {
                assert!(given == 0 || seen > 0);
            }
        }
    }
}
