//! The pixels under a convolution's kernel as one side of a product, gathered while packing.

use std::ops::Range;

use crate::gemm::{Element, Operand, Stage, Strip};
use crate::simd::Simd;

/// The widest panel that a product asks for.
const MAX_SPAN: usize = 48;

/// A convolution's input and output sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) out_height: usize,
    pub(super) out_width: usize,
    pub(super) kernel: (usize, usize),
    pub(super) stride: usize,
    /// Rows above and columns left of the input; fewer than none crops it.
    pub(super) padding: (isize, isize),
    /// Steps between input pixels: above 1, zeros stand between them, as in a transposed convolution.
    pub(super) spread: usize,
}

impl Geometry {
    pub(super) const fn taps(&self) -> usize {
        self.kernel.0 * self.kernel.1
    }
    pub(super) const fn out_pixels(&self) -> usize {
        self.out_height * self.out_width
    }
    /// Columns of the padded rows that outputs look at.
    const fn padded_width(&self) -> usize {
        (self.out_width - 1) * self.stride + self.kernel.1
    }
}

/// Column `(image, y, x)` of this matrix holds, at depth `(channel, ky, kx)`, the pixel under that tap.
pub(super) struct Im2col<'a> {
    data: &'a [f32],
    strides: [usize; 4],
    geometry: Geometry,
}

/// Neighbouring outputs of one row.
#[derive(Clone, Copy, Default)]
struct Run {
    to: usize,
    count: usize,
    /// Of the first tap of the first staged channel.
    from: usize,
    channel_stride: usize,
}

impl<'a> Im2col<'a> {
    /// Over `(b, c, h, w)` values with these strides.
    ///
    /// # Panics
    /// If the values do not fit into the data.
    pub(super) fn new(data: &'a [f32], strides: [usize; 4], geometry: Geometry) -> Self {
        let Geometry { batch, channels, height, width, .. } = geometry;
        let sizes = [batch, channels, height, width];
        if sizes.iter().all(|&size| size > 0) {
            let last: usize =
                sizes.iter().zip(strides).map(|(size, stride)| (size - 1) * stride).sum();
            assert!(last < data.len(), "the input fits into its data");
        }
        Self { data, strides, geometry }
    }

    /// One padded row of the input.
    #[inline(always)]
    fn stage_row(&self, image: usize, channel: usize, row: usize, to: &mut [f32]) {
        let Geometry { height, width, padding, spread, .. } = self.geometry;
        let inside = |at: isize, size: usize| {
            let at = usize::try_from(at).ok()?;
            (at % spread == 0 && at / spread < size).then_some(at / spread)
        };
        let Some(y) = inside(row as isize - padding.0, height) else {
            to.fill(0.0);
            return;
        };
        let [sb, sc, sh, sw] = self.strides;
        let from = &self.data[image * sb + channel * sc + y * sh..];
        if spread == 1 && sw == 1 && padding.1 >= 0 {
            let left = (padding.1 as usize).min(to.len());
            let count = width.min(to.len() - left);
            let (before, rest) = to.split_at_mut(left);
            let (middle, after) = rest.split_at_mut(count);
            before.fill(0.0);
            middle.copy_from_slice(&from[..count]);
            after.fill(0.0);
        } else {
            for (x, to) in to.iter_mut().enumerate() {
                *to = inside(x as isize - padding.1, width).map_or(0.0, |x| from[x * sw]);
            }
        }
    }

    /// The runs of a span, and how many.
    #[inline(always)]
    fn runs(&self, span: &Range<usize>, stage: &Stage) -> ([Run; MAX_SPAN], usize) {
        let Geometry { out_height, out_width, stride, .. } = self.geometry;
        let padded_width = self.geometry.padded_width();
        let mut runs = [Run::default(); MAX_SPAN];
        let (mut count, mut column) = (0, span.start);
        while column < span.end {
            let (row, x) = (column / out_width, column % out_width);
            let (image, y) = (row / out_height, row % out_height);
            let strip = stage.strips[image - stage.strips[0].image];
            let length = (out_width - x).min(span.end - column);
            runs[count] = Run {
                to: column - span.start,
                count: length,
                from: strip.base + (y * stride - strip.first_row) * padded_width + x * stride,
                channel_stride: strip.rows * padded_width,
            };
            count += 1;
            column += length;
        }
        (runs, count)
    }

    /// Channels that a range of depths touches.
    #[inline(always)]
    const fn channels(&self, depth: &Range<usize>) -> Range<usize> {
        let taps = self.geometry.taps();
        depth.start / taps..depth.end.div_ceil(taps)
    }
}

