//! Evaluation from a folder of pictures to the report, on a tiny data set made here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use imaging::evaluate::{EvaluateOptions, Evaluation, MaskKind, Metric, evaluate};
use imaging::fill::{FillMethod, FillOptions};
use imaging::io::{WriteOptions, write_image, write_mask};
use imaging::report::{ReportOptions, markdown, prepare_output, summary, write_report};
use imaging::{ColorType, Image, ImagingError, Mask, Observer, Repainter, Samples, Silent};
use tempfile::TempDir;

const SIZE: usize = 48;

/// A picture of curves that no fill meets exactly; `index` varies it.
fn clean(index: usize) -> Image {
    let samples = (0..SIZE * SIZE * 3).map(|i| {
        let (x, y, channel) = (i / 3 % SIZE, i / 3 / SIZE, i % 3);
        (60 + (x * x / (7 + index) + y * y / 11 + channel * 9) % 160) as u8
    });
    Image::new(SIZE, SIZE, ColorType::Rgb, Samples::U8(samples.collect()))
        .expect("the sandbox can be written")
}

/// A crack that is the wider the larger `index` is.
fn crack(index: usize) -> Mask {
    Mask::from_fn(SIZE, SIZE, |x, y| (x + y / 3).abs_diff(24) <= index % 3)
}

fn damaged(clean: &Image, mask: &Mask) -> Image {
    let mut image = clean.clone();
    if let Samples::U8(samples) = image.samples_mut() {
        for (pixel, &weight) in samples.chunks_exact_mut(3).zip(mask.plane().data()) {
            if weight > 0 {
                pixel.fill(245);
            }
        }
    }
    image
}

struct Sandbox(TempDir);

impl Sandbox {
    /// A data set of `count` pictures.
    fn new(count: usize) -> Self {
        let sandbox = Self(tempfile::tempdir().expect("the sandbox can be written"));
        for folder in ["clean", "damaged", "mask"] {
            std::fs::create_dir_all(sandbox.dataset().join(folder))
                .expect("the sandbox can be written");
        }
        for index in 0..count {
            let (clean, mask) = (clean(index), crack(index));
            let name = format!("photo {index:02}.png");
            sandbox.put(&format!("clean/{name}"), &clean);
            // Extensions may differ between the folders.
            sandbox.put(&format!("damaged/photo {index:02}.tif"), &damaged(&clean, &mask));
            let path = sandbox.dataset().join("mask").join(name);
            write_mask(&path, &mask, &WriteOptions::default()).expect("the sandbox can be written");
        }
        sandbox
    }

    fn dataset(&self) -> PathBuf {
        self.0.path().join("data & <set>")
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn put(&self, name: &str, image: &Image) {
        let write = WriteOptions { force: true, ..WriteOptions::default() };
        write_image(&self.dataset().join(name), image, &write).expect("the sandbox can be written");
    }

    fn evaluate(&self, options: &EvaluateOptions) -> Result<Evaluation, ImagingError> {
        evaluate(&self.dataset(), options, &Silent)
    }
}

fn fill(method: FillMethod) -> Arc<dyn Repainter> {
    Arc::new(FillOptions { method, ..FillOptions::default() })
}

fn both_methods() -> EvaluateOptions {
    EvaluateOptions {
        methods: vec![fill(FillMethod::Telea), fill(FillMethod::Biharmonic)],
        ..EvaluateOptions::default()
    }
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split(',').collect()).collect()
}

