//! Products under a kernel that moves over a picture: pixel by pixel, or by tiles of outputs where that is faster.

use super::padded::{Padding, Prologue};
use crate::output::written;
use crate::product::{Call, Engine, Epilogue, Map, Rows, Side, Windowed};

/// What is added to a convolution's product.
pub(super) struct Ends<'a, T> {
    pub(super) bias: Option<&'a [f32]>,
    pub(super) image_bias: Option<&'a [f32]>,
    pub(super) residual: Option<&'a [T]>,
}

/// A kernel over a padded picture.
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

    /// All outputs, `(images, out.0, out.1, columns)`.
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
        let (kh, kw) = self.kernel;
        let (height, width) = self.out;
        let mut padding = Padding { padded: self.padded(1), ..self.padding };
        let pixel = padding.pixel::<T>();
        let map = |padding: &Padding| {
            Map::exact(padding.images, self.out, padding.padded, pixel, self.stride)
        };
        let tile = T::tile(&side, &map(&padding));
        padding.padded = self.padded(tile.unwrap_or(1));
        let (padded, mut map) = (padding.padded, map(&padding));
        if T::ROW_STEP > 1 {
            map = map.in_tiles();
        }
        let picture = padding.fill(side.tier(), xs, &map, self.kernel, prologue);
        let taps: Vec<usize> =
            (0..kh * kw).map(|tap| (tap / kw * padded.1 + tap % kw) * pixel).collect();
        let outputs = padding.images * height * width;
        let columns = side.columns();
        let image_bias = ends.image_bias.map(|bias| (bias, height * width));
        if let Some((bias, _)) = &image_bias {
            assert_eq!(bias.len(), padding.images * columns, "a bias for each image");
        }
        if let Some(residual) = ends.residual {
            assert_eq!(residual.len(), outputs * columns, "a residual for each output");
        }
        // SAFETY: every output pixel is the target of one row, and the engine finishes all its columns.
        unsafe {
            written(outputs * columns, |out| {
                let epilogue = Epilogue {
                    bias: ends.bias,
                    image_bias,
                    residual: ends.residual,
                    gated: false,
                    columns,
                    out: *out,
                };
                let a = picture.as_slice();
                match tile {
                    Some(tile) => T::multiply_tiles(&Windowed { map, a, side, tile, epilogue }),
                    None => {
                        let rows = Rows::Pixels(map);
                        T::multiply(&Call { rows, a, side, taps: &taps, extra: None, epilogue });
                    }
                }
            })
        }
    }
}
