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
//! A region whose factor would be too large (some 300 × 300 pixels and more without a kept one; cracks of millions of
//! pixels still fit) is solved by iteration instead, to within 1e-5 of the range of the kept values.
//! As in scikit-image, results are clipped to the range of the picture's kept pixels, channel by channel.

use super::dissection;
use super::multigrid;
use super::regions::Region;
use super::ribbon::Ribbon;
use super::{FillMethod, FillOptions, Progress, fill_planes};
use crate::error::{ImagingError, Result};
use crate::mask::Mask;
use crate::plane::Plane;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::LltRegularization;
use faer::sparse::linalg::cholesky::{
    CholeskySymbolicParams, LltRef, SymbolicCholesky, SymmetricOrdering,
    factorize_symbolic_cholesky,
};
use faer::sparse::{SparseColMatRef, SymbolicSparseColMatRef};
use faer::{Conj, MatMut, Par, Side, Spec};
use rayon::prelude::*;

/// Pixels at most this many columns and rows apart can share an equation.
pub(crate) const REACH: usize = 2;

/// Entries that a region's Cholesky factor may have (160 MiB); larger systems are solved by iteration.
const LARGEST_FACTOR: usize = 20 << 20;

/// How far an iterative solution may be from the exact one, as a part of the range of the kept values.
const TOLERANCE: f64 = 1e-5;

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
    let unknowns = region.pixels;
    let mut system = System::assemble(region, size, read);
    progress.check()?;
    let clipped = |value: [f64; C]| -> [f32; C] {
        std::array::from_fn(|c| (value[c] as f32).clamp(limits[c].0, limits[c].1))
    };

    if let Some(factor) = system.factorize(LARGEST_FACTOR, progress)? {
        factor.solve(&mut system.right);
        drop(factor);
        let mut filled = vec![[0.0; C]; unknowns];
        for (at, &pixel) in system.order.iter().enumerate() {
            filled[pixel as usize] =
                clipped(std::array::from_fn(|c| system.right[c * unknowns + at]));
        }
        progress.advance(unknowns)?;
        return Ok(filled);
    }

    let mut right = vec![[0.0; C]; unknowns];
    for (at, &pixel) in system.order.iter().enumerate() {
        right[pixel as usize] = std::array::from_fn(|c| system.right[c * unknowns + at]);
    }
    drop(system);
    let spread = limits.iter().map(|(low, high)| high - low).fold(0.0, f32::max);
    let solution = multigrid::solve(region, size, right, f64::from(spread) * TOLERANCE, progress)?;
    progress.advance(unknowns)?;
    Ok(solution.into_iter().map(clipped).collect())
}

/// The stencil's value at an offset other than (0, 0), both ends inside the picture.
///
/// It counts paths of two steps in the grid: 1 straight ahead, 2 round a corner, and over one edge there and waiting
/// at either end, weighted by minus the degree of that end.
pub(crate) fn coefficient(
    (x, y): (isize, isize),
    (dx, dy): (isize, isize),
    size: (isize, isize),
) -> f64 {
    match dx * dx + dy * dy {
        1 => -f64::from(degree((x, y), size) + degree((x + dx, y + dy), size)),
        2 => 2.0,
        _ => 1.0,
    }
}

/// How many neighbours a pixel has in a picture of `size`.
pub(crate) fn degree((x, y): (isize, isize), (width, height): (isize, isize)) -> u8 {
    4 - u8::from(x == 0) - u8::from(x == width - 1) - u8::from(y == 0) - u8::from(y == height - 1)
}

/// The upper triangle of a symmetric matrix in compressed columns, and the right-hand sides.
pub(crate) struct System {
    /// For each unknown, which pixel of the region it is, counted row by row.
    pub(crate) order: Vec<u32>,
    columns: Vec<u32>,
    rows: Vec<u32>,
    values: Vec<f64>,
    /// One column of all unknowns a channel; the solution once solved.
    pub(crate) right: Vec<f64>,
}

