//! How a picture looks as an old print or its scan: tones, dyes, grain, softness, paper, compression.
//!
//! Nothing here hides a pixel, so nothing is in a mask: an aged picture is what is left to restore *to* when only
//! its damage is to go. Seeds work as the [module above](super) says; the part's name is `age`.

mod blocks;
mod look;
mod surface;

pub use self::blocks::compress;
use self::look::Look;
use self::surface::Surface;
use super::canvas::Canvas;
use super::fading::Fade;
use super::grain::Grain;
use super::random::{Noise, Random};
use crate::error::Result;
use crate::image::Image;
use crate::imgproc::{Gaussian, gaussian_blur_f32};

/// A copy of `image` as an old print or scan of it looks, of the same size, depth and colour type.
///
/// Of five pictures about two are black-and-white, one is toned and two stay in colour, mostly faded. Each also
/// draws, at times: softness, other contrast and blacks, a vignette, grain, the texture of paper, a halftone screen,
/// the blocks of JPEG files. Alpha and metadata stay. The bytes depend on the picture and the seed alone.
///
/// # Errors
/// [`ImagingError::Argument`](crate::ImagingError::Argument) if a filter refuses its parameters; those drawn here it
/// takes.
pub fn age(image: &Image, seed: u64) -> Result<Image> {
    let mut random = Random::new(seed, "age");
    let mut canvas = Canvas::new(image.clone(), seed);
    let width = canvas.width() as usize;
    let unit = canvas.unit;

    // 1. what is drawn, all of it before any work
    let look = Look::draw(&canvas, &mut random);
    let blur = if random.chance(0.45) { random.skewed(0.45, 1.0 + 0.7 * unit) } else { 0.0 };
    let fade_severity = random.skewed(0.0, 0.8);
    let fade = Fade::draw(&canvas, &mut random, fade_severity);
    let fade = (look.keeps_color() && random.chance(0.6)).then_some(fade);
    let grain = Grain {
        noise: Noise::new(&mut random),
        clump: (unit * random.range(0.5, 1.4)).max(1.0),
        strength: random.skewed(0.01, 0.13),
        colored: if look.keeps_color() { random.range(0.05, 0.5) } else { 0.0 },
    };
    let grain = random.chance(0.75).then_some(grain);
    let surface = Surface::draw(&canvas, &mut random);
    let quality = random.range(0.2, 0.95);
    let compressed = random.chance(0.3);

    // 2. the lens and the enlarger
    if blur > 0.0 {
        let gaussian = Gaussian::sigma(f64::from(blur));
        canvas.try_filter(|plane| gaussian_blur_f32(&plane, gaussian))?;
    }

    // 3. the print and the scan
    canvas.recolor(
        || {
            let fade = fade.as_ref().map(|fade| fade.rows(width));
            let grain = grain.as_ref().map(|grain| grain.rows(width));
            (fade, grain, surface.rows(width))
        },
        #[inline(always)]
        |(fade_rows, grain_rows, surface_rows), mut row| {
            look.row(&mut row);
            if let (Some(fade), Some(rows)) = (&fade, fade_rows) {
                fade.row(rows, &mut row);
            }
            if let (Some(grain), Some(rows)) = (&grain, grain_rows) {
                grain.row(rows, &mut row);
            }
            surface.row(surface_rows, &mut row);
            look.tint(&mut row);
        },
    );

    // 4. the file
    if compressed {
        compress(canvas.image_mut(), quality);
    }
    Ok(canvas.finish().0)
}
