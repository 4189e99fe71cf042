//! What is written comes back: every format, depth and colour type, with its metadata.

use std::path::{Path, PathBuf};

use imaging::io::{
    Format, ReadOptions, WriteOptions, read_image, read_mask, write_image, write_mask,
};
use imaging::{
    ColorType, Image, ImagingError, JpegCoding, Mask, Metadata, Plane, Resolution, Samples,
    TiffAlpha, TiffCoding, TiffCompression,
};

const COLORS: [ColorType; 4] =
    [ColorType::Gray, ColorType::GrayAlpha, ColorType::Rgb, ColorType::Rgba];

/// Waves with some noise: neither flat nor incompressible.
fn picture(width: usize, height: usize, color: ColorType, bits: u8) -> Image {
    let channels = color.channels();
    let value = |i: usize| {
        let (x, y, c) = (i / channels % width, i / channels / width, i % channels);
        let wave = (x as f64 * 0.11 + c as f64).sin() + (y as f64 * 0.07).cos();
        (wave + 2.0) / 4.0 + (i * 7919 % 97) as f64 / 97.0 * 0.02
    };
    let count = width * height * channels;
    let samples = match bits {
        8 => Samples::U8((0..count).map(|i| (value(i) * 250.0) as u8).collect()),
        _ => Samples::U16((0..count).map(|i| (value(i) * 64_000.0) as u16).collect()),
    };
    Image::new(width, height, color, samples).expect("as many samples as pixels")
}

/// The shortest thing that passes for an ICC profile.
fn profile(space: &[u8; 4]) -> Vec<u8> {
    let mut profile = vec![7; 200];
    profile[16..20].copy_from_slice(space);
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

/// EXIF data, big-endian, with an artist and an exposure directory, orientation 1.
fn exif() -> Vec<u8> {
    let mut data = b"MM\0*\0\0\0\x08\0\x03".to_vec();
    data.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x01\0\0"); // orientation 1
    data.extend(b"\x01\x3b\0\x02\0\0\0\x04Eva\0"); // artist
    data.extend(b"\x87\x69\0\x04\0\0\0\x01\0\0\0\x32"); // exposure directory at 50
    data.extend(b"\0\0\0\0");
    data.extend(b"\0\x01\x88\x27\0\x03\0\0\0\x01\0\x64\0\0\0\0\0\0"); // ISO 100
    data
}

fn metadata(color: ColorType) -> Metadata {
    let space = if color.color_channels() == 1 { b"GRAY" } else { b"RGB " };
    Metadata {
        icc_profile: Some(profile(space)),
        exif: Some(exif()),
        resolution: Some(Resolution { x: 600.0, y: 1200.0 }),
        xmp: Some(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\xc3\xbc</x:xmpmeta>".to_vec()),
        ..Metadata::default()
    }
}

fn written(folder: &Path, name: &str, image: &Image) -> PathBuf {
    let path = folder.join(name);
    write_image(&path, image, &WriteOptions { force: true, jpeg_quality: None })
        .expect("an image that can be written");
    path
}

fn read(path: &Path) -> Image {
    read_image(path, &ReadOptions::default()).expect("an image that was written")
}

/// The value of an ASCII or short field anywhere in EXIF data: enough to see that it is there.
fn holds(data: &[u8], needle: &[u8]) -> bool {
    data.windows(needle.len()).any(|window| window == needle)
}

fn assert_metadata(found: &Metadata, expected: &Metadata, what: &str) {
    assert_eq!(found.icc_profile, expected.icc_profile, "{what}: profile");
    assert_eq!(found.resolution, expected.resolution, "{what}: resolution");
    assert_eq!(found.xmp, expected.xmp, "{what}: XMP");
    let exif = found.exif.as_ref().unwrap_or_else(|| panic!("{what}: no EXIF"));
    assert!(holds(exif, b"Eva\0"), "{what}: artist");
    assert!(holds(exif, b"\x88\x27") || holds(exif, b"\x27\x88"), "{what}: exposure");
}

#[test]
fn lossless_formats_keep_every_bit_and_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    for format in [Format::Png, Format::Tiff, Format::WebP] {
        for color in COLORS {
            for bits in [8, 16] {
                for (width, height) in [(1, 1), (37, 23), (300, 301)] {
                    if format == Format::WebP && bits == 16 {
                        continue;
                    }
                    let what = format!("{format:?} {color:?} {bits} bits {width}×{height}");
                    let mut image = picture(width, height, color, bits);
                    image.metadata = metadata(color);
                    let name = format!("a.{}", format.extension());
                    let found = read(&written(folder.path(), &name, &image));
                    let gray_as_color = format == Format::WebP && color.color_channels() == 1;
                    if gray_as_color {
                        assert_eq!(found.luma8(), image.luma8(), "{what}");
                        image.metadata.icc_profile = None;
                    } else {
                        assert_eq!(found.color(), color, "{what}");
                        assert!(found.samples() == image.samples(), "{what}: samples differ");
                    }
                    assert_metadata(&found.metadata, &image.metadata, &what);
                }
            }
        }
    }
}

#[test]
fn jpeg_keeps_gray_gray_and_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    for color in [ColorType::Gray, ColorType::Rgb] {
        let mut image = picture(61, 47, color, 8);
        image.metadata = metadata(color);
        let found = read(&written(folder.path(), "a.jpg", &image));
        assert_eq!(found.color(), color);
        assert_metadata(&found.metadata, &image.metadata, "JPEG");
        let (Samples::U8(a), Samples::U8(b)) = (found.samples(), image.samples()) else { panic!() };
        let worst = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst < 16, "quality 95 is off by {worst}");
    }
}

