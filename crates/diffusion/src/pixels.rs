//! Between the picture's pixels and the network's.

use candle_core::{DType, Device, Tensor};
use imaging::composite::composite;
use imaging::imgproc::resize_lanczos;
use imaging::{ColorType, Image, Mask, Plane, Rect};

use crate::error::Result;

/// A window of the picture as the network sees it, `(1, 3, h, w)` in `[-1, 1]`; grey three times.
pub(crate) fn image_tensor(image: &Image, rect: Rect, size: (usize, usize)) -> Result<Tensor> {
    let (width, height) = size;
    let planes = image.color_planes(rect);
    let mut values = Vec::with_capacity(3 * width * height);
    for channel in 0..3 {
        let plane = &planes[channel.min(planes.len() - 1)];
        let plane = resize_lanczos(plane, width, height)?;
        values.extend(plane.data().iter().map(|value| value.clamp(0.0, 1.0) * 2.0 - 1.0));
    }
    Ok(Tensor::from_vec(values, (1, 3, height, width), &Device::Cpu)?)
}

/// A window of the mask, `(1, 1, h, w)`: 1 wherever a pixel of the network touches a damaged one of the picture.
pub(crate) fn mask_tensor(mask: &Mask, rect: Rect, size: (usize, usize)) -> Result<Tensor> {
    let (width, height) = size;
    let touched =
        |at: usize, from: usize, to: usize| (at * from / to)..((at + 1) * from).div_ceil(to);
    let mut values = vec![0.0_f32; width * height];
    for (y, out) in values.chunks_exact_mut(width).enumerate() {
        for row in touched(y, rect.height, height) {
            let row = &mask.plane().row(rect.y + row)[rect.x..rect.right()];
            if row.iter().all(|&weight| weight == 0) {
                continue;
            }
            for (x, value) in out.iter_mut().enumerate() {
                if row[touched(x, rect.width, width)].iter().any(|&weight| weight > 0) {
                    *value = 1.0;
                }
            }
        }
    }
    Ok(Tensor::from_vec(values, (1, 1, height, width), &Device::Cpu)?)
}

/// The decoder's output `(1, 3, h, w)`, about `[-1, 1]`, as planes in about `[0, 1]` of the size of `rect`: one a
/// colour channel of a picture of this kind.
pub(crate) fn decoded_planes(
    decoded: &Tensor,
    rect: Rect,
    color: ColorType,
) -> Result<Vec<Plane<f32>>> {
    let (_, _, height, width) = decoded.dims4()?;
    let values = decoded.affine(0.5, 0.5)?.to_dtype(DType::F32)?.flatten_all()?;
    let values: Vec<f32> = values.to_vec1()?;
    let mut planes = Vec::with_capacity(3);
    for channel in values.chunks_exact(width * height) {
        let plane = Plane::from_vec(width, height, channel.to_vec())?;
        planes.push(resize_lanczos(&plane, rect.width, rect.height)?);
    }
    Ok(if color.color_channels() == 1 { vec![luma_plane(planes)] } else { planes })
}

/// Rec. 601 luma of red, green and blue.
pub(crate) fn luma([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// The luma of three planes; one plane is its own.
pub(crate) fn luma_plane(planes: Vec<Plane<f32>>) -> Plane<f32> {
    let [red, green, blue] = match <[Plane<f32>; 3]>::try_from(planes) {
        Ok(planes) => planes,
        Err(mut planes) => return planes.swap_remove(0),
    };
    Plane::from_fn(red.width(), red.height(), |x, y| {
        luma([red.get(x, y), green.get(x, y), blue.get(x, y)])
    })
}

/// The part of the mask in `rect`.
pub(crate) fn crop(mask: &Mask, rect: Rect) -> Mask {
    let plane = mask.plane();
    Mask::from_plane(Plane::from_fn(rect.width, rect.height, |x, y| {
        plane.get(rect.x + x, rect.y + y)
    }))
}

/// Replaces every damaged pixel of `canvas` by that of `planes`, which cover the whole picture.
pub(crate) fn paste_all(canvas: &mut Image, planes: &[Plane<f32>], damage: &Mask) -> Result<()> {
    Ok(composite(canvas, canvas.bounds(), planes, damage)?)
}

/// Blends `canvas` into `image` by `weights`, in strips, so that no second picture of floats is held.
pub(crate) fn blend_in(image: &mut Image, canvas: &Image, weights: &Mask) -> Result<()> {
    const ROWS: usize = 64;
    let Some(damaged) = weights.bounding_box() else { return Ok(()) };
    for y in (damaged.y..damaged.bottom()).step_by(ROWS) {
        let strip = Rect::new(damaged.x, y, damaged.width, ROWS.min(damaged.bottom() - y));
        composite(image, strip, &canvas.color_planes(strip), weights)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use imaging::Samples;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Thin masks survive the way to the network: every damaged pixel lies under a masked one, however the window
        /// is resized.
        #[test]
        fn every_damaged_pixel_is_seen(
            (columns, rows) in (1_usize..90, 1_usize..90),
            (width, height) in (1_usize..70, 1_usize..70),
            dots in proptest::collection::vec((0_usize..90, 0_usize..90), 0..6),
        ) {
            let dots: Vec<_> = dots.iter().map(|(x, y)| (x % columns, y % rows)).collect();
            let mask = Mask::from_fn(columns, rows, |x, y| dots.contains(&(x, y)));
            let rect = Rect::new(0, 0, columns, rows);
            let seen = mask_tensor(&mask, rect, (width, height)).expect("sizes with pixels");
            let seen: Vec<f32> = seen.flatten_all().and_then(|all| all.to_vec1())?;
            for (x, y) in dots {
                let centre = |at: usize, from: usize, to: usize| (2 * at + 1) * to / (2 * from);
                prop_assert!(seen[centre(y, rows, height) * width + centre(x, columns, width)] > 0.0);
            }
        }
    }

    #[test]
    fn a_grey_picture_goes_there_and_back() {
        let samples = Samples::U8((0..64 * 48).map(|at| (at / 16) as u8).collect());
        let image = Image::new(64, 48, ColorType::Gray, samples).expect("a picture");
        let tensor = image_tensor(&image, image.bounds(), (64, 48)).expect("the same size");
        assert_eq!(tensor.dims(), [1, 3, 48, 64]);
        let planes = decoded_planes(&tensor, image.bounds(), ColorType::Gray).expect("one plane");
        let mut canvas = image.clone();
        let all = Mask::from_fn(64, 48, |_, _| true);
        paste_all(&mut canvas, &planes, &all).expect("sizes agree");
        assert_eq!(canvas, image);
    }
}
