//! `imgproc` against OpenCV and scikit-image on the fixtures of `fixtures/generate_imgproc.py`.

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use common::npy::{self, Element};
use imaging::imgproc::{
    AdaptiveMethod, AdaptiveThreshold, Border, BoxFilter, Connectivity, Gaussian, Interpolation,
    MorphOp, StructuringElement, ThresholdKind, adaptive_threshold, box_filter, box_filter_f32,
    connected_components, distance_transform, gaussian_blur, gaussian_blur_f32,
    hysteresis_threshold, laplacian, morphology, otsu, reconstruct_by_dilation, resize, resize_f32,
    resize_lanczos, sobel_x, sobel_y, sqr_box_filter, thin, threshold,
};
use imaging::{Mask, Plane};
use serde_json::Value;

/// One call of the reference: its input, its parameters and what came out.
struct Case {
    op: String,
    src: PathBuf,
    out: PathBuf,
    params: Value,
}

/// An array of two dimensions.
fn plane<T: Element + Copy>(path: &Path) -> Plane<T> {
    let (shape, values) = npy::read(path);
    let [height, width] = shape[..] else { panic!("{}: shape {shape:?}", path.display()) };
    Plane::from_vec(width, height, values).expect("the reader checked the length")
}

impl Case {
    fn real(&self, name: &str) -> f64 {
        self.params[name].as_f64().unwrap_or_else(|| panic!("{}: no {name}", self.op))
    }

    fn whole(&self, name: &str) -> usize {
        self.params[name].as_u64().unwrap_or_else(|| panic!("{}: no {name}", self.op)) as usize
    }

    fn text(&self, name: &str) -> &str {
        self.params[name].as_str().unwrap_or_else(|| panic!("{}: no {name}", self.op))
    }

    /// The structuring element, as OpenCV drew it.
    fn kernel(&self) -> Plane<u8> {
        plane(&self.src.with_file_name(self.text("kernel")))
    }

    fn src<T: Element + Copy>(&self) -> Plane<T> {
        plane(&self.src)
    }

    fn mask(&self) -> Mask {
        Mask::from_plane(self.src())
    }

    fn assert_same<T>(&self, found: &Plane<T>)
    where
        T: Element + Copy + PartialEq + Debug,
    {
        self.assert_each(found, |a, b| a == b);
    }

    fn assert_close(&self, found: &Plane<f32>, tolerance: f32) {
        self.assert_each(found, |a, b| (a - b).abs() <= tolerance * b.abs().max(1.0));
    }

    /// Checks `same(found, expected)` at every pixel.
    fn assert_each<T>(&self, found: &Plane<T>, same: impl Fn(T, T) -> bool)
    where
        T: Element + Copy + Debug,
    {
        let expected: Plane<T> = plane(&self.out);
        let source = self.src.file_name().unwrap_or_default();
        let params = self.params.to_string();
        let params = params.get(..200).unwrap_or(&params);
        let what = format!("{} of {source:?}, {params}", self.op);
        assert_eq!(found.size(), expected.size(), "{what}");
        for (index, (&a, &b)) in found.data().iter().zip(expected.data()).enumerate() {
            let at = (index % found.width(), index / found.width());
            assert!(same(a, b), "{what}, at {at:?} of {:?}: {a:?}, not {b:?}", found.size());
        }
    }
}

/// Runs `check` on every case of `op`.
fn for_each(op: &str, check: impl Fn(&Case)) {
    let folder = common::fixtures("imgproc");
    let text = std::fs::read_to_string(folder.join("cases.json")).expect("cases.json is there");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("cases.json is a list");
    let mut count = 0;
    for case in cases.iter().filter(|case| case["op"] == op) {
        count += 1;
        let file = |name: &str| folder.join(case[name].as_str().expect("a file name"));
        check(&Case {
            op: op.to_owned(),
            src: file("src"),
            out: file("out"),
            params: case["params"].clone(),
        });
    }
    assert!(count > 0, "no cases of {op}");
}

