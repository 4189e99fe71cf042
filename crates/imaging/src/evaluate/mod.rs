//! Scores restorations and detections over a data set of (clean, damaged, mask) triplets.
//!
//! One run is a way to restore: a fill method with the data set's own masks or with detected ones, or a folder of
//! results made elsewhere. All runs are scored on the same pictures; a picture that fails in one of them is left
//! out of all, so that means can be compared. Pictures are worked on one after the other by a few workers, each of
//! which holds one picture in memory; the results do not depend on their number.

mod dataset;
mod exhibits;
mod score;
mod summary;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Serialize, Serializer};

pub use self::dataset::{Dataset, Failure, Triplet};
pub use self::exhibits::Exhibit;
use self::exhibits::{Exhibits, Shown};
pub use self::score::{Metric, Scores};
pub use self::summary::{DetectionSummary, Mean, MetricSummary, RunSummary};

use crate::detect::{DetectParams, Detection};
use crate::error::{ImagingError, Result};
use crate::fill::FillOptions;
use crate::io::{ReadOptions, WriteOptions, create_folder, read_image, read_mask, write_image};
use crate::mask::Mask;
use crate::methods::{Detector, Repainter};
use crate::metrics::{DetectionScore, SsimWindow, check_comparable, detection_score};
use crate::observer::{Observer, Quiet};
use crate::restore::{DETECTED_DILATE, MaskSource, RestoreReport, blend_weights, restore};

/// Pixels in the hands of all workers together. The scores of a picture take some 150 bytes a pixel.
const PIXELS_AT_ONCE: u64 = 24_000_000;

/// Where the masks of a run come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskKind {
    /// The data set's own.
    Given,
    /// The damage detector's.
    Detected,
}

impl MaskKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Detected => "detected",
        }
    }
}

/// What is scored, and how.
#[derive(Clone, Debug)]
pub struct EvaluateOptions {
    /// The ways to repaint that are compared. Default: the biharmonic fill. May be empty if `restored` is not.
    pub methods: Vec<Arc<dyn Repainter>>,
    /// The masks to fill with. Default: empty, which means given masks if the data set has some, else detected ones.
    pub masks: Vec<MaskKind>,
    /// Folders of results made elsewhere, to be scored beside the fills. Default: none.
    pub restored: Vec<PathBuf>,
    /// How damage is found. Default: the classical detector.
    pub detector: Arc<dyn Detector>,
    /// Pixels to grow detected masks by before filling. Default: 1.
    pub dilate: usize,
    /// Feather of detected masks in pixels. Default: 0.
    pub feather: f32,
    /// Score the detector against the data set's masks. Default: true.
    pub score_detection: bool,
    /// Distance in pixels within which a damaged pixel counts as found. Default: 2.
    pub tolerance: f64,
    /// The window of SSIM.
    pub ssim_window: SsimWindow,
    /// Also take the pictures in folders inside those of the data set. Default: false.
    pub recursive: bool,
    /// Use only this many pictures, drawn with `seed`. Default: all.
    pub sample: Option<usize>,
    /// Seeds the sample and the confidence intervals. Default: 0.
    pub seed: u64,
    /// Pictures to keep for sheets and the report: a third each of those with the largest gain, the smallest, and
    /// an even selection. Default: 12.
    pub exhibits: usize,
    /// Write the restored pictures to this folder, one folder a run, as PNG. Default: do not.
    pub save_restored: Option<PathBuf>,
    /// How images are read.
    pub read: ReadOptions,
    /// Replace restored pictures that exist. Default: false.
    pub force: bool,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self {
            methods: vec![Arc::new(FillOptions::default())],
            masks: Vec::new(),
            restored: Vec::new(),
            detector: Arc::new(DetectParams::default()),
            dilate: DETECTED_DILATE,
            feather: 0.0,
            score_detection: true,
            tolerance: 2.0,
            ssim_window: SsimWindow::Uniform,
            sample: None,
            recursive: false,
            seed: 0,
            exhibits: 12,
            save_restored: None,
            read: ReadOptions::default(),
            force: false,
        }
    }
}

/// One way to restore.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// What tables and folders call it: "biharmonic", or "biharmonic-detected" where both kinds of masks are used.
    pub name: String,
    /// How damage is repainted; `None` for results made elsewhere.
    #[serde(serialize_with = "name_only")]
    pub method: Option<Arc<dyn Repainter>>,
    /// Where its masks come from; `None` for results made elsewhere.
    pub masks: Option<MaskKind>,
    /// The folder of results made elsewhere.
    pub folder: Option<PathBuf>,
}

