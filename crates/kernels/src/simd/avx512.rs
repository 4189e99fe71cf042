//! AVX-512: 16 lanes, 32 registers; with or without conversion to bf16.

use std::arch::x86_64::*;

use half::bf16;

use super::{Simd, avx2::transpose8};
use crate::isa::Tier;

/// Proof of AVX-512 F, BW, DQ and VL, of AVX2, FMA and F16C, and if `BF16` of AVX-512 BF16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(());

impl<const BF16: bool> Avx512<BF16> {
    /// # Safety
    /// The processor has the instructions.
    pub(super) const unsafe fn new_unchecked() -> Self {
        Self(())
    }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    const TIER: Tier = Tier::Avx512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` is proof of the instructions, here and in each method below.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe { _mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            let halves = _mm256_loadu_si256(from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16, x: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            if BF16 {
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(x));
                return _mm256_storeu_si256(to.cast(), rounded);
            }
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, half));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(rounded));
        }
    }
    #[inline(always)]
    unsafe fn store_two_bf16(self, to: *mut bf16, low: __m512, high: __m512) {
        // SAFETY: the caller vouches for the pointer.
        unsafe {
            if BF16 {
                let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
                return _mm512_storeu_si512(to.cast(), rounded);
            }
            self.store_bf16(to, low);
            self.store_bf16(to.add(Self::LANES), high);
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_div_ps(a, b) }
    }
    /// A division takes 16 cycles of the port that everything else needs.
    #[inline(always)]
    fn quotient(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe {
            // What a first quotient leaves of the dividend is divided too.
            let inverse = self.inverse(b);
            let quotient = _mm512_mul_ps(a, inverse);
            _mm512_fmadd_ps(_mm512_fnmadd_ps(b, quotient, a), inverse, quotient)
        }
    }
    #[inline(always)]
    fn inverse(self, x: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe {
            // 14 bits, and by Newton's step twice as many.
            let estimate = _mm512_rcp14_ps(x);
            let error = _mm512_fnmadd_ps(x, estimate, _mm512_set1_ps(1.0));
            _mm512_fmadd_ps(estimate, error, estimate)
        }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x) }
    }
    #[inline(always)]
    fn exp2_integral(self, n: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn exp2(self, x: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe {
            // x - ⌊x⌋ in one instruction, and 2 to the power of ⌊x⌋ in the last.
            let r = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
            // The minimax polynomial of 2ʳ on [0, 1] that is 1 at 0: within 8.3e-8.
            let mut p = _mm512_set1_ps(1.867_13e-3);
            for c in [9.017_031e-3, 5.579_991_3e-2, 2.401_644_4e-1, 6.931_513e-1, 1.0] {
                p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
            }
            _mm512_scalef_ps(p, x)
        }
    }
    #[inline(always)]
    unsafe fn transpose8(
        self,
        from: *const f32,
        from_stride: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
        // SAFETY: `self` is proof of AVX2 too; the caller vouches for the pointers.
        unsafe { transpose8(from, from_stride, to, to_stride) }
    }
}
