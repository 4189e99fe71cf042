//! The innermost loop: outer products of a block of pixels, under one tap.

use super::CHANNELS;
use crate::simd::Simd;

/// Eight channels by a panel of outputs, summed over a block of pixels.
pub(super) struct Sweep {
    /// `[channel]` of the first pixel.
    pub(super) channels: *const f32,
    /// Numbers to the next line and the next pixel.
    pub(super) channels_line: usize,
    pub(super) channels_step: usize,
    /// `[pixel][column]`.
    pub(super) gradients: *const f32,
    pub(super) lines: usize,
    pub(super) across: usize,
    /// `[channel][column]`, to which sums are added.
    pub(super) sums: *mut f32,
    /// Numbers between the sums of neighbouring channels.
    pub(super) columns: usize,
}

impl Sweep {
    /// # Safety
    /// Channels and gradients can be read for each pixel; the sums are there, `vectors` registers of each channel.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, simd: S, vectors: usize) {
        // SAFETY: the caller's word.
        unsafe {
            // The row count is a constant of the tier.
            match (vectors, S::TILE_ROWS) {
                (1, 8) => self.rows::<S, 1, 8>(simd),
                (2, 8) => self.rows::<S, 2, 8>(simd),
                (_, 8) => self.rows::<S, 3, 8>(simd),
                (1, 4) => self.rows::<S, 1, 4>(simd),
                (2, 4) => self.rows::<S, 2, 4>(simd),
                (_, 4) => self.rows::<S, 3, 4>(simd),
                (1, _) => self.rows::<S, 1, 2>(simd),
                (2, _) => self.rows::<S, 2, 2>(simd),
                (_, _) => self.rows::<S, 3, 2>(simd),
            }
        }
    }

    /// # Safety
    /// That of `run`.
    #[inline(always)]
    unsafe fn rows<S: Simd, const V: usize, const R: usize>(&self, simd: S) {
        for first in (0..CHANNELS).step_by(R) {
            let mut sums = [[simd.zero(); V]; R];
            let mut gradients = self.gradients;
            for line in 0..self.lines {
                let mut channels = self.channels.wrapping_add(line * self.channels_line + first);
                for _ in 0..self.across {
                    // Indexed loops: over iterators the compiler keeps columns on the stack.
                    let mut columns = [simd.zero(); V];
                    // SAFETY: the caller's word.
                    unsafe {
                        for v in 0..V {
                            columns[v] = simd.load(gradients.add(v * S::LANES));
                        }
                        for r in 0..R {
                            let channel = simd.splat(*channels.add(r));
                            for v in 0..V {
                                sums[r][v] = simd.mul_add(channel, columns[v], sums[r][v]);
                            }
                        }
                    }
                    gradients = gradients.wrapping_add(V * S::LANES);
                    channels = channels.wrapping_add(self.channels_step);
                }
            }
            for r in 0..R {
                for v in 0..V {
                    // SAFETY: the caller's word.
                    unsafe {
                        let to = self.sums.add((first + r) * self.columns + v * S::LANES);
                        simd.store(to, simd.add(simd.load(to), sums[r][v]));
                    }
                }
            }
        }
    }
}
