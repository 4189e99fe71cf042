//! Which instruction set the kernels run on, found at run time.
//!
//! One binary runs everywhere: each kernel is compiled once per [`Tier`], and the best tier that the processor has is
//! chosen when the process first needs one. The environment variable `PHOTOMEND_ISA` (`amx`, `avx512bf16`, `avx512`,
//! `avx2` or `portable`) asks for a lesser one; a tier that the processor lacks is never used.
//!
//! The first two differ from `avx512` in how they multiply bf16; f32 is computed in f32 on every tier. For tests they
//! exist on every processor that can execute AVX-512 with bf16: its tiles are then emulated.

#[cfg(target_arch = "x86_64")]
use crate::simd::amx;
use std::fmt;
use std::sync::OnceLock;

/// A family of instruction sets, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// x86-64 with AMX tiles of bf16 beside AVX-512 with bf16 and VBMI2.
    Amx,
    /// x86-64 with AVX-512 and its dot products of bf16 pairs.
    Avx512Bf16,
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 lanes.
    Avx512,
    /// x86-64 with AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// Plain arrays, which the compiler turns into the target's baseline vectors (SSE2, NEON).
    Portable,
}

impl Tier {
    /// Every tier, best first.
    pub const ALL: [Self; 5] =
        [Self::Amx, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// The tier in use: the best available one, or the one that `PHOTOMEND_ISA` names if that is available.
    ///
    /// Decided once per process. A name that is unknown or not available here is ignored: the variable is a
    /// diagnostic aid, and results differ between tiers by rounding only.
    #[must_use]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Tier> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            // Tests see emulated tiers where they loop over all, but do not run on one unasked.
            let usual = |tier: &Self| tier.is_available() && !(cfg!(test) && tier.is_emulated());
            let best = || Self::ALL.into_iter().find(usual);
            std::env::var("PHOTOMEND_ISA")
                .ok()
                .and_then(|name| Self::ALL.into_iter().find(|tier| tier.name() == name))
                .filter(|tier| tier.is_available())
                .or_else(best)
                .unwrap_or(Self::Portable)
        })
    }

    /// True if this processor has the instructions.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                Self::Avx512.is_available()
                    && (is_x86_feature_detected!("avx512bf16") || amx::is_emulated())
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Amx | Self::Avx512Bf16 | Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// True if the tier is available because AMX is emulated.
    fn is_emulated(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Amx => amx::is_emulated(),
            Self::Avx512Bf16 => !is_x86_feature_detected!("avx512bf16") && amx::is_emulated(),
            _ => false,
        };
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// True if products of bf16 are computed in bf16 (and summed in f32), not after conversion to f32.
    #[must_use]
    pub const fn multiplies_bf16(self) -> bool {
        matches!(self, Self::Amx | Self::Avx512Bf16)
    }

    /// The tier with the same registers that computes all in f32.
    pub(crate) const fn without_bf16(self) -> Self {
        if self.multiplies_bf16() { Self::Avx512 } else { self }
    }

    /// f32 numbers in a register.
    pub(crate) const fn lanes(self) -> usize {
        match self {
            Self::Amx | Self::Avx512Bf16 | Self::Avx512 => 16,
            Self::Avx2 | Self::Portable => 8,
        }
    }

    /// The name that `PHOTOMEND_ISA` takes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Tier;

    #[test]
    fn the_tier_in_use_is_available() {
        assert!(Tier::current().is_available());
        assert!(Tier::Portable.is_available());
    }
}