#[test]
fn one_method_from_files_to_report() {
    let sandbox = Sandbox::new(5);
    let evaluation = sandbox.evaluate(&EvaluateOptions::default()).unwrap();
    assert!(evaluation.failures.is_empty(), "{:?}", evaluation.failures);
    prepare_output(&sandbox.out(), false).unwrap();
    let options = ReportOptions { force: false, command: Some("photomend <evaluate>".to_owned()) };
    let page = write_report(&evaluation, &sandbox.out(), &options).unwrap();

    // 1. tables
    let psnr = read(sandbox.out().join("metrics/psnr_scores.csv"));
    let psnr = rows(&psnr);
    assert_eq!(psnr[0], ["filename", "damaged_psnr", "restored_psnr", "psnr_gain"]);
    assert_eq!(psnr.len(), 6);
    assert_eq!(psnr[1][0], "photo 00.tif");
    for row in &psnr[1..] {
        let [damaged, restored, gain] = [1, 2, 3].map(|i| row[i].parse::<f64>().unwrap());
        assert!(restored > damaged + 3.0, "{row:?}");
        assert!((restored - damaged - gain).abs() < 2e-6);
    }
    let ssim = read(sandbox.out().join("metrics/ssim_scores.csv"));
    assert_eq!(rows(&ssim)[0], ["filename", "damaged_ssim", "restored_ssim", "ssim_gain"]);
    let wide = read(sandbox.out().join("metrics.csv"));
    let wide = rows(&wide);
    for column in ["damaged_share", "restored_masked_psnr", "delta_e_gain", "detection_f1"] {
        assert!(wide[0].contains(&column), "{column} in {:?}", wide[0]);
    }
    assert!(wide.iter().all(|row| row.len() == wide[0].len()));

    // 2. the summary
    let json: serde_json::Value =
        serde_json::from_str(&read(sandbox.out().join("summary.json"))).unwrap();
    assert_eq!(json["images"], 5);
    let line = &json["runs"][0]["metrics"][0];
    assert_eq!(line["metric"], "psnr");
    let gain = line["gain"]["mean"].as_f64().unwrap();
    let [low, high] = [0, 1].map(|i| line["gain"]["ci95"][i].as_f64().unwrap());
    assert!(low <= gain && gain <= high);
    assert_eq!(json["detection"]["images"], 5);
    assert_eq!(json["failures"], serde_json::json!([]));
    let text = read(sandbox.out().join("summary.md"));
    let table = ["Metric", "Damaged → Clean", "Restored → Clean", "Gain"];
    assert!(table.iter().all(|heading| text.contains(heading)), "{text}");
    assert_eq!(text, markdown(&evaluation));

    // 3. figures and sheets
    for name in ["psnr_improvement", "psnr_bars", "psnr_distribution", "ssim_bars"] {
        let svg = read(sandbox.out().join(format!("plots/{name}.svg")));
        resvg::usvg::Tree::from_str(&svg, &resvg::usvg::Options::default()).expect(name);
        let png = image::open(sandbox.out().join(format!("plots/{name}.png"))).unwrap().to_luma8();
        let dark = png.pixels().filter(|pixel| pixel.0[0] < 120).count();
        assert!(dark > 200, "{name}: {dark} dark pixels");
    }
    for index in 0..5 {
        let sheet = sandbox.out().join(format!("sheets/photo {index:02}.jpg"));
        assert!(image::open(&sheet).unwrap().width() > 4 * SIZE as u32);
    }

    // 4. the page needs nothing else, and names of files stay text
    let html = read(page);
    let mut rest = html.replace("http://www.w3.org/2000/svg", "");
    rest.make_ascii_lowercase();
    for forbidden in ["http:", "https:", "src=\"/", "url(", "@import", "<link"] {
        assert!(!rest.contains(forbidden), "{forbidden}");
    }
    assert!(html.contains("data &amp; &lt;set&gt;") && html.contains("photomend &lt;evaluate&gt;"));
    assert!(!html.contains("<set>") && !html.contains("<evaluate>"));
}

