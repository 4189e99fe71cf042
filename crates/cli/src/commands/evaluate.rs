//! `photomend evaluate`: names everything that is wrong with the data set, scores the rest, writes the report.

use imaging::evaluate::{Dataset, evaluate_dataset};
use imaging::report::{self, ReportOptions};

use crate::args::EvaluateArgs;
use crate::context::Context;
use crate::exit::Outcome;

pub(crate) fn run(args: &EvaluateArgs, context: &Context) -> anyhow::Result<Outcome> {
    // 1. everything that can be known before the work
    let options = args.options(context)?;
    let mut dataset =
        Dataset::open(&args.dataset, &options.restored, options.recursive, &options.read)?;
    report::prepare_output(&args.output, args.force)?;
    for problem in &dataset.problems {
        context.error(&problem.error);
    }
    if let Some(count) = options.sample {
        dataset.sample(count, options.seed);
    }

    // 2. the work
    let evaluation = evaluate_dataset(&dataset, &options, context)?;
    for failure in evaluation.failures.iter().skip(dataset.problems.len()) {
        context.error(&failure.error);
    }

    // 3. the report
    let command = command_line(std::env::args());
    let report = ReportOptions { force: args.force, command: Some(command.clone()) };
    let page = report::write_report(&evaluation, &args.output, &report)?;
    if args.json.json {
        context.print_json(&report::summary(&evaluation, Some(&command))?)?;
    } else {
        context.print(&report::markdown(&evaluation))?;
    }
    context.note(&format!("the report is {}", page.display()));

    let failed = evaluation.failures.len();
    if failed > 0 {
        let scored = evaluation.images.len();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        context.error(&format!(
            "{failed} problem{}, {scored} image{} scored",
            plural(failed),
            plural(scored)
        ));
        return Ok(Outcome::Failed);
    }
    Ok(Outcome::Done)
}

/// The command as it can be typed again in a POSIX shell; the program by its name alone.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let mut words = vec!["photomend".to_owned()];
    words.extend(arguments.skip(1).map(|word| {
        let plain = |c: char| c.is_alphanumeric() || "-_=+,./:@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    }));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_typed_again() {
        let words = ["/usr/bin/photomend", "evaluate", "my photos", "it's", "-o", "out/1", ""];
        let line = command_line(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(line, r"photomend evaluate 'my photos' 'it'\''s' -o out/1 ''");
    }
}
