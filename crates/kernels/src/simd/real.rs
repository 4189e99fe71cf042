//! The numbers that activations are stored in: f32 or bf16, computed with in f32.

use candle_core::{CpuStorage, Result, WithDType, bail};
use half::bf16;

use super::math::{gelu, gelu_for_bf16};
use super::{MAX_LANES, Simd};

/// A number in memory that is f32 in registers.
pub(crate) trait Real: WithDType + Default {
    /// # Safety
    /// `LANES` numbers can be read at `from`.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V;
    /// Rounds to nearest.
    ///
    /// # Safety
    /// `LANES` numbers can be written at `to`.
    unsafe fn store<S: Simd>(simd: S, to: *mut Self, x: S::V);
    /// `x · Φ(x)`, as exactly as the type can hold it.
    fn gelu<S: Simd>(simd: S, x: S::V) -> S::V;
    /// The numbers of a storage.
    ///
    /// # Errors
    /// If it holds another type.
    fn slice(storage: &CpuStorage) -> Result<&[Self]>;
    /// As a storage.
    fn storage(values: Vec<Self>) -> CpuStorage;

    /// The first `count < LANES` numbers, zeros after them.
    ///
    /// # Safety
    /// `count` numbers can be read at `from`.
    #[inline(always)]
    unsafe fn load_first<S: Simd>(simd: S, from: *const Self, count: usize) -> S::V {
        let mut padded = [Self::default(); MAX_LANES];
        // SAFETY: the caller vouches for the pointer; the array holds any tier's register.
        unsafe {
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count.min(MAX_LANES));
            Self::load(simd, padded.as_ptr())
        }
    }

    /// Writes the first `count < LANES` numbers of a register.
    ///
    /// # Safety
    /// `count` numbers can be written at `to`.
    #[inline(always)]
    unsafe fn store_first<S: Simd>(simd: S, to: *mut Self, x: S::V, count: usize) {
        let mut padded = [Self::default(); MAX_LANES];
        // SAFETY: the caller vouches for the pointer; the array holds any tier's register.
        unsafe {
            Self::store(simd, padded.as_mut_ptr(), x);
            std::ptr::copy_nonoverlapping(padded.as_ptr(), to, count.min(MAX_LANES));
        }
    }

    /// A register where `left` numbers are left: zeros after the last.
    ///
    /// # Safety
    /// `left` numbers can be read at `from`, or a register's worth if that is less.
    #[inline(always)]
    unsafe fn load_up_to<S: Simd>(simd: S, from: *const Self, left: usize) -> S::V {
        // SAFETY: the caller's word.
        unsafe {
            if left >= S::LANES {
                Self::load(simd, from)
            } else {
                Self::load_first(simd, from, left)
            }
        }
    }

    /// Writes a register, or the part of it for which there is room.
    ///
    /// # Safety
    /// `left` numbers can be written at `to`, or a register's worth if that is less.
    #[inline(always)]
    unsafe fn store_up_to<S: Simd>(simd: S, to: *mut Self, x: S::V, left: usize) {
        // SAFETY: the caller's word.
        unsafe {
            if left >= S::LANES {
                Self::store(simd, to, x);
            } else {
                Self::store_first(simd, to, x, left);
            }
        }
    }
}

impl Real for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V {
        // SAFETY: the caller's word.
        unsafe { simd.load(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, to: *mut Self, x: S::V) {
        // SAFETY: the caller's word.
        unsafe { simd.store(to, x) }
    }
    #[inline(always)]
    fn gelu<S: Simd>(simd: S, x: S::V) -> S::V {
        gelu(simd, x)
    }
    fn slice(storage: &CpuStorage) -> Result<&[Self]> {
        match storage {
            CpuStorage::F32(values) => Ok(values),
            _ => bail!("kernels: expected f32"),
        }
    }
    fn storage(values: Vec<Self>) -> CpuStorage {
        CpuStorage::F32(values)
    }
}

impl Real for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::V {
        // SAFETY: the caller's word.
        unsafe { simd.load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, to: *mut Self, x: S::V) {
        // SAFETY: the caller's word.
        unsafe { simd.store_bf16(to, x) }
    }
    #[inline(always)]
    fn gelu<S: Simd>(simd: S, x: S::V) -> S::V {
        gelu_for_bf16(simd, x)
    }
    fn slice(storage: &CpuStorage) -> Result<&[Self]> {
        match storage {
            CpuStorage::BF16(values) => Ok(values),
            _ => bail!("kernels: expected bf16"),
        }
    }
    fn storage(values: Vec<Self>) -> CpuStorage {
        CpuStorage::BF16(values)
    }
}
