//! Restorations: waiting, running one at a time, and done.

mod observer;
mod queue;
mod restore;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::choices::Choices;
use crate::ids::Id;
use crate::store::JobRecord;

pub(crate) use self::queue::Queue;
pub(crate) use self::worker::Worker;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Waits for its turn.
    Queued,
    /// Is being restored.
    Running,
    /// Has a result.
    Done,
    /// Has none, for the reason in its message.
    Failed,
    /// Has none, because the client said so.
    Cancelled,
}

impl State {
    /// True if nothing will change any more.
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// How far a running job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Progress {
    /// What is being done: "read", "detect", "fill", "refine", "repaint", "write".
    pub(crate) stage: &'static str,
    /// Units of the stage that are done.
    pub(crate) done: u64,
    /// Units of the stage.
    pub(crate) total: u64,
    /// The window that is being painted, from 1; 0 where there are none.
    pub(crate) window: usize,
    /// Windows in all.
    pub(crate) windows: usize,
    /// The step in this window, from 1; 0 before the first.
    pub(crate) step: usize,
    /// Steps in this window.
    pub(crate) steps: usize,
    /// Seconds that the stage will probably still take.
    pub(crate) eta_s: Option<f64>,
    /// Goes up whenever there is more to see.
    pub(crate) preview: u64,
}

/// What clients see of a job, at once or as events.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) id: Id,
    pub(crate) picture: Id,
    pub(crate) state: State,
    /// Jobs before this one, the running one included; only while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<usize>,
    /// Only while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) progress: Option<Progress>,
    /// Seconds that it has run, or took.
    pub(crate) elapsed_s: f64,
    /// The share of the pixels that may have changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) coverage: Option<f64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    pub(crate) choices: Choices,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

/// A job, shared by the index, the queue, the worker and everyone who watches it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Id,
    pub(crate) picture: Id,
    pub(crate) number: u64,
    pub(crate) choices: Choices,
    created: u64,
    cancelled: AtomicBool,
    status: watch::Sender<Status>,
}

impl Job {
    pub(crate) fn new(record: JobRecord) -> Self {
        let JobRecord {
            id,
            picture,
            number,
            state,
            choices,
            created,
            elapsed_s,
            coverage,
            message,
        } = record;
        let status = Status {
            id: id.clone(),
            picture: picture.clone(),
            state,
            position: None,
            progress: None,
            elapsed_s,
            coverage,
            message,
            choices: choices.clone(),
            created,
        };
        let status = watch::Sender::new(status);
        Self { id, picture, number, choices, created, cancelled: AtomicBool::new(false), status }
    }

    /// What clients see now.
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Where it is.
    pub(crate) fn state(&self) -> State {
        self.status.borrow().state
    }

    /// Tells every change from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Asks for a stop.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// True once a stop was asked for.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Changes what clients see.
    fn update(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }

    /// Moves a job that waits to its end; false if it does not wait any more.
    pub(crate) fn end_waiting(&self) -> bool {
        self.status.send_if_modified(|status| {
            let waits = status.state == State::Queued;
            if waits {
                status.state = State::Cancelled;
                status.position = None;
            }
            waits
        })
    }

    /// What is written about it.
    pub(crate) fn record(&self) -> JobRecord {
        let status = self.status.borrow();
        JobRecord {
            id: self.id.clone(),
            picture: self.picture.clone(),
            number: self.number,
            state: status.state,
            choices: self.choices.clone(),
            created: self.created,
            elapsed_s: status.elapsed_s,
            coverage: status.coverage,
            message: status.message.clone(),
        }
    }
}
