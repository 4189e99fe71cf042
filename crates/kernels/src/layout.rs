//! Between the order of channels that files and pictures come in, `(b, c, h, w)`, and the engine's own, `(b, h, w, c)`.
//!
//! Both ways are one operation: a transposition of each image's matrix of channels and pixels, in tiles that fit the
//! first-level cache, with a conversion between f32 and bf16 on the way. Each way is the other's gradient.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::isa::Tier;
use crate::output::written;
use crate::simd::{Kernel, MAX_LANES, Real, Simd, dispatch};
use crate::tensors::{for_real, from_numbers, numbers, with_numbers};

/// Reorders to channels last, and converts.
///
/// # Shapes
/// - xs: `(b, c, h, w)` of any strides, f32 or bf16 on the CPU
/// - returns: `(b, h, w, c)`, contiguous, in `dtype`: f32 or bf16
///
/// # Errors
/// If the shape, a dtype or the device is another one.
pub fn channels_last(xs: &Tensor, dtype: DType) -> Result<Tensor> {
    channels_last_on(Tier::current(), xs, dtype)
}

/// [`channels_last`] on a given tier.
///
/// # Errors
/// Those of [`channels_last`].
pub fn channels_last_on(tier: Tier, xs: &Tensor, dtype: DType) -> Result<Tensor> {
    let (b, c, h, w) = xs.dims4()?;
    check(xs.dtype())?;
    check(dtype)?;
    let view = xs.permute((0, 2, 3, 1))?; // (b, h, w, c)
    if view.is_contiguous() {
        return view.to_dtype(dtype);
    }
    let xs = xs.contiguous()?.reshape((b, c, h * w))?;
    crate::recording::apply1(&xs, Transpose { tier, to: dtype })?.reshape((b, h, w, c))
}

/// Reorders to channels first, in f32.
///
/// # Shapes
/// - xs: `(b, h, w, c)` of any strides, f32 or bf16 on the CPU
/// - returns: `(b, c, h, w)`, contiguous, f32
///
/// # Errors
/// If the shape, dtype or device is another one.
pub fn channels_first(xs: &Tensor) -> Result<Tensor> {
    channels_first_on(Tier::current(), xs)
}

/// [`channels_first`] on a given tier.
///
/// # Errors
/// Those of [`channels_first`].
pub fn channels_first_on(tier: Tier, xs: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = xs.dims4()?;
    check(xs.dtype())?;
    let view = xs.permute((0, 3, 1, 2))?; // (b, c, h, w)
    if view.is_contiguous() {
        return view.to_dtype(DType::F32);
    }
    let xs = xs.contiguous()?.reshape((b, h * w, c))?;
    crate::recording::apply1(&xs, Transpose { tier, to: DType::F32 })?.reshape((b, c, h, w))
}

/// # Errors
/// If activations are not stored in this dtype.
fn check(dtype: DType) -> Result<()> {
    if !matches!(dtype, DType::F32 | DType::BF16) {
        bail!("kernels: expected activations in f32 or bf16, found {dtype:?}");
    }
    Ok(())
}

/// `(images, m, n)` to `(images, n, m)`.
struct Transpose {
    tier: Tier,
    to: DType,
}

/// Lines and columns of a tile.
const TILE: usize = 32;
/// Columns of the result that a task writes, in [`TILE`] lines.
const COLUMNS: usize = 512;

fn transposed<F: Real, T: Real>(
    tier: Tier,
    xs: &[F],
    (images, m, n): (usize, usize, usize),
) -> Vec<T> {
    let (down, across) = (n.div_ceil(TILE), m.div_ceil(COLUMNS));
    // SAFETY: the tasks' parts cover the matrices and do not overlap.
    unsafe {
        written(images * m * n, |to| {
            (0..images * down * across).into_par_iter().for_each(|task| {
                let (image, part) = (task / (down * across), task % (down * across));
                let (line, column) = (part / across * TILE, part % across * COLUMNS);
                let from = &xs[image * m * n..][..m * n];
                let to = to.at(image * m * n);
                dispatch(tier, Part { from, to, m, n, line, column });
            });
        })
    }
}

/// [`TILE`] lines by [`COLUMNS`] columns of a result of `n` lines of `m` numbers.
struct Part<'a, F, T> {
    /// `m` lines of `n` numbers.
    from: &'a [F],
    to: *mut T,
    m: usize,
    n: usize,
    line: usize,
    column: usize,
}

/// A tile in registers' precision, aligned to cache lines.
#[repr(align(64))]
struct Tile([f32; TILE * TILE]);

