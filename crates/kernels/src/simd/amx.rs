//! AMX: eight tiles of 16 rows of 64 bytes, and products of bf16 pairs summed in f32.
//!
//! Instructions are written as assembly, since the intrinsics are not stable. Tiles belong to the thread: whoever uses
//! them configures them first ([`Tiles::configure`]), and they are given back when the guard is dropped.

use std::arch::asm;
use std::sync::OnceLock;

/// True if the processor has AMX with bf16 and AVX-512 with bf16 and VBMI2, and the system lets this process use them, or if
/// the former are emulated.
pub(crate) fn is_available() -> bool {
    crate::isa::Tier::Avx512Bf16.is_available()
        && is_x86_feature_detected!("avx512vbmi2")
        && (is_native() || is_emulated())
}

/// True if the processor has AMX with bf16, and the system lets this process use it.
fn is_native() -> bool {
    static NATIVE: OnceLock<bool> = OnceLock::new();
    *NATIVE.get_or_init(|| is_supported() && permitted())
}

/// True if instructions of tiles are emulated here: only for tests, and if asked for.
pub(crate) fn is_emulated() -> bool {
    #[cfg(all(target_os = "linux", any(test, feature = "emulate-amx")))]
    return !is_native() && super::amx_emulator::is_active();
    #[cfg(not(all(target_os = "linux", any(test, feature = "emulate-amx"))))]
    false
}

/// CPUID leaf 7: AMX-BF16 is bit 22 of EDX, AMX-TILE bit 24.
fn is_supported() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const NEEDED: u32 = 1 << 22 | 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & NEEDED == NEEDED
}

/// Asks the system for the tiles' state, which Linux gives to processes that ask (since 5.16).
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const SYS_ARCH_PRCTL: u64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call reads no memory of this process; the kernel clobbers rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
             in("rsi") XFEATURE_XTILEDATA, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// Rows of a tile, and its f32 columns.
pub(crate) const SIDE: usize = 16;
/// bf16 numbers in a row of a tile: the depth of one product.
pub(crate) const DEPTH: usize = 32;

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

/// This thread's tiles, all eight of 16 rows of 64 bytes, until dropped.
pub(crate) struct Tiles {
    _of_this_thread: std::marker::PhantomData<*mut ()>,
}

impl Tiles {
    /// # Safety
    /// [`is_available`] said yes.
    pub(crate) unsafe fn configure() -> Self {
        let config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes_per_row: std::array::from_fn(|i| if i < 8 { 64 } else { 0 }),
            rows: std::array::from_fn(|i| if i < 8 { 16 } else { 0 }),
        };
        // SAFETY: the instruction is there, by the caller's word, and reads 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly, preserves_flags));
        }
        Self { _of_this_thread: std::marker::PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a value of this type is proof of the instructions.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// `tilezero tmmN`. Unsafe: needs configured [`Tiles`].
macro_rules! tile_zero {
    ($tile:literal) => {
        std::arch::asm!(concat!("tilezero tmm", $tile), options(nostack, nomem, preserves_flags))
    };
}
/// Loads 16 rows of 64 bytes, `stride` bytes apart. Unsafe: needs configured [`Tiles`] and readable rows.
macro_rules! tile_load {
    ($tile:literal, $from:expr, $stride:expr) => {
        std::arch::asm!(
            concat!("tileloadd tmm", $tile, ", [{0} + {1}*1]"),
            in(reg) $from, in(reg) $stride,
            options(nostack, readonly, preserves_flags)
        )
    };
}
/// Stores 16 rows of 64 bytes, `stride` bytes apart. Unsafe: needs configured [`Tiles`] and writable rows.
macro_rules! tile_store {
    ($tile:literal, $to:expr, $stride:expr) => {
        std::arch::asm!(
            concat!("tilestored [{0} + {1}*1], tmm", $tile),
            in(reg) $to, in(reg) $stride,
            options(nostack, preserves_flags)
        )
    };
}
/// `C += A · B`: A is 16 rows of 32 bf16; row `k` of B holds, for 16 columns, the pair of depths `2 k` and `2 k + 1`.
/// Unsafe: needs configured [`Tiles`].
macro_rules! tile_dot_bf16 {
    ($c:literal, $a:literal, $b:literal) => {
        std::arch::asm!(
            concat!("tdpbf16ps tmm", $c, ", tmm", $a, ", tmm", $b),
            options(nostack, nomem, preserves_flags)
        )
    };
}
pub(crate) use {tile_dot_bf16, tile_load, tile_store, tile_zero};