fn gaussian(case: &Case) -> Gaussian {
    match case.params.get("size") {
        Some(_) => Gaussian::sized(case.whole("size"), case.real("sigma")),
        None => Gaussian::sigma(case.real("sigma")),
    }
}

#[test]
fn gaussian_parity() {
    for_each("gaussian", |case| {
        case.assert_same(&gaussian_blur(&case.src(), gaussian(case)).unwrap());
    });
}

#[test]
fn gaussian_f32_parity() {
    for_each("gaussian_f32", |case| {
        case.assert_close(&gaussian_blur_f32(&case.src(), gaussian(case)).unwrap(), 2e-6);
    });
}

#[test]
fn morphology_parity() {
    for_each("morphology", |case| {
        let (width, height) = (case.whole("width"), case.whole("height"));
        let element = match case.text("shape") {
            "rect" => StructuringElement::rect(width, height),
            "ellipse" => StructuringElement::ellipse(width, height),
            "cross" => StructuringElement::cross(width, height),
            "line" => StructuringElement::line(case.whole("length"), case.real("angle")),
            _ => StructuringElement::from_mask(&Mask::from_plane(case.kernel())),
        };
        let element = element.unwrap();
        assert_eq!(element.to_mask().into_plane(), case.kernel(), "{}", case.params);
        let op = match case.text("kind") {
            "erode" => MorphOp::Erode,
            "dilate" => MorphOp::Dilate,
            "open" => MorphOp::Open,
            "close" => MorphOp::Close,
            "gradient" => MorphOp::Gradient,
            "tophat" => MorphOp::TopHat,
            _ => MorphOp::BlackHat,
        };
        case.assert_same(&morphology(&case.src(), op, &element, case.whole("iterations")));
    });
}

fn box_window(case: &Case) -> BoxFilter {
    let border = match case.text("border") {
        "replicate" => Border::Replicate,
        _ => Border::Reflect101,
    };
    BoxFilter { width: case.whole("width"), height: case.whole("height"), border }
}

#[test]
fn box_parity() {
    for_each("box", |case| {
        case.assert_same(&box_filter(&case.src(), box_window(case)).unwrap());
    });
    for_each("box_f32", |case| {
        case.assert_close(&box_filter_f32(&case.src(), box_window(case)).unwrap(), 2e-6);
    });
    for_each("sqr_box", |case| {
        case.assert_close(&sqr_box_filter(&case.src(), box_window(case)).unwrap(), 2e-6);
    });
}

fn kind(case: &Case) -> ThresholdKind {
    match case.text("kind") {
        "binary" => ThresholdKind::Binary,
        _ => ThresholdKind::BinaryInv,
    }
}

#[test]
fn threshold_parity() {
    for_each("threshold", |case| {
        let found = threshold(&case.src(), case.whole("value") as u8, kind(case));
        case.assert_same(found.plane());
    });
    for_each("otsu", |case| {
        let value = otsu(&case.src());
        assert_eq!(usize::from(value), case.whole("value"));
        case.assert_same(threshold(&case.src(), value, kind(case)).plane());
    });
}

#[test]
fn adaptive_threshold_parity() {
    for_each("adaptive", |case| {
        let gaussian = case.text("method") == "gaussian";
        let params = AdaptiveThreshold {
            method: if gaussian { AdaptiveMethod::Gaussian } else { AdaptiveMethod::Mean },
            kind: kind(case),
            block_size: case.whole("block_size"),
            c: case.real("c"),
        };
        let found = adaptive_threshold(&case.src(), &params).unwrap();
        if gaussian {
            // The last bit of an `f32` sum may tip a mean that lies within 1e-4 of a half; one pixel
            // in thousands is the most that could happen.
            let expected: Plane<u8> = plane(&case.out);
            let pairs = found.plane().data().iter().zip(expected.data());
            let different = pairs.filter(|(a, b)| a != b).count();
            assert!(different <= 1 + expected.data().len() / 2000, "{different}: {}", case.params);
        } else {
            case.assert_same(found.plane());
        }
    });
}