#[test]
fn several_methods_masks_and_results_side_by_side() {
    let sandbox = Sandbox::new(3);
    // Results made elsewhere: the clean pictures themselves, so their PSNR is infinite.
    let elsewhere = sandbox.dataset().join("clean");
    let options = EvaluateOptions {
        masks: vec![MaskKind::Given, MaskKind::Detected],
        restored: vec![elsewhere],
        save_restored: Some(sandbox.out().join("restored")),
        ..both_methods()
    };
    let evaluation = sandbox.evaluate(&options).unwrap();
    let names: Vec<&str> = evaluation.runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(
        names,
        ["telea-given", "telea-detected", "biharmonic-given", "biharmonic-detected", "clean"]
    );
    write_report(&evaluation, &sandbox.out(), &ReportOptions::default()).unwrap();
    let psnr = read(sandbox.out().join("metrics/psnr_scores.csv"));
    let psnr = rows(&psnr);
    assert_eq!(psnr[0], ["filename", "method", "damaged_psnr", "restored_psnr", "psnr_gain"]);
    assert_eq!(psnr.len(), 1 + 3 * 5);
    let last = psnr.last().unwrap();
    assert_eq!((last[1], last[3], last[4]), ("clean", "inf", "inf"));
    assert!(sandbox.out().join("restored/telea-given/photo 00.png").exists());

    // Infinite scores are counted, and left out of means and of the JSON.
    let json = summary(&evaluation, None).unwrap();
    let run = &json["runs"][4];
    assert_eq!((run["name"].as_str(), run["improved"].as_u64()), (Some("clean"), Some(3)));
    let metrics: Vec<_> =
        run["metrics"].as_array().unwrap().iter().map(|line| line["metric"].clone()).collect();
    assert!(!metrics.contains(&"psnr".into()) && metrics.contains(&"ssim".into()), "{metrics:?}");

    // What was saved scores the same when it is read again.
    let again = EvaluateOptions {
        methods: Vec::new(),
        restored: vec![sandbox.out().join("restored/telea-given")],
        score_detection: false,
        ..EvaluateOptions::default()
    };
    let again = sandbox.evaluate(&again).unwrap();
    for (first, second) in evaluation.images.iter().zip(&again.images) {
        assert_eq!(first.runs[0].restored, second.runs[0].restored);
        assert_eq!(second.detection, None);
    }
}

#[test]
fn a_broken_data_set_is_named_at_once_and_the_rest_goes_on() {
    let sandbox = Sandbox::new(6);
    let path = |name: &str| sandbox.dataset().join(name);
    std::fs::remove_file(path("clean/photo 00.png")).unwrap();
    std::fs::remove_file(path("mask/photo 01.png")).unwrap();
    std::fs::write(path("damaged/photo 02.tif"), b"not an image").unwrap();
    let gray = Image::new(SIZE, SIZE, ColorType::Gray, Samples::U8(vec![7; SIZE * SIZE])).unwrap();
    sandbox.put("clean/photo 03.png", &gray);
    let Samples::U8(samples) = clean(4).samples().clone() else { unreachable!() };
    let deep = samples.iter().map(|&sample| u16::from(sample) * 257).collect();
    let deep = Image::new(SIZE, SIZE, ColorType::Rgb, Samples::U16(deep)).unwrap();
    sandbox.put("clean/photo 04.png", &deep);
    write_mask(&path("mask/lonely.png"), &crack(0), &WriteOptions::default()).unwrap();

    let options = EvaluateOptions { score_detection: false, ..EvaluateOptions::default() };
    let evaluation = sandbox.evaluate(&options).unwrap();
    assert_eq!(evaluation.images.len(), 1);
    let all: Vec<&str> = evaluation.failures.iter().map(|one| one.error.as_str()).collect();
    let all = all.join("\n");
    for expected in [
        "photo 00.tif: expected a file of this name in clean/, found none",
        "photo 01.tif: expected a file of this name in mask/, found none",
        "lonely.png: expected a file of this name in clean/ and damaged/, found none",
        "photo 02.tif: cannot decode",
        "photo 03.tif: expected grey as the clean picture, found colour",
        "photo 04.tif: expected 16 bits a channel as the clean picture, found 8",
    ] {
        assert!(all.contains(expected), "“{expected}” in\n{all}");
    }
    let json = summary(&evaluation, None).unwrap();
    assert_eq!(json["failures"].as_array().unwrap().len(), 6);
    // A single picture has no confidence interval.
    assert!(json["runs"][0]["metrics"][0]["gain"]["ci95"].is_null());
    write_report(&evaluation, &sandbox.out(), &ReportOptions::default()).unwrap();
    assert!(read(sandbox.out().join("report.html")).contains("Not scored"));
}

