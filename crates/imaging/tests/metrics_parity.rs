//! The metrics agree with scikit-image; `fixtures/generate_metrics.py` made the expectations.

mod common;

use std::path::Path;

use imaging::metrics::{
    SsimWindow, box_ssim, delta_e, detection_score, masked_delta_e, masked_psnr, psnr, ssim,
};
use imaging::{ColorType, Image, Mask, Plane, Samples};
use serde_json::Value;

/// Far below the 1e-6 that is promised; what remains is the order of floating-point sums.
const TOLERANCE: f64 = 1e-9;

fn expected(folder: &Path) -> Value {
    let path = folder.join("expected.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("the generator writes JSON")
}

fn image(path: &Path, deep: bool) -> Image {
    let (shape, samples) = if deep {
        let (shape, values) = common::npy::read::<u16>(path);
        (shape, Samples::U16(values))
    } else {
        let (shape, values) = common::npy::read::<u8>(path);
        (shape, Samples::U8(values))
    };
    let color = match shape[..] {
        [_, _] => ColorType::Gray,
        [_, _, 3] => ColorType::Rgb,
        [_, _, 4] => ColorType::Rgba,
        _ => panic!("{}: shape {shape:?}", path.display()),
    };
    Image::new(shape[1], shape[0], color, samples).expect("the shape fits the samples")
}

fn mask(path: &Path) -> Mask {
    let (shape, weights) = common::npy::read::<u8>(path);
    Mask::from_plane(Plane::from_vec(shape[1], shape[0], weights).expect("two dimensions"))
}

#[test]
fn picture_metrics_parity() {
    let folder = common::fixtures("metrics");
    let expected = expected(&folder);
    for (name, scores) in expected["cases"].as_object().expect("cases") {
        let deep = name.ends_with("16");
        let reference = image(&folder.join(format!("{name}_reference.npy")), deep);
        let test = image(&folder.join(format!("{name}_test.npy")), deep);
        let mask = mask(&folder.join(format!("{name}_mask.npy")));
        let (a, b) = (&reference, &test);
        let uniform = SsimWindow::Uniform;
        let found = [
            ("psnr", psnr(a, b).expect(name)),
            ("masked_psnr", masked_psnr(a, b, &mask).expect(name).expect("not empty")),
            ("ssim", ssim(a, b, uniform).expect(name)),
            ("ssim_gaussian", ssim(a, b, SsimWindow::Gaussian).expect(name)),
            ("box_ssim", box_ssim(a, b, &mask, uniform).expect(name).expect("not empty")),
            ("delta_e", delta_e(a, b).expect(name)),
            ("masked_delta_e", masked_delta_e(a, b, &mask).expect(name).expect("not empty")),
        ];
        for (metric, value) in found {
            let expected = scores[metric].as_f64().expect(metric);
            let error = (value - expected).abs();
            assert!(error <= TOLERANCE, "{name} {metric}: {value} ≠ {expected}, off by {error:e}");
        }
        // Swapping the two pictures changes nothing but the last bits.
        assert!((psnr(b, a).expect(name) - psnr(a, b).expect(name)).abs() < 1e-12);
        assert!(
            (ssim(b, a, uniform).expect(name) - ssim(a, b, uniform).expect(name)).abs() < 1e-12
        );
    }
}

#[test]
fn detection_score_parity() {
    let folder = common::fixtures("metrics");
    let (found, truth) = (mask(&folder.join("found.npy")), mask(&folder.join("truth.npy")));
    for case in expected(&folder)["detection"].as_array().expect("cases") {
        let number = |key: &str| case[key].as_f64().expect("a number");
        let score = detection_score(&found, &truth, number("tolerance")).expect("same size");
        let pairs = [("precision", score.precision), ("recall", score.recall), ("f1", score.f1)];
        for (key, value) in pairs {
            assert!((value - number(key)).abs() < 1e-12, "{case}: {key} is {value}");
        }
    }
}
