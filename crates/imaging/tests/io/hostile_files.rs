//! Files that are not what they seem get one clear error that names them.

use std::path::{Path, PathBuf};

use crate::common::fixtures;
use imaging::ImagingError;
use imaging::io::{ReadOptions, list_images, read_image, read_mask};

fn reason(path: &Path) -> String {
    let error = read_image(path, &ReadOptions::default()).expect_err("not an image");
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert_eq!(read_mask(path, &ReadOptions::default()).expect_err("not a mask").to_string(), text);
    text
}

fn file(folder: &Path, name: &str, data: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, data).expect("a file");
    path
}

#[test]
fn what_is_no_image_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, data, expected) in [
        ("empty.png", &b""[..], "found an empty file"),
        ("letter.png", b"Dear reader,\n", "found text"),
        ("zeros.tif", &[0; 100], "found zero bytes"),
        ("cat.jpg", b"GIF89a......", "found a GIF image"),
        ("phone.jpg", b"\0\0\0\x18ftypheic", "found a HEIC image"),
        ("noise.webp", b"\x01\x02\xfe\xff", "found something else"),
    ] {
        let text = reason(&file(folder.path(), name, data));
        assert!(text.contains("expected a PNG, JPEG, WebP or TIFF image"), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    assert!(reason(folder.path()).contains("expected an image file, found a folder"));
    assert!(reason(&folder.path().join("none.png")).contains("cannot read"));
}

#[test]
fn the_content_counts_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let png = std::fs::read(fixtures("io").join("png_rgb8.png")).unwrap();
    let path = file(folder.path(), "really_png.jpg", &png);
    assert!(read_image(&path, &ReadOptions::default()).is_ok());
}

#[cfg(unix)]
#[test]
fn a_device_is_not_waited_for() {
    assert!(reason(Path::new("/dev/zero")).contains("found a device or pipe"));
}

#[test]
fn every_file_cut_off_anywhere_fails_or_is_still_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "png_rgb8.png",
        "jpeg_444.jpg",
        "jpeg_420_progressive.jpg",
        "webp_lossless_rgb.webp",
        "tiff_rgb8_deflate.tif",
    ] {
        let data = std::fs::read(fixtures("io").join(name)).unwrap();
        let whole = read_image(&fixtures("io").join(name), &ReadOptions::default()).unwrap();
        for length in (0..data.len()).step_by(13) {
            let path = file(folder.path(), name, &data[..length]);
            if let Ok(image) = read_image(&path, &ReadOptions::default()) {
                assert!(
                    image.samples() == whole.samples(),
                    "{name}: other pixels from {length} bytes"
                );
            }
        }
    }
}

#[test]
fn four_thousand_million_pixels_in_a_header_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let huge = 65_535_u32;
    let mut png = std::fs::read(fixtures("io").join("png_rgb8.png")).unwrap();
    png[16..20].copy_from_slice(&huge.to_be_bytes());
    png[20..24].copy_from_slice(&huge.to_be_bytes());
    let sum = {
        let mut sum = !0_u32;
        for &byte in &png[12..29] {
            sum ^= u32::from(byte);
            (0..8).for_each(|_| sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 });
        }
        !sum
    };
    png[29..33].copy_from_slice(&sum.to_be_bytes());

    let mut jpeg = std::fs::read(fixtures("io").join("jpeg_444.jpg")).unwrap();
    let frame =
        jpeg.windows(4).position(|window| window == b"\xff\xc0\x00\x11").expect("a frame header");
    jpeg[frame + 5..frame + 9].fill(0xff);

    let mut tiff = std::fs::read(fixtures("io").join("tiff_rgb8_little.tif")).unwrap();
    let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    for entry in tiff[directory + 2..].chunks_exact_mut(12).take(10) {
        if matches!(u16::from_le_bytes([entry[0], entry[1]]), 256 | 257) {
            entry[2..8].copy_from_slice(&[4, 0, 1, 0, 0, 0]);
            entry[8..12].copy_from_slice(&huge.to_le_bytes());
        }
    }
    for (name, data) in [("a.png", png), ("a.jpg", jpeg), ("a.tif", tiff)] {
        let path = file(folder.path(), name, &data);
        let error = read_image(&path, &ReadOptions::default()).unwrap_err();
        assert!(
            matches!(error, ImagingError::TooLarge { width: 65_535, height: 65_535, .. }),
            "{name}: {error}"
        );
        assert!(error.to_string().contains("4294.8 megapixels"), "{error}");
        // Allowed to be this large, the claim is not believed.
        let error = read_image(&path, &ReadOptions { max_pixels: u64::MAX }).unwrap_err();
        assert!(!matches!(error, ImagingError::TooLarge { .. }), "{name}: {error}");
    }
}

#[test]
fn floating_point_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = std::fs::read(fixtures("io").join("tiff_rgb8_little.tif")).unwrap();
    let directory = u32::from_le_bytes(data[4..8].try_into().unwrap()) as usize;
    // Sample format 3 in place of the unit of the resolution.
    let mut found = false;
    for entry in data[directory + 2..].chunks_exact_mut(12).take(20) {
        if u16::from_le_bytes([entry[0], entry[1]]) == 296 {
            entry[2..12].copy_from_slice(&[3, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
            entry[..2].copy_from_slice(&339_u16.to_le_bytes());
            found = true;
        }
    }
    assert!(found, "the fixture states its resolution");
    let text = reason(&file(folder.path(), "float.tif", &data));
    assert!(text.contains("found floating-point numbers of 8 bits"), "{text}");
}

#[test]
fn listing_finds_the_fixtures() {
    let images = list_images(&fixtures("io"), true).unwrap();
    assert!(images.len() > 50 && images.is_sorted());
}
