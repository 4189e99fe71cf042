//! What AMX's instructions cost on this processor, one thread: `cargo bench -p photomend-kernels --bench tiles`.
//!
//! The fewest and the median nanoseconds of many short loops. Where they differ by more than a few hundredths, something
//! else runs on the same core: a neighbour on its other hardware thread makes tile instructions several times slower.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() {
    x86::run();
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::time::Instant;

    /// What `ldtilecfg` reads: eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Config([u8; 64]);

    /// Four operands in the first-level cache, and a panel of 384 kB behind them.
    #[repr(align(64))]
    struct Numbers([u16; NUMBERS]);
    const NUMBERS: usize = 200 << 10;
    const TILE: usize = 512;

    macro_rules! load {
        ($tile:literal, $from:expr) => {
            asm!(concat!("tileloadd tmm", $tile, ", [{0} + {1}*1]"), in(reg) $from, in(reg) 64_usize,
                 options(nostack, readonly, preserves_flags))
        };
    }
    macro_rules! products {
        () => {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                options(nostack, nomem, preserves_flags)
            )
        };
    }

    /// # Safety
    /// The tiles are configured, and there are four of them at `from` and as many at `panel`.
    unsafe fn step(from: *const u16, panel: *const u16) {
        // SAFETY: the caller's word.
        unsafe {
            load!(4, from);
            load!(6, panel);
            load!(7, panel.add(TILE));
            load!(5, from.add(TILE));
            products!();
        }
    }

    /// So many times 8 multiply-adds of 16 numbers.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn multiply_adds(sums: &mut [__m512; 8], times: usize) {
        let half = _mm512_set1_ps(0.5);
        for _ in 0..times {
            for sum in &mut *sums {
                *sum = _mm512_fmadd_ps(*sum, half, half);
            }
        }
    }

    fn timed(name: &str, mut work: impl FnMut(usize)) {
        const TIMES: usize = 500;
        let mut all: Vec<f64> = (0..400)
            .map(|_| {
                let start = Instant::now();
                work(TIMES);
                start.elapsed().as_secs_f64() * 1e9 / TIMES as f64
            })
            .collect();
        all.sort_by(f64::total_cmp);
        println!("{name:58} {:7.1} {:7.1} ns", all[0], all[all.len() / 2]);
    }

    pub(crate) fn run() {
        if kernels::Tier::ALL[0] != kernels::Tier::Amx || !kernels::Tier::Amx.is_available() {
            println!("this processor has no AMX with bf16");
            return;
        }
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = 16;
        }
        let zeros = Box::new(Numbers([0; NUMBERS]));
        // From 1 to 2 and negative, in no order.
        let numbers = Box::new(Numbers(std::array::from_fn(|i| {
            (i.wrapping_mul(40_503) >> 4) as u16 & 0x807f | 0x3f80
        })));
        // SAFETY: tiles are available and configured first; all loads are inside the numbers.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly, preserves_flags));
            for (what, numbers) in [("zeros", &zeros), ("numbers", &numbers)] {
                let from = numbers.0.as_ptr();
                step(from, from.add(2 * TILE));
                timed(&format!("four products of tiles of {what}"), |times| {
                    for _ in 0..times {
                        products!();
                    }
                });
                timed("four loads from the first-level cache", |times| {
                    for _ in 0..times {
                        load!(4, from);
                        load!(5, from.add(TILE));
                        load!(6, from.add(2 * TILE));
                        load!(7, from.add(3 * TILE));
                    }
                });
                timed("four loads and four products", |times| {
                    for _ in 0..times {
                        step(from, from.add(2 * TILE));
                    }
                });
                timed("the same, half the operands from the second-level cache", |times| {
                    for i in 0..times {
                        step(from, from.add(i * 2 * TILE % (NUMBERS - 4 * TILE)));
                    }
                });
            }
            let mut sums = [_mm512_setzero_ps(); 8];
            timed("128 multiply-adds of 512 bits", |times| {
                for _ in 0..times {
                    multiply_adds(&mut sums, 16);
                }
            });
            timed("the same and eight products", |times| {
                for _ in 0..times {
                    multiply_adds(&mut sums, 16);
                    products!();
                    products!();
                }
            });
            std::hint::black_box(sums);
            asm!("tilerelease", options(nostack, nomem, preserves_flags));
        }
    }
}
