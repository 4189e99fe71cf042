//! Jobs that wait, in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{Job, State};
use crate::problem::Problem;

/// A bounded queue; each job is told how many are before it.
#[derive(Debug)]
pub(crate) struct Queue {
    line: Mutex<Line>,
    changed: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Arc<Job>>,
    is_running: bool,
    is_closed: bool,
}

impl Queue {
    /// A queue of at most `most` waiting jobs, beside the one that runs.
    pub(crate) fn new(most: usize) -> Self {
        Self { line: Mutex::default(), changed: Condvar::new(), most }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Ok` if one more may wait.
    pub(crate) fn check_room(&self) -> Result<(), Problem> {
        self.check_line(&self.line())
    }

    fn check_line(&self, line: &Line) -> Result<(), Problem> {
        if line.is_closed {
            return Err(Problem::stopping());
        }
        if line.waiting.len() >= self.most {
            let most = self.most;
            let message = format!("{most} restorations are waiting already; try again later");
            return Err(Problem::busy(message));
        }
        Ok(())
    }

    /// Lets a job wait; `made` makes it once there is room.
    pub(crate) fn push(
        &self,
        made: impl FnOnce() -> Result<Arc<Job>, Problem>,
    ) -> Result<Arc<Job>, Problem> {
        let mut line = self.line();
        self.check_line(&line)?;
        let job = made()?;
        line.waiting.push_back(Arc::clone(&job));
        tell_positions(&line);
        drop(line);
        self.changed.notify_one();
        Ok(job)
    }

    /// Lets jobs of an earlier run wait again, however many they are.
    pub(crate) fn resume(&self, jobs: Vec<Arc<Job>>) {
        let mut line = self.line();
        line.waiting.extend(jobs);
        tell_positions(&line);
        drop(line);
        self.changed.notify_one();
    }

    /// The next job, when there is one; `None` once the queue is closed.
    pub(super) fn next(&self) -> Option<Arc<Job>> {
        let mut line = self.line();
        loop {
            if line.is_closed {
                return None;
            }
            if let Some(job) = line.waiting.pop_front() {
                line.is_running = true;
                tell_positions(&line);
                return Some(job);
            }
            line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The running job has ended.
    pub(super) fn ended(&self) {
        let mut line = self.line();
        line.is_running = false;
        tell_positions(&line);
    }

    /// Takes jobs out that do not wait any more.
    pub(crate) fn forget_ended(&self) {
        let mut line = self.line();
        line.waiting.retain(|job| !job.is_cancelled());
        tell_positions(&line);
    }

    /// Jobs that wait, and whether one runs.
    pub(crate) fn length(&self) -> (usize, bool) {
        let line = self.line();
        (line.waiting.len(), line.is_running)
    }

    /// How many may wait.
    pub(crate) const fn most(&self) -> usize {
        self.most
    }

    /// Lets nothing more begin. What waits stays as it is on disk, and waits again at the next start.
    pub(crate) fn close(&self) {
        self.line().is_closed = true;
        self.changed.notify_all();
    }
}

fn tell_positions(line: &Line) {
    let running = usize::from(line.is_running);
    for (at, job) in line.waiting.iter().enumerate() {
        let position = Some(at + running);
        job.status.send_if_modified(|status| {
            let changes = status.state == State::Queued && status.position != position;
            if changes {
                status.position = position;
            }
            changes
        });
    }
}
