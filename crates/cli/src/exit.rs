//! From an outcome or an error to an exit code and one line on stderr.

use std::io::Write;
use std::process::ExitCode;

use diffusion::DiffusionError;
use imaging::ImagingError;

/// How a verb ended, when it did not end with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done: exit code 0.
    Done,
    /// Something failed and has been reported: exit code 1.
    Failed,
    /// The user asked to stop; what was finished is kept: exit code 130.
    Interrupted,
}

/// Arguments that do not fit together, found after clap accepted each of them: exit code 2.
#[derive(Debug)]
pub(crate) struct UsageError(String);

/// A [`UsageError`] to return.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(UsageError(message.into()))
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// 128 + SIGINT, as a shell reports a command that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// The exit code; an error is first written to stderr.
pub(crate) fn code(outcome: anyhow::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) if is_cancelled(&error) => {
            print_line("error", "interrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            print_line("error", &flatten(&error));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

/// True if the error says that the user asked to stop.
pub(crate) fn is_cancelled(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ImagingError::Cancelled))
        || error.downcast_ref().is_some_and(DiffusionError::is_cancelled)
}

/// The chain of an error on one line: "what: because: because".
///
/// A cause that the error before it already quotes at its end is left out.
pub(crate) fn flatten(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
    }
    line.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Writes `photomend: kind: message` to stderr; a closed stderr is nobody's problem.
pub(crate) fn print_line(kind: &str, message: &str) {
    let _ = writeln!(std::io::stderr(), "photomend: {kind}: {message}");
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_that_is_already_quoted_is_not_repeated() {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = anyhow::Error::new(ImagingError::io("a.png", "read", missing));
        assert_eq!(flatten(&error), "a.png: cannot read: no such file");
    }

    #[test]
    fn contexts_come_first_and_lines_are_joined() {
        let error: anyhow::Error =
            Err::<(), _>(anyhow::anyhow!("one\n  two")).context("the mask").unwrap_err();
        assert_eq!(flatten(&error), "the mask: one; two");
    }
}
