//! `photomend model info`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use diffusion::checkpoint::hub::{self, HubOptions};
use diffusion::checkpoint::{ComponentInfo, ModelInfo, ModelKind, TensorSummary, inspect};

use crate::args::ModelInfoArgs;
use crate::context::Context;
use crate::engine::abridged;
use crate::engine::open_options;
use crate::exit::Outcome;

pub(super) fn run(args: &ModelInfoArgs, context: &Context) -> anyhow::Result<Outcome> {
    let path = local(&args.model, args.variant.as_deref(), context)?;
    let info = inspect(&path, &open_options(args.variant.as_deref()))?;
    if args.json.json {
        context.print_json(&info)?;
    } else {
        context.print(&text(&info))?;
    }
    let usable = info.components.iter().all(is_whole);
    Ok(if usable { Outcome::Done } else { Outcome::Failed })
}

/// A path, or a model that has been fetched: a question does not start a download.
fn local(model: &str, variant: Option<&str>, context: &Context) -> anyhow::Result<PathBuf> {
    if Path::new(model).exists() || !hub::is_id(model) {
        return Ok(PathBuf::from(model));
    }
    let hub =
        HubOptions { variant: variant.map(str::to_owned), offline: true, ..HubOptions::from_env() };
    hub::resolve(model, &hub, context)
        .with_context(|| format!("fetch it first: photomend model pull {model}"))
}

fn is_whole(part: &ComponentInfo) -> bool {
    part.problem.is_none() && part.missing.is_empty() && part.mismatched.is_empty()
}

fn text(info: &ModelInfo) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(&mut out, info);
    out
}

fn write_text(out: &mut String, info: &ModelInfo) -> std::fmt::Result {
    let kind = match info.kind {
        ModelKind::Folder => "diffusers folder",
        ModelKind::ComponentFolder => "folder of one component",
        ModelKind::SingleFile => "single file",
        ModelKind::Lora => "LoRA",
        ModelKind::Tensors => "file of tensors",
    };
    writeln!(out, "{}: {kind}", info.path.display())?;
    for (label, value) in [("pipeline", &info.class), ("prediction", &info.prediction_type)] {
        if let Some(value) = value {
            writeln!(out, "  {label:<13} {value}")?;
        }
    }
    if let Some(lora) = &info.lora {
        let styles: Vec<&str> = lora.styles.iter().map(String::as_str).collect();
        writeln!(out, "  {:<13} {}", "names of", styles.join(", "))?;
        for (part, layers) in &lora.layers {
            writeln!(out, "  {part:<13} {layers} layers")?;
        }
        list(out, "unknown", &lora.unknown)?;
    }
    for part in &info.components {
        writeln!(out, "  {:<13} {}", part.component.name(), summary(&part.summary))?;
        if let Some(class) = &part.class {
            writeln!(out, "    {class}")?;
        }
        list(out, "  missing", &part.missing)?;
        list(out, "  other shapes", &part.mismatched)?;
        list(out, "  not used", &part.unexpected)?;
        if let Some(problem) = &part.problem {
            writeln!(out, "    problem: {problem}")?;
        }
    }
    if let Some(total) = &info.summary {
        writeln!(out, "  {:<13} {}", "all", summary(total))?;
    }
    list(out, "missing", &info.missing)
}

fn list(out: &mut String, label: &str, names: &[String]) -> std::fmt::Result {
    if names.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {label}: {} ({})", names.len(), abridged(names))
}

/// "686 tensors, 859.5 M parameters, 1.72 GB, f16".
fn summary(summary: &TensorSummary) -> String {
    let dtypes: Vec<&str> = summary.dtypes.keys().map(String::as_str).collect();
    format!(
        "{} tensors, {} parameters, {}B, {}",
        summary.tensors,
        scaled(summary.parameters),
        scaled(summary.bytes),
        dtypes.join(" + ")
    )
}

/// 859520964 as "859.5 M", 512 as "512 ".
fn scaled(count: u64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let value = count as f64;
    match units.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", value / unit),
        None => format!("{count} "),
    }
}
