//! `photomend restore`: plans every file of the run, checks the plan, then restores picture by picture.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use imaging::io::{self, ReadOptions, WriteOptions};
use imaging::report::sheet::restoration;
use imaging::restore::{DETECTED_DILATE, MaskSource, RestoreReport, Restored, restore};
use imaging::{Detector, Image, ImagingError, Mask, Observer, Repainter};
use serde::Serialize;

use crate::args::RestoreArgs;
use crate::batch::{self, Job};
use crate::context::Context;
use crate::engine::{self, Engine};
use crate::exit::{self, Outcome};
use crate::inputs::{self, Input};
use crate::masks::MaskFinder;
use crate::outputs;

pub(crate) fn run(args: &RestoreArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. plan every file, and check the plan before any work
    let plan = plan(args)?;
    check(&plan, args.write.force)?;
    if plan.iter().any(|files| outputs::is_lossy(&files.output)) {
        context.note(
            "JPEG encodes kept pixels anew; write PNG, TIFF or WebP (-o NAME.png) to keep them bit-identical",
        );
    }

    // 2. the model, if one is asked for
    let fill = args.fill.repainter()?;
    let engine = engine::load(&args.diffusion.seeded(args.noise.seed), &fill, context)?;

    // 3. work
    let settings = Settings::new(args, fill, engine)?;
    let jobs: Vec<_> =
        plan.into_iter().map(|files| RestoreJob { files, settings: &settings }).collect();
    let report = batch::run(context, &jobs);

    // 4. report
    if args.json.json {
        context.print_json(&report)?;
    }
    Ok(report.finish(context))
}

/// What is the same for all pictures of a run.
struct Settings {
    /// What repaints where no model does, and what a model starts from.
    fill: Arc<dyn Repainter>,
    detector: Arc<dyn Detector>,
    dilate: Option<u16>,
    feather: f32,
    read: ReadOptions,
    write: WriteOptions,
    /// What repaints on top of the fill.
    engine: Option<Engine>,
}

impl Settings {
    fn new(
        args: &RestoreArgs,
        fill: Arc<dyn Repainter>,
        engine: Option<Engine>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            fill,
            engine,
            detector: args.detection.detector(args.preset, None)?,
            dilate: args.dilate,
            feather: args.feather,
            read: args.read.options(),
            write: args.write.options(),
        })
    }

    fn restore(
        &self,
        image: Image,
        source: MaskSource,
        observer: &dyn Observer,
    ) -> anyhow::Result<(Image, Mask, Report)> {
        let Some(engine) = &self.engine else {
            let Restored { image, mask, report } =
                restore(image, source, self.fill.as_ref(), observer)?;
            return Ok((image, mask, Report::Classical(report)));
        };
        let done = engine.restorer().restore(image, source, observer)?;
        Ok((done.image, done.mask, Report::Diffusion(done.report)))
    }

    /// The mask in this file, or else the detection.
    fn mask_source(&self, mask: Option<&Path>, image: &Image) -> imaging::Result<MaskSource> {
        let Some(path) = mask else {
            return Ok(MaskSource::Detect {
                detector: Arc::clone(&self.detector),
                dilate: self.dilate.map_or(DETECTED_DILATE, usize::from),
                feather: self.feather,
            });
        };
        let mask = io::read_mask(path, &self.read)?;
        ImagingError::check_size(&format!("mask {}", path.display()), image.size(), mask.size())?;
        Ok(MaskSource::Given {
            mask,
            dilate: self.dilate.map_or(0, usize::from),
            feather: self.feather,
        })
    }
}

/// One picture and all files that belong to it.
struct Files {
    input: PathBuf,
    output: PathBuf,
    /// The mask to use; `None` to find the damage.
    mask: Option<PathBuf>,
    /// Why this picture cannot be restored, known before the work: it fails, the others go on.
    problem: Option<String>,
    save_mask: Option<PathBuf>,
    compare: Option<PathBuf>,
}

/// One picture of the batch.
struct RestoreJob<'a> {
    files: Files,
    settings: &'a Settings,
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
    method: String,
    #[serde(flatten)]
    restore: Report,
    read_s: f64,
    write_s: f64,
}

/// The report on a restoration, classical or with a model.
#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Classical(RestoreReport),
    Diffusion(diffusion::pipelines::restore::RestoreReport),
}

