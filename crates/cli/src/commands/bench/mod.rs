//! `photomend bench`: the median time of each stage, of the picture and of the model.

mod diffusion;
mod imaging;
mod timing;

use candle_core::{DType, Device};
use serde::Serialize;

use self::diffusion::ModelTimes;
use self::imaging::PictureTimes;
use self::timing::Timer;
use crate::args::{BenchArgs, Stage};
use crate::context::Context;
use crate::exit::Outcome;

pub(crate) fn run(args: &BenchArgs, context: &Context) -> anyhow::Result<Outcome> {
    let wanted = |stage| args.only.is_empty() || args.only.contains(&stage);
    let timer = Timer::new(args.repeat, context);

    // 1. the device, before any work
    let models = [Stage::Text, Stage::VaeEncode, Stage::VaeDecode, Stage::Unet, Stage::UnetBatch2];
    let engine = models.into_iter().any(wanted).then(|| args.engine.open()).transpose()?;

    // 2. the stages
    let pictures = [Stage::Detect, Stage::Telea, Stage::Biharmonic];
    let picture = pictures
        .into_iter()
        .any(wanted)
        .then(|| imaging::times(args, &timer, wanted))
        .transpose()?;
    let model = engine
        .as_ref()
        .map(|(device, dtype)| diffusion::times(device, *dtype, &timer, wanted))
        .transpose()?;

    // 3. the table
    let report = Report {
        threads: rayon::current_num_threads(),
        repeat: timer.most_runs(),
        picture: picture.unwrap_or_default(),
        model: model.unwrap_or_default(),
        device: engine.as_ref().map(|(device, _)| device_name(device)),
        dtype: engine.as_ref().map(|(_, dtype)| dtype.as_str()),
        compute_dtype: engine
            .as_ref()
            .map(|(device, dtype)| compute_dtype(device, *dtype).as_str()),
        peak_rss_bytes: peak_rss_bytes(),
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
    dtype: Option<&'static str>,
    compute_dtype: Option<&'static str>,
    peak_rss_bytes: Option<u64>,
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
            text += &format!(", {}\n\n{}", self.how(), self.model.table());
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

/// The type of inputs and activations: the CPU computes in f32, a GPU in the type of the weights.
const fn compute_dtype(device: &Device, weights: DType) -> DType {
    match device {
        Device::Cpu => DType::F32,
        _ => weights,
    }
}

/// The most memory that this process has held, as Linux counts it; `None` elsewhere.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