/// The offsets of the stencil besides its centre.
pub(crate) const STENCIL: [(isize, isize); 12] = [
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
    pub(crate) fn assemble<const C: usize>(
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
        let mut system = Self::new(order, C);
        let mut entries: Vec<(u32, f64)> = Vec::with_capacity(13);
        for at in 0..unknowns {
            let [x, y] = positions[system.order[at] as usize].map(|position| position as isize);
            let here = f64::from(degree((x, y), (width, height)));
            entries.clear();
            entries.push((at as u32, here * here + here));
            for offset in STENCIL {
                let (to_x, to_y) = (x + offset.0, y + offset.1);
                if !inside(to_x, to_y) {
                    continue;
                }
                let value = coefficient((x, y), offset, (width, height));
                let (to_x, to_y) = (to_x as usize, to_y as usize);
                let other = number[place(to_x, to_y)];
                if other == KEPT {
                    for (c, known) in read(to_x, to_y).into_iter().enumerate() {
                        system.right[c * unknowns + at] -= value * f64::from(known);
                    }
                } else {
                    entries.push((other, value));
                }
            }
            system.push_column(at as u32, entries.iter().copied());
        }
        system
    }

    /// A system without entries yet.
    pub(crate) fn new(order: Vec<u32>, channels: usize) -> Self {
        let unknowns = order.len();
        let mut columns = Vec::with_capacity(unknowns + 1);
        columns.push(0);
        Self {
            order,
            columns,
            rows: Vec::with_capacity(unknowns * 7),
            values: Vec::with_capacity(unknowns * 7),
            right: vec![0.0; unknowns * channels],
        }
    }

    /// Adds column `at`, the next, of which entries below the diagonal are dropped.
    pub(crate) fn push_column(&mut self, at: u32, entries: impl Iterator<Item = (u32, f64)>) {
        let first = self.rows.len();
        for (row, value) in entries.filter(|&(row, _)| row <= at) {
            // At most 25 entries: insertion keeps them sorted.
            let mut place = self.rows.len();
            while place > first && self.rows[place - 1] > row {
                place -= 1;
            }
            self.rows.insert(place, row);
            self.values.insert(place, value);
        }
        self.columns.push(self.rows.len() as u32);
    }

    /// The factor of this matrix; `None` if it would have more than `limit` entries.
    pub(crate) fn factorize(
        &self,
        limit: usize,
        progress: &Progress<'_>,
    ) -> Result<Option<Factor>> {
        let unknowns = self.order.len();
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
        .map_err(|error| failed(unknowns, &error))?;
        if symbolic.len_val() > limit {
            return Ok(None);
        }
        progress.check()?;

        let mut values = vec![0.0; symbolic.len_val()];
        let scratch = symbolic.factorize_numeric_llt_scratch::<f64>(Par::Seq, Spec::default());
        let mut memory = MemBuffer::try_new(scratch).map_err(|error| failed(unknowns, &error))?;
        symbolic
            .factorize_numeric_llt(
                &mut values,
                SparseColMatRef::new(pattern, &self.values),
                Side::Upper,
                LltRegularization::default(),
                Par::Seq,
                MemStack::new(&mut memory),
                Spec::default(),
            )
            .map_err(|error| failed(unknowns, &error))?;
        progress.check()?;
        Ok(Some(Factor { symbolic, values }))
    }
}

fn failed(unknowns: usize, error: &dyn std::fmt::Debug) -> ImagingError {
    ImagingError::Numeric {
        what: "biharmonic inpainting",
        reason: format!("factorising {unknowns} unknowns: {error:?}"),
    }
}

/// The Cholesky factor of a system.
pub(crate) struct Factor {
    symbolic: SymbolicCholesky<u32>,
    values: Vec<f64>,
}

impl Factor {
    /// Replaces right-hand sides, one column of all unknowns each, by the solutions.
    pub(crate) fn solve(&self, right: &mut [f64]) {
        let unknowns = self.symbolic.nrows();
        let channels = right.len() / unknowns;
        let scratch = self.symbolic.solve_in_place_scratch::<f64>(channels, Par::Seq);
        LltRef::new(&self.symbolic, &self.values).solve_in_place_with_conj(
            Conj::No,
            MatMut::from_column_major_slice_mut(right, unknowns, channels),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
        );
    }
}
