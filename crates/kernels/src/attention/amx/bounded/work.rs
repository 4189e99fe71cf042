//! Products on tiles, step by step, as something else goes on between the steps.

use half::bf16;

use super::SUMS;
use crate::simd::amx::{Tiles, tile_dot_bf16, tile_load, tile_store, tile_zero};

/// Bytes from one row of a tile to the next, bf16 or f32.
const ROW_BYTES: usize = 64;

/// Two rows of tiles of a product, and two columns or one.
#[derive(Clone, Copy)]
pub(super) struct Job {
    /// The upper left tile of the left factor.
    pub(super) a: *const bf16,
    /// Numbers to the tile below it, and to the next ones along the depth.
    pub(super) a_lower: usize,
    pub(super) a_step: usize,
    /// The upper left tile of the right factor.
    pub(super) b: *const bf16,
    /// Numbers to the tile on its right, and to the next ones along the depth.
    pub(super) b_right: usize,
    pub(super) b_step: usize,
    /// Tiles along the depth.
    pub(super) depth: usize,
    /// Tiles of f32, one after the other: a column's two, then the next one's.
    pub(super) c: *mut f32,
    /// Two columns, not one.
    pub(super) wide: bool,
    pub(super) accumulate: bool,
}

/// What this thread's tiles are at.
pub(super) struct Work {
    _tiles: Tiles,
    job: Option<Job>,
    /// Sums that are complete and not stored, and if they have two columns.
    waiting: Option<(*mut f32, bool)>,
}

impl Work {
    pub(super) const fn new(tiles: Tiles) -> Self {
        Self { _tiles: tiles, job: None, waiting: None }
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// Loads the operands of a step.
    ///
    /// # Safety
    /// The job's factors have as many tiles.
    #[inline(always)]
    unsafe fn load(job: &mut Job) {
        // SAFETY: the caller's word.
        unsafe {
            tile_load!(4, job.a, ROW_BYTES);
            tile_load!(6, job.b, ROW_BYTES);
            tile_load!(5, job.a.wrapping_add(job.a_lower), ROW_BYTES);
            if job.wide {
                tile_load!(7, job.b.wrapping_add(job.b_right), ROW_BYTES);
            }
        }
        job.a = job.a.wrapping_add(job.a_step);
        job.b = job.b.wrapping_add(job.b_step);
        job.depth -= 1;
    }

    /// Begins a job with its first step; stores the sums of the one before tile by tile.
    ///
    /// # Safety
    /// No job is at work. The factors have as many tiles, and the sums can be written (and read, to accumulate).
    #[inline(always)]
    pub(super) unsafe fn start(&mut self, mut job: Job) {
        let before = self.waiting.take();
        let left = before.map(|(c, _)| c);
        let right = before.filter(|&(_, wide)| wide).map(|(c, _)| c);
        /// Stores a tile where it belongs, and starts it again.
        macro_rules! turn {
            ($tile:literal, $before:expr, $wanted:expr, $a:literal, $b:literal) => {
                if let Some(to) = $before {
                    tile_store!($tile, to.wrapping_add($tile * SUMS), ROW_BYTES);
                }
                if $wanted {
                    if job.accumulate {
                        tile_load!($tile, job.c.wrapping_add($tile * SUMS), ROW_BYTES);
                    } else {
                        tile_zero!($tile);
                    }
                    tile_dot_bf16!($tile, $a, $b);
                }
            };
        }
        // SAFETY: the caller's word; the guard says that tiles are configured.
        unsafe {
            Self::load(&mut job);
            turn!(0, left, true, 4, 6);
            turn!(1, left, true, 5, 6);
            turn!(2, right, job.wide, 4, 7);
            turn!(3, right, job.wide, 5, 7);
        }
        self.end(job);
    }

    /// The next step of the job.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    pub(super) unsafe fn step(&mut self) {
        let Some(mut job) = self.job else { return };
        // SAFETY: the caller's word.
        unsafe {
            Self::load(&mut job);
            tile_dot_bf16!(0, 4, 6);
            tile_dot_bf16!(1, 5, 6);
            if job.wide {
                tile_dot_bf16!(2, 4, 7);
                tile_dot_bf16!(3, 5, 7);
            }
        }
        self.end(job);
    }

    /// After a step.
    #[inline(always)]
    const fn end(&mut self, job: Job) {
        if job.depth == 0 {
            self.waiting = Some((job.c, job.wide));
            self.job = None;
        } else {
            self.job = Some(job);
        }
    }

    /// A whole job.
    ///
    /// # Safety
    /// That of `start`.
    pub(super) unsafe fn all(&mut self, job: Job) {
        // SAFETY: the caller's word.
        unsafe {
            self.start(job);
            while !self.is_idle() {
                self.step();
            }
        }
    }

    /// Stores complete sums.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    pub(super) unsafe fn store(&mut self) {
        let Some((c, wide)) = self.waiting.take() else { return };
        // SAFETY: the caller's word.
        unsafe {
            tile_store!(0, c, ROW_BYTES);
            tile_store!(1, c.wrapping_add(SUMS), ROW_BYTES);
            if wide {
                tile_store!(2, c.wrapping_add(2 * SUMS), ROW_BYTES);
                tile_store!(3, c.wrapping_add(3 * SUMS), ROW_BYTES);
            }
        }
    }
}
