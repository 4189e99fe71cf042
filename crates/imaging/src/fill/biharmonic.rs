//! Biharmonic inpainting: the linear system of scikit-image's `inpaint_biharmonic`.
//!
//! S. B. Damelin and N. S. Hoang, "On Surface Completion and Image Inpainting by Biharmonic Functions: Numerical
//! Aspects", International Journal of Mathematics and Mathematical Sciences, 2018.
//! At every masked pixel the twice applied five-point Laplacian of the picture is 0. scikit-image 0.26 truncates the
//! stencil at the picture's edges by reflecting the Laplacian there, so the operator is the square of a graph's
//! Laplacian: symmetric, and positive definite as soon as one pixel is kept. One Cholesky factorisation serves all
//! channels.
//!
//! Pixels more than two steps apart do not appear in each other's equations, so regions further apart than that are
//! solved by themselves. That is scikit-image's `split_into_regions`, which gives the same solution as without.
//! As there, results are clipped to the range of the picture's kept pixels, channel by channel.

use super::dissection;
use super::regions::Region;
use super::ribbon::Ribbon;
use super::{FillMethod, FillOptions, Progress, fill_planes};
use crate::error::{ImagingError, Result};
use crate::mask::Mask;
use crate::plane::Plane;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::LltRegularization;
use faer::sparse::linalg::cholesky::{
    CholeskySymbolicParams, LltRef, SymmetricOrdering, factorize_symbolic_cholesky,
};
use faer::sparse::{SparseColMatRef, SymbolicSparseColMatRef};
use faer::{Conj, MatMut, Par, Side, Spec};
use rayon::prelude::*;

/// Pixels at most this many columns and rows apart can share an equation.
pub(crate) const REACH: usize = 2;

/// Fills the masked pixels of planes; a mask weight above 0 counts as masked.
///
/// Groups of three planes share the factorisations. Results are clipped to the range of each plane's kept pixels.
///
/// # Errors
/// `Size` if a plane and the mask differ; `Argument` if every pixel is masked; `Numeric` if a system cannot be
/// solved.
pub fn inpaint(planes: &[Plane<f32>], mask: &Mask) -> Result<Vec<Plane<f32>>> {
    let options = FillOptions { method: FillMethod::Biharmonic, ..FillOptions::default() };
    fill_planes(planes, mask, &options)
}

/// The smallest and largest kept value of each channel.
pub(crate) fn known_range<const C: usize>(
    read: &(impl Fn(usize, usize) -> [f32; C] + Sync),
    mask: &Mask,
) -> [(f32, f32); C] {
    let nothing = [(f32::INFINITY, f32::NEG_INFINITY); C];
    mask.plane()
        .data()
        .par_chunks(mask.width().max(1))
        .enumerate()
        .map(|(y, weights)| {
            let mut range = nothing;
            for (x, _) in weights.iter().enumerate().filter(|(_, weight)| **weight == 0) {
                for ((low, high), value) in range.iter_mut().zip(read(x, y)) {
                    *low = low.min(value);
                    *high = high.max(value);
                }
            }
            range
        })
        .reduce(
            || nothing,
            |a, b| std::array::from_fn(|c| (a[c].0.min(b[c].0), a[c].1.max(b[c].1))),
        )
}

/// Fills one region; returns its pixels row by row in the units of `read`, clipped to `limits`.
pub(crate) fn solve<const C: usize>(
    region: &Region,
    size: (usize, usize),
    limits: [(f32, f32); C],
    read: &impl Fn(usize, usize) -> [f32; C],
    progress: &Progress<'_>,
) -> Result<Vec<[f32; C]>> {
    progress.check()?;
    let mut system = System::assemble(region, size, read);
    progress.check()?;
    system.solve(progress)?;

    let unknowns = region.pixels;
    let mut filled = vec![[0.0; C]; unknowns];
    for (at, &pixel) in system.order.iter().enumerate() {
        filled[pixel as usize] = std::array::from_fn(|c| {
            let (low, high) = limits[c];
            (system.right[c * unknowns + at] as f32).clamp(low, high)
        });
    }
    progress.advance(unknowns)?;
    Ok(filled)
}

/// The upper triangle of a symmetric matrix in compressed columns, and the right-hand sides.
struct System {
    /// For each unknown, which pixel of the region it is, counted row by row.
    order: Vec<u32>,
    columns: Vec<u32>,
    rows: Vec<u32>,
    values: Vec<f64>,
    /// One column of all unknowns a channel; the solution once solved.
    right: Vec<f64>,
}

/// The offsets of the stencil besides its centre.
const STENCIL: [(isize, isize); 12] = [
    (0, -2),
    (-1, -1),
    (0, -1),
    (1, -1),
    (-2, 0),
    (-1, 0),
    (1, 0),
    (2, 0),
    (-1, 1),
    (0, 1),
    (1, 1),
    (0, 2),
];

