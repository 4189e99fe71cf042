//! The padded copy of a picture that a convolution reads: with what comes before the convolution done on the way.

use rayon::prelude::*;

use crate::activation::{Activation, bend};
use crate::buffer::Aligned;
use crate::isa::Tier;
use crate::output::Target;
use crate::product::{Engine, Map};
use crate::simd::{Kernel, Simd, dispatch};

/// From a picture to the padded one under a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Padding {
    /// The number of the first image, for what is done on the way.
    pub(super) image: usize,
    pub(super) images: usize,
    pub(super) channels: usize,
    /// Height and width of the picture in memory.
    pub(super) source: (usize, usize),
    /// Its height and width after nearest-neighbour resizing.
    pub(super) size: (usize, usize),
    /// Rows above and columns left of it; fewer than none crops.
    pub(super) before: (isize, isize),
    /// Steps between its pixels: above 1, zeros stand between them, as in a transposed convolution.
    pub(super) spread: usize,
    /// Height and width with the padding.
    pub(super) padded: (usize, usize),
}

/// What is done to pixels on the way: each image's channels are scaled and shifted, and bent.
pub(super) trait Prologue<T>: Sync {
    /// `pixels` of them, one after the other.
    ///
    /// # Safety
    /// `pixels * channels` numbers can be read at `from` and written at `to`.
    unsafe fn run<S: Simd>(
        &self,
        simd: S,
        image: usize,
        from: *const T,
        to: *mut T,
        size: (usize, usize),
    );
}

/// Nothing.
pub(super) struct Copy;

impl<T: Engine> Prologue<T> for Copy {
    #[inline(always)]
    unsafe fn run<S: Simd>(
        &self,
        _: S,
        _: usize,
        from: *const T,
        to: *mut T,
        (pixels, channels): (usize, usize),
    ) {
        // SAFETY: the caller's word.
        unsafe { std::ptr::copy_nonoverlapping(from, to, pixels * channels) };
    }
}

/// An activation.
pub(super) struct Bent(pub(super) Activation);

impl<T: Engine> Prologue<T> for Bent {
    #[inline(always)]
    unsafe fn run<S: Simd>(
        &self,
        simd: S,
        _: usize,
        from: *const T,
        to: *mut T,
        (pixels, channels): (usize, usize),
    ) {
        // SAFETY: the caller's word.
        unsafe { bend(simd, self.0, from, to, pixels * channels) };
    }
}

impl Padding {
    /// Numbers from one pixel to the next in the padded picture.
    pub(super) const fn pixel<T: Engine>(&self) -> usize {
        self.channels.next_multiple_of(T::DEPTH_STEP)
    }

    /// The padded pictures, one after the other, and what may be read behind them under a kernel of `taps`.
    ///
    /// # Panics
    /// If `xs` has another size.
    pub(super) fn fill<T: Engine, P: Prologue<T>>(
        &self,
        tier: Tier,
        xs: &[T],
        map: &Map,
        taps: (usize, usize),
        prologue: &P,
    ) -> Aligned<T> {
        let (height, width) = self.padded;
        let line = width * self.pixel::<T>();
        let numbers = self.images * height * line;
        assert_eq!(
            xs.len(),
            self.images * self.source.0 * self.source.1 * self.channels,
            "the picture has the size that is padded"
        );
        let slack = map.slack(taps) * self.pixel::<T>();
        // SAFETY: every line is written below, and so is the slack.
        let mut padded: Aligned<T> = unsafe { Aligned::uninitialised(numbers + slack) };
        let to = Target::new(padded.as_mut_ptr());
        (0..self.images * height).into_par_iter().for_each(|at| {
            // SAFETY: a line of the padded picture, which is this task's alone.
            let to = unsafe { to.at(at * line) };
            dispatch(
                tier,
                Line { padding: self, xs, image: at / height, y: at % height, to, prologue },
            );
        });
        // SAFETY: the end of the buffer.
        unsafe { padded.as_mut_ptr().add(numbers).write_bytes(0, slack) };
        padded
    }

    /// Where a padded coordinate comes from, on an axis.
    #[inline(always)]
    fn origin(&self, at: usize, before: isize, size: usize, source: usize) -> Option<usize> {
        let at = usize::try_from(at as isize - before).ok()?;
        if !at.is_multiple_of(self.spread) || at / self.spread >= size {
            return None;
        }
        let at = at / self.spread;
        Some(if size == source { at } else { at * source / size })
    }
}

/// One line of the padded picture.
struct Line<'a, T, P> {
    padding: &'a Padding,
    xs: &'a [T],
    image: usize,
    y: usize,
    to: *mut T,
    prologue: &'a P,
}

impl<T: Engine, P: Prologue<T>> Kernel for Line<'_, T, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { padding, xs, image, y, to, prologue } = self;
        let (pixel, channels, width) = (padding.pixel::<T>(), padding.channels, padding.padded.1);
        let (source_height, source_width) = padding.source;
        // Pixels lie side by side in both pictures.
        let is_dense = pixel == channels && padding.spread == 1 && padding.size.1 == source_width;
        let Some(row) = padding.origin(y, padding.before.0, padding.size.0, source_height) else {
            // SAFETY: the line.
            unsafe { to.write_bytes(0, width * pixel) };
            return;
        };
        let from = &xs[(image * source_height + row) * source_width * channels..]
            [..source_width * channels];
        let mut x = 0;
        while x < width {
            let origin = padding.origin(x, padding.before.1, padding.size.1, source_width);
            // SAFETY: pixels of the line; those they come from are inside the row.
            unsafe {
                let to = to.add(x * pixel);
                let Some(from_x) = origin else {
                    to.write_bytes(0, pixel);
                    x += 1;
                    continue;
                };
                let run = if is_dense { (source_width - from_x).min(width - x) } else { 1 };
                let from = from.as_ptr().add(from_x * channels);
                prologue.run(simd, padding.image + image, from, to, (run, channels));
                if pixel > channels {
                    to.add(channels).write_bytes(0, pixel - channels);
                }
                x += run;
            }
        }
    }
}