fn name_only<S: Serializer>(method: &Option<Arc<dyn Repainter>>, s: S) -> Result<S::Ok, S::Error> {
    method.as_ref().map(|method| method.name()).serialize(s)
}

/// What one run made of one picture.
#[derive(Clone, Debug)]
pub struct RunScores {
    /// The restored picture against the clean one.
    pub restored: Scores,
    /// What was filled, and how long it took; `None` for results made elsewhere.
    pub report: Option<RestoreReport>,
}

/// All figures of one picture.
#[derive(Clone, Debug)]
pub struct ImageScores {
    /// The damaged picture's file name.
    pub name: String,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bits a channel.
    pub bits: u8,
    /// 1 for grey, 3 for colour.
    pub color_channels: usize,
    /// Share of damaged pixels in the data set's mask.
    pub coverage: Option<f64>,
    /// The damaged picture against the clean one.
    pub damaged: Scores,
    /// What each run made of it.
    pub runs: Vec<RunScores>,
    /// How well the detector did against the data set's mask.
    pub detection: Option<DetectionScore>,
}

impl ImageScores {
    /// By how much a run made the picture better; see [`Metric::gain`].
    #[must_use]
    pub fn gain(&self, run: usize, metric: Metric) -> Option<f64> {
        let restored = self.runs.get(run)?.restored.get(metric)?;
        Some(metric.gain(self.damaged.get(metric)?, restored))
    }
}

/// What an evaluation found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The data set's folder.
    pub dataset: PathBuf,
    /// The ways to restore that were compared.
    pub runs: Vec<Run>,
    /// Every picture that was scored, in the order of the names.
    pub images: Vec<ImageScores>,
    /// Everything that was not, and why.
    pub failures: Vec<Failure>,
    /// Means and intervals, a run each.
    pub summaries: Vec<RunSummary>,
    /// How well the damage was found, if that was scored.
    pub detection: Option<DetectionSummary>,
    /// Pictures to look at.
    pub exhibits: Vec<Exhibit>,
    /// What was asked for.
    pub options: EvaluateOptions,
}

/// Opens a data set and scores it: [`Dataset::open`], [`Dataset::sample`] and [`evaluate_dataset`] in one.
///
/// # Errors
/// What these return.
pub fn evaluate(
    dataset: &Path,
    options: &EvaluateOptions,
    observer: &dyn Observer,
) -> Result<Evaluation> {
    let mut dataset = Dataset::open(dataset, &options.restored, options.recursive, &options.read)?;
    if let Some(count) = options.sample {
        dataset.sample(count, options.seed);
    }
    evaluate_dataset(&dataset, options, observer)
}

/// Scores every picture of a data set. Those that fail are named in [`Evaluation::failures`], after the data set's
/// own problems, and the rest goes on.
///
/// # Errors
/// [`ImagingError::Argument`] for options that do not fit together or the data set; [`ImagingError::Dataset`] if
/// every picture fails; [`ImagingError::Cancelled`].
pub fn evaluate_dataset(
    dataset: &Dataset,
    options: &EvaluateOptions,
    observer: &dyn Observer,
) -> Result<Evaluation> {
    let runs = plan(dataset, options)?;
    if let Some(folder) = &options.save_restored {
        for run in runs.iter().filter(|run| run.method.is_some()) {
            create_folder(&folder.join(&run.name))?;
        }
    }
    let work = Work {
        dataset,
        options,
        runs: &runs,
        exhibits: Mutex::new(Exhibits::new(options.exhibits, dataset.triplets.len())),
    };
    let results = work.run(observer)?;
    let exhibits = work.exhibits.into_inner().unwrap_or_else(PoisonError::into_inner).into_vec();

    let mut failures = dataset.problems.clone();
    let mut images = Vec::new();
    for (triplet, result) in dataset.triplets.iter().zip(results) {
        match result {
            Ok(scores) => images.push(scores),
            Err(error) => {
                failures.push(Failure { filename: triplet.name.clone(), error: error.to_string() });
            }
        }
    }
    if images.is_empty() {
        let reasons: Vec<&str> = failures.iter().map(|one| one.error.as_str()).collect();
        return Err(ImagingError::Dataset {
            path: dataset.root.clone(),
            problem: format!("no picture could be scored: {}", reasons.join("; ")),
        });
    }
    let mut evaluation = Evaluation {
        dataset: dataset.root.clone(),
        detection: DetectionSummary::new(&images, options.tolerance, options.seed),
        runs,
        images,
        failures,
        summaries: Vec::new(),
        exhibits,
        options: options.clone(),
    };
    evaluation.summaries = (0..evaluation.runs.len())
        .map(|run| RunSummary::new(&evaluation, run, options.seed))
        .collect();
    Ok(evaluation)
}

