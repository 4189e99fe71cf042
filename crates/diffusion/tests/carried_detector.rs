//! The carried detector on photographs that it was not trained on, damaged by a generator that training knows nothing of.

#[path = "../../imaging/tests/common/detection_scores.rs"]
mod detection_scores;

use detection_scores::{Mark, mean_f1, mean_flagged};
use diffusion::pipelines::pixelwise::LearnedDetector;
use imaging::damage::compress;
use imaging::detect::Detection;
use imaging::imgproc::{Interpolation, resize, resize_f32};
use imaging::{ColorType, Detector, Image, Mask, Observer, Samples};
use serde_json::Value;

fn detector() -> LearnedDetector {
    LearnedDetector::carried().expect("a whole program")
}

#[test]
fn thin_dark_cracks_are_found() {
    assert!(mean_f1(&detector(), Mark::DarkCracks) >= 0.76);
}

#[test]
fn thin_bright_scratches_are_found() {
    assert!(mean_f1(&detector(), Mark::BrightScratches) >= 0.80);
}

#[test]
fn wide_losses_are_found() {
    assert!(mean_f1(&detector(), Mark::WideLosses) >= 0.87);
}

#[test]
fn clean_photographs_stay_nearly_unmarked() {
    assert!(mean_flagged(&detector()) <= 0.005);
}

#[test]
fn cracks_are_found_in_scans_with_more_pixels_than_detail() {
    assert!(mean_f1(&AtTwiceTheSize(detector()), Mark::DarkCracks) >= 0.30);
}

#[test]
fn cracks_and_scratches_are_found_without_colour() {
    assert!(mean_f1(&InFiles(detector(), grey), Mark::DarkCracks) >= 0.65);
    assert!(mean_f1(&InFiles(detector(), grey), Mark::BrightScratches) >= 0.70);
}

#[test]
fn cracks_are_found_in_jpeg_files() {
    assert!(mean_f1(&InFiles(detector(), compressed), Mark::DarkCracks) >= 0.50);
}

/// Looks at what files show of pictures.
#[derive(Debug)]
struct InFiles(LearnedDetector, fn(&Image) -> imaging::Result<Image>);

impl Detector for InFiles {
    fn detect(&self, image: &Image, observer: &dyn Observer) -> imaging::Result<Detection> {
        self.0.detect(&self.1(image)?, observer)
    }

    fn parameters(&self) -> Value {
        self.0.parameters()
    }
}

fn grey(image: &Image) -> imaging::Result<Image> {
    let samples = Samples::U8(image.luma8().into_vec());
    Image::new(image.width(), image.height(), ColorType::Gray, samples)
}

/// A JPEG file of quality 90.
fn compressed(image: &Image) -> imaging::Result<Image> {
    let mut shown = image.clone();
    compress(&mut shown, 0.9);
    Ok(shown)
}

/// Looks at pictures enlarged to twice their size.
#[derive(Debug)]
struct AtTwiceTheSize(LearnedDetector);

impl Detector for AtTwiceTheSize {
    fn detect(&self, image: &Image, observer: &dyn Observer) -> imaging::Result<Detection> {
        let found = self.0.detect(&doubled(image)?, observer)?;
        let (width, height) = image.size();
        let mask = resize(found.core.plane(), width, height, Interpolation::Area)?;
        Detection::of_core(Mask::from_plane(mask).binarized(128), 0, &found.stats)
    }

    fn parameters(&self) -> Value {
        self.0.parameters()
    }
}

fn doubled(image: &Image) -> imaging::Result<Image> {
    let (width, height) = (2 * image.width(), 2 * image.height());
    let planes = image
        .color_planes(image.bounds())
        .iter()
        .map(|plane| resize_f32(plane, width, height, Interpolation::Linear))
        .collect::<imaging::Result<Vec<_>>>()?;
    let bytes = (0..width * height)
        .flat_map(|at| planes.iter().map(move |plane| (255.0 * plane.data()[at]).round() as u8))
        .collect();
    let color = if planes.len() == 1 { ColorType::Gray } else { ColorType::Rgb };
    Image::new(width, height, color, Samples::U8(bytes))
}
