//! Progress bars on stderr: only on a terminal, never with `--quiet`.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use imaging::Observer;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::CancelToken;

/// The bars of this process; draws nothing where nobody watches.
pub(crate) struct Progress(Option<MultiProgress>);

impl Progress {
    /// Bars on stderr if it is a terminal and `quiet` is false.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self(shown.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())))
    }

    /// The same bars.
    pub(crate) fn shared(&self) -> Self {
        Self(self.0.clone())
    }

    /// True if someone watches.
    pub(crate) const fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// Runs `print` while no bar is on the screen.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    /// A bar over `total` items (`noun` in the plural), with an estimate of the time left.
    pub(crate) fn count(&self, noun: &str, total: usize) -> ProgressBar {
        let Some(bars) = &self.0 else { return ProgressBar::hidden() };
        let template = format!("{{bar:24}} {{pos}}/{{len}} {noun} · {{elapsed}} · ETA {{eta}}");
        bars.add(ProgressBar::new(total as u64).with_style(style(&template)))
    }

    /// A bar over `total` steps of which `done` were done before, with a message beside it.
    pub(crate) fn steps(&self, total: u64, done: u64) -> ProgressBar {
        let Some(bars) = &self.0 else { return ProgressBar::hidden() };
        let template = "{bar:24} {pos}/{len} steps · {msg} · {elapsed} · ETA {eta}";
        let bar = bars.add(ProgressBar::new(total).with_style(style(template)));
        // Steps of an earlier session say nothing about the speed of this one.
        bar.set_position(done);
        bar.reset_eta();
        bar
    }

    /// A line for the stages of one job, called `name`; it appears with the first stage.
    pub(crate) fn stage_line(&self, name: &str) -> StageLine {
        StageLine { bars: self.0.clone(), name: name.to_owned(), current: Mutex::new(None) }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}

/// One line that shows the current stage of a job. It goes away when dropped.
pub(crate) struct StageLine {
    bars: Option<MultiProgress>,
    name: String,
    current: Mutex<Option<(&'static str, ProgressBar)>>,
}

impl StageLine {
    /// `done` of `total` units of `stage` are finished; any thread may say so.
    pub(crate) fn update(&self, stage: &'static str, done: u64, total: u64) {
        let Some(bars) = &self.bars else { return };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if done >= total {
            // What is finished makes room for what comes next.
            if let Some((_, bar)) = current.take() {
                bars.remove(&bar);
            }
            return;
        }
        match &*current {
            Some((shown, bar)) if *shown == stage => {
                bar.set_length(total);
                bar.set_position(done);
            }
            _ => {
                if let Some((_, bar)) = current.take() {
                    bars.remove(&bar);
                }
                let style = style("{prefix}{msg} {bar:24} {percent:>3} % · ETA {eta}");
                let bar = bars.add(ProgressBar::new(total).with_style(style));
                bar.set_prefix(self.name.clone());
                bar.set_message(stage);
                bar.set_position(done);
                *current = Some((stage, bar));
            }
        }
    }
}

impl Drop for StageLine {
    fn drop(&mut self) {
        let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let (Some(bars), Some((_, bar))) = (&self.bars, current.take()) {
            bars.remove(&bar);
        }
    }
}

/// Observes one item of a batch: its own stage line, and the cancel flag that all share.
pub(crate) struct ItemObserver<'a> {
    pub(crate) cancel: &'a CancelToken,
    pub(crate) line: StageLine,
}

impl Observer for ItemObserver<'_> {
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        self.line.update(stage, done, total);
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_set()
    }
}
