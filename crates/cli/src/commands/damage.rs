//! `photomend damage`: the library makes the set, this says how it went.

use std::path::Path;

use imaging::damage::{Dataset, Triplet, make_dataset};
use serde::Serialize;

use crate::args::DamageArgs;
use crate::context::Context;
use crate::exit::Outcome;
use crate::outputs;

pub(crate) fn run(args: &DamageArgs, context: &Context) -> anyhow::Result<Outcome> {
    if !args.clean.is_dir() {
        let found = if args.clean.exists() { "a file" } else { "no such folder" };
        anyhow::bail!(
            "{}: expected a folder of clean photographs, found {found}",
            args.clean.display()
        );
    }
    outputs::make_folder(&args.output)?;
    let made = make_dataset(&args.clean, &args.output, &args.options(), context)?;
    if args.json.json {
        context.print_json(&Report::new(&made, &args.output))?;
    } else {
        context.status(&format!(
            "{} triplets, {:.2} % of the pixels damaged → {}",
            made.triplets.len(),
            100.0 * mean_coverage(&made.triplets),
            args.output.display()
        ));
    }
    for (_, error) in &made.failures {
        context.error(&error.to_string());
    }
    if !made.failures.is_empty() {
        let failed = made.failures.len();
        context.error(&format!("{failed} photographs were left out"));
    }
    if made.cancelled && made.triplets.len() < made.planned {
        let (done, planned) = (made.triplets.len(), made.planned);
        context.error(&format!("interrupted: {done} of {planned} triplets are done"));
        return Ok(Outcome::Interrupted);
    }
    Ok(if made.failures.is_empty() { Outcome::Done } else { Outcome::Failed })
}

fn mean_coverage(triplets: &[Triplet]) -> f64 {
    let sum: f64 = triplets.iter().map(|triplet| triplet.coverage).sum();
    sum / triplets.len().max(1) as f64
}

#[derive(Serialize)]
struct Report<'a> {
    output: &'a Path,
    planned: usize,
    done: usize,
    mean_coverage: f64,
    triplets: &'a [Triplet],
    failures: Vec<Failure<'a>>,
}

#[derive(Serialize)]
struct Failure<'a> {
    input: &'a Path,
    error: String,
}

impl<'a> Report<'a> {
    fn new(made: &'a Dataset, output: &'a Path) -> Self {
        let failures = made.failures.iter();
        Self {
            output,
            planned: made.planned,
            done: made.triplets.len(),
            mean_coverage: mean_coverage(&made.triplets),
            triplets: &made.triplets,
            failures: failures
                .map(|(input, error)| Failure { input, error: error.to_string() })
                .collect(),
        }
    }
}
