//! Memory that starts on a cache line, so that no vector load straddles two.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use candle_core::WithDType;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;

/// A growing, aligned scratch buffer.
#[derive(Default)]
pub(crate) struct Buffer(Vec<Line>);

impl Buffer {
    /// Room for `len` numbers, initialised to something; the pointer is good until the next call.
    pub(crate) fn reserve(&mut self, len: usize) -> *mut f32 {
        self.reserve_of(len)
    }

    /// Room for `len` numbers of a type that any bytes are a value of.
    pub(crate) fn reserve_of<T: WithDType>(&mut self, len: usize) -> *mut T {
        let lines = (len * size_of::<T>()).div_ceil(LINE);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; LINE]));
        }
        self.0.as_mut_ptr().cast()
    }
}

/// A fixed number of numbers that start on a cache line.
pub(crate) struct Aligned<T> {
    lines: Vec<MaybeUninit<Line>>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: WithDType> Aligned<T> {
    /// All zero.
    pub(crate) fn zeroed(len: usize) -> Self {
        let lines = vec![MaybeUninit::new(Line([0; LINE])); (len * size_of::<T>()).div_ceil(LINE)];
        Self { lines, len, of: PhantomData }
    }

    /// Room for `len` numbers.
    ///
    /// # Safety
    /// They are written through [`Aligned::as_mut_ptr`] before anything else is done with them.
    pub(crate) unsafe fn uninitialised(len: usize) -> Self {
        let count = (len * size_of::<T>()).div_ceil(LINE);
        let mut lines = Vec::with_capacity(count);
        // SAFETY: the capacity is there, and lines need no value yet.
        unsafe { lines.set_len(count) };
        Self { lines, len, of: PhantomData }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the lines hold `len` numbers, and any bytes are a number of candle's types.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