#[test]
fn a_picture_that_fails_during_the_work_is_left_out() {
    let sandbox = Sandbox::new(3);
    // Everything is damaged: there is nothing to fill from.
    let all = Mask::from_fn(SIZE, SIZE, |_, _| true);
    let write = WriteOptions { force: true, ..WriteOptions::default() };
    write_mask(&sandbox.dataset().join("mask/photo 01.png"), &all, &write).unwrap();
    let options = EvaluateOptions { score_detection: false, ..both_methods() };
    let evaluation = sandbox.evaluate(&options).unwrap();
    assert_eq!(evaluation.images.len(), 2);
    assert_eq!(evaluation.failures.len(), 1);
    assert!(
        evaluation.failures[0].error.contains("photo 01.tif: telea: "),
        "{:?}",
        evaluation.failures
    );
}

#[test]
fn unusable_data_sets_and_outputs_are_errors() {
    let sandbox = Sandbox::new(1);
    let options = EvaluateOptions { score_detection: false, ..EvaluateOptions::default() };
    let message = |result: Result<Evaluation, ImagingError>| result.unwrap_err().to_string();

    let nowhere = evaluate(Path::new("no/such/folder"), &options, &Silent);
    assert!(message(nowhere).contains("expected a folder with clean/ and damaged/, found nothing"));
    let no_methods = EvaluateOptions { methods: Vec::new(), ..options.clone() };
    assert!(message(sandbox.evaluate(&no_methods)).contains("at least one"));
    std::fs::remove_dir_all(sandbox.dataset().join("mask")).unwrap();
    let given = EvaluateOptions { masks: vec![MaskKind::Given], ..options.clone() };
    assert!(message(sandbox.evaluate(&given)).contains("expected a folder of masks"));
    std::fs::remove_dir_all(sandbox.dataset().join("damaged")).unwrap();
    assert!(message(sandbox.evaluate(&options)).contains("found no damaged/"));

    let out = sandbox.out();
    std::fs::create_dir(&out).unwrap();
    prepare_output(&out, false).unwrap();
    std::fs::write(out.join("mine.txt"), "mine").unwrap();
    assert!(prepare_output(&out, false).unwrap_err().to_string().contains("new or empty folder"));
    prepare_output(&out, true).unwrap();
    assert!(prepare_output(&out.join("mine.txt"), true).is_err());
}

#[test]
fn a_sample_is_drawn_with_its_seed() {
    let sandbox = Sandbox::new(9);
    let names = |seed: u64| {
        let options = EvaluateOptions {
            sample: Some(4),
            seed,
            score_detection: false,
            exhibits: 0,
            ..EvaluateOptions::default()
        };
        let evaluation = sandbox.evaluate(&options).unwrap();
        assert!(evaluation.exhibits.is_empty());
        evaluation.images.into_iter().map(|image| image.name).collect::<Vec<_>>()
    };
    assert_eq!(names(1), names(1));
    assert_eq!(names(1).len(), 4);
    assert!((2..20).any(|seed| names(seed) != names(1)));
}

#[test]
fn detected_masks_restore_where_there_are_none() {
    let sandbox = Sandbox::new(2);
    std::fs::remove_dir_all(sandbox.dataset().join("mask")).unwrap();
    let evaluation = sandbox.evaluate(&EvaluateOptions::default()).unwrap();
    assert_eq!(evaluation.runs[0].masks, Some(MaskKind::Detected));
    assert!(evaluation.detection.is_none());
    let image = &evaluation.images[0];
    assert!(image.damaged.get(Metric::Psnr).is_some());
    assert_eq!(image.damaged.get(Metric::MaskedPsnr), None);
    write_report(&evaluation, &sandbox.out(), &ReportOptions::default()).unwrap();
}

#[test]
fn the_observer_stops_it() {
    struct Stop;
    impl Observer for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let sandbox = Sandbox::new(2);
    let result = evaluate(&sandbox.dataset(), &EvaluateOptions::default(), &Stop);
    assert!(matches!(result, Err(ImagingError::Cancelled)));
}
