//! `imgproc` against OpenCV and scikit-image on the fixtures of `fixtures/generate_imgproc.py`.

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use common::npy::{self, Element};
use imaging::imgproc::{
    Connectivity, Gaussian, MorphOp, StructuringElement, connected_components, gaussian_blur,
    gaussian_blur_f32, morphology,
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

#[test]
fn components_parity() {
    for_each("components", |case| {
        let connectivity = match case.whole("connectivity") {
            4 => Connectivity::Four,
            _ => Connectivity::Eight,
        };
        let found = connected_components(&case.mask(), connectivity);
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
