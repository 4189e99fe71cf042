//! How well a detector does when damage went through the same file as the photograph, as CSV.
//!
//!     cargo build --release --workspace --examples
//!     target/release/examples/detection_in_files PHOTOS [--detector FILE|classical] [--threshold T] [--every N] [--file NAME …] > scores.csv
//!
//! PHOTOS are undamaged. Each gets the marks of the generator that the tests measure detection with, and then becomes what a
//! file of [`FILES`] shows. A row is a file: the mean F1 within 2 pixels of the photograph's own size for dark cracks, bright
//! scratches and wide losses, and the mean share of the pixels that are marked where nothing is damaged.

#[path = "../../imaging/tests/common/independent_damage.rs"]
mod independent_damage;

use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use diffusion::pipelines::pixelwise::{LearnedDetectParams, LearnedDetector};
use imaging::damage::compress;
use imaging::detect::DetectParams;
use imaging::imgproc::{Interpolation, resize, resize_f32, resize_lanczos};
use imaging::io::{ReadOptions, list_images, read_image};
use imaging::metrics::detection_score;
use imaging::{ColorType, Detector, Image, Mask, Plane, Samples, Silent};
use independent_damage::{Mark, damage};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// What a photograph went through after it was damaged, in this order.
struct File {
    name: &'static str,
    enlarged: f32,
    /// Back to its own size, whatever it was enlarged to.
    reduced: bool,
    /// The standard deviation in grey levels.
    noise: f32,
    /// Of the marks too.
    colours: Colours,
    /// A JPEG file's, 0 to 1.
    quality: Option<f32>,
}

/// Which colours a file has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Colours {
    Own,
    /// One channel.
    None,
    /// Those of a print that was toned brown.
    Toned,
}

const AS_IT_IS: File = File {
    name: "as it is",
    enlarged: 1.0,
    reduced: false,
    noise: 0.0,
    colours: Colours::Own,
    quality: None,
};

const FILES: [File; 16] = [
    AS_IT_IS,
    File { name: "noise 1", noise: 1.0, ..AS_IT_IS },
    File { name: "jpeg 95", quality: Some(0.95), ..AS_IT_IS },
    File { name: "jpeg 90", quality: Some(0.9), ..AS_IT_IS },
    File { name: "noise 3, jpeg 80", noise: 3.0, quality: Some(0.8), ..AS_IT_IS },
    File { name: "1.1", enlarged: 1.1, ..AS_IT_IS },
    File { name: "1.25", enlarged: 1.25, ..AS_IT_IS },
    File { name: "1.5 and back", enlarged: 1.5, reduced: true, ..AS_IT_IS },
    File { name: "2 and back", enlarged: 2.0, reduced: true, ..AS_IT_IS },
    File {
        name: "1.5, noise 1, jpeg 90",
        enlarged: 1.5,
        noise: 1.0,
        quality: Some(0.9),
        ..AS_IT_IS
    },
    File { name: "2, noise 1, jpeg 90", enlarged: 2.0, noise: 1.0, quality: Some(0.9), ..AS_IT_IS },
    File { name: "grey", colours: Colours::None, ..AS_IT_IS },
    File { name: "grey, jpeg 90", colours: Colours::None, quality: Some(0.9), ..AS_IT_IS },
    File { name: "grey, 1.25", colours: Colours::None, enlarged: 1.25, ..AS_IT_IS },
    File { name: "toned", colours: Colours::Toned, ..AS_IT_IS },
    File { name: "toned, jpeg 90", colours: Colours::Toned, quality: Some(0.9), ..AS_IT_IS },
];

/// The powers by which luma becomes red, green and blue in a toned file.
const TONES: [f32; 3] = [0.8, 1.0, 1.3];

const MARKS: [Mark; 3] = [Mark::DarkCracks, Mark::BrightScratches, Mark::WideLosses];

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { detector, photographs, files } = Arguments::parse(std::env::args().skip(1))?;
    println!("file,dark,bright,wide,marked_of_undamaged");
    for file in
        FILES.iter().filter(|file| files.is_empty() || files.iter().any(|name| name == file.name))
    {
        let mut sums = [0.0; 4];
        for (at, photograph) in (1000..).zip(&photographs) {
            for (sum, mark) in sums.iter_mut().zip(MARKS) {
                let (damaged, truth) = damage(photograph, mark, at);
                let found = marked(&*detector, &file.of(&damaged, at)?, damaged.size())?;
                *sum += detection_score(&found, &truth, 2.0)?.f1;
            }
            sums[3] += marked(&*detector, &file.of(photograph, at)?, photograph.size())?.coverage();
        }
        let [dark, bright, wide, clean] = sums.map(|sum| sum / photographs.len() as f64);
        println!("\"{}\",{dark:.3},{bright:.3},{wide:.3},{clean:.5}", file.name);
    }
    Ok(())
}

