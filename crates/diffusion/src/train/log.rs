//! What happened in a run, a line of JSON an event: `log.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use imaging::ImagingError;
use imaging::io::write_atomically;
use serde::{Deserialize, Serialize};

use crate::error::{DiffusionError, Result};

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LogEntry {
    /// An optimizer step.
    Step {
        /// Its number, from 1.
        step: u64,
        /// The pass over the pictures, from 0.
        epoch: u64,
        /// The mean loss of its batches.
        loss: f64,
        /// The learning rate.
        learning_rate: f64,
        /// The norm of the gradients before it was limited.
        grad_norm: f64,
        /// Samples.
        images: usize,
        /// Seconds for the step, with getting its samples.
        seconds: f64,
    },
    /// Held-out pictures restored.
    Validation {
        /// After this many steps.
        step: u64,
        /// Pictures.
        images: usize,
        /// Their mean PSNR, in dB.
        psnr: f64,
        /// Their mean PSNR over damaged pixels, in dB.
        masked_psnr: f64,
        /// Their mean SSIM.
        ssim: f64,
        /// The same three before restoration.
        damaged_psnr: f64,
        /// PSNR over damaged pixels before restoration, in dB.
        damaged_masked_psnr: f64,
        /// SSIM before restoration.
        damaged_ssim: f64,
        /// Seconds for all of them.
        seconds: f64,
    },
    /// Damage found on held-out pictures.
    Detection {
        /// After this many steps.
        step: u64,
        /// Pictures.
        images: usize,
        /// The mean share of found pixels that are damaged, within 2 pixels.
        precision: f64,
        /// The mean share of damaged pixels that were found, within 2 pixels.
        recall: f64,
        /// The mean of the pictures' harmonic means of both.
        f1: f64,
        /// The mean share of the pictures that was found to be damaged.
        flagged: f64,
        /// Seconds for all of them.
        seconds: f64,
    },
    /// Fills of held-out pictures refined.
    Refinement {
        /// After this many steps.
        step: u64,
        /// Pictures.
        images: usize,
        /// Their mean PSNR over repainted pixels, in dB.
        masked_psnr: f64,
        /// The same of the fill alone.
        filled_masked_psnr: f64,
        /// Seconds for all of them.
        seconds: f64,
    },
    /// Held-out pictures encoded and decoded.
    Reconstruction {
        /// After this many steps.
        step: u64,
        /// Pictures.
        images: usize,
        /// Their mean PSNR, in dB.
        psnr: f64,
        /// The standard deviation of their latents.
        latent_std: f64,
        /// Seconds for all of them.
        seconds: f64,
    },
}

impl LogEntry {
    /// The number of steps done.
    #[must_use]
    pub const fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. }
            | Self::Validation { step, .. }
            | Self::Detection { step, .. }
            | Self::Refinement { step, .. }
            | Self::Reconstruction { step, .. } => *step,
        }
    }

    /// True if held-out pictures were judged.
    #[must_use]
    pub const fn is_validation(&self) -> bool {
        !matches!(self, Self::Step { .. })
    }

    /// What a validation found, by name; the first is what counts most.
    #[must_use]
    pub fn scores(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::Step { .. } => Vec::new(),
            Self::Validation { psnr, masked_psnr, ssim, .. } => {
                vec![("masked_psnr", masked_psnr), ("psnr", psnr), ("ssim", ssim)]
            }
            Self::Detection { precision, recall, f1, flagged, .. } => {
                vec![("f1", f1), ("precision", precision), ("recall", recall), ("flagged", flagged)]
            }
            Self::Refinement { masked_psnr, filled_masked_psnr, .. } => {
                vec![("masked_psnr", masked_psnr), ("filled_masked_psnr", filled_masked_psnr)]
            }
            Self::Reconstruction { psnr, latent_std, .. } => {
                vec![("psnr", psnr), ("latent_std", latent_std)]
            }
        }
    }
}

/// The open log of a run.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log of a run that has done `step` steps, and forgets what it says of later ones.
    pub(super) fn open(path: PathBuf, step: u64) -> Result<Self> {
        let kept: Vec<_> = match step {
            0 => Vec::new(),
            step => read(&path)?.into_iter().filter(|entry| entry.step() <= step).collect(),
        };
        let lines: String = kept.iter().map(line).collect();
        write_atomically(&path, true, |file| {
            let fail = |source| ImagingError::io(&path, "write", source);
            file.write_all(lines.as_bytes()).map_err(fail)
        })?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|source| DiffusionError::io(&path, "write", source))?;
        Ok(Self { path, file })
    }

    pub(super) fn write(&mut self, entry: &LogEntry) -> Result<()> {
        self.file
            .write_all(line(entry).as_bytes())
            .map_err(|source| DiffusionError::io(&self.path, "write", source))
    }
}

fn line(entry: &LogEntry) -> String {
    // Numbers and strings: always JSON. A number that is not finite becomes null there.
    serde_json::to_string(entry).unwrap_or_default() + "\n"
}

/// The entries of a log, in order. A line cut off by an interruption, which can only be the last, is left out.
///
/// # Errors
/// [`DiffusionError::Io`] if the file exists and cannot be read.
pub fn read(path: &Path) -> Result<Vec<LogEntry>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text =
        std::fs::read_to_string(path).map_err(|source| DiffusionError::io(path, "read", source))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> LogEntry {
        LogEntry::Step {
            step,
            epoch: 0,
            loss: 0.5,
            learning_rate: 1e-4,
            grad_norm: 1.0,
            images: 1,
            seconds: 0.25,
        }
    }

    #[test]
    fn a_resumed_log_goes_on_after_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(path.clone(), 0).unwrap();
        for at in 1..=4 {
            log.write(&step(at)).unwrap();
        }
        log.file.write_all(b"{\"event\":\"st").unwrap();
        assert_eq!(read(&path).unwrap().len(), 4);
        let mut log = Log::open(path.clone(), 2).unwrap();
        log.write(&step(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [step(1), step(2), step(3)]);
        Log::open(path.clone(), 0).unwrap();
        assert!(read(&path).unwrap().is_empty());
    }
}
