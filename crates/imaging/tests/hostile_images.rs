//! 10,000 damaged image files through reading, restoring and writing: no panic, no hang, no partial output.
//!
//! The files are the fixtures of every format and variant, with bytes flipped, cut off, doubled, removed, or replaced
//! by extreme numbers, from a fixed seed. Whatever can be read must be restored, written whole, and read again.

#[path = "common/fixtures.rs"]
mod fixtures;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fixtures::fixtures;
use imaging::fill::{FillMethod, FillOptions};
use imaging::io::{Format, ReadOptions, WriteOptions, list_images, read_image, write_image};
use imaging::restore::{MaskSource, restore};
use imaging::{ImagingError, Mask, Silent};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Damaged files of each format; four formats make 10,000.
const FILES: u64 = 2500;
/// Damaged headers may claim any size; up to this many pixels are believed.
const MAX_PIXELS: u64 = 1_000_000;

fn originals(format: Format) -> Vec<Vec<u8>> {
    let paths = list_images(&fixtures("io"), false).expect("fixtures");
    let paths = paths.iter().filter(|path| Format::from_path(path) == Some(format));
    paths.map(|path| std::fs::read(path).expect("a fixture")).collect()
}

/// A position, more often near the beginning, where the headers are.
fn position(rng: &mut impl Rng, length: usize) -> usize {
    let end = if rng.random_bool(0.5) { length.min(200) } else { length };
    rng.random_range(0..end.max(1)).min(length.saturating_sub(1))
}

fn damaged(rng: &mut impl Rng, originals: &[Vec<u8>]) -> Vec<u8> {
    let mut data = originals[rng.random_range(0..originals.len())].clone();
    for _ in 0..rng.random_range(1..4) {
        if data.is_empty() {
            break;
        }
        let at = position(rng, data.len());
        let end = (at + rng.random_range(1..64_usize)).min(data.len());
        match rng.random_range(0..9) {
            0 | 1 => data[at] ^= 1 << rng.random_range(0..8),
            2 => data[at] = rng.random(),
            3 => data.truncate(at),
            4 => {
                let piece = data[at..end].to_vec();
                let to = position(rng, data.len());
                data.splice(to..to, piece);
            }
            5 => drop(data.drain(at..end)),
            6 => data[at..end].fill(if rng.random() { 0 } else { 0xff }),
            7 => {
                let other = &originals[rng.random_range(0..originals.len())];
                let from = position(rng, other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => {
                let extremes = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff, 4096_u32];
                let value = extremes[rng.random_range(0..extremes.len())];
                let bytes = if rng.random() { value.to_be_bytes() } else { value.to_le_bytes() };
                let width = [1, 2, 4][rng.random_range(0..3)];
                let end = (at + width).min(data.len());
                data[at..end].copy_from_slice(&bytes[..end - at]);
            }
        }
    }
    // PNG checksums would stop most damage at the door.
    if data.starts_with(b"\x89PNG") && rng.random_bool(0.7) {
        mend_checksums(&mut data);
    }
    data
}

/// Gives every chunk of a PNG file the checksum of what it holds now.
fn mend_checksums(data: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = data.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let end = at.saturating_add(8).saturating_add(length);
        let Some(body) = data.get(at + 4..end) else { return };
        let mut sum = !0_u32;
        for &byte in body {
            sum ^= u32::from(byte);
            for _ in 0..8 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
            }
        }
        let Some(slot) = data.get_mut(end..end + 4) else { return };
        slot.copy_from_slice(&(!sum).to_be_bytes());
        at = end + 4;
    }
}

/// Reads, restores and writes; `true` if there is an output.
fn round(input: &Path, output: &Path) -> Result<bool, ImagingError> {
    let image = read_image(input, &ReadOptions { max_pixels: MAX_PIXELS })?;
    let (width, height) = image.size();
    let (metadata, color, bits) = (image.metadata.clone(), image.color(), image.samples().bits());
    let mask = Mask::from_fn(width, height, |x, y| (x, y) == (width / 2, height / 2) && x + y > 0);
    let source = MaskSource::Given { mask, dilate: 0, feather: 0.0 };
    let options = FillOptions { method: FillMethod::Telea, ..FillOptions::default() };
    let restored = restore(image, source, &options, &Silent)?.image;
    assert_eq!((restored.size(), restored.color()), ((width, height), color));
    assert_eq!(restored.samples().bits(), bits);
    assert_eq!(restored.metadata, metadata);
    write_image(output, &restored, &WriteOptions::default())?;
    let again = read_image(output, &ReadOptions { max_pixels: MAX_PIXELS })?;
    assert_eq!((again.size(), again.color()), ((width, height), color));
    if Format::from_path(output) != Some(Format::Jpeg) {
        assert!(again.samples() == restored.samples(), "pixels changed on the way");
    }
    Ok(true)
}

/// A temporary folder, in memory where the system offers it: outputs wait for the disk, thousands of times here.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Everything in a folder, hidden or not.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().expect("a folder");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn attack(format: Format, seed: u64) {
    let originals = originals(format);
    assert!(!originals.is_empty(), "no {} fixtures", format.name());
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (inputs, outputs) = (folder(), folder());
    let input = inputs.path().join(format!("damaged.{}", format.extension()));
    let output = outputs.path().join(format!("restored.{}", format.extension()));
    let (mut whole, mut panics) = (0, Vec::new());
    for number in 0..FILES {
        let data = damaged(&mut rng, &originals);
        std::fs::write(&input, &data).expect("a damaged file");
        let result = catch_unwind(AssertUnwindSafe(|| round(&input, &output)));
        let expected: Vec<PathBuf> = match &result {
            Ok(Ok(_)) => vec![output.clone()],
            Ok(Err(error)) => {
                // Every error names the file that it is about.
                let text = error.to_string();
                assert!(
                    text.contains("damaged.") || text.contains("restored."),
                    "{number}: {text}"
                );
                vec![]
            }
            Err(_) => {
                panics.push(number);
                vec![]
            }
        };
        let found: Vec<PathBuf> = listed(outputs.path());
        assert_eq!(found, expected, "{number}: partial output");
        for path in found {
            std::fs::remove_file(path).expect("an output");
            whole += 1;
        }
    }
    assert!(panics.is_empty(), "{} files {panics:?} made it panic", format.name());
    // Some damage does no harm; if none or all got through, the test would test nothing.
    assert!((FILES / 50..FILES).contains(&whole), "{whole} of {FILES} files were restored");
}

#[test]
fn damaged_png_files_do_no_harm() {
    attack(Format::Png, 1);
}

#[test]
fn damaged_jpeg_files_do_no_harm() {
    attack(Format::Jpeg, 2);
}

#[test]
fn damaged_webp_files_do_no_harm() {
    attack(Format::WebP, 3);
}

#[test]
fn damaged_tiff_files_do_no_harm() {
    attack(Format::Tiff, 4);
}
