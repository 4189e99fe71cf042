//! Conjugate gradients with a multigrid preconditioner, for biharmonic systems too large to factorise.
//!
//! A hole 1000 pixels wide has a million unknowns, whose Cholesky factor takes gigabytes. Here they take a few hundred
//! bytes each. Every level keeps the masked pixels with even coordinates of the one before. Corrections are
//! interpolated bilinearly and the coarser matrices are the Galerkin products, whose stencil is 5 × 5 (applying the
//! fine stencil on the coarse grid instead took three times as many iterations). Chebyshev polynomials smooth
//! (M. Adams et al., "Parallel multigrid smoothing: polynomial versus Gauss–Seidel", Journal of Computational Physics
//! 188, 2003), and the coarsest level is factorised. The V-cycle is symmetric, as the conjugate gradients need; sums
//! are taken in an order that does not depend on the threads.

use rayon::prelude::*;

use super::Progress;
use super::biharmonic::{Factor, STENCIL, System, coefficient, degree};
use super::dissection;
use super::regions::{Region, Run};
use super::ribbon::Ribbon;
use crate::error::{ImagingError, Result};
use crate::geometry::Rect;

/// Levels with fewer unknowns are factorised.
const COARSEST: usize = 65_536;
/// Unknowns that one task works on; partial sums are added up in the order of these blocks.
const BLOCK: usize = 4096;
/// Steps of the smoother before and after each correction.
const SMOOTHING: usize = 2;
/// Smaller eigenvalues of the matrix divided by its diagonal belong to waves that the next level can hold.
const SMALLEST: f64 = 0.3;
const MAX_ITERATIONS: usize = 400;
/// What is this many tolerances off after all of them is good enough: where hundreds of cracks cross all of a picture, rounding
/// can keep the iteration a little above the tolerance for ever.
const GOOD_ENOUGH: f64 = 100.0;

/// One value a channel.
type Pixel<const C: usize> = [f64; C];