/// The runs that the options ask for, with names that differ.
fn plan(dataset: &Dataset, options: &EvaluateOptions) -> Result<Vec<Run>> {
    let mut kinds = options.masks.clone();
    kinds.dedup();
    if kinds.is_empty() {
        kinds.push(if dataset.has_masks { MaskKind::Given } else { MaskKind::Detected });
    }
    if kinds.contains(&MaskKind::Given) && !dataset.has_masks && !options.methods.is_empty() {
        return Err(ImagingError::Dataset {
            path: dataset.root.join("mask"),
            problem: "expected a folder of masks, found none (detect the damage instead)"
                .to_owned(),
        });
    }
    if options.methods.is_empty() && options.restored.is_empty() {
        return Err(ImagingError::argument("methods", "at least one to score", "none"));
    }
    if !(0.0..=250.0).contains(&options.tolerance) {
        return Err(ImagingError::argument("tolerance", "0 to 250 pixels", options.tolerance));
    }

    let mut runs: Vec<Run> = Vec::new();
    let mut add = |name: String, run: Run| {
        let taken = |name: &str| runs.iter().any(|run: &Run| run.name == name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name));
        runs.push(Run { name: name.unwrap_or_default(), ..run });
    };
    for method in &options.methods {
        for &masks in &kinds {
            let name = method.name();
            let name =
                if kinds.len() > 1 { format!("{name}-{}", masks.name()) } else { name.to_owned() };
            let run = Run {
                name: String::new(),
                method: Some(Arc::clone(method)),
                masks: Some(masks),
                folder: None,
            };
            add(name, run);
        }
    }
    for folder in &options.restored {
        let name = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let run =
            Run { name: String::new(), method: None, masks: None, folder: Some(folder.clone()) };
        add(if name.is_empty() { "restored".to_owned() } else { name }, run);
    }
    Ok(runs)
}

/// What the workers share.
struct Work<'a> {
    dataset: &'a Dataset,
    options: &'a EvaluateOptions,
    runs: &'a [Run],
    exhibits: Mutex<Exhibits>,
}

