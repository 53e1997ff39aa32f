//! Names in `active/` that were removed a moment ago, and by whom.
//!
//! Tools that replace a file by removing it first (`mv` from another filesystem, `install`, `tar x`) make it
//! again at once. So what its remover makes under the name is a replacement, and all others see what was
//! removed for a moment longer: the name is never missing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::caller::Pid;
use crate::image::{ImageId, ImageName};

/// How long what the remover makes under the name is a replacement (specification, section 2).
const REMEMBERED: Duration = Duration::from_secs(5);

/// How long others still see what was removed, as long as its remover lives. They can't wait for the new
/// one: the kernel holds the folder for a look-up, and its remover could not make anything there.
const SHOWN: Duration = Duration::from_millis(100);

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
        self.names.lock().remove(name);
    }

    /// The image that somebody else but `process` has removed so lately, and he lives, that he may be about
    /// to make the name again.
    pub(crate) fn left_to(&self, process: Option<Pid>, name: &ImageName) -> Option<ImageId> {
        let vacancy = self.names.lock().get(name).copied()?;
        let is_left = process != Some(vacancy.process) && vacancy.at.elapsed() < SHOWN;
        (is_left && vacancy.process.is_alive()).then_some(vacancy.image)
    }

    /// Whether a name was removed so lately that not all see the same under it.
    pub(crate) fn has(&self, name: &ImageName) -> bool {
        self.names.lock().get(name).is_some_and(|vacancy| vacancy.at.elapsed() < REMEMBERED)
    }

    /// Whether no name is remembered at all.
    pub(crate) fn is_forgotten(&self) -> bool {
        self.names.lock().is_empty()
    }
}
