//! `photomend restore`: plans every file of the run, checks the plan, then restores picture by picture.

use std::path::{Path, PathBuf};
use std::time::Instant;

use imaging::detect::DetectParams;
use imaging::fill::{FillMethod, FillOptions};
use imaging::io::{self, ReadOptions, WriteOptions};
use imaging::restore::{MaskSource, RestoreReport, Restored, restore};
use imaging::{ColorType, Image, Observer};
use serde::Serialize;

use crate::args::RestoreArgs;
use crate::batch::{self, Job};
use crate::context::Context;
use crate::exit::{Outcome, UsageError};
use crate::inputs::{self, Input};
use crate::masks::MaskFinder;
use crate::outputs;

pub(crate) fn run(args: &RestoreArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. plan every file, and check the plan before any work
    let settings = Settings::new(args);
    let jobs = plan(args, &settings)?;
    check(&jobs, args.write.force)?;
    if jobs.iter().any(|job| outputs::is_lossy(&job.output)) {
        context.note(
            "JPEG encodes kept pixels anew; write PNG, TIFF or WebP (-o NAME.png) to keep them bit-identical",
        );
    }

    // 2. work
    let report = batch::run(context, &jobs);

    // 3. report
    if args.json.json {
        context.print_json(&report)?;
    }
    Ok(report.finish(context))
}

/// What is the same for all pictures of a run.
struct Settings {
    fill: FillOptions,
    detect: DetectParams,
    feather: Option<f32>,
    read: ReadOptions,
    write: WriteOptions,
}

impl Settings {
    fn new(args: &RestoreArgs) -> Self {
        Self {
            fill: args.fill_options(),
            detect: DetectParams::preset(args.preset.into()),
            feather: args.feather,
            read: args.read.options(),
            write: args.write.options(),
        }
    }
}

/// One picture and all files that belong to it.
struct RestoreJob<'a> {
    settings: &'a Settings,
    input: PathBuf,
    output: PathBuf,
    /// The mask to use, or why there is none; `None` to find the damage.
    mask: Option<Result<PathBuf, String>>,
    save_mask: Option<PathBuf>,
    compare: Option<PathBuf>,
}

/// The report on one picture.
#[derive(Serialize)]
struct ImageReport {
    output: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    mask: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    saved_mask: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<PathBuf>,
    width: usize,
    height: usize,
    bit_depth: u8,
    color: &'static str,
    method: FillMethod,
    #[serde(flatten)]
    restore: RestoreReport,
    read_s: f64,
    write_s: f64,
}

fn plan<'a>(args: &RestoreArgs, settings: &'a Settings) -> anyhow::Result<Vec<RestoreJob<'a>>> {
    let given = &args.input.inputs;
    let single = inputs::is_single_file(given);
    let not_read: Vec<&Path> =
        [&args.output, &args.mask].into_iter().flatten().map(PathBuf::as_path).collect();
    let images = inputs::expand(given, args.input.recursive, &not_read)?;
    let masks = args.mask.as_deref().map(|path| MaskFinder::new(path, single)).transpose()?;

    images
        .into_iter()
        .map(|image| {
            let output = output_for(args, &image, single)?;
            Ok(RestoreJob {
                settings,
                mask: masks.as_ref().map(|masks| masks.find(&image)),
                save_mask: args.save_mask.then(|| outputs::beside(&output, "mask", "png")),
                compare: args.compare.then(|| outputs::beside(&output, "compare", "png")),
                input: image.path,
                output,
            })
        })
        .collect()
}

fn output_for(args: &RestoreArgs, image: &Input, single: bool) -> anyhow::Result<PathBuf> {
    match &args.output {
        None if single => {
            let extension = image.path.extension().unwrap_or_default().to_string_lossy();
            Ok(outputs::beside(&image.path, "restored", &extension))
        }
        Some(output) if single && outputs::is_image_name(output)? => Ok(output.clone()),
        output => {
            let folder = inputs::output_folder(output.as_deref())?;
            if !single && outputs::is_image_name(folder)? {
                return Err(UsageError::new(format!(
                    "{}: expected a folder to write several images to, found the name of an image file",
                    folder.display()
                )));
            }
            Ok(folder.join(&image.relative))
        }
    }
}

fn check(jobs: &[RestoreJob<'_>], force: bool) -> anyhow::Result<()> {
    let planned = jobs.iter().flat_map(|job| {
        [Some(&job.output), job.save_mask.as_ref(), job.compare.as_ref()]
            .into_iter()
            .flatten()
            .map(|output| (job.input.as_path(), output.as_path()))
    });
    let read = jobs.iter().flat_map(|job| {
        let mask = job.mask.as_ref().and_then(|mask| mask.as_ref().ok());
        [Some(&job.input), mask].into_iter().flatten().map(PathBuf::as_path)
    });
    outputs::check(planned, read, force)
}

impl Job for RestoreJob<'_> {
    type Report = ImageReport;

    fn input(&self) -> &Path {
        &self.input
    }

    fn pixels(&self) -> u64 {
        0
    }

    fn run(&self, context: &Context, observer: &dyn Observer) -> anyhow::Result<ImageReport> {
        let settings = self.settings;

        // 1. read
        let started = Instant::now();
        let mask_file = match &self.mask {
            Some(Ok(path)) => Some(path),
            Some(Err(reason)) => anyhow::bail!("{reason}"),
            None => None,
        };
        let image = io::read_image(&self.input, &settings.read)?;
        let source = match mask_file {
            Some(path) => MaskSource::Given(io::read_mask(path, &settings.read)?),
            None => MaskSource::Detect {
                params: settings.detect.clone(),
                feather: settings.feather.unwrap_or(DETECTED_FEATHER),
            },
        };
        let read_s = started.elapsed().as_secs_f64();
        observer.check()?;

        // 2. restore
        let (width, height) = image.size();
        let (bit_depth, color) = (image.samples().bits(), color_name(&image));
        let Restored { image, mask, report } = restore(image, source, &settings.fill, observer)?;
        if report.fill.pixels == 0 {
            let what = if mask_file.is_some() { "the mask is empty" } else { "no damage found" };
            context.note(&format!("{}: {what}, its pixels stay as they are", self.input.display()));
        }
        observer.check()?;

        // 3. write; the picture last, so that it stands for a finished job
        let started = Instant::now();
        outputs::make_parent(&self.output)?;
        if let Some(path) = &self.save_mask {
            io::write_mask(path, &mask, &settings.write)?;
        }
        io::write_image(&self.output, &image, &settings.write)?;
        let write_s = started.elapsed().as_secs_f64();

        context.status(&format!(
            "{}: {:.2} % repaired → {}",
            self.input.display(),
            report.coverage * 100.0,
            self.output.display()
        ));
        Ok(ImageReport {
            output: self.output.clone(),
            mask: mask_file.cloned(),
            saved_mask: self.save_mask.clone(),
            compare: self.compare.clone(),
            width,
            height,
            bit_depth,
            color,
            method: settings.fill.method,
            restore: report,
            read_s,
            write_s,
        })
    }
}

/// Pixels that the edge of detected damage is softened by.
const DETECTED_FEATHER: f32 = 1.0;

fn color_name(image: &Image) -> &'static str {
    match image.color() {
        ColorType::Gray => "gray",
        ColorType::GrayAlpha => "gray+alpha",
        ColorType::Rgb => "rgb",
        ColorType::Rgba => "rgb+alpha",
    }
}
