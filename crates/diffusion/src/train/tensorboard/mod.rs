//! Event files that TensorBoard shows: scalars, images and text over the steps of a run.
//!
//! Written without TensorFlow's libraries, after `tensorflow/core/util/event.proto` and PyTorch's `SummaryWriter`,
//! whose legacy summaries (`simple_value`, `image`) every TensorBoard reads. Each run writes a file of its own, which
//! carries no host name; TensorBoard joins the files of a folder in the order of their names.

mod proto;
mod record;

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use imaging::{Image, Metadata, Samples};

use self::proto::Value;
use crate::error::{DiffusionError, Result};

/// Runs that may start in one folder within one second.
const MOST_A_SECOND: usize = 1000;

/// Writes one event file.
///
/// What is logged reaches the file when a buffer is full, on [`flush`](Self::flush) and when the writer is dropped; a
/// failure in the last case goes unnoticed. A file that was cut off by a crash is readable up to its last whole event.
///
/// Wall times are seconds since 1970-01-01 UTC.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventWriter {
    /// Starts a new file in `folder`, which is made if it does not exist. No file is ever replaced.
    ///
    /// `start_step` is the first step that this run may log: TensorBoard forgets what earlier files of the folder
    /// logged at it or later, so that the steps that an interrupted run repeats do not appear twice. A run that
    /// resumes after 500 finished and logged steps passes 501.
    ///
    /// # Errors
    /// [`DiffusionError::Io`] naming the folder or file; [`DiffusionError::Argument`] if `wall_time` is not in
    /// `0.0..1e10` or `start_step` is above `i64::MAX`.
    pub fn create(folder: &Path, start_step: u64, wall_time: f64) -> Result<Self> {
        let step = signed(start_step)?;
        if !(0.0..1e10).contains(&wall_time) {
            return Err(DiffusionError::argument("wall time", "seconds since 1970", wall_time));
        }
        std::fs::create_dir_all(folder)
            .map_err(|error| DiffusionError::io(folder, "create the folder", error))?;
        let (path, file) = new_file(folder, wall_time as u64)?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.write(&proto::file_version(wall_time))?;
        writer.write(&proto::session_start(wall_time, step))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Logs a number, which may be infinite or NaN. Tags with a common part before a `/` are shown together.
    ///
    /// # Errors
    /// [`DiffusionError::Io`] naming the file; [`DiffusionError::Argument`] for a step above `i64::MAX`.
    pub fn scalar(&mut self, step: u64, wall_time: f64, tag: &str, value: f32) -> Result<()> {
        self.write(&Value::scalar(tag, value).event(wall_time, signed(step)?))
    }

    /// Logs a picture as PNG. 16-bit samples are rounded to 8 bits; of the metadata only the ICC profile is kept.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar), and [`DiffusionError::Imaging`] if the picture cannot be encoded.
    pub fn image(&mut self, step: u64, wall_time: f64, tag: &str, image: &Image) -> Result<()> {
        let step = signed(step)?;
        let file = imaging::io::encode_png(&eight_bits(image)?)?;
        let value = Value::image(tag, image.size(), image.color().channels(), &file);
        self.write(&value.event(wall_time, step))
    }

    /// Logs a text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// As [`scalar`](Self::scalar).
    pub fn text(&mut self, step: u64, wall_time: f64, tag: &str, text: &str) -> Result<()> {
        self.write(&Value::text(tag, text).event(wall_time, signed(step)?))
    }

    /// Hands everything logged so far to the system, for readers to see.
    ///
    /// # Errors
    /// [`DiffusionError::Io`] naming the file.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|error| DiffusionError::io(&self.path, "write", error))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file
            .write_all(&record::framed(event))
            .map_err(|error| DiffusionError::io(&self.path, "write", error))
    }
}

/// A file that did not exist, with a name that sorts after those of earlier seconds and earlier runs of this second.
fn new_file(folder: &Path, seconds: u64) -> Result<(PathBuf, File)> {
    let mut taken = None;
    for run in 0..MOST_A_SECOND {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.photomend.{run:03}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = Some((path, error)),
            Err(error) => return Err(DiffusionError::io(path, "create", error)),
        }
    }
    let (path, error) = taken.unwrap_or_else(|| (folder.into(), ErrorKind::AlreadyExists.into()));
    Err(DiffusionError::io(path, "create", error))
}

/// The step as event files store it.
fn signed(step: u64) -> Result<i64> {
    i64::try_from(step)
        .map_err(|_| DiffusionError::argument("step", format!("at most {}", i64::MAX), step))
}

fn eight_bits(image: &Image) -> Result<Image> {
    let values = match image.samples() {
        Samples::U8(values) => values.clone(),
        Samples::U16(values) => {
            values.iter().map(|&value| ((u32::from(value) + 128) / 257) as u8).collect()
        }
    };
    let mut small = Image::new(image.width(), image.height(), image.color(), Samples::U8(values))?;
    // Whether the colours are multiplied by alpha is part of what the samples mean; the encoder undoes it.
    let (icc_profile, tiff) = (image.metadata.icc_profile.clone(), image.metadata.tiff);
    small.metadata = Metadata { icc_profile, tiff, ..Metadata::default() };
    Ok(small)
}

#[cfg(test)]
mod tests;