/// Solves for the region's pixels, row by row, to within about `tolerance` of the exact solution, or as near as iteration gets.
pub(crate) fn solve<const C: usize>(
    region: &Region,
    size: (usize, usize),
    right: Vec<Pixel<C>>,
    tolerance: f64,
    progress: &Progress<'_>,
) -> Result<Vec<Pixel<C>>> {
    let hierarchy = Hierarchy::new(region, size, progress)?;
    let matrix = &hierarchy.levels[0].matrix;
    let mut residual = right;
    let mut solution = vec![[0.0; C]; residual.len()];
    let mut direction = hierarchy.precondition(&residual, progress)?;
    let mut slope = dot(&residual, &direction);
    for left in (0..MAX_ITERATIONS).rev() {
        let image = matrix.times(&direction);
        let curvature = dot(&direction, &image);
        let step: Pixel<C> = std::array::from_fn(|c| ratio(slope[c], curvature[c]));
        add(&mut solution, step, &direction);
        add(&mut residual, step.map(|step| -step), &image);
        drop(image);

        // The preconditioner is close to the inverse, so this is close to the error.
        let correction = hierarchy.precondition(&residual, progress)?;
        let error = largest(&correction);
        if error <= tolerance || left == 0 && error <= GOOD_ENOUGH * tolerance {
            add(&mut solution, [1.0; C], &correction);
            return Ok(solution);
        }
        let next = dot(&residual, &correction);
        let keep: Pixel<C> = std::array::from_fn(|c| ratio(next[c], slope[c]));
        slope = next;
        direction.par_iter_mut().zip(&correction).for_each(|(direction, correction)| {
            for c in 0..C {
                direction[c] = correction[c] + keep[c] * direction[c];
            }
        });
    }
    Err(ImagingError::Numeric {
        what: "biharmonic inpainting",
        reason: format!("no solution of {} unknowns in {MAX_ITERATIONS} steps", solution.len()),
    })
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn dot<const C: usize>(a: &[Pixel<C>], b: &[Pixel<C>]) -> Pixel<C> {
    let parts: Vec<Pixel<C>> = a
        .par_chunks(BLOCK)
        .zip(b.par_chunks(BLOCK))
        .map(|(a, b)| {
            a.iter()
                .zip(b)
                .fold([0.0; C], |sum, (a, b)| std::array::from_fn(|c| sum[c] + a[c] * b[c]))
        })
        .collect();
    parts.iter().fold([0.0; C], |sum, part| std::array::from_fn(|c| sum[c] + part[c]))
}

fn largest<const C: usize>(values: &[Pixel<C>]) -> f64 {
    values
        .par_iter()
        .map(|pixel| pixel.iter().fold(0.0, |most: f64, value| most.max(value.abs())))
        .reduce(|| 0.0, f64::max)
}

fn add<const C: usize>(to: &mut [Pixel<C>], factor: Pixel<C>, values: &[Pixel<C>]) {
    to.par_iter_mut().zip(values).for_each(|(to, value)| {
        for c in 0..C {
            to[c] += factor[c] * value[c];
        }
    });
}

struct Hierarchy {
    /// From the finest.
    levels: Vec<Level>,
    /// What the last level's corrections come from; `None` if it keeps no pixel.
    coarsest: Option<Coarsest>,
}

struct Level {
    matrix: Matrix,
    /// For each pixel the pixels of the next level that it is interpolated from; absent ones are one past the last.
    parents: Vec<[u32; 4]>,
    /// For each pixel of the next level the pixels around it, row by row, in the same way.
    children: Vec<[u32; 9]>,
}

struct Coarsest {
    factor: Factor,
    order: Vec<u32>,
}

impl Hierarchy {
    fn new(region: &Region, size: (usize, usize), progress: &Progress<'_>) -> Result<Self> {
        let mut levels = Vec::new();
        let mut fine = Numbered::new(region.clone());
        let mut matrix = Matrix::biharmonic(&fine, size);
        loop {
            progress.check()?;
            let coarse = Numbered::new(halved(&fine.region));
            let unknowns = coarse.region.pixels;
            let (parents, children) = transfers(&fine, &coarse);
            let level = Level { matrix, parents, children };
            progress.check()?;
            if unknowns == 0 {
                levels.push(level);
                return Ok(Self { levels, coarsest: None });
            }
            matrix = level.galerkin(&coarse);
            levels.push(level);
            if unknowns <= COARSEST {
                let system = matrix.system(&coarse);
                let factor = system.factorize(usize::MAX, progress)?;
                let coarsest = factor.map(|factor| Coarsest { factor, order: system.order });
                return Ok(Self { levels, coarsest });
            }
            fine = coarse;
        }
    }

    /// One symmetric V-cycle from 0.
    fn precondition<const C: usize>(
        &self,
        right: &[Pixel<C>],
        progress: &Progress<'_>,
    ) -> Result<Vec<Pixel<C>>> {
        self.cycle(0, right, progress)
    }

    fn cycle<const C: usize>(
        &self,
        at: usize,
        right: &[Pixel<C>],
        progress: &Progress<'_>,
    ) -> Result<Vec<Pixel<C>>> {
        progress.check()?;
        let Some(level) = self.levels.get(at) else {
            return Ok(self.coarsest.as_ref().map_or_else(Vec::new, |last| last.solve(right)));
        };
        let mut solution = vec![[0.0; C]; right.len()];
        level.matrix.smooth(&mut solution, right, true);
        if !level.children.is_empty() {
            let residual = level.matrix.residual(right, &solution);
            let correction = self.cycle(at + 1, &level.restricted(&residual), progress)?;
            drop(residual);
            level.add_interpolated(&mut solution, &correction);
        }
        level.matrix.smooth(&mut solution, right, false);
        Ok(solution)
    }
}

impl Coarsest {
    fn solve<const C: usize>(&self, right: &[Pixel<C>]) -> Vec<Pixel<C>> {
        let unknowns = right.len();
        let mut columns = vec![0.0; unknowns * C];
        for (at, &pixel) in self.order.iter().enumerate() {
            for c in 0..C {
                columns[c * unknowns + at] = right[pixel as usize][c];
            }
        }
        self.factor.solve(&mut columns);
        let mut solution = vec![[0.0; C]; unknowns];
        for (at, &pixel) in self.order.iter().enumerate() {
            solution[pixel as usize] = std::array::from_fn(|c| columns[c * unknowns + at]);
        }
        solution
    }
}

/// Interpolation weights of the offsets −1, 0 and 1 from a coarse pixel.
const TENT: [f64; 3] = [0.5, 1.0, 0.5];

impl Level {
    /// The matrix of the next level: interpolation transposed · matrix · interpolation.
    fn galerkin(&self, coarse: &Numbered) -> Matrix {
        let positions: Vec<(i32, i32)> =
            coarse.region.positions().map(|(x, y)| (x as i32, y as i32)).collect();
        let mut matrix = Matrix::empty(25, positions.len());
        matrix
            .values
            .par_chunks_mut(25)
            .zip(matrix.columns.par_chunks_mut(25))
            .enumerate()
            .with_min_len(BLOCK / 16)
            .for_each(|(at, (values, columns))| {
                columns.fill(at as u32);
                let (x, y) = positions[at];
                let mut sums = [0.0f64; 25];
                for (k, &child) in self.children[at].iter().enumerate() {
                    let weight = TENT[k / 3] * TENT[k % 3] * 0.25;
                    for (&column, &value) in self.matrix.row(child as usize) {
                        for &parent in &self.parents[column as usize] {
                            let Some(&(to_x, to_y)) = positions.get(parent as usize) else {
                                continue;
                            };
                            let place = ((to_y - y + 2) * 5 + to_x - x + 2) as usize;
                            sums[place] += weight * f64::from(value);
                            columns[place] = parent;
                        }
                    }
                }
                for (value, sum) in values.iter_mut().zip(sums) {
                    *value = sum as f32;
                }
            });
        matrix.finish(positions.len())
    }

    /// The transpose of the interpolation.
    fn restricted<const C: usize>(&self, values: &[Pixel<C>]) -> Vec<Pixel<C>> {
        self.children
            .par_iter()
            .map(|children| {
                let mut sum = [0.0; C];
                for (k, &child) in children.iter().enumerate() {
                    if let Some(value) = values.get(child as usize) {
                        let weight = TENT[k / 3] * TENT[k % 3];
                        for c in 0..C {
                            sum[c] += weight * value[c];
                        }
                    }
                }
                sum
            })
            .collect()
    }

    fn add_interpolated<const C: usize>(&self, to: &mut [Pixel<C>], values: &[Pixel<C>]) {
        to.par_iter_mut().zip(&self.parents).for_each(|(to, parents)| {
            // A parent that several of the four places share is named once for each.
            for &parent in parents {
                if let Some(value) = values.get(parent as usize) {
                    for c in 0..C {
                        to[c] += 0.25 * value[c];
                    }
                }
            }
        });
    }
}

/// A region whose pixels can be found by position.
struct Numbered {
    region: Region,
    ribbon: Option<Ribbon>,
    number: Vec<u32>,
}

impl Numbered {
    fn new(region: Region) -> Self {
        if region.pixels == 0 {
            return Self { region, ribbon: None, number: Vec::new() };
        }
        let ribbon = Ribbon::around(&region, 0);
        let mut number = vec![region.pixels as u32; ribbon.len()];
        for (pixel, (x, y)) in (0..).zip(region.positions()) {
            let (x, y) = ribbon.local(x, y);
            number[ribbon.place(x, y)] = pixel;
        }
        Self { region, ribbon: Some(ribbon), number }
    }

    /// The number of the pixel at a position, or one past the last.
    fn find(&self, x: isize, y: isize) -> u32 {
        self.ribbon
            .as_ref()
            .and_then(|ribbon| ribbon.find(x, y))
            .map_or(self.region.pixels as u32, |place| self.number[place])
    }
}

/// The pixels with even coordinates, those halved.
fn halved(region: &Region) -> Region {
    let runs: Vec<Run> = region
        .runs
        .iter()
        .filter(|run| run.y % 2 == 0)
        .map(|run| Run { y: run.y / 2, start: run.start.div_ceil(2), end: run.end.div_ceil(2) })
        .filter(|run| run.start < run.end)
        .collect();
    let bounds = region.bounds;
    let (x, y) = (bounds.x / 2, bounds.y / 2);
    let bounds = Rect::new(x, y, bounds.right().div_ceil(2) - x, bounds.bottom().div_ceil(2) - y);
    Region { pixels: runs.iter().map(Run::len).sum(), runs, bounds }
}

fn transfers(fine: &Numbered, coarse: &Numbered) -> (Vec<[u32; 4]>, Vec<[u32; 9]>) {
    if coarse.region.pixels == 0 {
        return (Vec::new(), Vec::new());
    }
    let parents = fine
        .region
        .positions()
        .map(|(x, y)| {
            let (x, y) = (x as isize, y as isize);
            let (right, below) = ((x + 1) / 2, (y + 1) / 2);
            [(x / 2, y / 2), (right, y / 2), (x / 2, below), (right, below)]
                .map(|(x, y)| coarse.find(x, y))
        })
        .collect();
    let children = coarse
        .region
        .positions()
        .map(|(x, y)| {
            let (x, y) = (2 * x as isize, 2 * y as isize);
            std::array::from_fn(|k| fine.find(x + k as isize % 3 - 1, y + k as isize / 3 - 1))
        })
        .collect();
    (parents, children)
}

/// A symmetric matrix with the same number of places in every row; unused ones hold 0 in the row's own column.
struct Matrix {
    places: usize,
    columns: Vec<u32>,
    /// Small whole numbers on the finest level, where single precision loses nothing.
    values: Vec<f32>,
    diagonal: Vec<f32>,
    /// No eigenvalue of the matrix divided by its diagonal is larger.
    largest: f64,
}

impl Matrix {
    fn empty(places: usize, rows: usize) -> Self {
        Self {
            places,
            columns: vec![0; places * rows],
            values: vec![0.0; places * rows],
            diagonal: Vec::new(),
            largest: 0.0,
        }
    }

    fn biharmonic(numbered: &Numbered, (width, height): (usize, usize)) -> Self {
        const PLACES: usize = 1 + STENCIL.len();
        let size = (width as isize, height as isize);
        let unknowns = numbered.region.pixels;
        let positions: Vec<(usize, usize)> = numbered.region.positions().collect();
        let mut matrix = Self::empty(PLACES, unknowns);
        matrix
            .values
            .par_chunks_mut(PLACES)
            .zip(matrix.columns.par_chunks_mut(PLACES))
            .enumerate()
            .with_min_len(BLOCK)
            .for_each(|(at, (values, columns))| {
                let (x, y) = (positions[at].0 as isize, positions[at].1 as isize);
                let here = f32::from(degree((x, y), size));
                columns.fill(at as u32);
                values[0] = here * here + here;
                for (place, offset) in (1..).zip(STENCIL) {
                    let other = numbered.find(x + offset.0, y + offset.1);
                    if (other as usize) < unknowns {
                        columns[place] = other;
                        values[place] = coefficient((x, y), offset, size) as f32;
                    }
                }
            });
        matrix.finish(unknowns)
    }

    /// Fills in the diagonal and the bound of the eigenvalues, by Gershgorin's circles.
    fn finish(mut self, unknowns: usize) -> Self {
        self.diagonal = (0..unknowns)
            .into_par_iter()
            .with_min_len(BLOCK)
            .map(|at| {
                let own = self.row(at).filter(|(column, _)| **column == at as u32);
                own.map(|(_, value)| value).sum()
            })
            .collect();
        self.largest = (0..unknowns)
            .into_par_iter()
            .with_min_len(BLOCK)
            .map(|at| {
                let sum: f32 = self.row(at).map(|(_, value)| value.abs()).sum();
                f64::from(sum / self.diagonal[at])
            })
            .reduce(|| 1.0, f64::max);
        self
    }

    /// Columns and values of a row.
    #[inline]
    fn row(&self, at: usize) -> impl Iterator<Item = (&u32, &f32)> {
        let places = at * self.places..(at + 1) * self.places;
        self.columns
            .get(places.clone())
            .into_iter()
            .flatten()
            .zip(self.values.get(places).into_iter().flatten())
    }

    /// One entry of the product of this matrix and `values`.
    #[inline]
    fn row_times<const C: usize>(&self, at: usize, values: &[Pixel<C>]) -> Pixel<C> {
        let places = at * self.places..(at + 1) * self.places;
        let mut sum = [0.0; C];
        for (&column, &factor) in self.columns[places.clone()].iter().zip(&self.values[places]) {
            let value = &values[column as usize];
            for c in 0..C {
                sum[c] += f64::from(factor) * value[c];
            }
        }
        sum
    }

    fn times<const C: usize>(&self, values: &[Pixel<C>]) -> Vec<Pixel<C>> {
        (0..values.len())
            .into_par_iter()
            .with_min_len(BLOCK)
            .map(|at| self.row_times(at, values))
            .collect()
    }

    fn residual<const C: usize>(&self, right: &[Pixel<C>], values: &[Pixel<C>]) -> Vec<Pixel<C>> {
        right
            .par_iter()
            .enumerate()
            .with_min_len(BLOCK)
            .map(|(at, right)| {
                let row = self.row_times(at, values);
                std::array::from_fn(|c| right[c] - row[c])
            })
            .collect()
    }

    /// A few Chebyshev steps on the matrix divided by its diagonal, for its larger eigenvalues.
    fn smooth<const C: usize>(
        &self,
        solution: &mut [Pixel<C>],
        right: &[Pixel<C>],
        from_zero: bool,
    ) {
        let (middle, half) = ((self.largest + SMALLEST) / 2.0, (self.largest - SMALLEST) / 2.0);
        let mut rho = half / middle;
        let mut change = vec![[0.0; C]; solution.len()];
        for step in 0..SMOOTHING {
            let (keep, gain) = if step == 0 {
                (0.0, 1.0 / middle)
            } else {
                let next = 1.0 / (2.0 * middle / half - rho);
                let keep = next * rho;
                rho = next;
                (keep, 2.0 * next / half)
            };
            let values: &[Pixel<C>] = solution;
            change.par_iter_mut().enumerate().with_min_len(BLOCK).for_each(|(at, change)| {
                let gain = gain / f64::from(self.diagonal[at]);
                let row =
                    if from_zero && step == 0 { [0.0; C] } else { self.row_times(at, values) };
                for c in 0..C {
                    change[c] = keep * change[c] + gain * (right[at][c] - row[c]);
                }
            });
            add(solution, [1.0; C], &change);
        }
    }

    /// The system of this matrix, without right-hand sides.
    fn system(&self, numbered: &Numbered) -> System {
        let positions: Vec<[u32; 2]> =
            numbered.region.positions().map(|(x, y)| [x as u32, y as u32]).collect();
        let order = dissection::order(&positions);
        let mut rank = vec![0; order.len()];
        for (at, &pixel) in (0..).zip(&order) {
            rank[pixel as usize] = at;
        }
        let mut system = System::new(order, 0);
        for at in 0..system.order.len() as u32 {
            let row = self.row(system.order[at as usize] as usize);
            let entries = row.filter(|(_, value)| **value != 0.0);
            system.push_column(
                at,
                entries.map(|(&column, &value)| (rank[column as usize], f64::from(value))),
            );
        }
        system
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::regions;
    use crate::mask::Mask;
    use crate::observer::{Observer, Silent};

    struct Stopped;

    impl Observer for Stopped {
        fn cancelled(&self) -> bool {
            true
        }
    }

    /// A wide hole that touches two edges, with a crack leading away from it.
    fn region() -> (Region, (usize, usize)) {
        let mask = Mask::from_fn(150, 120, |x, y| (x < 90 && y < 70) || x == y + 20 || y == 100);
        let regions = regions::find(&mask, 2);
        assert_eq!(regions.len(), 1);
        (regions.into_iter().next().expect("one region"), mask.size())
    }

    fn picture(x: usize, y: usize) -> [f32; 2] {
        [(x as f32 * 0.11).sin() + (y as f32 * 0.07).cos(), ((x * 7 + y * 13) % 17) as f32 / 17.0]
    }

    #[test]
    fn iteration_reaches_the_direct_solution() {
        let (region, size) = region();
        let progress = Progress::new(&Silent, "test", 1);
        let mut system = System::assemble(&region, size, &picture);
        let unknowns = region.pixels;
        let mut right = vec![[0.0; 2]; unknowns];
        for (at, &pixel) in system.order.iter().enumerate() {
            right[pixel as usize] = [system.right[at], system.right[unknowns + at]];
        }
        let factor = system.factorize(usize::MAX, &progress).expect("positive definite");
        factor.expect("no limit").solve(&mut system.right);

        let solution = solve(&region, size, right, 1e-6, &progress).expect("it converges");
        for (at, &pixel) in system.order.iter().enumerate() {
            let expected = [system.right[at], system.right[unknowns + at]];
            for (found, expected) in solution[pixel as usize].iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
            }
        }
    }

    #[test]
    fn it_stops_on_request() {
        let (region, size) = region();
        let right = vec![[1.0]; region.pixels];
        let stopped = solve(&region, size, right, 1e-6, &Progress::new(&Stopped, "test", 1));
        assert!(matches!(stopped, Err(ImagingError::Cancelled)));
    }
}
