//! `photomend evaluate`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use imaging::evaluate::{EvaluateOptions, MaskKind};
use imaging::metrics::SsimWindow;
use imaging::restore::DETECTED_DILATE;

use super::{
    DetectionArgs, DiffusionArgs, JsonArgs, MethodArg, PresetArg, ReadArgs, TELEA_RADIUS, number_in,
};
use crate::context::Context;
use crate::engine::ModelRepainter;

/// Measures restorations: PSNR, SSIM, ΔE2000 and SSIMULACRA 2 over a data set, with plots, sheets and a report.
///
/// DATASET holds clean/, damaged/ and, optionally, mask/, with files of the same names (any extension). Every
/// damaged picture is restored and compared with its clean version. OUT receives report.html, metrics.csv,
/// metrics/psnr_scores.csv, metrics/ssim_scores.csv, summary.json, summary.md, plots/ and sheets/. A checkpoint is one more
/// way to restore; with LoRAs it is compared without them too.
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The folder with clean/, damaged/ and, optionally, mask/
    #[arg(value_name = "DATASET")]
    pub(crate) dataset: PathBuf,

    /// Folder for the report; new or empty, unless --force
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) json: JsonArgs,

    /// Also take the pictures in folders inside those of DATASET
    #[arg(short, long)]
    pub(crate) recursive: bool,

    /// Use only this many pictures, drawn with --seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sample: Option<u32>,

    /// Seeds the sample, the confidence intervals and the noise of a checkpoint
    #[arg(long, value_name = "S", default_value = "0")]
    pub(crate) seed: u64,

    /// How to restore; several, separated by commas, are compared side by side [default: refined, or none with
    /// --restored]
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',', help_heading = "Methods")]
    pub(crate) method: Vec<MethodArg>,

    /// Refine with this network, which `photomend train-refiner` wrote, and not with the carried one
    #[arg(long, value_name = "FILE", help_heading = "Methods")]
    pub(crate) refiner: Option<PathBuf>,

    /// Score the results in this folder, made elsewhere; may be given several times
    #[arg(long, value_name = "DIR", help_heading = "Methods")]
    pub(crate) restored: Vec<PathBuf>,

    /// Telea's neighbourhood radius in pixels, 1 to 100
    #[arg(
        long, value_name = "PX", default_value_t = TELEA_RADIUS, help_heading = "Methods",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub(crate) radius: u8,

    /// Restore with the data set's masks, with detected damage, or with one after the other; separated by
    /// commas [default: given if there is mask/, else detected]
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', help_heading = "Masks")]
    pub(crate) masks: Vec<MasksArg>,

    /// Find the damage instead of taking mask/; the same as --masks detected
    #[arg(long, help_heading = "Masks", conflicts_with = "masks")]
    pub(crate) detect: bool,

    /// What the detection is tuned for
    #[arg(long, value_enum, value_name = "KIND", default_value_t, help_heading = "Masks")]
    pub(crate) preset: PresetArg,

    /// Grow detected masks by this many pixels before filling, 0 to 100
    #[arg(
        long, value_name = "PX", default_value_t = DETECTED_DILATE, help_heading = "Masks",
        value_parser = number_in(0_usize..=100)
    )]
    pub(crate) dilate: usize,

    /// Soften the edge of detected masks with a Gaussian of this many pixels, 0 to 50
    #[arg(
        long, value_name = "SIGMA", default_value_t = 0.0, help_heading = "Masks",
        value_parser = number_in(0.0_f32..=50.0)
    )]
    pub(crate) feather: f32,

    /// Do not score the damage detection against mask/
    #[arg(long, help_heading = "Scores")]
    pub(crate) no_detection: bool,

    /// Distance in pixels within which damage counts as found, 0 to 250
    #[arg(
        long, value_name = "PX", default_value = "2", help_heading = "Scores",
        value_parser = number_in(0.0_f64..=250.0)
    )]
    pub(crate) tolerance: f64,

    /// SSIM with a Gaussian window (σ 1.5, 11×11) instead of the uniform 7×7
    #[arg(long, help_heading = "Scores")]
    pub(crate) gaussian_ssim: bool,

    /// Pictures shown on sheets and in the report: the best, the worst, and a selection
    #[arg(
        long, value_name = "N", default_value = "12", help_heading = "Files",
        value_parser = clap::value_parser!(u16).range(0..=1000)
    )]
    pub(crate) sheets: u16,

    /// Also write the restored pictures, to OUT/restored/METHOD/, as PNG
    #[arg(long, help_heading = "Files")]
    pub(crate) save_restored: bool,

    /// Write into a folder that is not empty, replacing files
    #[arg(short, long, help_heading = "Files")]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) diffusion: DiffusionArgs,

    #[command(flatten)]
    pub(crate) detection: DetectionArgs,

    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

/// Where masks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MasksArg {
    /// The data set's own, in mask/
    Given,
    /// Found by the damage detection
    Detected,
}

impl From<MasksArg> for MaskKind {
    fn from(masks: MasksArg) -> Self {
        match masks {
            MasksArg::Given => Self::Given,
            MasksArg::Detected => Self::Detected,
        }
    }
}

impl EvaluateArgs {
    /// The library's options.
    ///
    /// # Errors
    /// Those of reading the networks.
    pub(crate) fn options(&self, context: &Context) -> anyhow::Result<EvaluateOptions> {
        let has_others = self.diffusion.model.is_some() || !self.restored.is_empty();
        let mut wanted = self.method.clone();
        if self.refiner.is_some() && !wanted.contains(&MethodArg::Refined)
            || wanted.is_empty() && !has_others
        {
            wanted.push(MethodArg::Refined);
        }
        let fill = |method: MethodArg| method.repainter(self.radius, self.refiner.as_deref());
        let mut methods = wanted.into_iter().map(fill).collect::<anyhow::Result<Vec<_>>>()?;
        if self.diffusion.model.is_some() {
            let whole = self.diffusion.seeded(self.seed);
            let base = DiffusionArgs { lora: Vec::new(), ..whole.clone() };
            let compared = if whole.lora.is_empty() {
                vec![("model", base)]
            } else {
                vec![("base", base), ("lora", whole)]
            };
            let prefill = fill(MethodArg::default())?;
            for (name, args) in compared {
                methods.push(Arc::new(ModelRepainter::load(name, &args, &prefill, context)?));
            }
        }
        Ok(EvaluateOptions {
            methods,
            masks: if self.detect {
                vec![MaskKind::Detected]
            } else {
                self.masks.iter().map(|&masks| masks.into()).collect()
            },
            restored: self.restored.clone(),
            recursive: self.recursive,
            detector: self.detection.detector(self.preset, None)?,
            dilate: self.dilate,
            feather: self.feather,
            score_detection: !self.no_detection,
            tolerance: self.tolerance,
            ssim_window: if self.gaussian_ssim {
                SsimWindow::Gaussian
            } else {
                SsimWindow::Uniform
            },
            sample: self.sample.map(|count| count as usize),
            seed: self.seed,
            exhibits: usize::from(self.sheets),
            save_restored: self.save_restored.then(|| self.output.join("restored")),
            read: self.read.options(),
            force: self.force,
        })
    }
}
