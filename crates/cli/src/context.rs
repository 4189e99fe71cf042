//! What every verb is given beside its own arguments: cancellation, progress, threads, and where to print.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use imaging::Observer;
use serde::Serialize;

use crate::args::GlobalArgs;
use crate::exit;
use crate::progress::{Progress, StageLine};

/// The surroundings of a running verb. As an [`Observer`] it shows one bar and stops on Ctrl-C.
pub(crate) struct Context {
    quiet: bool,
    cancel: CancelToken,
    progress: Progress,
    stage: StageLine,
}

impl Context {
    /// Starts the thread pool and listens for Ctrl-C. Called once.
    pub(crate) fn new(args: &GlobalArgs) -> anyhow::Result<Self> {
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(threads) = args.threads {
            pool = pool.num_threads(usize::from(threads));
        }
        pool.build_global().context("cannot start the threads")?;
        let progress = Progress::new(args.quiet);
        let stage = progress.stage_line("");
        Ok(Self { quiet: args.quiet, cancel: CancelToken::listening(), progress, stage })
    }

    /// The same surroundings for a thread that outlives the verb's function.
    pub(crate) fn shared(&self) -> Self {
        let progress = self.progress.shared();
        let stage = progress.stage_line("");
        Self { quiet: self.quiet, cancel: self.cancel.clone(), progress, stage }
    }

    /// The flag that Ctrl-C sets.
    pub(crate) const fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// The bars, for a verb that shows more than one.
    pub(crate) const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Writes `photomend: note: message` to stderr, unless `--quiet`.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            self.progress.suspend(|| exit::print_line("note", message));
        }
    }

    /// Writes `photomend: error: message` to stderr; for failures that do not end the verb.
    pub(crate) fn error(&self, message: &str) {
        self.progress.suspend(|| exit::print_line("error", message));
    }

    /// Writes a line that only someone who watches wants: to stderr, if it is a terminal, unless `--quiet`.
    pub(crate) fn status(&self, message: &str) {
        if self.progress.is_shown() {
            self.progress.suspend(|| {
                let _ = writeln!(io::stderr(), "{message}");
            });
        }
    }

    /// Writes the verb's result to stdout. A reader that has gone away is no failure.
    pub(crate) fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write to stdout")
            }
            _ => Ok(()),
        }
    }

    /// Writes a report to stdout as indented JSON and a line end.
    pub(crate) fn print_json(&self, report: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(report).context("cannot write the report")?;
        self.print(&format!("{text}\n"))
    }
}

impl Observer for Context {
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        self.stage.update(stage, done, total);
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_set()
    }
}

/// Becomes set, once and for all, when the user asks to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that the first Ctrl-C (or SIGTERM, SIGHUP) sets; the second one ends the process at once.
    fn listening() -> Self {
        let token = Self::default();
        let flag = Arc::clone(&token.0);
        // Fails if one of the signals is not at its default: started under nohup, or in a shell's background.
        // Then they stay as whoever started this wanted them.
        let _ = ctrlc::try_set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(exit::INTERRUPTED));
            }
        });
        token
    }

    /// True once the user asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