impl Report {
    /// The share of the pixels that may have changed.
    const fn coverage(&self) -> f64 {
        match self {
            Self::Classical(report) => report.coverage,
            Self::Diffusion(report) => report.coverage,
        }
    }
}

fn plan(args: &RestoreArgs) -> anyhow::Result<Vec<Files>> {
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
            let (mask, mask_problem) = match masks.as_ref().map(|masks| masks.find(&image)) {
                Some(Err(problem)) => (None, Some(problem)),
                found => (found.and_then(Result::ok), None),
            };
            Ok(Files {
                mask,
                problem: mask_problem.or_else(|| outputs::why_not_written(&output)),
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
            let extension = image.path.extension().unwrap_or("png".as_ref());
            Ok(outputs::beside(&image.path, "restored", &extension.to_string_lossy()))
        }
        Some(output) if single && outputs::is_image_name(output)? => Ok(output.clone()),
        output => {
            let folder = inputs::output_folder(output.as_deref())?;
            if !single && outputs::is_image_name(folder)? {
                return Err(exit::usage(format!(
                    "{}: expected a folder to write several images to, found the name of an image file",
                    folder.display()
                )));
            }
            Ok(folder.join(&image.relative))
        }
    }
}

fn check(plan: &[Files], force: bool) -> anyhow::Result<()> {
    let planned = plan.iter().flat_map(|files| {
        [Some(&files.output), files.save_mask.as_ref(), files.compare.as_ref()]
            .into_iter()
            .flatten()
            .map(|output| (files.input.as_path(), output.as_path()))
    });
    let read = plan.iter().flat_map(|files| {
        [Some(&files.input), files.mask.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    });
    outputs::check(planned, read, force)
}

impl Job for RestoreJob<'_> {
    type Report = ImageReport;

    fn input(&self) -> &Path {
        &self.files.input
    }

    fn pixels(&self) -> u64 {
        // A network takes all threads and much memory for one picture.
        if self.settings.engine.is_some() || self.settings.fill.is_heavy() {
            u64::MAX
        } else {
            inputs::pixels(self.input())
        }
    }

    fn run(&self, context: &Context, observer: &dyn Observer) -> anyhow::Result<ImageReport> {
        let Self { files, settings } = self;

        // 1. read
        let started = Instant::now();
        if let Some(problem) = &files.problem {
            anyhow::bail!("{problem}");
        }
        let image = io::read_image(&files.input, &settings.read)?;
        let source = settings.mask_source(files.mask.as_deref(), &image)?;
        let before = files.compare.is_some().then(|| image.clone());
        let read_s = started.elapsed().as_secs_f64();
        observer.check()?;

        // 2. restore
        let (width, height) = image.size();
        let (bit_depth, color) = (image.samples().bits(), image.color().name());
        let (image, mask, report) = settings.restore(image, source, observer)?;
        if report.coverage() == 0.0 {
            let why = if files.mask.is_some() { "the mask is empty" } else { "no damage found" };
            context.note(&format!("{}: {why}, its pixels stay as they are", files.input.display()));
        }
        observer.check()?;

        // 3. write; the picture last, so that it stands for a finished job
        let started = Instant::now();
        outputs::make_parent(&files.output)?;
        if let Some(path) = &files.save_mask {
            io::write_mask(path, &mask, &settings.write)?;
        }
        if let (Some(path), Some(before)) = (&files.compare, before) {
            let name = files.input.file_name().map(|name| name.to_string_lossy());
            let sheet = restoration(name.as_deref(), &before, &mask, &image)?;
            io::write_image(path, &sheet, &settings.write)?;
        }
        io::write_image(&files.output, &image, &settings.write)?;
        let write_s = started.elapsed().as_secs_f64();

        context.status(&format!(
            "{}: {:.2} % repaired → {}",
            files.input.display(),
            report.coverage() * 100.0,
            files.output.display()
        ));
        Ok(ImageReport {
            output: files.output.clone(),
            mask: files.mask.clone(),
            saved_mask: files.save_mask.clone(),
            compare: files.compare.clone(),
            width,
            height,
            bit_depth,
            color,
            method: settings.fill.name().to_owned(),
            restore: report,
            read_s,
            write_s,
        })
    }
}
