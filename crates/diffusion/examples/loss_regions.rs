//! What the carried detector, or another one, decides wide losses by, as CSV, to fit the weights of that anew
//! (`tools/models/fit_losses.py`).
//!
//!     cargo build --release --workspace --examples
//!     target/release/examples/loss_regions [--detector FILE] SET … > regions.csv
//!
//! A SET is what `photomend damage` writes, or any folder with `damaged/NAME.png` and `mask/NAME.png`; without `damaged/`, its
//! pictures are taken for undamaged. A row is a region: the picture, the share of the region that the mask has, and
//! `LossRegion::terms`.

use std::error::Error;
use std::path::{Path, PathBuf};

use diffusion::pipelines::pixelwise::LearnedDetector;
use imaging::imgproc::{Interpolation, resize};
use imaging::io::{ReadOptions, read_image, read_mask};
use imaging::{Plane, Silent};

fn main() -> Result<(), Box<dyn Error>> {
    let mut sets: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let detector = match sets.as_slice() {
        [option, file, ..] if option.as_os_str() == "--detector" => {
            let detector = LearnedDetector::open(file)?;
            sets.drain(..2);
            detector
        }
        _ => LearnedDetector::carried()?,
    };
    println!("picture,truth,contrast,drift,spread,grain,compactness,share,dark,network");
    for set in sets {
        let damaged = set.join("damaged");
        let folder = if damaged.is_dir() { &damaged } else { &set };
        let mut pictures = std::fs::read_dir(folder)?
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<Vec<_>>>()?;
        pictures.retain(|path| path.extension().is_some_and(|extension| extension == "png"));
        pictures.sort();
        for picture in pictures {
            let name = picture.file_name().unwrap_or_default();
            let mask = damaged.is_dir().then(|| set.join("mask").join(name));
            regions(&detector, &picture, mask.as_deref())?;
        }
    }
    Ok(())
}

fn regions(
    detector: &LearnedDetector,
    picture: &Path,
    mask: Option<&Path>,
) -> Result<(), Box<dyn Error>> {
    let image = read_image(picture, &ReadOptions::default())?;
    let (candidates, log_odds) = detector.loss_candidates(&image, &Silent)?;
    let (width, height) = candidates.size();
    let truth = match mask {
        Some(mask) => {
            let mask = read_mask(mask, &ReadOptions::default())?;
            let mask = resize(mask.plane(), width, height, Interpolation::Area)?;
            mask.map(|value| f32::from(value) / 255.0)
        }
        None => Plane::filled(width, height, 0.0),
    };
    for region in candidates.regions(&log_odds)? {
        let terms = region.terms.map(|term| format!("{term:.4}")).join(",");
        println!("{},{:.4},{terms}", picture.display(), region.area.mean(&truth));
    }
    Ok(())
}
