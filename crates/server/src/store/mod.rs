//! Pictures and their restorations on disk, and the index of them in memory.
//!
//! ```text
//! DATA/lock                        held while a server runs
//! DATA/incoming/ID/                uploads that are not complete; removed at start
//! DATA/pictures/ID/record.json     what is known of a picture
//!                  original.EXT    the file as it was uploaded
//!                  view-*.jpg      the picture for looking at
//!                  evidence.png, detected-*.png, own.png
//!                  jobs/ID/record.json, own.png, mask.png, result.EXT, result.png, comparison.png, view-*.jpg
//! ```
//!
//! A picture appears by one rename, a record is replaced by one, and a job's record says "done" after all its files are
//! there: whenever the process ends, what is on disk is whole.

mod files;
mod record;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Limits;
use crate::error::{Result, ServerError};
use crate::ids::Id;
use crate::jobs::{Job, State};
use crate::problem::Problem;

pub(crate) use self::files::{JobFiles, PictureFiles};
pub(crate) use self::record::{JobRecord, PictureRecord};

/// Every picture and job, by id.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    index: Mutex<Index>,
    /// Locked as long as this lives.
    _lock: File,
}

#[derive(Debug, Default)]
struct Index {
    pictures: HashMap<Id, PictureRecord>,
    jobs: HashMap<Id, Arc<Job>>,
    /// Numbers jobs in the order in which they came.
    next: u64,
}

/// Seconds in which a picture may be used any number of times before that is noted again.
const BETWEEN_NOTES: u64 = 60;