impl System {
    fn assemble<const C: usize>(
        region: &Region,
        size: (usize, usize),
        read: &impl Fn(usize, usize) -> [f32; C],
    ) -> Self {
        const KEPT: u32 = u32::MAX;
        let unknowns = region.pixels;
        let positions: Vec<[u32; 2]> =
            region.positions().map(|(x, y)| [x as u32, y as u32]).collect();
        let order = dissection::order(&positions);

        let ribbon = Ribbon::around(region, REACH);
        let mut number = vec![KEPT; ribbon.len()];
        let place = |x: usize, y: usize| {
            let (x, y) = ribbon.local(x, y);
            ribbon.place(x, y)
        };
        for (at, &pixel) in (0..).zip(&order) {
            let [x, y] = positions[pixel as usize];
            number[place(x as usize, y as usize)] = at;
        }

        let (width, height) = (size.0 as isize, size.1 as isize);
        let inside = |x, y| (0..width).contains(&x) && (0..height).contains(&y);
        // A pixel's neighbours in the picture: its degree in the graph whose Laplacian is squared.
        let degree = |x: isize, y: isize| {
            let missing = isize::from(x == 0)
                + isize::from(x == width - 1)
                + isize::from(y == 0)
                + isize::from(y == height - 1);
            (4 - missing) as f64
        };

        let mut columns = Vec::with_capacity(unknowns + 1);
        let mut rows = Vec::with_capacity(unknowns * 7);
        let mut values = Vec::with_capacity(unknowns * 7);
        let mut right = vec![0.0; unknowns * C];
        let mut entries: Vec<(u32, f64)> = Vec::with_capacity(13);
        columns.push(0);
        for (at, &pixel) in order.iter().enumerate() {
            let [x, y] = positions[pixel as usize].map(|position| position as isize);
            let here = degree(x, y);
            entries.clear();
            entries.push((at as u32, here * here + here));
            for (dx, dy) in STENCIL {
                let (to_x, to_y) = (x + dx, y + dy);
                if !inside(to_x, to_y) {
                    continue;
                }
                // Paths of two steps: 1 straight ahead, 2 round a corner, and over an edge there and waiting at
                // either end, weighted by minus the degree of that end.
                let value = match dx.abs() + dy.abs() {
                    1 => -(here + degree(to_x, to_y)),
                    _ if dx == 0 || dy == 0 => 1.0,
                    _ => 2.0,
                };
                let (to_x, to_y) = (to_x as usize, to_y as usize);
                let other = number[place(to_x, to_y)];
                if other == KEPT {
                    for (c, known) in read(to_x, to_y).into_iter().enumerate() {
                        right[c * unknowns + at] -= value * f64::from(known);
                    }
                } else if other < at as u32 {
                    entries.push((other, value));
                }
            }
            entries.sort_unstable_by_key(|&(row, _)| row);
            rows.extend(entries.iter().map(|&(row, _)| row));
            values.extend(entries.iter().map(|&(_, value)| value));
            columns.push(rows.len() as u32);
        }
        Self { order, columns, rows, values, right }
    }

    /// Replaces the right-hand sides by the solutions.
    fn solve(&mut self, progress: &Progress<'_>) -> Result<()> {
        let unknowns = self.order.len();
        let failed = |reason: &dyn std::fmt::Debug| ImagingError::Numeric {
            what: "biharmonic inpainting",
            reason: format!("factorising {unknowns} unknowns: {reason:?}"),
        };
        let pattern = SymbolicSparseColMatRef::new_checked(
            unknowns,
            unknowns,
            &self.columns,
            None,
            &self.rows,
        );
        let symbolic = factorize_symbolic_cholesky(
            pattern,
            Side::Upper,
            SymmetricOrdering::Identity,
            CholeskySymbolicParams::default(),
        )
        .map_err(|error| failed(&error))?;
        progress.check()?;

        let channels = self.right.len() / unknowns;
        let mut values = vec![0.0; symbolic.len_val()];
        let scratch = symbolic
            .factorize_numeric_llt_scratch::<f64>(Par::Seq, Spec::default())
            .or(symbolic.solve_in_place_scratch::<f64>(channels, Par::Seq));
        let mut memory = MemBuffer::try_new(scratch).map_err(|error| failed(&error))?;
        let factor: LltRef<'_, u32, f64> = symbolic
            .factorize_numeric_llt(
                &mut values,
                SparseColMatRef::new(pattern, &self.values),
                Side::Upper,
                LltRegularization::default(),
                Par::Seq,
                MemStack::new(&mut memory),
                Spec::default(),
            )
            .map_err(|error| failed(&error))?;
        progress.check()?;
        factor.solve_in_place_with_conj(
            Conj::No,
            MatMut::from_column_major_slice_mut(&mut self.right, unknowns, channels),
            Par::Seq,
            MemStack::new(&mut memory),
        );
        Ok(())
    }
}
