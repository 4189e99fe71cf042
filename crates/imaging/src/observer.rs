//! How a long procedure tells how far it is, and learns that it should stop.

use crate::error::{ImagingError, Result};

/// Receives progress and can ask for a stop. Called from any thread.
///
/// `()` would do for a caller that wants neither; [`Silent`] says so by name.
pub trait Observer: Sync {
    /// `done` of `total` units of `stage` are finished. Units are the stage's own (windows, rows, images).
    fn progress(&self, stage: &'static str, done: u64, total: u64) {
        let _ = (stage, done, total);
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