/// Seconds since 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Store {
    /// Takes over a data folder: what is whole is indexed, what is not is removed. Also gives the jobs that were waiting, in
    /// their order; one that was running when the process was killed has failed.
    ///
    /// # Errors
    /// [`ServerError::InUse`], and [`ServerError::Data`] if the folder cannot be made or read.
    pub(crate) fn open(root: &Path) -> Result<(Self, Vec<Arc<Job>>)> {
        let incoming = root.join("incoming");
        let pictures = root.join("pictures");
        let make = |path: &Path| {
            std::fs::create_dir_all(path)
                .map_err(|error| ServerError::data(path, "make the folder", error))
        };
        make(root)?;

        // 1. ours alone
        let lock_path = root.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| ServerError::data(&lock_path, "write", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(ServerError::InUse(root.to_path_buf()));
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(ServerError::data(&lock_path, "lock", error));
            }
        }

        // 2. what an earlier run left
        for folder in [&incoming, &pictures] {
            make(folder)?;
            files::keep_private(folder);
        }
        for id in files::ids_in(&incoming)? {
            files::remove(&incoming.join(id.as_str()));
        }
        let store = Self { root: root.to_path_buf(), index: Mutex::default(), _lock: lock };
        let waiting = store.take_over(&pictures)?;
        Ok((store, waiting))
    }

    fn take_over(&self, pictures: &Path) -> Result<Vec<Arc<Job>>> {
        let mut records = Vec::new();
        let mut index = self.index();
        for id in files::ids_in(pictures)? {
            let files = self.picture_files(&id);
            let Some(record) = PictureRecord::read(&files).filter(|record| record.id == id) else {
                // Only the removal of a picture that was interrupted leaves such a folder.
                files::remove(files.folder());
                continue;
            };
            files.forget_detection();
            for job in files::ids_in(&files.jobs())? {
                let files = self.job_files(&id, &job);
                match JobRecord::read(&files) {
                    Some(record) if record.picture == id && record.id == job => {
                        records.push(record);
                    }
                    _ => files::remove(files.folder()),
                }
            }
            index.pictures.insert(id, record);
        }
        records.sort_by_key(|record| record.number);
        index.next = records.last().map_or(0, |record| record.number + 1);
        let mut waiting = Vec::new();
        for mut record in records {
            if record.state == State::Running {
                record.state = State::Failed;
                record.message =
                    Some("the program ended while this was running; start it again".into());
                // Says the same at the next start if it cannot be written now.
                let _ = record.write(&self.job_files(&record.picture, &record.id));
            }
            let job = Arc::new(Job::new(record));
            if job.state() == State::Queued {
                waiting.push(Arc::clone(&job));
            }
            index.jobs.insert(job.id.clone(), job);
        }
        drop(index);
        Ok(waiting)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where an upload grows until it is complete.
    pub(crate) fn incoming(&self, id: &Id) -> PictureFiles {
        PictureFiles::new(self.root.join("incoming").join(id.as_str()))
    }

    /// The files of a picture.
    pub(crate) fn picture_files(&self, id: &Id) -> PictureFiles {
        PictureFiles::new(self.root.join("pictures").join(id.as_str()))
    }

    /// The files of a job.
    pub(crate) fn job_files(&self, picture: &Id, job: &Id) -> JobFiles {
        JobFiles::new(self.picture_files(picture).jobs().join(job.as_str()))
    }

    /// Takes in a picture whose files are complete in `incoming`.
    pub(crate) fn adopt(&self, record: PictureRecord, limits: &Limits) -> Result<(), Problem> {
        let mut index = self.index();
        if index.pictures.len() >= limits.pictures {
            return Err(full(limits));
        }
        let (from, to) = (self.incoming(&record.id), self.picture_files(&record.id));
        std::fs::rename(from.folder(), to.folder()).map_err(Problem::internal)?;
        index.pictures.insert(record.id.clone(), record);
        Ok(())
    }

    /// `Ok` if there is room for one more picture.
    pub(crate) fn check_room(&self, limits: &Limits) -> Result<(), Problem> {
        if self.index().pictures.len() < limits.pictures { Ok(()) } else { Err(full(limits)) }
    }

    /// A picture, which thereby is used.
    pub(crate) fn picture(&self, id: &Id) -> Result<PictureRecord, Problem> {
        let mut index = self.index();
        let record = index.pictures.get_mut(id).ok_or_else(|| Problem::missing("picture"))?;
        self.touch(record);
        Ok(record.clone())
    }

    /// Notes that a picture is used, on disk too: what was used shortly before a restart has not expired after it.
    fn touch(&self, record: &mut PictureRecord) {
        let now = unix_seconds(SystemTime::now());
        if now.saturating_sub(record.used) >= BETWEEN_NOTES {
            record.used = now;
            // What cannot be written now is used again, or expires a little early.
            let _ = record.write(&self.picture_files(&record.id));
        }
    }

    /// Changes a picture's record, on disk too.
    pub(crate) fn change_picture(
        &self,
        id: &Id,
        change: impl FnOnce(&mut PictureRecord),
    ) -> Result<PictureRecord, Problem> {
        let mut index = self.index();
        let record = index.pictures.get_mut(id).ok_or_else(|| Problem::missing("picture"))?;
        change(record);
        record.used = unix_seconds(SystemTime::now());
        record.write(&self.picture_files(id))?;
        Ok(record.clone())
    }

    /// All pictures, the oldest first.
    pub(crate) fn pictures(&self) -> Vec<PictureRecord> {
        let mut all: Vec<_> = self.index().pictures.values().cloned().collect();
        all.sort_by(|a, b| (a.order, &a.id).cmp(&(b.order, &b.id)));
        all
    }

    /// A job of a picture that is there.
    pub(crate) fn job(&self, id: &Id) -> Result<Arc<Job>, Problem> {
        let mut index = self.index();
        let job = index.jobs.get(id).cloned().ok_or_else(|| Problem::missing("job"))?;
        if let Some(picture) = index.pictures.get_mut(&job.picture) {
            self.touch(picture);
        }
        Ok(job)
    }

    /// All jobs, or those of one picture, the oldest first.
    pub(crate) fn jobs(&self, picture: Option<&Id>) -> Vec<Arc<Job>> {
        let index = self.index();
        let of = |job: &&Arc<Job>| picture.is_none_or(|picture| job.picture == *picture);
        let mut jobs: Vec<_> = index.jobs.values().filter(of).cloned().collect();
        jobs.sort_by_key(|job| job.number);
        jobs
    }

    /// Writes a new job's record, after `prepare` has put files of its own into its folder.
    pub(crate) fn add_job(
        &self,
        mut record: JobRecord,
        limits: &Limits,
        prepare: impl FnOnce(&JobFiles) -> Result<(), Problem>,
    ) -> Result<Arc<Job>, Problem> {
        let mut index = self.index();
        if !index.pictures.contains_key(&record.picture) {
            return Err(Problem::missing("picture"));
        }
        let of_picture = index.jobs.values().filter(|job| job.picture == record.picture).count();
        if of_picture >= limits.jobs {
            let message = format!(
                "expected at most {} restorations of a picture; delete some, or upload it again",
                limits.jobs
            );
            return Err(Problem::conflict(message));
        }
        record.number = index.next;
        let files = self.job_files(&record.picture, &record.id);
        std::fs::create_dir_all(files.folder()).map_err(Problem::internal)?;
        prepare(&files).and_then(|()| record.write(&files)).inspect_err(|_| {
            files::remove(files.folder());
        })?;
        index.next += 1;
        if let Some(picture) = index.pictures.get_mut(&record.picture) {
            self.touch(picture);
        }
        let job = Arc::new(Job::new(record));
        index.jobs.insert(job.id.clone(), Arc::clone(&job));
        Ok(job)
    }

    /// Forgets a job and removes its files. One that runs is stopped, and its files go when it has.
    pub(crate) fn remove_job(&self, id: &Id) -> Result<Arc<Job>, Problem> {
        let job = self.index().jobs.remove(id).ok_or_else(|| Problem::missing("job"))?;
        job.cancel();
        files::remove(self.job_files(&job.picture, &job.id).folder());
        Ok(job)
    }

    /// Forgets a picture with its jobs and removes all files.
    pub(crate) fn remove_picture(&self, id: &Id) -> Result<Vec<Arc<Job>>, Problem> {
        let mut index = self.index();
        index.pictures.remove(id).ok_or_else(|| Problem::missing("picture"))?;
        let ids: Vec<_> = index
            .jobs
            .values()
            .filter(|job| job.picture == *id)
            .map(|job| job.id.clone())
            .collect();
        let jobs: Vec<_> = ids.iter().filter_map(|id| index.jobs.remove(id)).collect();
        jobs.iter().for_each(|job| job.cancel());
        drop(index);
        files::remove(self.picture_files(id).folder());
        Ok(jobs)
    }

    /// True until the job, or its picture, has been removed.
    pub(crate) fn has_job(&self, id: &Id) -> bool {
        self.index().jobs.contains_key(id)
    }

    /// Removes what a job wrote after it had been removed.
    pub(crate) fn sweep_job(&self, job: &Job) {
        if self.index().pictures.contains_key(&job.picture) {
            files::remove(self.job_files(&job.picture, &job.id).folder());
        } else {
            files::remove(self.picture_files(&job.picture).folder());
        }
    }

    /// Removes the pictures that were last used more than `keep` before `now` and have nothing waiting or running; says how
    /// many.
    pub(crate) fn expire(&self, now: SystemTime, keep: Duration) -> usize {
        let now = unix_seconds(now);
        let expired: Vec<Id> = {
            let index = self.index();
            let is_old = |record: &&PictureRecord| {
                now.saturating_sub(record.used) > keep.as_secs()
                    && !index
                        .jobs
                        .values()
                        .any(|job| job.picture == record.id && !job.state().is_final())
            };
            index.pictures.values().filter(is_old).map(|record| record.id.clone()).collect()
        };
        expired.iter().filter(|id| self.remove_picture(id).is_ok()).count()
    }
}

fn full(limits: &Limits) -> Problem {
    Problem::busy(format!("expected at most {} pictures; delete some", limits.pictures))
}
