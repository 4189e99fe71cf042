//! Writes everything that an evaluation found to a folder.

use std::path::{Path, PathBuf};

use super::svg::rasterize;
use super::{csv, figures, html, json, table};
use crate::error::{ImagingError, Result};
use crate::evaluate::{Evaluation, Metric};
use crate::io::{create_folder, write_atomically};

/// Pixels a unit of the PNG figures: sharp on a dense screen and in print.
const SCALE: f32 = 2.0;

/// How the report is written.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// Replace files in a folder that is not empty. Default: false.
    pub force: bool,
    /// The command that made the report, to be quoted in it. Default: none.
    pub command: Option<String>,
}

/// Makes the folder that a report is to be written to, unless it holds something already and `force` is false.
///
/// To be called before the evaluation, so that a long work is not done for nothing.
///
/// # Errors
/// [`ImagingError::Dataset`] or [`ImagingError::Io`], naming the folder.
pub fn prepare_output(folder: &Path, force: bool) -> Result<()> {
    let refused = |problem: &str| {
        Err(ImagingError::Dataset { path: folder.to_path_buf(), problem: problem.to_owned() })
    };
    if !folder.exists() {
        return create_folder(folder);
    }
    if !folder.is_dir() {
        return refused("expected a folder to write the report to, found a file");
    }
    let mut entries =
        folder.read_dir().map_err(|error| ImagingError::io(folder, "list the folder", error))?;
    if !force && entries.next().is_some() {
        return refused("expected a new or empty folder for the report, found files in it");
    }
    Ok(())
}

/// Writes tables, figures, sheets and the page; every file appears whole or not at all. Returns the page's path.
///
/// - `metrics/psnr_scores.csv`, `metrics/ssim_scores.csv`, `metrics.csv`, `summary.json`, `summary.md`
/// - `plots/`: `psnr_improvement`, `psnr_bars`, `psnr_distribution` and `ssim_bars`, each `.svg` and `.png`
/// - `sheets/NAME.jpg` for each exhibit
/// - `report.html`, which needs none of the others
///
/// # Errors
/// [`ImagingError::Io`] for a file that cannot be written, or that exists unless `force` is true.
pub fn write_report(
    evaluation: &Evaluation,
    folder: &Path,
    options: &ReportOptions,
) -> Result<PathBuf> {
    for folder in [folder.to_path_buf(), folder.join("metrics"), folder.join("plots")] {
        create_folder(&folder)?;
    }
    let write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = folder.join(name);
        write_atomically(&path, options.force, |writer| {
            writer.write_all(bytes).map_err(|error| ImagingError::io(&path, "write", error))
        })
    };

    // 1. tables
    write("metrics/psnr_scores.csv", &csv::short(evaluation, Metric::Psnr)?)?;
    write("metrics/ssim_scores.csv", &csv::short(evaluation, Metric::Ssim)?)?;
    write("metrics.csv", &csv::wide(evaluation)?)?;
    let summary = json::summary(evaluation, options.command.as_deref())?;
    write("summary.json", format!("{summary:#}\n").as_bytes())?;
    write("summary.md", table::markdown(evaluation).as_bytes())?;

    // 2. figures
    let figures = figures::all(evaluation);
    for figure in &figures {
        write(&format!("plots/{}.svg", figure.name), figure.svg.as_bytes())?;
        let png = rasterize(&figure.svg, SCALE)?.encode_png().map_err(|error| {
            ImagingError::Numeric { what: "PNG of a figure", reason: error.to_string() }
        })?;
        write(&format!("plots/{}.png", figure.name), &png)?;
    }

    // 3. sheets
    for exhibit in &evaluation.exhibits {
        // Pictures of folders in the data set are in folders here too.
        let name = Path::new(&exhibit.name).with_extension("jpg");
        create_folder(&folder.join("sheets").join(name.parent().unwrap_or(Path::new(""))))?;
        write(&format!("sheets/{}", name.display()), &exhibit.sheet)?;
    }

    // 4. the page
    let page = html::page(evaluation, &figures, options.command.as_deref());
    write("report.html", page.as_bytes())?;
    Ok(folder.join("report.html"))
}