impl<F: Real, T: Real> Kernel for Part<'_, F, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { from, to, m, n, line, column } = self;
        assert_eq!(from.len(), m * n);
        let (mut read, mut turned) = (Tile([0.0; TILE * TILE]), Tile([0.0; TILE * TILE]));
        let lines = TILE.min(n - line);
        for column in (column..m.min(column + COLUMNS)).step_by(TILE) {
            let columns = TILE.min(m - column);
            // 1. the tile's columns, which are lines of the input. What a register reads beyond the tile is not used.
            for i in 0..columns {
                for at in (0..lines).step_by(S::LANES) {
                    let first = (column + i) * n + line + at;
                    // SAFETY: as many numbers are left of the input, and `at + LANES` is inside the tile's line.
                    unsafe {
                        let x = F::load_up_to(simd, from.as_ptr().add(first), from.len() - first);
                        simd.store(read.0.as_mut_ptr().add(i * TILE + at), x);
                    }
                }
            }
            // 2. turned, 8 by 8.
            for i in (0..columns).step_by(8) {
                for j in (0..lines).step_by(8) {
                    // SAFETY: both blocks are inside their tiles.
                    unsafe {
                        simd.transpose8(
                            read.0.as_ptr().add(i * TILE + j),
                            TILE,
                            turned.0.as_mut_ptr().add(j * TILE + i),
                            TILE,
                        );
                    }
                }
            }
            // 3. written, line after line.
            for i in 0..lines {
                for at in (0..columns).step_by(S::LANES) {
                    let first = (line + i) * m + column + at;
                    // Lines shorter than a tile lie one behind the other: a register may write over the beginning of
                    // the next, which is written after it.
                    let left = if m <= TILE { (lines - i) * m - at } else { columns - at };
                    // SAFETY: `left` numbers are left of the line, or of the lines of this task.
                    unsafe {
                        let x = simd.load(turned.0.as_ptr().add(i * TILE + at));
                        T::store_up_to(simd, to.add(first), x, left);
                    }
                }
            }
        }
    }
}

// Registers are whole in a tile's line, as are blocks of 8.
const _: () = assert!(TILE.is_multiple_of(MAX_LANES) && TILE.is_multiple_of(8));

impl CustomOp1 for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }
    fn cpu_fwd(&self, xs: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, m, n) = layout.shape().dims3()?;
        for_real!(xs.dtype(), |F| {
            let xs = numbers::<F>(xs, layout)?;
            for_real!(self.to, |T| {
                let ys = transposed::<F, T>(self.tier, xs, (images, m, n));
                Ok((T::storage(ys), (images, n, m).into()))
            })
        })
    }
    fn bwd(&self, xs: &Tensor, _ys: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        let size = grad.dims3()?;
        for_real!(grad.dtype(), |F| {
            for_real!(xs.dtype(), |T| {
                let dxs = with_numbers::<F, _>(&grad, |grad| {
                    Ok(transposed::<F, T>(self.tier, grad, size))
                })?;
                from_numbers(dxs, xs.dims()).map(Some)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::testing::{Numbers, agrees, tiers};

    const CASES: [[usize; 4]; 8] = [
        [1, 1, 1, 1],
        [2, 3, 5, 7],
        [1, 4, 8, 8],
        [1, 3, 64, 64],
        [2, 9, 33, 3],
        [1, 33, 5, 9],
        [1, 320, 6, 6],
        [1, 20, 1, 600],
    ];

    #[test]
    fn values_and_gradients_are_those_of_candle() -> Result<()> {
        let mut numbers = Numbers::new(80);
        for dims in CASES {
            let xs = numbers.tensor(&dims)?;
            agrees(
                0.0,
                &[&xs],
                |_, vars| vars[0].permute((0, 2, 3, 1))?.contiguous(),
                |tier, vars| channels_last_on(tier, &vars[0], vars[0].dtype()),
            )?;
            agrees(
                0.0,
                &[&xs],
                |_, vars| vars[0].permute((0, 3, 1, 2))?.contiguous(),
                |tier, vars| channels_first_on(tier, &vars[0]),
            )?;
        }
        Ok(())
    }

    #[test]
    fn numbers_are_converted_on_the_way_and_gradients_back() -> Result<()> {
        let mut numbers = Numbers::new(81);
        let xs = numbers.tensor(&[1, 5, 6, 7])?;
        let pull = numbers.tensor(&[1, 6, 7, 5])?;
        for tier in tiers() {
            let xs = Var::from_tensor(&xs)?;
            let ys = channels_last_on(tier, &xs, DType::BF16)?;
            assert_eq!(ys.dtype(), DType::BF16);
            let plain = xs.permute((0, 2, 3, 1))?.to_dtype(DType::BF16)?;
            let values = |ys: &Tensor| ys.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
            assert_eq!(values(&ys)?, values(&plain)?);
            let gradients = (ys.to_dtype(DType::F32)? * &pull)?.sum_all()?.backward()?;
            let found = gradients.get(&xs).unwrap();
            assert_eq!(found.dtype(), DType::F32);
            let pull = pull.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
            assert_eq!(values(found)?, values(&pull.permute((0, 3, 1, 2))?)?);
            assert_eq!(values(&channels_first_on(tier, &ys)?)?, {
                values(&xs.to_dtype(DType::BF16)?)?
            });
        }
        Ok(())
    }

    #[test]
    fn views_need_no_order_of_their_own() -> Result<()> {
        let xs = Numbers::new(82).tensor(&[2, 6, 7, 5])?;
        let values = |xs: &Tensor| xs.flatten_all()?.to_vec1::<f32>();
        // A view of channels-last memory, a narrowed one and a turned one.
        for view in [xs.permute((0, 3, 1, 2))?, xs.narrow(1, 1, 3)?, xs.transpose(2, 3)?] {
            let found = channels_last(&view, DType::F32)?;
            assert!(found.is_contiguous());
            assert_eq!(values(&found)?, values(&view.permute((0, 2, 3, 1))?)?);
            let found = channels_first(&view)?;
            assert!(found.is_contiguous());
            assert_eq!(values(&found)?, values(&view.permute((0, 3, 1, 2))?)?);
            assert!(channels_last(&view, DType::F64).is_err());
        }
        assert!(channels_first(&xs.to_dtype(DType::F64)?).is_err());
        Ok(())
    }
}
