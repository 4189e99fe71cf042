//! Times one fill: `time_fill IMAGE MASK METHOD REPEAT [OUTPUT]` prints the seconds of each repetition as JSON.
//!
//! IMAGE and MASK are PNG or TIFF files of one size, METHOD is `telea` or `biharmonic`. With OUTPUT the filled picture
//! is written there as PNG.

use std::error::Error;
use std::time::Instant;

use image::DynamicImage;
use imaging::fill::{FillMethod, FillOptions, fill};
use imaging::{ColorType, Image, Mask, Plane, Samples, Silent};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [picture, mask, method, repeat, output @ ..] = arguments.as_slice() else {
        return Err("expected IMAGE MASK METHOD REPEAT [OUTPUT]".into());
    };
    let method = match method.as_str() {
        "telea" => FillMethod::Telea,
        "biharmonic" => FillMethod::Biharmonic,
        other => return Err(format!("method: expected telea or biharmonic, found {other}").into()),
    };
    let picture = read(picture)?;
    let mask = open(mask)?.into_luma8();
    let (width, height) = (mask.width() as usize, mask.height() as usize);
    let mask = Mask::from_plane(Plane::from_vec(width, height, mask.into_raw())?);
    let options = FillOptions { method, ..FillOptions::default() };

    let mut seconds = Vec::new();
    let mut filled = picture.clone();
    let mut report = fill(&mut filled, &Mask::empty(width, height), &options, &Silent)?;
    for _ in 0..repeat.parse::<usize>()? {
        filled = picture.clone();
        let started = Instant::now();
        report = fill(&mut filled, &mask, &options, &Silent)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    if let [output, ..] = output {
        write(&filled, output)?;
    }
    println!("{}", serde_json::json!({ "seconds": seconds, "report": report }));
    Ok(())
}

fn open(path: &str) -> Result<DynamicImage, Box<dyn Error>> {
    let mut reader = image::ImageReader::open(path)?;
    reader.no_limits();
    Ok(reader.decode()?)
}

fn read(path: &str) -> Result<Image, Box<dyn Error>> {
    let decoded = open(path)?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (color, samples) = match decoded {
        DynamicImage::ImageLuma8(pixels) => (ColorType::Gray, Samples::U8(pixels.into_raw())),
        DynamicImage::ImageLuma16(pixels) => (ColorType::Gray, Samples::U16(pixels.into_raw())),
        DynamicImage::ImageRgb16(pixels) => (ColorType::Rgb, Samples::U16(pixels.into_raw())),
        other => (ColorType::Rgb, Samples::U8(other.into_rgb8().into_raw())),
    };
    Ok(Image::new(width, height, color, samples)?)
}

fn write(picture: &Image, path: &str) -> Result<(), Box<dyn Error>> {
    use image::ExtendedColorType::{L8, L16, Rgb8, Rgb16};
    let (color, bytes): (_, Vec<u8>) = match (picture.color(), picture.samples()) {
        (ColorType::Gray, Samples::U8(values)) => (L8, values.clone()),
        (_, Samples::U8(values)) => (Rgb8, values.clone()),
        (ColorType::Gray, Samples::U16(values)) => {
            (L16, values.iter().flat_map(|value| value.to_ne_bytes()).collect())
        }
        (_, Samples::U16(values)) => {
            (Rgb16, values.iter().flat_map(|value| value.to_ne_bytes()).collect())
        }
    };
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    Ok(image::save_buffer(path, &bytes, width, height, color)?)
}
