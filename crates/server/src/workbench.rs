//! Short work on decoded pictures: checking uploads, views and sheets at one place, finding damage at another.
//!
//! Beside the picture that is being restored, this is the only room where pictures are decoded; so memory is bounded by a
//! few of them, however many clients there are. The last one is kept, as the next request is often about it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use imaging::io::{ReadOptions, read_image};
use imaging::{Image, Observer};
use tokio::sync::Semaphore;

use crate::ids::Id;
use crate::problem::Problem;
use crate::store::{PictureFiles, PictureRecord};

/// Where work is done. Who only wants to look does not wait for a detection, which may take a while.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Uploads, views, masks and sheets.
    Look,
    /// Detection.
    Find,
}

/// Two places to work at, and a queue before each.
#[derive(Debug)]
pub(crate) struct Workbench {
    look: Arc<Semaphore>,
    find: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
    pixels: u64,
    last: Mutex<Option<(Id, Arc<Image>)>>,
}

/// Stops work whose client has gone away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interest(Arc<AtomicBool>);

impl Observer for Interest {
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Says so when dropped.
struct Gone(Interest);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Counts who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workbench {
    /// Lets `most_waiting` requests wait, and reads pictures of up to `pixels` pixels.
    pub(crate) fn new(most_waiting: usize, pixels: u64) -> Self {
        Self {
            look: Arc::new(Semaphore::new(1)),
            find: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            most_waiting,
            pixels,
            last: Mutex::default(),
        }
    }

    /// Runs `work` on a thread of its own when it is its turn at this place. A client that goes away leaves the queue, or
    /// stops the work.
    pub(crate) async fn run<T, F>(self: &Arc<Self>, place: Place, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Self, &Interest) -> Result<T, Problem> + Send + 'static,
    {
        // 1. a place in the queue
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let in_queue = Waiting(&self.waiting);
        if waiting >= self.most_waiting {
            return Err(Problem::busy(format!("{waiting} requests are waiting already")));
        }
        let place = match place {
            Place::Look => &self.look,
            Place::Find => &self.find,
        };
        let place = Arc::clone(place).acquire_owned().await;
        let place = place.map_err(|_| Problem::stopping())?;
        drop(in_queue);

        // 2. the work; the place is free when it has ended, not when the client has
        let interest = Interest::default();
        let gone = Gone(interest.clone());
        let bench = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&bench, &interest)));
            drop(place);
            done.unwrap_or_else(|_| Err(Problem::internal("internal error, please report it")))
        });
        let done = done.await.map_err(Problem::internal)?;
        drop(gone);
        done
    }

    /// How pictures are read.
    pub(crate) const fn read_options(&self) -> ReadOptions {
        ReadOptions { max_pixels: self.pixels }
    }

    /// The decoded picture.
    pub(crate) fn image(
        &self,
        record: &PictureRecord,
        files: &PictureFiles,
    ) -> Result<Arc<Image>, Problem> {
        if let Some((id, image)) = &*self.last()
            && *id == record.id
        {
            return Ok(Arc::clone(image));
        }
        // The one before makes room first.
        *self.last() = None;
        let image = Arc::new(read_image(&files.original(record.format), &self.read_options())?);
        self.keep(&record.id, Arc::clone(&image));
        Ok(image)
    }

    fn last(&self) -> MutexGuard<'_, Option<(Id, Arc<Image>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a picture that has just been decoded.
    pub(crate) fn keep(&self, id: &Id, image: Arc<Image>) {
        *self.last() = Some((id.clone(), image));
    }

    /// Lets go of a picture that has been removed.
    pub(crate) fn forget(&self, id: &Id) {
        let mut last = self.last();
        if last.as_ref().is_some_and(|(held, _)| held == id) {
            *last = None;
        }
    }
}
