//! `photomend bench`: the median time of each stage, of the picture and of the model.

mod diffusion;
mod imaging;
mod memory;
mod timing;

use std::collections::BTreeMap;

use ::diffusion::components::LoadOptions;
use ::diffusion::{Device, instruction_set};
use clap::ValueEnum as _;
use serde::Serialize;

use self::diffusion::ModelTimes;
use self::imaging::PictureTimes;
use self::timing::Timer;
use crate::args::{BenchArgs, Stage};
use crate::context::Context;
use crate::exit::Outcome;

pub(crate) fn run(args: &BenchArgs, context: &Context) -> anyhow::Result<Outcome> {
    let wanted = |stage: Stage| match args.only.as_slice() {
        [] => stage.is_default(),
        only => only.contains(&stage),
    };
    let any = |of_picture: bool| {
        Stage::value_variants()
            .iter()
            .any(|&stage| stage.is_of_picture() == of_picture && wanted(stage))
    };
    let timer = Timer::new(args.repeat, context);

    // 1. the device, before any work
    let engine = any(false).then(|| args.engine.open()).transpose()?;
    let load =
        engine.map(|(device, dtype)| LoadOptions { dtype, device, ..LoadOptions::default() });

    // 2. the stages
    let picture = any(true).then(|| imaging::times(args, &timer, wanted)).transpose()?;
    let model = load.as_ref().map(|load| diffusion::times(load, &timer, wanted)).transpose()?;

    // 3. the table
    let repeat = timer.most_runs();
    let (memory, fastest_s_by_stage) = timer.finish();
    let (peak_rss_bytes, peak_rss_bytes_by_stage) = memory.finish();
    let on_cpu = load.as_ref().is_some_and(|load| load.device.is_cpu());
    let report = Report {
        threads: rayon::current_num_threads(),
        repeat,
        picture: picture.unwrap_or_default(),
        model: model.unwrap_or_default(),
        device: load.as_ref().map(|load| device_name(&load.device)),
        isa: on_cpu.then(instruction_set),
        dtype: load.as_ref().map(|load| load.dtype.as_str()),
        compute_dtype: load.as_ref().map(|load| load.compute_dtype().as_str()),
        fastest_s_by_stage,
        peak_rss_bytes,
        peak_rss_bytes_by_stage,
    };
    if args.json.json {
        context.print_json(&report)?;
    } else {
        context.print(&report.table())?;
    }
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Report {
    threads: usize,
    repeat: u16,
    #[serde(flatten)]
    picture: PictureTimes,
    #[serde(flatten)]
    model: ModelTimes,
    device: Option<&'static str>,
    /// The instructions of the CPU that the networks use.
    isa: Option<&'static str>,
    dtype: Option<&'static str>,
    compute_dtype: Option<&'static str>,
    /// The shortest run of each stage: on a shared machine, the one that was disturbed least.
    fastest_s_by_stage: BTreeMap<String, f64>,
    peak_rss_bytes: Option<u64>,
    /// While each stage ran, by the name that `--only` takes.
    peak_rss_bytes_by_stage: BTreeMap<String, u64>,
}

impl Report {
    fn table(&self) -> String {
        let mut text = String::new();
        if let Some(scan) = self.picture.describe() {
            text += &format!("{scan}, {}\n\n{}", self.how(), self.picture.table());
        }
        if let (Some(device), Some(dtype)) = (self.device, self.dtype) {
            if !text.is_empty() {
                text.push('\n');
            }
            text += &format!("Stable Diffusion 1.5 at 512×512, {dtype} weights, {device}");
            if let Some(compute) = self.compute_dtype.filter(|&compute| compute != dtype) {
                text += &format!(" computing in {compute}");
            }
            if let Some(isa) = self.isa {
                text += &format!(" on {isa}");
            }
            let table = self.model.table(&self.peak_rss_bytes_by_stage);
            text += &format!(", {}\n\n{table}", self.how());
        }
        if let Some(bytes) = self.peak_rss_bytes {
            text += &format!("\npeak memory {:.0} MB\n", bytes as f64 / 1e6);
        }
        text
    }

    fn how(&self) -> String {
        format!("{} threads, median of up to {}", self.threads, self.repeat)
    }
}

const fn device_name(device: &Device) -> &'static str {
    match device {
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    }
}
