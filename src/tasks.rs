//! The executor: a bounded number of threads that do what tasks ask for, oldest first.
//!
//! A task that its executor did not live to end is tried again, three times at most. This module refuses to
//! know how a record is kept and what a mount is; each kind of task has a file of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::task::{Task, TaskId, TaskInput, TaskResult};

mod convert;
mod import;
mod scrub;
mod verify;

/// Tasks that are done at once.
const WORKERS: usize = 4;

/// How long a worker without a task sleeps when nobody wakes it.
const NAP: Duration = Duration::from_secs(5);

/// How often a record says how far its task is.
const TELL: Duration = Duration::from_millis(250);

/// How long running tasks are given to end when the mount does; then they are gone on with at the next.
const DRAIN: Duration = Duration::from_secs(20);

/// What a task is told of how far it is, in percent; it ends by an error when it must stop.
type Watch<'a> = dyn Fn(u8) -> Result<()> + 'a;

struct Shared {
    catalog: Arc<Catalog>,
    /// Counts what happened: a task came, or one ended.
    news: Mutex<u64>,
    changed: Condvar,
    is_stopping: AtomicBool,
    is_interrupted: AtomicBool,
}

/// The threads that do tasks.
pub struct Executor {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Executor {
    /// Takes up the tasks that a daemon before this one did not end, and starts the threads.
    ///
    /// # Errors
    /// The registry can't be read or written.
    pub fn start(catalog: Arc<Catalog>) -> Result<Self> {
        catalog.recover_tasks()?;
        let shared = Arc::new(Shared {
            catalog,
            news: Mutex::new(0),
            changed: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            is_interrupted: AtomicBool::new(false),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("task-{index}"))
                .spawn(move || shared.work())
                .map_err(|error| Error::io("start thread", "task", error))
        };
        let workers = (0..WORKERS).map(spawn).collect::<Result<_>>()?;
        Ok(Self { shared, workers: Mutex::new(workers) })
    }

    /// Says that there is a task.
    pub fn wake(&self) {
        self.shared.tell();
    }

    /// Waits until a task has ended, for a time. Answers its record then.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn wait(&self, id: TaskId, patience: Duration) -> Result<Option<Task>> {
        let deadline = Instant::now() + patience;
        loop {
            let before = *self.shared.news.lock();
            let task = self.shared.catalog.task(id)?;
            match task {
                Some(task) if !task.status.is_finished() => {}
                ended => return Ok(ended),
            }
            let mut news = self.shared.news.lock();
            while *news == before {
                if self.shared.changed.wait_until(&mut news, deadline).timed_out() {
                    return Ok(None);
                }
            }
        }
    }

    /// Lets running tasks end, for a time, and stops the threads. What has not ended is gone on with when
    /// the store is mounted again.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.tell();
        let deadline = Instant::now() + DRAIN;
        for worker in std::mem::take(&mut *self.workers.lock()) {
            let mut news = self.shared.news.lock();
            while !worker.is_finished() && Instant::now() < deadline {
                self.shared.changed.wait_for(&mut news, TELL);
            }
            drop(news);
            if !worker.is_finished() {
                self.shared.is_interrupted.store(true, Ordering::Release);
            }
            if worker.join().is_err() {
                log::error!("an executor of tasks ended in a panic");
            }
        }
    }
}

impl Shared {
    fn tell(&self) {
        *self.news.lock() += 1;
        self.changed.notify_all();
    }

    fn work(&self) {
        while !self.is_stopping.load(Ordering::Acquire) {
            let before = *self.news.lock();
            let begun = self.catalog.begin_task().unwrap_or_else(|error| {
                log::error!("op=begin_task errno={}: {error}", error.errno());
                None
            });
            let Some(task) = begun else {
                let mut news = self.news.lock();
                if *news == before {
                    self.changed.wait_for(&mut news, NAP);
                }
                continue;
            };
            // Another worker may find the next one.
            self.tell();
            self.perform(&task);
            self.tell();
        }
        self.tell();
    }

    fn perform(&self, task: &Task) {
        let told = Mutex::new((Instant::now(), task.progress));
        let watch = |percent: u8| {
            if self.is_interrupted.load(Ordering::Acquire) {
                return Err(Error::Interrupted);
            }
            let mut told = told.lock();
            if told.1 == percent || told.0.elapsed() < TELL {
                return Ok(());
            }
            *told = (Instant::now(), percent);
            drop(told);
            self.catalog.advance_task(task.id, percent)
        };
        let run = AssertUnwindSafe(|| run(&self.catalog, task, &watch));
        let outcome = catch_unwind(run).unwrap_or(Err(Error::Fault("task")));
        loop {
            let settled = match &outcome {
                Err(Error::Interrupted) => self.catalog.retry_task(task.id, false),
                outcome => self.catalog.end_task(task.id, outcome),
            };
            let Err(error) = settled else { return };
            log::error!("task={} op=end errno={}: {error}; again", task.id, error.errno());
            // What can't be said now is said later; what is not said at all begins anew at the next mount.
            if matches!(error, Error::NotFound) || self.is_stopping.load(Ordering::Acquire) {
                return;
            }
            self.changed.wait_for(&mut self.news.lock(), NAP);
        }
    }
}

fn run(catalog: &Catalog, task: &Task, watch: &Watch<'_>) -> Result<TaskResult> {
    match &task.input {
        TaskInput::ImportStaged { image } => import::staged(catalog, *image, watch),
        TaskInput::ImportPath(path) => import::path(catalog, task, path, watch),
        TaskInput::Convert(convert) => convert::run(catalog, task, convert, watch),
        TaskInput::Verify { image } => verify::run(catalog, *image, watch),
        TaskInput::Scrub => scrub::run(catalog),
    }
}