#[test]
fn metadata_crosses_every_pair_of_formats() {
    let folder = tempfile::tempdir().unwrap();
    let formats = [Format::Png, Format::Tiff, Format::WebP, Format::Jpeg];
    for first in formats {
        for second in formats {
            let mut image = picture(20, 10, ColorType::Rgb, 8);
            image.metadata = metadata(ColorType::Rgb);
            let one = read(&written(folder.path(), &format!("1.{}", first.extension()), &image));
            let two = read(&written(folder.path(), &format!("2.{}", second.extension()), &one));
            assert_metadata(&two.metadata, &image.metadata, &format!("{first:?} → {second:?}"));
        }
    }
}

#[test]
fn tiff_stays_as_it_was_stored() {
    let folder = tempfile::tempdir().unwrap();
    let compressions = [TiffCompression::None, TiffCompression::Lzw, TiffCompression::Deflate];
    for compression in compressions {
        for alpha in [TiffAlpha::Unspecified, TiffAlpha::Associated, TiffAlpha::Unassociated] {
            for bits in [8, 16] {
                let mut image = picture(40, 30, ColorType::Rgba, bits);
                let coding = Some(TiffCoding { compression, alpha });
                image.metadata.tiff = coding;
                let found = read(&written(folder.path(), "a.tif", &image));
                assert_eq!(found.metadata.tiff, coding);
                assert!(
                    found.samples() == image.samples(),
                    "{compression:?} {alpha:?} {bits} bits"
                );
            }
        }
    }
}

#[test]
fn a_jpeg_written_back_is_coded_alike_and_hardly_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = [0; 64];
    for (i, value) in table.iter_mut().enumerate() {
        *value = 3 + (i / 8 + i % 8) as u8; // symmetric
    }
    table[1] = 9; // not symmetric any more
    for (chroma_step, progressive) in [((1, 1), false), ((2, 2), true), ((2, 1), false)] {
        let coding =
            JpegCoding { luma: table, chroma: table.map(|v| v + 1), chroma_step, progressive };
        let mut image = picture(64, 48, ColorType::Rgb, 8);
        image.metadata.jpeg = Some(coding.clone());
        let once = read(&written(folder.path(), "1.jpg", &image));
        assert_eq!(once.metadata.jpeg, Some(coding.clone()));
        let twice = read(&written(folder.path(), "2.jpg", &once));
        assert_eq!(twice.metadata.jpeg, Some(coding));
        let (Samples::U8(a), Samples::U8(b)) = (once.samples(), twice.samples()) else { panic!() };
        let total: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let mean = f64::from(total) / a.len() as f64;
        assert!(mean < 0.6, "{chroma_step:?}: a second generation is off by {mean} on average");
    }
}