impl Operand for Im2col<'_> {
    #[inline(always)]
    fn stage(&self, span: Range<usize>, depth: Range<usize>, stage: &mut Stage) {
        let Geometry { out_height, out_width, stride, kernel, .. } = self.geometry;
        let padded_width = self.geometry.padded_width();
        let channels = self.channels(&depth);
        let rows = span.start / out_width..(span.end - 1) / out_width + 1;
        stage.strips.clear();
        let mut len = 0;
        for image in rows.start / out_height..(rows.end - 1) / out_height + 1 {
            let first = rows.start.max(image * out_height) - image * out_height;
            let last = (rows.end - 1).min(image * out_height + out_height - 1) - image * out_height;
            let strip = Strip {
                image,
                first_row: first * stride,
                rows: (last - first) * stride + kernel.0,
                base: len,
            };
            len += channels.len() * strip.rows * padded_width;
            stage.strips.push(strip);
        }
        // A run is copied register by register and may be read past its end.
        if stage.values.len() < len + MAX_SPAN {
            stage.values.resize(len + MAX_SPAN, 0.0);
        }
        for strip in &stage.strips {
            let mut to = stage.values[strip.base..].chunks_exact_mut(padded_width);
            for channel in channels.clone() {
                for row in 0..strip.rows {
                    if let Some(to) = to.next() {
                        self.stage_row(strip.image, channel, strip.first_row + row, to);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn pack<S: Simd>(
        &self,
        simd: S,
        span: Range<usize>,
        depth: Range<usize>,
        width: usize,
        stage: &Stage,
        to: *mut f32,
    ) {
        let Geometry { kernel, stride, .. } = self.geometry;
        let (runs, count) = self.runs(&span, stage);
        let padded_width = self.geometry.padded_width();
        let taps = self.geometry.taps();
        let first_channel = depth.start / taps;
        let (mut ky, mut kx) = (depth.start % taps / kernel.1, depth.start % kernel.1);
        let mut channel = 0;
        let mut to = to;
        debug_assert_eq!(first_channel, self.channels(&depth).start);
        let from = stage.values.as_ptr();
        for _ in depth {
            let tap = ky * padded_width + kx;
            for run in &runs[..count] {
                // SAFETY: the run is staged, followed by a register of slack; what is written past its end is
                // overwritten by the next run, by the zeros below or by the next step, or is the buffer's slack.
                unsafe {
                    let from = from.add(run.from + channel * run.channel_stride + tap);
                    let to = to.add(run.to);
                    if stride == 1 {
                        for i in (0..run.count).step_by(S::LANES) {
                            simd.store(to.add(i), simd.load(from.add(i)));
                        }
                    } else {
                        for i in 0..run.count {
                            *to.add(i) = *from.add(i * stride);
                        }
                    }
                }
            }
            for i in span.len()..width {
                // SAFETY: inside this step's part of the panel.
                unsafe { *to.add(i) = 0.0 };
            }
            // SAFETY: one step further, at most one past the panel.
            to = unsafe { to.add(width) };
            kx += 1;
            if kx == kernel.1 {
                (ky, kx) = (ky + 1, 0);
            }
            if ky == kernel.0 {
                (channel, ky) = (channel + 1, 0);
            }
        }
    }
}

/// The same matrix on its side: spans are taps, depths are output pixels.
pub(super) struct Im2row<'a>(pub(super) Im2col<'a>);

impl Operand for Im2row<'_> {
    #[inline(always)]
    unsafe fn pack<S: Simd>(
        &self,
        _simd: S,
        span: Range<usize>,
        depth: Range<usize>,
        width: usize,
        _stage: &Stage,
        to: *mut f32,
    ) {
        let Im2col { data, strides: [sb, sc, sh, sw], geometry } = self.0;
        let Geometry { height, width: columns, kernel, stride, padding, spread, .. } = geometry;
        let mut taps = [(0, 0, 0); MAX_SPAN];
        for (tap, at) in taps.iter_mut().zip(span.clone()) {
            let within = at % geometry.taps();
            *tap = (at / geometry.taps(), within / kernel.1, within % kernel.1);
        }
        // SAFETY: the caller vouches for `depth.len() · width` numbers.
        let to = unsafe { std::slice::from_raw_parts_mut(to, depth.len() * width) };
        for (pixel, to) in depth.zip(to.chunks_exact_mut(width)) {
            let (row, x) = (pixel / geometry.out_width, pixel % geometry.out_width);
            let (image, y) = (row / geometry.out_height, row % geometry.out_height);
            to.fill(0.0);
            for (to, &(channel, ky, kx)) in to.iter_mut().zip(&taps[..span.len()]) {
                let iy = (y * stride + ky) as isize - padding.0;
                let ix = (x * stride + kx) as isize - padding.1;
                let (Ok(iy), Ok(ix)) = (usize::try_from(iy), usize::try_from(ix)) else { continue };
                if iy % spread == 0
                    && ix % spread == 0
                    && iy / spread < height
                    && ix / spread < columns
                {
                    *to = data[image * sb + channel * sc + iy / spread * sh + ix / spread * sw];
                }
            }
        }
    }
}

/// Weights `(out, in, kh, kw)` as the transposed convolution reads them: span `in`, depth `(out, ky, kx)`, taps
/// turned by half a circle.
pub(super) struct Flipped<'a, T> {
    weight: &'a [T],
    in_channels: usize,
    taps: usize,
}

impl<'a, T: Element> Flipped<'a, T> {
    /// # Panics
    /// If there are not `out_channels · in_channels · taps` weights.
    pub(super) fn new(
        weight: &'a [T],
        out_channels: usize,
        in_channels: usize,
        taps: usize,
    ) -> Self {
        assert_eq!(
            weight.len(),
            out_channels * in_channels * taps,
            "as many weights as the shape says"
        );
        Self { weight, in_channels, taps }
    }
}

impl<T: Element> Operand for Flipped<'_, T> {
    #[inline(always)]
    unsafe fn pack<S: Simd>(
        &self,
        _simd: S,
        span: Range<usize>,
        depth: Range<usize>,
        width: usize,
        _stage: &Stage,
        to: *mut f32,
    ) {
        // SAFETY: the caller vouches for `depth.len() · width` numbers.
        let to = unsafe { std::slice::from_raw_parts_mut(to, depth.len() * width) };
        for (k, to) in depth.zip(to.chunks_exact_mut(width)) {
            let (out, tap) = (k / self.taps, self.taps - 1 - k % self.taps);
            let (values, rest) = to.split_at_mut(span.len());
            for (value, channel) in values.iter_mut().zip(span.clone()) {
                let at = (out * self.in_channels + channel) * self.taps + tap;
                T::convert(&self.weight[at..=at], std::slice::from_mut(value));
            }
            rest.fill(0.0);
        }
    }
}
