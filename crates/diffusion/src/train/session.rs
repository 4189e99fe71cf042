//! What goes on beside the steps of a run: its settings shown, its validations.

use std::time::Instant;

use imaging::io::{WriteOptions, write_image};

use super::data::TripletPaths;
use super::encode::Prompts;
use super::journal::Journal;
use super::learner::Learner;
use super::log::LogEntry;
use super::outputs::{self, make_folder};
use super::trainer::{TrainJob, TrainObserver};
use super::validation::{Subject, Validation, Validator};
use crate::components::{Autoencoder, PromptEmbeds};
use crate::error::Result;
use crate::schedulers::SchedulerConfig;

/// What goes on beside the steps.
pub(super) struct Session<'a> {
    pub(super) job: &'a TrainJob<'a>,
    pub(super) observer: &'a dyn TrainObserver,
    pub(super) journal: Journal<'a>,
    pub(super) validator: Option<&'a dyn Validator>,
    pub(super) held_out: Vec<TripletPaths>,
}

impl Session<'_> {
    /// Shows the run's settings beside its curves.
    pub(super) fn settings(&mut self) -> Result<()> {
        let text = format!("```toml\n{}```", self.job.options.to_toml()?);
        self.journal.events.text(0, outputs::wall_time(), "settings", &text)
    }

    /// Restores the held-out pictures with the weights as they would be saved.
    pub(super) fn validate(
        &mut self,
        learner: &Learner,
        vae: &Autoencoder,
        prompts: &mut Prompts<'_>,
        scheduler: &SchedulerConfig,
    ) -> Result<()> {
        let Some(validator) = self.validator else { return Ok(()) };
        let started = Instant::now();
        let step = learner.steps_done();
        let embeds = PromptEmbeds {
            positive: prompts.get(&self.job.options.data.prompt)?.detach(),
            negative: prompts.get("")?.detach(),
            truncated: Vec::new(),
        };
        let done = learner.with_final_weights(|unet| {
            validator.validate(
                &Subject {
                    unet,
                    vae,
                    prompts: &embeds,
                    scheduler,
                    triplets: &self.held_out,
                    options: self.job.options,
                    device: &self.job.device,
                    fill: &self.job.fill,
                },
                self.observer,
            )
        });
        let Validation { scores, before, sheets } = match done {
            // The run stops at the next step; there is nothing to report.
            Err(error) if error.is_cancelled() => return Ok(()),
            done => done?,
        };
        let entry = LogEntry::Validation {
            step,
            images: self.held_out.len(),
            psnr: scores.psnr,
            masked_psnr: scores.masked_psnr,
            ssim: scores.ssim,
            damaged_psnr: before.psnr,
            damaged_masked_psnr: before.masked_psnr,
            damaged_ssim: before.ssim,
            seconds: started.elapsed().as_secs_f64(),
        };
        let now = outputs::wall_time();
        let folder = self.job.output.join("validation").join(format!("step-{step:08}"));
        if !sheets.is_empty() {
            make_folder(&folder)?;
        }
        for (name, sheet) in &sheets {
            let write = WriteOptions { force: true, ..WriteOptions::default() };
            write_image(&folder.join(format!("{name}.png")), sheet, &write)?;
            self.journal.events.image(step, now, &format!("validation/{name}"), sheet)?;
        }
        self.journal.validated(&entry)
    }
}
