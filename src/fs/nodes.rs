//! Images that mknod(2) made in `active/`, which are listed in `queued/` until their first byte, and by whom.
//!
//! `tar` makes a file so, sets its attributes by its path and then opens that: whoever made one finds it
//! where he made it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::caller::Pid;
use crate::image::{ImageName, ImageNumber};

/// How long the maker finds it there.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Nodes that are remembered at most.
const NODES_MAX: usize = 4096;

struct Made {
    process: Pid,
    number: ImageNumber,
    at: Instant,
}

/// The nodes that were made lately. The mutex guards the map alone.
#[derive(Default)]
pub(crate) struct Nodes {
    names: Mutex<HashMap<ImageName, Made>>,
}

impl Nodes {
    /// Notes that a process made an image.
    pub(crate) fn note(&self, process: Pid, name: ImageName, number: ImageNumber) {
        let mut names = self.names.lock();
        names.retain(|_, made| made.at.elapsed() < REMEMBERED);
        if names.len() < NODES_MAX {
            names.insert(name, Made { process, number, at: Instant::now() });
        }
    }

    /// The image that a process made under a name. Who asks is found out only where there is any.
    pub(crate) fn made_by(
        &self,
        process: impl FnOnce() -> Option<Pid>,
        name: &ImageName,
    ) -> Option<ImageNumber> {
        let (maker, number) = {
            let names = self.names.lock();
            let made = names.get(name).filter(|made| made.at.elapsed() < REMEMBERED)?;
            (made.process, made.number)
        };
        (process() == Some(maker)).then_some(number)
    }

    /// Strikes a name out: the image went on.
    pub(crate) fn forget(&self, name: &ImageName) {
        self.names.lock().remove(name);
    }
}
