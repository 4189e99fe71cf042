//! One restoration, from the uploaded file to the files of the result.

use imaging::io::{Format, WriteOptions, read_image, read_mask, write_image, write_mask};
use imaging::restore::blend_weights;
use imaging::{Image, Mask, Observer};

use super::Job;
use crate::choices::MaskChoice;
use crate::detection;
use crate::engine::Engine;
use crate::problem::Problem;
use crate::store::{JobFiles, PictureFiles, PictureRecord};
use crate::views::{ViewSize, write_view};

/// Where everything of a job is.
pub(super) struct Place<'a> {
    pub(super) record: &'a PictureRecord,
    pub(super) picture: PictureFiles,
    pub(super) files: JobFiles,
}

/// Restores, as `photomend restore` does, and writes the result; gives the share of the pixels that may have changed.
pub(super) fn restore(
    engine: &dyn Engine,
    job: &Job,
    place: &Place<'_>,
    options: &imaging::io::ReadOptions,
    observer: &dyn Observer,
) -> Result<f64, Problem> {
    let Place { record, picture, files } = place;

    // 1. the picture and where it is damaged
    observer.progress("read", 0, 1);
    let mut image = read_image(&picture.original(record.format), options)?;
    observer.check()?;
    let found = match job.choices.mask {
        MaskChoice::Own => read_mask(&files.own_mask(), options)?,
        MaskChoice::Detected => {
            detection::find(engine, &image, picture, job.choices.sensitivity, observer)?
        }
    };
    let mask = blend_weights(found, usize::from(job.choices.grow), job.choices.feather)?;

    // 2. repainted in place
    observer.check()?;
    engine.repaint(&mut image, &mask, &job.choices, observer)?;
    observer.check()?;

    // 3. on disk; the record, which says that it is done, comes last
    observer.progress("write", 0, 1);
    write(files, record.format, &image, &mask)?;
    Ok(mask.coverage())
}

fn write(files: &JobFiles, format: Format, image: &Image, mask: &Mask) -> Result<(), Problem> {
    let options = WriteOptions { force: true, jpeg_quality: None };
    write_mask(&files.mask(), mask, &options)?;
    write_view(&files.view(ViewSize::Screen.name()), image, ViewSize::Screen)?;
    write_image(&files.result(format), image, &options)?;
    // Kept pixels keep their values in this one, whatever the format of the original.
    if format != Format::Png {
        write_image(&files.result(Format::Png), image, &options)?;
    }
    Ok(())
}
