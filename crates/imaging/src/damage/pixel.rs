//! Pixels of either depth as colours in `[0, 1]`, one by one and row by row.

use rayon::prelude::*;

use super::material::Color;
use crate::error::Result;
use crate::image::ColorType;
use crate::imgproc::vectorized;
use crate::plane::Plane;

/// Rows of one task when whole rows are recoloured. Results do not depend on it.
const STRIP: usize = 64;

/// A channel value of either depth.
pub(super) trait Sample: Copy + Send + Sync {
    fn to_unit(self) -> f32;
    fn from_unit(value: f32) -> Self;
}

impl Sample for u8 {
    #[inline(always)]
    fn to_unit(self) -> f32 {
        f32::from(self) * (1.0 / 255.0)
    }

    #[inline(always)]
    fn from_unit(value: f32) -> Self {
        rounded(value.clamp(0.0, 1.0) * 255.0) as Self
    }
}

impl Sample for u16 {
    #[inline(always)]
    fn to_unit(self) -> f32 {
        f32::from(self) * (1.0 / 65535.0)
    }

    #[inline(always)]
    fn from_unit(value: f32) -> Self {
        rounded(value.clamp(0.0, 1.0) * 65535.0) as Self
    }
}

/// The nearest whole number, for values in `0 ..= 2²²`: adding 2²³ leaves it in the lowest bits. Casts that saturate
/// are slower.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u32 {
    (value + (1_u32 << 23) as f32).to_bits() & ((1 << 23) - 1)
}

/// The colour of a pixel; grey is repeated.
#[inline(always)]
pub(super) fn read<T: Sample>(pixel: &[T], colors: usize) -> Color {
    if colors == 1 {
        [pixel[0].to_unit(); 3]
    } else {
        [pixel[0].to_unit(), pixel[1].to_unit(), pixel[2].to_unit()]
    }
}

/// Stores a colour (clamped to `[0, 1]`); grey gets its luma (Rec. 601, as [`Image::luma8`](crate::Image::luma8)).
#[inline(always)]
pub(super) fn write<T: Sample>(pixel: &mut [T], colors: usize, color: Color) {
    if colors == 1 {
        pixel[0] = T::from_unit(luma(color));
    } else {
        for (value, new) in pixel.iter_mut().zip(color) {
            *value = T::from_unit(new);
        }
    }
}

/// Rec. 601 luma.
#[inline(always)]
pub(super) fn luma([r, g, b]: Color) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// One row of a picture, channel by channel, values in `[0, 1]`; of grey pictures all three are the same.
pub(super) struct Row<'a> {
    /// The row's number from the top.
    pub(super) y: usize,
    pub(super) red: &'a mut [f32],
    pub(super) green: &'a mut [f32],
    pub(super) blue: &'a mut [f32],
}

impl Row<'_> {
    /// The three channels.
    #[inline(always)]
    pub(super) fn channels(&mut self) -> [&mut [f32]; 3] {
        [&mut *self.red, &mut *self.green, &mut *self.blue]
    }
}

/// Replaces the colours row by row by what `new` makes of them. Each strip of rows has a state of its own from
/// `state`, for what neighbouring rows share.
pub(super) fn recolor<T: Sample, S>(
    samples: &mut [T],
    width: usize,
    color: ColorType,
    state: &(impl Fn() -> S + Sync),
    new: &(impl Fn(&mut S, Row<'_>) + Sync),
) {
    let (channels, colors) = (color.channels(), color.color_channels());
    let stride = width * channels;
    samples.par_chunks_mut(stride * STRIP).enumerate().for_each(|(strip, rows)| {
        let mut state = state();
        let mut planes = vec![0.0_f32; 3 * width];
        for (index, row) in rows.chunks_exact_mut(stride).enumerate() {
            let y = strip * STRIP + index;
            vectorized(
                #[inline(always)]
                || {
                    let (red, rest) = planes.split_at_mut(width);
                    let (green, blue) = rest.split_at_mut(width);
                    load(row, channels, colors, [&mut *red, &mut *green, &mut *blue]);
                    new(
                        &mut state,
                        Row { y, red: &mut *red, green: &mut *green, blue: &mut *blue },
                    );
                    store(row, channels, colors, [&*red, &*green, &*blue]);
                },
            );
        }
    });
}

/// Takes a row apart. The number of channels is made known to the compiler.
#[inline(always)]
fn load<T: Sample>(row: &[T], channels: usize, colors: usize, planes: [&mut [f32]; 3]) {
    match channels {
        1 => load_row(row, 1, colors, planes),
        3 => load_row(row, 3, 3, planes),
        4 => load_row(row, 4, 3, planes),
        _ => load_row(row, channels, colors, planes),
    }
}

/// The other way round.
#[inline(always)]
fn store<T: Sample>(row: &mut [T], channels: usize, colors: usize, planes: [&[f32]; 3]) {
    match channels {
        1 => store_row(row, 1, colors, planes),
        3 => store_row(row, 3, 3, planes),
        4 => store_row(row, 4, 3, planes),
        _ => store_row(row, channels, colors, planes),
    }
}

#[inline(always)]
fn load_row<T: Sample>(row: &[T], channels: usize, colors: usize, planes: [&mut [f32]; 3]) {
    let [red, green, blue] = planes;
    let pixels = row.chunks_exact(channels);
    let planes = red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut());
    for (pixel, ((red, green), blue)) in pixels.zip(planes) {
        [*red, *green, *blue] = read(pixel, colors);
    }
}

#[inline(always)]
fn store_row<T: Sample>(row: &mut [T], channels: usize, colors: usize, planes: [&[f32]; 3]) {
    let [red, green, blue] = planes;
    let pixels = row.chunks_exact_mut(channels);
    for (pixel, ((&red, &green), &blue)) in pixels.zip(red.iter().zip(green).zip(blue)) {
        write(pixel, colors, [red, green, blue]);
    }
}

/// Replaces one channel by `new(channel)`.
pub(super) fn filter<T: Sample>(
    samples: &mut [T],
    (width, height): (usize, usize),
    channels: usize,
    channel: usize,
    new: &impl Fn(Plane<f32>) -> Result<Plane<f32>>,
) -> Result<()> {
    let values = samples.iter().skip(channel).step_by(channels);
    let plane = Plane::from_vec(width, height, values.map(|value| value.to_unit()).collect())
        .expect("one value for each pixel of a valid image");
    let plane = new(plane)?;
    for (value, &filtered) in samples.iter_mut().skip(channel).step_by(channels).zip(plane.data()) {
        *value = T::from_unit(filtered);
    }
    Ok(())
}