#[test]
fn gradient_parity() {
    for_each("sobel_x", |case| case.assert_same(&sobel_x(&case.src())));
    for_each("sobel_y", |case| case.assert_same(&sobel_y(&case.src())));
    for_each("laplacian", |case| case.assert_same(&laplacian(&case.src())));
}

#[test]
fn distance_parity() {
    for_each("distance", |case| case.assert_close(&distance_transform(&case.mask()), 1e-3));
}

#[test]
fn skeleton_parity() {
    for_each("skeleton", |case| case.assert_same(thin(&case.mask()).plane()));
}

#[test]
fn reconstruction_parity() {
    for_each("hysteresis", |case| {
        let (low, high) = (case.whole("low") as u8, case.whole("high") as u8);
        let found = hysteresis_threshold(&case.src::<u8>(), low, high, Connectivity::Four).unwrap();
        case.assert_same(found.plane());
    });
    for_each("reconstruct", |case| {
        let seed = plane(&case.src.with_file_name(case.text("seed")));
        let found = reconstruct_by_dilation(&seed, &case.src(), connectivity(case)).unwrap();
        case.assert_same(&found);
    });
}

fn connectivity(case: &Case) -> Connectivity {
    match case.whole("connectivity") {
        4 => Connectivity::Four,
        _ => Connectivity::Eight,
    }
}

#[test]
fn resize_parity() {
    let interpolation = |case: &Case| match case.text("kind") {
        "nearest" => Interpolation::Nearest,
        "linear" => Interpolation::Linear,
        _ => Interpolation::Area,
    };
    for_each("resize", |case| {
        let (width, height) = plane::<u8>(&case.out).size();
        let found = resize(&case.src(), width, height, interpolation(case)).unwrap();
        // OpenCV's linear weights have 11 bits, and its sums over fractional areas another order.
        let exact = interpolation(case) == Interpolation::Nearest;
        case.assert_each(&found, |a, b| a.abs_diff(b) <= u8::from(!exact));
    });
    for_each("resize_f32", |case| {
        let (width, height) = plane::<f32>(&case.out).size();
        let found = resize_f32(&case.src(), width, height, interpolation(case)).unwrap();
        case.assert_close(&found, 2e-5);
    });
    for_each("resize_lanczos", |case| {
        let (width, height) = plane::<f32>(&case.out).size();
        let found = resize_lanczos(&case.src(), width, height).unwrap();
        case.assert_close(&found, 2e-5);
    });
}

#[test]
fn components_parity() {
    for_each("components", |case| {
        let found = connected_components(&case.mask(), connectivity(case));
        // The same partition: the numbers correspond one to one.
        let expected: Plane<i32> = plane(&case.out);
        let mut theirs_of_ours = HashMap::from([(0, 0)]);
        let mut ours_of_theirs = HashMap::from([(0, 0)]);
        for (&ours, &theirs) in found.labels.data().iter().zip(expected.data()) {
            assert_eq!(*theirs_of_ours.entry(ours).or_insert(theirs), theirs);
            assert_eq!(*ours_of_theirs.entry(theirs).or_insert(ours), ours);
        }
        let stats: Vec<[usize; 5]> = serde_json::from_value(case.params["stats"].clone()).unwrap();
        let centroids: Vec<(f64, f64)> =
            serde_json::from_value(case.params["centroids"].clone()).unwrap();
        assert_eq!(found.components.len(), stats.len());
        for (theirs, (stats, centroid)) in (1..).zip(stats.into_iter().zip(centroids)) {
            let component = found.components[ours_of_theirs[&theirs] as usize - 1];
            let bounds = component.bounds;
            let ours = [bounds.x, bounds.y, bounds.width, bounds.height, component.area];
            assert_eq!(ours, stats);
            assert!((component.centroid.0 - centroid.0).abs() < 1e-9);
            assert!((component.centroid.1 - centroid.1).abs() < 1e-9);
        }
    });
}