/// What is found in a file, at the photograph's own size.
fn marked(
    detector: &dyn Detector,
    shown: &Image,
    (width, height): (usize, usize),
) -> imaging::Result<Mask> {
    let mask = detector.detect(shown, &Silent)?.mask;
    if mask.size() == (width, height) {
        return Ok(mask);
    }
    let mask = resize(mask.plane(), width, height, Interpolation::Area)?;
    Ok(Mask::from_plane(mask).binarized(128))
}

impl File {
    fn of(&self, image: &Image, seed: u64) -> imaging::Result<Image> {
        let size = image.size();
        let scaled = |side: usize| (side as f32 * self.enlarged).round() as usize;
        let luma = || image.luma8().map(|value| f32::from(value) / 255.0);
        let mut planes = match self.colours {
            Colours::Own => image.color_planes(image.bounds()),
            Colours::None => vec![luma()],
            Colours::Toned => TONES.map(|power| luma().map(|value| value.powf(power))).to_vec(),
        };
        if self.enlarged > 1.0 {
            let enlarge =
                |plane: &Plane<f32>| resize_lanczos(plane, scaled(size.0), scaled(size.1));
            planes = planes.iter().map(enlarge).collect::<imaging::Result<_>>()?;
        }
        if self.reduced {
            let reduce =
                |plane: &Plane<f32>| resize_f32(plane, size.0, size.1, Interpolation::Area);
            planes = planes.iter().map(reduce).collect::<imaging::Result<_>>()?;
        }
        if self.noise > 0.0 {
            let mut random = Pcg64Mcg::seed_from_u64(seed);
            let values = planes.iter_mut().flat_map(Plane::data_mut);
            values.for_each(|value| *value += self.noise / 255.0 * normal(&mut random));
        }
        let mut shown = bytes(&planes)?;
        if let Some(quality) = self.quality {
            compress(&mut shown, quality);
        }
        Ok(shown)
    }
}

/// Nearly normal, with mean 0 and deviation 1: twelve uniform numbers less 6 (Irwin and Hall).
fn normal(random: &mut Pcg64Mcg) -> f32 {
    (0..12).map(|_| random.next_u32() as f32 / u32::MAX as f32).sum::<f32>() - 6.0
}

fn bytes(planes: &[Plane<f32>]) -> imaging::Result<Image> {
    let (width, height) = planes[0].size();
    let color = if planes.len() == 1 { ColorType::Gray } else { ColorType::Rgb };
    let samples = (0..width * height)
        .flat_map(|at| planes.iter().map(move |plane| (255.0 * plane.data()[at]).round() as u8))
        .collect();
    Image::new(width, height, color, Samples::U8(samples))
}

struct Arguments {
    detector: Box<dyn Detector>,
    photographs: Vec<Image>,
    /// The names of those that are wanted; all if there are none.
    files: Vec<String>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let (mut folder, mut files, mut every) = (None, Vec::new(), 1);
        let (mut name, mut params) = (None, LearnedDetectParams::default());
        while let Some(word) = words.next() {
            let mut value =
                || words.next().ok_or_else(|| format!("{word}: expected a value, found none"));
            match word.as_str() {
                "--detector" => name = Some(value()?),
                "--threshold" => params.threshold = value()?.parse()?,
                "--every" => every = value()?.parse::<NonZeroUsize>()?.get(),
                "--file" => files.push(value()?),
                _ => folder = Some(PathBuf::from(word)),
            }
        }
        let folder = folder.ok_or("expected a folder of photographs, found none")?;
        let photographs = list_images(&folder, false)?
            .iter()
            .step_by(every)
            .map(|path| read_image(path, &ReadOptions::default()))
            .collect::<imaging::Result<_>>()?;
        let detector: Box<dyn Detector> = match name.as_deref() {
            Some("classical") => Box::new(DetectParams::default()),
            Some(file) => Box::new(LearnedDetector::open(Path::new(file))?.with_params(params)?),
            None => Box::new(LearnedDetector::carried()?.with_params(params)?),
        };
        Ok(Self { detector, photographs, files })
    }
}
