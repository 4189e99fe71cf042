//! Products on tiles, step by step, as something else goes on between the steps.

use half::bf16;

use super::ROW_BYTES;
use crate::simd::amx::{Tiles, tile_dot_bf16, tile_load, tile_store, tile_zero};

/// Where a job's sums lie: four tiles of f32, or the upper or left ones of them.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    /// The upper left tile.
    pub(super) start: *mut f32,
    /// Numbers to the tile below it, and to the one on its right.
    pub(super) lower: usize,
    pub(super) right: usize,
    /// Bytes from one row of a tile to the next.
    pub(super) row_bytes: usize,
    /// Two rows of tiles, not one.
    pub(super) tall: bool,
    /// Two columns of tiles, not one.
    pub(super) wide: bool,
}

impl Sums {
    /// Whether tile `i` is one of them: 0 and 1 on the left, 2 and 3 on the right.
    #[inline(always)]
    const fn has(&self, tile: usize) -> bool {
        (tile.is_multiple_of(2) || self.tall) && (tile < 2 || self.wide)
    }

    #[inline(always)]
    const fn at(&self, tile: usize) -> *mut f32 {
        self.start.wrapping_add(tile % 2 * self.lower + tile / 2 * self.right)
    }
}

/// Two rows of tiles of a product or one, and two columns or one.
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
    pub(super) sums: Sums,
    pub(super) accumulate: bool,
}

/// What this thread's tiles are at.
pub(super) struct Work {
    _tiles: Tiles,
    job: Option<Job>,
    /// Sums that are complete and not stored: tiles are stored where the next job begins, which does not wait for all.
    waiting: Option<Sums>,
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
            if job.sums.tall {
                tile_load!(5, job.a.wrapping_add(job.a_lower), ROW_BYTES);
            }
            if job.sums.wide {
                tile_load!(7, job.b.wrapping_add(job.b_right), ROW_BYTES);
            }
        }
        job.a = job.a.wrapping_add(job.a_step);
        job.b = job.b.wrapping_add(job.b_step);
        job.depth -= 1;
    }

    /// The first step of a job; stores the sums of the one before tile by tile.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    unsafe fn first(before: Option<Sums>, job: &mut Job) {
        /// Stores a tile where it belongs, and starts it again.
        macro_rules! turn {
            ($tile:literal, $a:literal, $b:literal) => {
                if let Some(sums) = before
                    && sums.has($tile)
                {
                    tile_store!($tile, sums.at($tile), sums.row_bytes);
                }
                if job.sums.has($tile) {
                    if job.accumulate {
                        tile_load!($tile, job.sums.at($tile), job.sums.row_bytes);
                    } else {
                        tile_zero!($tile);
                    }
                    tile_dot_bf16!($tile, $a, $b);
                }
            };
        }
        // SAFETY: the caller's word; the guard says that tiles are configured.
        unsafe {
            Self::load(job);
            turn!(0, 4, 6);
            turn!(1, 5, 6);
            turn!(2, 4, 7);
            turn!(3, 5, 7);
        }
    }

    /// A further step of a job.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    unsafe fn next(job: &mut Job) {
        macro_rules! add {
            ($tile:literal, $a:literal, $b:literal) => {
                if job.sums.has($tile) {
                    tile_dot_bf16!($tile, $a, $b);
                }
            };
        }
        // SAFETY: the caller's word.
        unsafe {
            Self::load(job);
            add!(0, 4, 6);
            add!(1, 5, 6);
            add!(2, 4, 7);
            add!(3, 5, 7);
        }
    }

    /// Begins a job with its first step.
    ///
    /// # Safety
    /// No job is at work. The factors have as many tiles, and the sums can be written (and read, to accumulate).
    #[inline(always)]
    pub(super) unsafe fn start(&mut self, mut job: Job) {
        // SAFETY: the caller's word.
        unsafe { Self::first(self.waiting.take(), &mut job) };
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
        unsafe { Self::next(&mut job) };
        self.end(job);
    }

    /// After a step.
    #[inline(always)]
    const fn end(&mut self, job: Job) {
        if job.depth == 0 {
            self.waiting = Some(job.sums);
            self.job = None;
        } else {
            self.job = Some(job);
        }
    }

    /// Whole jobs, one after the other.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    pub(super) unsafe fn all(&mut self, jobs: impl IntoIterator<Item = Job>) {
        // In registers: what is read whole soon after it was written in parts is late.
        let mut before = self.waiting.take();
        for job in jobs {
            // SAFETY: the caller's word.
            unsafe {
                match (job.sums.tall, job.sums.wide) {
                    (true, true) => Self::whole::<true, true>(before, &job),
                    (true, false) => Self::whole::<true, false>(before, &job),
                    (false, true) => Self::whole::<false, true>(before, &job),
                    (false, false) => Self::whole::<false, false>(before, &job),
                }
            }
            before = Some(job.sums);
        }
        self.waiting = before;
    }

    /// A whole job of a known shape, after sums that are not stored.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    unsafe fn whole<const TALL: bool, const WIDE: bool>(before: Option<Sums>, job: &Job) {
        let mut job = Job { sums: Sums { tall: TALL, wide: WIDE, ..job.sums }, ..*job };
        // SAFETY: the caller's word.
        unsafe {
            Self::first(before, &mut job);
            while job.depth > 0 {
                Self::next(&mut job);
            }
        }
    }

    /// Stores complete sums.
    ///
    /// # Safety
    /// That of `start`.
    #[inline(always)]
    pub(super) unsafe fn store(&mut self) {
        let Some(sums) = self.waiting.take() else { return };
        macro_rules! put {
            ($tile:literal) => {
                if sums.has($tile) {
                    tile_store!($tile, sums.at($tile), sums.row_bytes);
                }
            };
        }
        // SAFETY: the caller's word.
        unsafe {
            put!(0);
            put!(1);
            put!(2);
            put!(3);
        }
    }
}
