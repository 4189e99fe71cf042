//! How a long procedure tells how far it is, and learns that it should stop.

use crate::error::{ImagingError, Result};
use crate::image::Image;

/// Where a procedure is that looks at a picture through windows, in several steps each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The window that is being worked on, from 1. Of several at once, the last.
    pub window: usize,
    /// Windows in all.
    pub windows: usize,
    /// The step in this window that has been made, from 1; 0 before the first.
    pub step: usize,
    /// Steps in this window.
    pub steps: usize,
}

/// Receives progress and can ask for a stop. Called from any thread.
///
/// `()` would do for a caller that wants neither; [`Silent`] says so by name.
pub trait Observer: Sync {
    /// `done` of `total` units of `stage` are finished. Units are the stage's own (windows, rows, images).
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        let _ = (stage, done, total);
    }

    /// Where the procedure is, if it has windows and steps; beside [`Observer::progress`], which tells how far all of it is.
    fn window_step(&self, at: Step) {
        let _ = at;
    }

    /// The picture as it is so far, when more of it has been repainted. Only long procedures say so.
    fn painted(&self, image: &Image) {
        let _ = image;
    }

    /// True once the work should stop; procedures look at it at least several times a second.
    fn cancelled(&self) -> bool {
        false
    }

    /// `Err(Cancelled)` once the work should stop, for use with `?`.
    ///
    /// # Errors
    /// [`ImagingError::Cancelled`] when [`Observer::cancelled`] is true.
    fn check(&self) -> Result<()> {
        if self.cancelled() { Err(ImagingError::Cancelled) } else { Ok(()) }
    }
}

/// An [`Observer`] that ignores progress and never stops the work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Passes on the wish to stop, and no progress: for a part of a procedure that counts in larger units.
pub struct Quiet<'a>(pub &'a dyn Observer);

impl Observer for Quiet<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
