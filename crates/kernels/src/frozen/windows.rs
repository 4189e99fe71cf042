//! Products under a kernel that moves over a picture: pixel by pixel, or by tiles of outputs where that is faster.

use rayon::prelude::*;

use super::padded::{Padding, Prologue};
use crate::output::{Target, written};
use crate::product::{Call, Engine, Epilogue, Map, Rows, Side, Windowed};

/// What is added to a convolution's product.
pub(super) struct Ends<'a, T> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) image_bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [T]>,
}

/// Bytes of the padded picture in a strip, if that is enough outputs.
const STRIP_BYTES: usize = 4 << 20;
/// The fewest outputs of a strip. With an eighth of them the autoencoder of Stable Diffusion took 8 % longer.
const STRIP_OUTPUTS: usize = 32 << 10;

/// A kernel over a padded picture.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    pub(super) padding: Padding,
    pub(super) kernel: (usize, usize),
    pub(super) stride: usize,
    pub(super) out: (usize, usize),
}

impl Windows {
    /// Sides of the padded picture for whole tiles of `tile` by `tile` outputs.
    fn padded(&self, tile: usize) -> (usize, usize) {
        let side = |out: usize, k: usize| (out.next_multiple_of(tile) - 1) * self.stride + k;
        (side(self.out.0, self.kernel.0), side(self.out.1, self.kernel.1))
    }

    fn map<T: Engine>(&self, padded: (usize, usize)) -> Map {
        let pixel = self.padding.pixel::<T>();
        Map::exact(self.padding.images, self.out, padded, pixel, self.stride)
    }

    /// All outputs, `(images, out.0, out.1, columns)`.
    ///
    /// Large pictures are taken in strips: the padded one is never in memory as a whole.
    ///
    /// # Panics
    /// If the picture or what is added has another size.
    pub(super) fn multiply<T: Engine>(
        &self,
        xs: &[T],
        side: Side<'_>,
        ends: &Ends<'_, T>,
        prologue: &impl Prologue<T>,
    ) -> Vec<T> {
        let tile = T::tile(&side, &self.map::<T>(self.padded(1)));
        let lines = self.strip_lines::<T>(tile.unwrap_or(1));
        self.multiply_in_strips(lines, xs, (side, tile), ends, prologue)
    }

