//! Powers of two as bf16, computed as 16-bit integers: two in the place of one.

use std::arch::asm;
use std::arch::x86_64::*;

/// What turns a number into the fixed-point number that [`minus_exp2`] reads.
pub(super) const OFFSET: f32 = 255.0;

/// `-2ˣ` for `-127 ≤ x < 1`, rounded to nearest bf16, of the bits of `x + 255` in two registers: lane `i` of each becomes a
/// pair.
///
/// From 128 to 256, the bits of an f32 end in 7 bits of an integer and 16 of a fraction. With 255 added to `x`, that integer
/// is the exponent of `2ˣ` as bf16 has it, and all that is left is `2ᶠ - 1` of the fraction, for 32 numbers at once. The
/// bits before the integer end up where the sign is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
pub(super) fn minus_exp2(low: __m512i, high: __m512i) -> __m512i {
    // Each lane is an integer above a fraction: the high one's fraction beside the low one's integer, and then likes.
    let crossed = _mm512_shldi_epi32::<16>(high, low);
    let f = _mm512_mask_blend_epi16(0xaaaa_aaaa, low, crossed);
    let integers = _mm512_mask_blend_epi16(0x5555_5555, high, crossed);
    // 2ᶠ - 1 = f - f (1 - f) (0.304688 + 0.078217 f) within 1.2e-4 of 2ᶠ, in units of 2⁻¹⁶.
    let bend = high_product(f, _mm512_ternarylogic_epi32::<0x55>(f, f, f));
    let slope = high_product(f, _mm512_set1_epi16(5126));
    let bend = high_product(bend, _mm512_add_epi16(slope, _mm512_set1_epi16(19968)));
    // Nine bits are cut off; a half before that rounds. What would carry into the exponent is half a unit too small.
    let rounded = _mm512_adds_epu16(_mm512_sub_epi16(f, bend), _mm512_set1_epi16(256));
    _mm512_shldi_epi16::<7>(integers, rounded)
}

/// The upper halves of products of unsigned 16-bit numbers: `_mm512_mulhi_epu16`, of which the compiler makes several
/// conversions and shuffles if a factor is such a product itself.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn high_product(a: __m512i, b: __m512i) -> __m512i {
    let product;
    // SAFETY: one instruction on registers, which the function's features cover.
    unsafe {
        asm!("vpmulhuw {}, {}, {}", lateout(zmm_reg) product, in(zmm_reg) a, in(zmm_reg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    product
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn weights_are_powers_of_two_rounded_to_bf16() {
        if !crate::isa::Tier::Amx.is_available() {
            return;
        }
        let mut squares = 0.0;
        let count = 1 << 16;
        for number in 0..count {
            // SAFETY: the tier is available.
            let pair = unsafe {
                let x = |at: f32| _mm512_castps_si512(_mm512_set1_ps(at + OFFSET));
                let at = number as f32 / count as f32;
                let pairs = minus_exp2(x(at - 1.0), x(at - 125.0));
                _mm512_cvtsi512_si32(pairs) as u32
            };
            let at = f64::from(number) / f64::from(count);
            for (half, x) in [(pair & 0xffff, at - 1.0), (pair >> 16, at - 125.0)] {
                let weight = -f64::from(bf16::from_bits(half as u16).to_f32());
                let error = weight / x.exp2() - 1.0;
                assert!(error.abs() < 1.02 / 256.0, "2^{x}: {weight}");
                squares += error * error;
            }
        }
        // Exact ones, rounded, are 1.66e-3 off.
        assert!((squares / f64::from(2 * count)).sqrt() < 1.69e-3, "{squares}");
    }
}
