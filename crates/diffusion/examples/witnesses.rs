//! Adds what the carried detectors say to pages, for training the judge that decides by it (`tools/models/train.py judge`).
//!
//!     cargo build --release --workspace --examples
//!     photomend train-detector PHOTOGRAPHS -o d --held-out 0 --pages-only 800
//!     target/release/examples/witnesses d/pages
//!
//! Each page gets a tensor more, `witnesses`: u8, (height, width, 5), [`LearnedDetector::witnesses`]. Pages that have it already
//! are left alone: what was cut off can be run again.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, safetensors};
use diffusion::pipelines::pixelwise::LearnedDetector;
use imaging::{ColorType, Image, Samples, Silent};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("expected a folder of pages, found none")?;
    let mut pages = std::fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<PathBuf>>>()?;
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    pages.sort();
    let detector = LearnedDetector::carried()?;
    for page in pages {
        let mut tensors = safetensors::load(&page, &Device::Cpu)?;
        if !tensors.contains_key("witnesses") {
            let witnesses = witnesses(&detector, &tensors)?;
            tensors.insert("witnesses".to_owned(), witnesses);
            replace(&page, &tensors)?;
        }
    }
    Ok(())
}

fn witnesses(
    detector: &LearnedDetector,
    page: &HashMap<String, Tensor>,
) -> Result<Tensor, Box<dyn Error>> {
    let shown = page.get("shown").ok_or("expected a page, found no picture in it")?;
    let (height, width, _) = shown.dims3()?;
    let samples = Samples::U8(shown.flatten_all()?.to_vec1()?);
    let image = Image::new(width, height, ColorType::Rgb, samples)?;
    let witnesses = detector.witnesses(&image, &Silent)?.concat();
    Ok(Tensor::from_vec(witnesses, (height, width, 5), &Device::Cpu)?)
}

/// Who trains meanwhile sees whole pages alone.
fn replace(page: &Path, tensors: &HashMap<String, Tensor>) -> Result<(), Box<dyn Error>> {
    let part = page.with_extension("part");
    safetensors::save(tensors, &part)?;
    Ok(std::fs::rename(part, page)?)
}
