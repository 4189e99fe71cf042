//! `photomend mask`: plans every file of the run, then finds the damage picture by picture.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use imaging::detect::{DetectionStats, overlay};
use imaging::io::{self, ReadOptions, WriteOptions};
use imaging::restore::{DETECTED_DILATE, blend_weights};
use imaging::{Detector, Observer};
use serde::Serialize;
use serde_json::Value;

use crate::args::MaskArgs;
use crate::batch::{self, Job};
use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::inputs::{self, Input};
use crate::outputs;

pub(crate) fn run(args: &MaskArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. plan every file, and check the plan before any work
    let settings = Settings {
        detector: args.detection.detector(args.preset, args.dilate)?,
        feather: args.soft.then_some(args.feather),
        read: args.read.options(),
        write: WriteOptions { force: args.force, ..WriteOptions::default() },
    };
    let plan = plan(args)?;
    let planned = plan.iter().flat_map(|files| {
        [Some(&files.mask), files.overlay.as_ref()]
            .into_iter()
            .flatten()
            .map(|output| (files.input.as_path(), output.as_path()))
    });
    outputs::check(planned, plan.iter().map(|files| files.input.as_path()), args.force)?;
    let jobs: Vec<MaskJob<'_>> =
        plan.into_iter().map(|files| MaskJob { files, settings: &settings }).collect();

    // 2. work
    let images = batch::run(context, &jobs);

    // 3. report
    if args.json.json {
        context
            .print_json(&Report { parameters: settings.detector.parameters(), batch: &images })?;
    }
    Ok(images.finish(context))
}

/// What is the same for all pictures of a run.
struct Settings {
    detector: Arc<dyn Detector>,
    /// The soft edge's width; `None` for hard masks.
    feather: Option<f32>,
    read: ReadOptions,
    write: WriteOptions,
}

/// One picture and all files that belong to it.
struct Files {
    input: PathBuf,
    mask: PathBuf,
    overlay: Option<PathBuf>,
}

/// One picture of the batch.
struct MaskJob<'a> {
    files: Files,
    settings: &'a Settings,
}

/// The whole run: what was looked for, and the batch.
#[derive(Serialize)]
struct Report<'a, B> {
    parameters: Value,
    #[serde(flatten)]
    batch: &'a B,
}

/// The report on one picture.
#[derive(Serialize)]
struct ImageReport {
    mask: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<PathBuf>,
    width: usize,
    height: usize,
    #[serde(flatten)]
    stats: DetectionStats,
    detect_s: f64,
}

fn plan(args: &MaskArgs) -> anyhow::Result<Vec<Files>> {
    let given = &args.input.inputs;
    let images = inputs::expand(given, args.input.recursive, &[&args.output])?;
    let single = inputs::is_single_file(given);
    if outputs::is_image_name(&args.output)? {
        let is_png = args.output.extension().is_some_and(|name| name.eq_ignore_ascii_case("png"));
        if !single || !is_png {
            return Err(exit::usage(format!(
                "{}: expected a folder, or a .png file for a single input",
                args.output.display()
            )));
        }
        let input = images.into_iter().map(|image| image.path);
        return Ok(input
            .map(|input| Files { input, mask: args.output.clone(), overlay: None })
            .collect());
    }
    let folder = &args.output;
    Ok(images
        .into_iter()
        .map(|Input { path, relative }| {
            let name = relative.with_extension("png");
            Files {
                input: path,
                mask: folder.join(&name),
                overlay: Some(folder.join("overlay").join(&name)),
            }
        })
        .collect())
}

impl Job for MaskJob<'_> {
    type Report = ImageReport;

    fn input(&self) -> &Path {
        &self.files.input
    }

    fn run(&self, context: &Context, observer: &dyn Observer) -> anyhow::Result<ImageReport> {
        let Self { files, settings } = self;
        let image = io::read_image(&files.input, &settings.read)?;
        let started = Instant::now();
        let found = settings.detector.detect(&image, observer)?;
        let mask = match settings.feather {
            Some(sigma) => blend_weights(found.mask, DETECTED_DILATE, sigma)?,
            None => found.mask,
        };
        let detect_s = started.elapsed().as_secs_f64();
        observer.check()?;

        // The mask last, so that it stands for a finished job.
        if let Some(path) = &files.overlay {
            outputs::make_parent(path)?;
            io::write_image(path, &overlay(&image, &mask)?, &settings.write)?;
        }
        outputs::make_parent(&files.mask)?;
        io::write_mask(&files.mask, &mask, &settings.write)?;

        context.status(&format!(
            "{}: {:.2} % damaged → {}",
            files.input.display(),
            found.stats.coverage * 100.0,
            files.mask.display()
        ));
        Ok(ImageReport {
            mask: files.mask.clone(),
            overlay: files.overlay.clone(),
            width: image.width(),
            height: image.height(),
            stats: found.stats,
            detect_s,
        })
    }
}
