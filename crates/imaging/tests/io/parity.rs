//! Files made by other programs show the pixels that those programs see in them.
//!
//! Fixtures: `generate_io.py`.

use std::path::Path;

use crate::common::{fixtures, npy};
use imaging::io::{Format, ReadOptions, WriteOptions, read_image, write_image};
use imaging::{Image, Resolution, Samples, TiffAlpha};
use serde_json::Value;

fn index() -> Vec<Value> {
    let text = std::fs::read_to_string(fixtures("io").join("index.json")).expect("an index");
    serde_json::from_str(&text).expect("a list")
}

fn read(path: &Path) -> Image {
    read_image(path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Height, width and channels, and the values.
fn expected(path: &Path, bits: u8) -> (Vec<usize>, Vec<u16>) {
    if bits == 8 {
        let (shape, values) = npy::read::<u8>(path);
        (shape, values.into_iter().map(u16::from).collect())
    } else {
        npy::read::<u16>(path)
    }
}

#[test]
fn parity_with_the_pixels_that_other_decoders_see() {
    let folder = fixtures("io");
    let mut failures = Vec::new();
    for entry in index() {
        let name = entry["file"].as_str().expect("a name");
        let image = match read_image(&folder.join(name), &ReadOptions::default()) {
            Ok(image) => image,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let stored = folder.join(name.replace('.', "_") + ".npy");
        let bytes = std::fs::read(&stored).expect("expected pixels");
        let bits = if bytes.windows(4).any(|window| window == b"|u1'") { 8 } else { 16 };
        let (shape, expected) = expected(&stored, bits);
        let (height, width, channels) = (shape[0], shape[1], shape.get(2).copied().unwrap_or(1));
        let found =
            (image.height(), image.width(), image.color().channels(), image.samples().bits());
        if found != (height, width, channels, bits) {
            failures.push(format!(
                "{name}: expected {:?}, found {found:?}",
                (height, width, channels, bits)
            ));
            continue;
        }
        let values: Vec<u16> = match image.samples() {
            Samples::U8(values) => values.iter().map(|&value| value.into()).collect(),
            Samples::U16(values) => values.clone(),
        };
        let differences = || values.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b));
        let worst = differences().max().unwrap_or(0);
        let mean = differences().map(f64::from).sum::<f64>() / values.len() as f64;
        let (worst_allowed, mean_allowed) =
            (entry["worst"].as_f64().expect("a bound"), entry["mean"].as_f64().expect("a bound"));
        if f64::from(worst) > worst_allowed || mean > mean_allowed {
            failures.push(format!("{name}: off by {worst} at worst, {mean:.3} on average"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn parity_of_metadata_that_other_programs_wrote() {
    let folder = fixtures("io");
    let profile = std::fs::read(folder.join("profile.icc")).expect("a profile");
    for entry in index() {
        let name = entry["file"].as_str().expect("a name");
        let image = read(&folder.join(name));
        let metadata = &image.metadata;
        if let [Some(x), Some(y)] = [&entry["dpi"][0], &entry["dpi"][1]].map(Value::as_f64) {
            assert_eq!(metadata.resolution, Some(Resolution { x, y }), "{name}");
        }
        if entry["profile"] == true {
            assert_eq!(metadata.icc_profile.as_ref(), Some(&profile), "{name}");
        }
        if let Some(artist) = entry["artist"].as_str() {
            let exif = metadata.exif.as_ref().unwrap_or_else(|| panic!("{name}: no EXIF"));
            assert!(exif.windows(artist.len()).any(|window| window == artist.as_bytes()), "{name}");
        }
        if entry["xmp"] == true {
            assert!(
                metadata.xmp.as_ref().is_some_and(|packet| packet.starts_with(b"<x:xmpmeta")),
                "{name}"
            );
        }
    }
}

#[test]
fn parity_fixtures_survive_being_written_in_their_own_format() {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in index() {
        let name = entry["file"].as_str().expect("a name");
        let first = read(&fixtures("io").join(name));
        let path = folder.path().join(name);
        write_image(&path, &first, &WriteOptions::default())
            .unwrap_or_else(|error| panic!("{error}"));
        let second = read(&path);
        assert_eq!(second.color(), first.color(), "{name}");
        let mut expected = first.metadata.clone();
        if let (Some(coding), "tif") =
            (&mut expected.tiff, name.rsplit('.').next().expect("an extension"))
            && !first.color().has_alpha()
        {
            coding.alpha = TiffAlpha::Unassociated;
        }
        assert_eq!(second.metadata.icc_profile, expected.icc_profile, "{name}");
        assert_eq!(second.metadata.resolution, expected.resolution, "{name}");
        assert_eq!(second.metadata.xmp, expected.xmp, "{name}");
        assert_eq!(second.metadata.tiff, expected.tiff, "{name}");
        assert_eq!(second.metadata.exif.is_some(), expected.exif.is_some(), "{name}");
        if Format::from_path(&path) != Some(Format::Jpeg) {
            assert!(second.samples() == first.samples(), "{name}: a pixel changed");
        }
    }
}
