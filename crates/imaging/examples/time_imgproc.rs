//! Times the pixel operations on a picture and a mask, for `tools/peers/imgproc.py`.
//!
//! Arguments: width, height, a file of width × height grey bytes, another for the mask, repetitions.
//! Prints one JSON object: the least seconds of each operation.

use std::hint::black_box;
use std::time::Instant;

use imaging::imgproc::{
    AdaptiveMethod, AdaptiveThreshold, BoxFilter, Connectivity, Gaussian, Interpolation,
    StructuringElement, ThresholdKind, adaptive_threshold, black_hat, box_filter, close,
    component_runs, connected_components, distance_transform, gaussian_blur, gaussian_blur_f32,
    otsu, resize, sobel_x, thin,
};
use imaging::{ImagingError, Mask, Plane, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [width, height, picture, mask, repetitions] = &arguments[..] else {
        eprintln!("usage: time_imgproc WIDTH HEIGHT PICTURE MASK REPETITIONS");
        std::process::exit(2);
    };
    let number = |text: &str| {
        text.parse::<usize>().map_err(|_| ImagingError::argument("number", "digits", text))
    };
    let (width, height) = (number(width)?, number(height)?);
    let load = |path: &str| {
        let bytes = std::fs::read(path).map_err(|e| ImagingError::io(path, "read", e))?;
        Plane::from_vec(width, height, bytes)
    };
    let picture = load(picture)?;
    let mask = Mask::from_plane(load(mask)?);
    let real = picture.map(f32::from);
    let repetitions = number(repetitions)?.max(1);

    let rect = StructuringElement::square(25)?;
    let disc = StructuringElement::disc(9)?;
    let lines: Vec<StructuringElement> =
        (0..8).map(|i| StructuringElement::line(21, f64::from(i) * 22.5)).collect::<Result<_>>()?;
    let mean = AdaptiveThreshold {
        kind: ThresholdKind::BinaryInv,
        c: 8.0,
        ..AdaptiveThreshold::default()
    };
    let gaussian = AdaptiveThreshold { method: AdaptiveMethod::Gaussian, ..mean };

    let mut results = serde_json::Map::new();
    let mut time = |name: &str, work: &dyn Fn() -> Result<()>| -> Result<()> {
        let mut least = f64::INFINITY;
        for _ in 0..repetitions {
            let start = Instant::now();
            work()?;
            least = least.min(start.elapsed().as_secs_f64());
        }
        results.insert(name.to_owned(), least.into());
        Ok(())
    };
    macro_rules! time {
        ($name:literal, $work:expr) => {
            time($name, &|| {
                black_box($work);
                Ok(())
            })?
        };
    }
    time!("gaussian σ=2", gaussian_blur(&picture, Gaussian::sigma(2.0))?);
    time!("gaussian f32 σ=2", gaussian_blur_f32(&real, Gaussian::sigma(2.0))?);
    time!("box 51", box_filter(&picture, BoxFilter::square(51))?);
    time!("black-hat rect 25×25", black_hat(&picture, &rect));
    time!("closing ellipse 9×9", close(&picture, &disc));
    time!(
        "closing lines 21, 8 angles",
        for line in &lines {
            black_box(close(&picture, line));
        }
    );
    time!("adaptive threshold mean 51", adaptive_threshold(&picture, &mean)?);
    time!("adaptive threshold gaussian 51", adaptive_threshold(&picture, &gaussian)?);
    time!("components", connected_components(&mask, Connectivity::Eight));
    time!("components as runs", component_runs(&mask, Connectivity::Eight));
    time!("distance", distance_transform(&mask));
    time!("thinning", thin(&mask));
    time!("otsu", otsu(&picture));
    time!("sobel x", sobel_x(&picture));
    time!("resize half area", resize(&picture, width / 2, height / 2, Interpolation::Area)?);
    println!("{}", serde_json::Value::Object(results));
    Ok(())
}
