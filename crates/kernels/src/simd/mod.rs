//! Vectors of f32 over the instruction tiers: one trait, one implementation a tier.
//!
//! A value of a [`Simd`] type is proof that the processor has its instructions: the only way to one is
//! [`dispatch`], which asks [`Tier::is_available`]. Its arithmetic is therefore safe; loads and stores take raw
//! pointers and are not. A [`Kernel`] is compiled once per tier, inside a function with the tier's target features.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(all(target_arch = "x86_64", target_os = "linux", any(test, feature = "emulate-amx")))]
pub(crate) mod amx_emulator;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
mod portable;
mod real;

use half::bf16;

pub(crate) use self::real::Real;
use crate::isa::Tier;

/// The most lanes that any tier has.
pub(crate) const MAX_LANES: usize = 16;

/// Vectors of f32 on one tier.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// One register.
    type V: Copy;
    const TIER: Tier;
    /// Numbers in a register.
    const LANES: usize;
    /// Rows of the product's micro-tile that fit the register file with [`crate::panel::MAX_VECTORS`] columns.
    const TILE_ROWS: usize;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `LANES` numbers can be read at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` numbers can be written at `to`.
    unsafe fn store(self, to: *mut f32, x: Self::V);
    /// # Safety
    /// `LANES` numbers can be read at `from`.
    unsafe fn load_bf16(self, from: *const bf16) -> Self::V;
    /// Rounds to nearest, ties to even. A tier that has an instruction for it makes zeros of denormal numbers.
    ///
    /// # Safety
    /// `LANES` numbers can be written at `to`.
    unsafe fn store_bf16(self, to: *mut bf16, x: Self::V);
    /// Rounds two registers into one place.
    ///
    /// # Safety
    /// `2 · LANES` numbers can be written at `to`.
    #[inline(always)]
    unsafe fn store_two_bf16(self, to: *mut bf16, low: Self::V, high: Self::V) {
        // SAFETY: the caller's word.
        unsafe {
            self.store_bf16(to, low);
            self.store_bf16(to.add(Self::LANES), high);
        }
    }
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b` within a unit in the last place, for a normal `b` that is less than 2¹²⁶ in size.
    #[inline(always)]
    fn quotient(self, a: Self::V, b: Self::V) -> Self::V {
        self.div(a, b)
    }
    /// `1 / x` within 1e-6 of itself, for a normal `x` that is less than 2¹²⁶ in size.
    #[inline(always)]
    fn inverse(self, x: Self::V) -> Self::V {
        self.div(self.splat(1.0), x)
    }
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once where the tier can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest integer, `|x| < 2²²`.
    fn round(self, x: Self::V) -> Self::V;
    /// `2ⁿ` for integral `n` in `-126 ..= 127`.
    fn exp2_integral(self, n: Self::V) -> Self::V;
    /// `2ˣ` for `x` in `-126 ..= 127`, within 2e-7 of itself.
    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        math::exp2(self, x)
    }
    /// Writes the transpose of an 8×8 block: row `i` is read at `from + i · from_stride`.
    ///
    /// # Safety
    /// 8 numbers can be read at each of 8 rows, and written likewise.
    unsafe fn transpose8(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    );

    fn zero(self) -> Self::V {
        self.splat(0.0)
    }
    fn to_array(self, x: Self::V) -> [f32; MAX_LANES] {
        let mut array = [0.0; MAX_LANES];
        // SAFETY: no tier has more than MAX_LANES lanes.
        unsafe { self.store(array.as_mut_ptr(), x) };
        array
    }
}

/// Work compiled for each tier. `run` and all it calls must be `#[inline(always)]`.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel on a tier, or on the portable one if the processor lacks that.
pub(crate) fn dispatch<K: Kernel>(tier: Tier, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn on_avx512<K: Kernel>(kernel: K, simd: avx512::Avx512<false>) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
        fn on_avx512_bf16<K: Kernel>(kernel: K, simd: avx512::Avx512<true>) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn on_avx2<K: Kernel>(kernel: K, simd: avx2::Avx2) -> K::Output {
            kernel.run(simd)
        }
        match tier {
            Tier::Amx | Tier::Avx512Bf16 if Tier::Avx512Bf16.is_available() => {
                // SAFETY: the processor has the instructions.
                return unsafe { on_avx512_bf16(kernel, avx512::Avx512::new_unchecked()) };
            }
            Tier::Amx | Tier::Avx512Bf16 | Tier::Avx512 if Tier::Avx512.is_available() => {
                // SAFETY: the processor has the instructions.
                return unsafe { on_avx512(kernel, avx512::Avx512::new_unchecked()) };
            }
            Tier::Avx2 if tier.is_available() => {
                // SAFETY: the processor has the instructions.
                return unsafe { on_avx2(kernel, avx2::Avx2::new_unchecked()) };
            }
            _ => {}
        }
    }
    let _ = tier;
    kernel.run(portable::Portable)
}