    /// [`Windows::multiply`] in strips of `lines` lines.
    fn multiply_in_strips<T: Engine>(
        &self,
        lines: usize,
        xs: &[T],
        (side, tile): (Side<'_>, Option<usize>),
        ends: &Ends<'_, T>,
        prologue: &impl Prologue<T>,
    ) -> Vec<T> {
        let (images, (height, width)) = (self.padding.images, self.out);
        let columns = side.columns();
        let outputs = images * height * width;
        let source = self.padding.source.0 * self.padding.source.1 * self.padding.channels;
        assert_eq!(xs.len(), images * source, "the picture has the size that is padded");
        if let Some(bias) = ends.image_bias {
            assert_eq!(bias.len(), images * columns, "a bias for each image");
        }
        if let Some(residual) = ends.residual {
            assert_eq!(residual.len(), outputs * columns, "a residual for each output");
        }
        // SAFETY: every output pixel is in one strip, which writes all its columns.
        unsafe {
            written(outputs * columns, |out| {
                if lines >= height {
                    self.multiply_into(xs, (side, tile), ends, prologue, *out);
                    return;
                }
                let strips = height.div_ceil(lines);
                (0..images * strips).into_par_iter().for_each(|strip| {
                    let (image, first) = (strip / strips, strip % strips * lines);
                    let windows = self.strip(image, first, lines.min(height - first));
                    let first = (image * height + first) * width * columns;
                    let numbers = first..first + windows.out.0 * width * columns;
                    let residual = ends.residual.map(|residual| &residual[numbers]);
                    let image_bias =
                        ends.image_bias.map(|bias| &bias[image * columns..][..columns]);
                    let ends = Ends { bias: ends.bias, image_bias, residual };
                    let xs = &xs[image * source..][..source];
                    let out = Target::new(out.at(first));
                    windows.multiply_into(xs, (side, tile), &ends, prologue, out);
                });
            })
        }
    }

    /// Lines of a strip, a multiple of `tile`: so many that the cost of its weights and of the lines that it shares with its
    /// neighbours is small.
    fn strip_lines<T: Engine>(&self, tile: usize) -> usize {
        let (height, width) = self.out;
        let line = self.padded(1).1 * self.stride * self.padding.pixel::<T>() * size_of::<T>();
        let lines = (STRIP_BYTES / line.max(1)).max(STRIP_OUTPUTS.div_ceil(width.max(1)));
        // As equal as they can be.
        let strips = (height / lines.max(1)).max(1);
        height.div_ceil(strips).next_multiple_of(tile)
    }

    /// The kernel over `count` lines of the outputs of an image, from line `first` on.
    fn strip(&self, image: usize, first: usize, count: usize) -> Self {
        let (above, left) = self.padding.before;
        let before = (above - (first * self.stride) as isize, left);
        let padding = Padding { image, images: 1, before, ..self.padding };
        Self { padding, out: (count, self.out.1), ..*self }
    }

    /// Writes all outputs from `out` on.
    ///
    /// # Safety
    /// There is room for them, and what is added has the size of the picture.
    unsafe fn multiply_into<T: Engine>(
        &self,
        xs: &[T],
        (side, tile): (Side<'_>, Option<usize>),
        ends: &Ends<'_, T>,
        prologue: &impl Prologue<T>,
        out: Target<T>,
    ) {
        let (kh, kw) = self.kernel;
        let padding = Padding { padded: self.padded(tile.unwrap_or(1)), ..self.padding };
        let mut map = self.map::<T>(padding.padded);
        if T::ROW_STEP > 1 {
            map = map.in_tiles();
        }
        let picture = padding.fill(side.tier(), xs, &map, self.kernel, prologue);
        let line = padding.padded.1;
        let taps: Vec<usize> =
            (0..kh * kw).map(|tap| (tap / kw * line + tap % kw) * padding.pixel::<T>()).collect();
        let epilogue = Epilogue {
            bias: ends.bias,
            image_bias: ends.image_bias.map(|bias| (bias, self.out.0 * self.out.1)),
            residual: ends.residual,
            gated: false,
            columns: side.columns(),
            out,
        };
        let a = picture.as_slice();
        // Every output pixel is the target of one row, and the engine finishes all its columns.
        match tile {
            Some(tile) => T::multiply_tiles(&Windowed { map, a, side, tile, epilogue }),
            None => {
                let rows = Rows::Pixels(map);
                T::multiply(&Call { rows, a, side, taps: &taps, extra: None, epilogue });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Result, Tensor};

    use super::*;
    use crate::frozen::plain::ConvShape;
    use crate::product::PackedWeight;
    use crate::simd::Simd;
    use crate::testing::{Numbers, tiers};

    /// Each image times its number, from 1 on.
    struct Numbered;

    impl<T: Engine> Prologue<T> for Numbered {
        unsafe fn run<S: Simd>(
            &self,
            simd: S,
            image: usize,
            from: *const T,
            to: *mut T,
            (pixels, channels): (usize, usize),
        ) {
            let factor = simd.splat((image + 1) as f32);
            for at in (0..pixels * channels).step_by(S::LANES) {
                let left = pixels * channels - at;
                // SAFETY: the caller's word.
                unsafe {
                    let x = T::load_up_to(simd, from.add(at), left);
                    T::store_up_to(simd, to.add(at), simd.mul(x, factor), left);
                }
            }
        }
    }

    fn compare<T: Engine + PartialEq + std::fmt::Debug>(
        packed: &PackedWeight,
        shape: ConvShape,
        random: &mut Numbers,
    ) -> Result<()> {
        let packed = packed.get();
        let side = Side::Forward(packed);
        let ConvShape { images, channels, outputs, size, out, .. } = shape;
        let numbers = |random: &mut Numbers, count: usize| {
            random.tensor(&[count])?.to_dtype(T::DTYPE)?.to_vec1::<T>()
        };
        let xs = numbers(random, images * size.0 * size.1 * channels)?;
        let residual = numbers(random, images * out.0 * out.1 * outputs)?;
        let image_bias = random.tensor(&[images * outputs])?.to_vec1::<f32>()?;
        let (image_bias, residual) = (Some(image_bias.as_slice()), Some(residual.as_slice()));
        let ends = Ends { bias: packed.bias.as_deref(), image_bias, residual };
        let windows = shape.windows(size);
        let tile = T::tile(&side, &windows.map::<T>(windows.padded(1)));
        let run = |lines| windows.multiply_in_strips(lines, &xs, (side, tile), &ends, &Numbered);
        let whole = run(out.0);
        for lines in [4, 8] {
            assert_eq!(run(lines), whole, "{shape:?} by {lines} lines, tiles of {tile:?}");
        }
        Ok(())
    }

    #[test]
    fn strips_make_no_difference() -> Result<()> {
        let mut random = Numbers::new(41);
        for (size, [channels, outputs], kernel, stride) in [
            ((23, 18), [20, 33], 3, 1),
            ((14, 37), [5, 3], 3, 1),
            ((30, 21), [8, 6], 3, 2),
            ((19, 16), [6, 40], 1, 1),
        ] {
            let weight = random.tensor(&[outputs, channels, kernel, kernel])?;
            let bias = Tensor::zeros(outputs, DType::F32, &Device::Cpu)?;
            let kernel = (kernel, kernel);
            let padding = (kernel.0 / 2, kernel.0 / 2);
            let shape = ConvShape::new((2, size), (outputs, channels, kernel), stride, padding)?;
            for tier in tiers() {
                let packed = PackedWeight::new_on(tier, &weight, Some(&bias), false)?;
                compare::<f32>(&packed, shape, &mut random)?;
                let packed =
                    PackedWeight::new_on(tier, &weight.to_dtype(DType::BF16)?, Some(&bias), false)?;
                if packed.compute_dtype() == DType::BF16 {
                    compare::<half::bf16>(&packed, shape, &mut random)?;
                }
            }
        }
        Ok(())
    }
}