#[test]
fn what_a_format_cannot_hold_is_an_error_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let wide = |width| picture(width, 1, ColorType::Gray, 8);
    for (name, image, expected) in [
        (
            "a.webp",
            picture(2, 2, ColorType::Rgb, 16),
            "8 bits a channel, the image has 16; write PNG or TIFF",
        ),
        (
            "a.jpg",
            picture(2, 2, ColorType::Gray, 16),
            "8 bits a channel, the image has 16; write PNG or TIFF",
        ),
        ("a.jpg", picture(2, 2, ColorType::Rgba, 8), "no transparency"),
        ("a.webp", wide(16_384), "at most 16383 pixels a side"),
        ("a.jpg", wide(65_536), "at most 65535 pixels a side"),
        ("a.gif", wide(1), "expected an extension .png, .jpg, .webp or .tif, found “.gif”"),
        ("a", wide(1), "found none"),
    ] {
        let path = folder.path().join(name);
        let error = write_image(&path, &image, &WriteOptions::default()).unwrap_err();
        assert!(matches!(error, ImagingError::Encode { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let quality = WriteOptions { jpeg_quality: Some(0), ..WriteOptions::default() };
    assert!(write_image(&folder.path().join("a.jpg"), &wide(1), &quality).is_err());
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_chosen_quality_overrides_the_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let image = read(&written(folder.path(), "a.jpg", &picture(99, 99, ColorType::Rgb, 8)));
    let size = |quality| {
        let path = folder.path().join("b.jpg");
        write_image(&path, &image, &WriteOptions { force: true, jpeg_quality: quality }).unwrap();
        path.metadata().unwrap().len()
    };
    assert!(size(Some(30)) * 2 < size(None));
    assert_eq!(size(None), size(Some(95)));
}

#[test]
fn more_pixels_than_allowed_are_refused_from_the_header() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.png", "a.jpg", "a.webp", "a.tif"] {
        let path = written(folder.path(), name, &picture(40, 25, ColorType::Rgb, 8));
        let error = read_image(&path, &ReadOptions { max_pixels: 999 }).unwrap_err();
        let ImagingError::TooLarge { width: 40, height: 25, limit: 999, .. } = error else {
            panic!("{name}: {error}");
        };
        assert!(read_image(&path, &ReadOptions { max_pixels: 1000 }).is_ok());
    }
}

#[test]
fn masks_keep_their_weights() {
    let folder = tempfile::tempdir().unwrap();
    let mask = Mask::from_plane(Plane::from_fn(50, 20, |x, y| (x * 5 + y) as u8));
    for name in ["m.png", "m.tif", "m.webp"] {
        let path = folder.path().join(name);
        write_mask(&path, &mask, &WriteOptions::default()).unwrap();
        assert_eq!(read_mask(&path, &ReadOptions::default()).unwrap(), mask, "{name}");
    }
    let error = write_mask(&folder.path().join("m.jpg"), &mask, &WriteOptions::default());
    assert!(error.unwrap_err().to_string().contains("found JPEG, which changes values"));
}

#[test]
fn masks_of_other_kinds_become_weights() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |name: &str, image: &Image| {
        let mask =
            read_mask(&written(folder.path(), name, image), &ReadOptions::default()).unwrap();
        mask.into_plane().into_vec()
    };
    let image = |color, samples| Image::new(2, 1, color, samples).unwrap();

    let deep = image(ColorType::Gray, Samples::U16(vec![65_535, 257 * 100]));
    assert_eq!(weights("a.png", &deep), [255, 100]);
    // What is transparent is kept: 200 · 51 / 255 = 40.
    let clear = image(ColorType::GrayAlpha, Samples::U8(vec![255, 0, 200, 51]));
    assert_eq!(weights("b.png", &clear), [0, 40]);
    // Red has the luma 0.299 · 255 = 76.
    let red = image(ColorType::Rgb, Samples::U8(vec![255, 255, 255, 255, 0, 0]));
    assert_eq!(weights("c.png", &red), [255, 76]);
    // JPEG has no soft weights.
    let soft =
        Image::new(32, 8, ColorType::Gray, Samples::U8([[100; 16], [180; 16]].concat().repeat(8)));
    let found = weights("d.jpg", &soft.unwrap());
    assert_eq!(found, [[0; 16], [255; 16]].concat().repeat(8));
}
