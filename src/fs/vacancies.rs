//! Names in `active/` that were removed a moment ago, and by whom.
//!
//! Tools that replace a file by removing it first (`mv` from another filesystem, `install`, `tar x`) make it
//! again at once. So what its remover makes under the name is a replacement, and whoever else looks the
//! name up in between waits a little for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::caller::Pid;
use crate::image::{ImageId, ImageName};

/// How long what the remover makes under the name is a replacement (specification, section 2).
const REMEMBERED: Duration = Duration::from_secs(5);

/// How long others wait for it.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// How often it is looked whether the remover still lives.
const GLANCE: Duration = Duration::from_millis(5);

/// Names that are remembered at most.
const VACANCIES_MAX: usize = 4096;

#[derive(Clone, Copy)]
struct Vacancy {
    process: Pid,
    image: ImageId,
    at: Instant,
}

/// The names that were removed lately. The mutex guards the map alone.
#[derive(Default)]
pub(crate) struct Vacancies {
    names: Mutex<HashMap<ImageName, Vacancy>>,
    changed: Condvar,
}

impl Vacancies {
    /// Notes that a process removed an image from `active/`.
    pub(crate) fn note(&self, process: Pid, name: ImageName, image: ImageId) {
        let mut names = self.names.lock();
        if names.len() >= VACANCIES_MAX {
            names.retain(|_, vacancy| vacancy.at.elapsed() < REMEMBERED);
        }
        if names.len() < VACANCIES_MAX {
            names.insert(name, Vacancy { process, image, at: Instant::now() });
        }
    }

    /// The image that a process removed under the name that it makes again.
    pub(crate) fn removed_by(&self, process: Pid, name: &ImageName) -> Option<ImageId> {
        let names = self.names.lock();
        let vacancy = names.get(name).filter(|vacancy| vacancy.process == process)?;
        (vacancy.at.elapsed() < REMEMBERED).then_some(vacancy.image)
    }

    /// Strikes a name out: it is taken again.
    pub(crate) fn fill(&self, name: &ImageName) {
        if self.names.lock().remove(name).is_some() {
            self.changed.notify_all();
        }
    }

    /// Whether somebody but `process` may be about to make the name again.
    pub(crate) fn concerns(&self, process: Option<Pid>, name: &ImageName) -> bool {
        self.names.lock().get(name).is_some_and(|vacancy| vacancy.is_open_to(process))
    }

    /// Whether no name is remembered at all.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.names.lock().is_empty()
    }

    /// Whether no name was removed so lately that others wait for it.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.lock().values().all(|vacancy| vacancy.at.elapsed() >= WAIT_MAX)
    }

    /// Waits until the name is made again, its remover has ended, or it has been long enough.
    pub(crate) fn wait(&self, process: Option<Pid>, name: &ImageName) {
        let mut names = self.names.lock();
        while let Some(vacancy) = names.get(name).copied() {
            if !vacancy.is_open_to(process) || !vacancy.process.is_alive() {
                return;
            }
            self.changed.wait_for(&mut names, GLANCE);
        }
    }
}

impl Vacancy {
    fn is_open_to(&self, process: Option<Pid>) -> bool {
        process != Some(self.process) && self.at.elapsed() < WAIT_MAX
    }
}