impl Work<'_> {
    /// Scores all pictures, in their order.
    fn run(&self, observer: &dyn Observer) -> Result<Vec<Result<ImageScores>>> {
        let triplets = &self.dataset.triplets;
        let largest = triplets.iter().map(|triplet| triplet.pixels).max().unwrap_or(1).max(1);
        let fitting = usize::try_from(PIXELS_AT_ONCE / largest).unwrap_or(1);
        // A heavy method works on one picture at a time.
        let heavy = self.options.methods.iter().any(|method| method.is_heavy());
        let fitting = if heavy { 1 } else { fitting };
        let workers = rayon::current_num_threads().min(fitting).min(triplets.len()).max(1);
        let next = AtomicUsize::new(0);
        let done = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<Result<ImageScores>>>> =
            Mutex::new(triplets.iter().map(|_| None).collect());
        observer.progress("scoring", 0, triplets.len() as u64);
        // Plain threads, which wait while the pool works for them: a thread of the pool that waits would start on
        // a second picture and hold two in memory.
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(triplet) = triplets.get(index) else { break };
                        if observer.cancelled() {
                            break;
                        }
                        let result = self.one(index, triplet, &Quiet(observer));
                        results.lock().unwrap_or_else(PoisonError::into_inner)[index] =
                            Some(result);
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        observer.progress("scoring", done as u64, triplets.len() as u64);
                    }
                });
            }
        });
        observer.check()?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(results.into_iter().map(|one| one.unwrap_or(Err(ImagingError::Cancelled))).collect())
    }

    fn one(&self, index: usize, triplet: &Triplet, observer: &dyn Observer) -> Result<ImageScores> {
        let options = self.options;
        let about = |path: &Path, error: ImagingError| match error {
            ImagingError::Cancelled => error,
            error => ImagingError::Dataset { path: path.to_path_buf(), problem: error.to_string() },
        };

        // 1. read
        let clean = read_image(&triplet.clean, &options.read)?;
        let damaged = read_image(&triplet.damaged, &options.read)?;
        check_comparable(&clean, &damaged).map_err(|error| about(&triplet.damaged, error))?;
        let truth = match &triplet.mask {
            Some(path) => {
                let mask = read_mask(path, &options.read)?;
                ImagingError::check_size("mask", clean.size(), mask.size())
                    .map_err(|error| about(path, error))?;
                Some(mask)
            }
            None => None,
        };
        observer.check()?;

        // 2. detect
        let wanted = self.runs.iter().any(|run| run.masks == Some(MaskKind::Detected));
        let scored = truth.as_ref().filter(|_| options.score_detection);
        let found: Option<Detection> = if wanted || scored.is_some() {
            Some(
                options
                    .detector
                    .detect(&damaged, observer)
                    .map_err(|e| about(&triplet.damaged, e))?,
            )
        } else {
            None
        };
        let detection = match (&found, scored) {
            (Some(found), Some(truth)) => {
                Some(detection_score(&found.mask, truth, options.tolerance)?)
            }
            _ => None,
        };
        let soft = match &found {
            Some(found) if wanted => {
                let found = found.mask.clone();
                Some(blend_weights(found, options.dilate, options.feather)?)
            }
            _ => None,
        };
        drop(found);

        // 3. restore and score, run by run
        let window = options.ssim_window;
        let before = Scores::new(&clean, &damaged, truth.as_ref(), window)?;
        let mut pictures = Vec::new();
        let mut runs = Vec::new();
        let mut elsewhere = triplet.restored.iter();
        for run in self.runs {
            let named = |error: ImagingError| match error {
                ImagingError::Cancelled => error,
                error => ImagingError::Dataset {
                    path: triplet.damaged.clone(),
                    problem: format!("{}: {error}", run.name),
                },
            };
            let (image, report) = match (&run.method, run.masks) {
                (Some(method), Some(kind)) => {
                    let mask = if kind == MaskKind::Given { truth.clone() } else { soft.clone() };
                    let mask = mask.unwrap_or_else(|| Mask::empty(clean.width(), clean.height()));
                    let source = MaskSource::Given { mask, dilate: 0, feather: 0.0 };
                    let done = restore(damaged.clone(), source, method.as_ref(), observer)
                        .map_err(named)?;
                    (done.image, Some(done.report))
                }
                _ => {
                    let path = elsewhere.next().unwrap_or(&triplet.damaged);
                    let image = read_image(path, &options.read)?;
                    check_comparable(&clean, &image).map_err(|error| about(path, error))?;
                    (image, None)
                }
            };
            observer.check()?;
            let restored = Scores::new(&clean, &image, truth.as_ref(), window)?;
            if let (Some(folder), Some(_)) = (&options.save_restored, &run.method) {
                let stem = Path::new(&triplet.name).with_extension("png");
                let write = WriteOptions { force: options.force, ..WriteOptions::default() };
                let path = folder.join(&run.name).join(stem);
                path.parent().map_or(Ok(()), create_folder)?;
                write_image(&path, &image, &write)?;
            }
            pictures.push(image);
            runs.push(RunScores { restored, report });
        }
        observer.check()?;

        let scores = ImageScores {
            name: triplet.name.clone(),
            width: clean.width(),
            height: clean.height(),
            bits: clean.samples().bits(),
            color_channels: clean.color().color_channels(),
            coverage: truth.as_ref().map(Mask::coverage),
            damaged: before,
            runs,
            detection,
        };

        // 4. keep it to look at, if it is among the best, the worst or the selection
        let mask = truth.as_ref().or(soft.as_ref());
        self.exhibit(
            index,
            &scores,
            Shown { clean: &clean, damaged: &damaged, mask, restored: &pictures },
        )?;
        Ok(scores)
    }

    fn exhibit(&self, index: usize, scores: &ImageScores, shown: Shown<'_>) -> Result<()> {
        let gain = scores.gain(0, Metric::Psnr).unwrap_or(0.0);
        let exhibits = || self.exhibits.lock().unwrap_or_else(PoisonError::into_inner);
        if exhibits().wants(index, gain) {
            let exhibit = Exhibit::new(index, scores, self.runs, shown)?;
            exhibits().add(exhibit, gain);
        }
        Ok(())
    }
}
