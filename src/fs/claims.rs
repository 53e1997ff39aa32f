//! What a thread is to find when it looks a name up again.
//!
//! An open whose inode can't be opened any more, or is to be replaced, is answered with ESTALE: the kernel
//! looks the name up once more, from the same thread, and opens what it is given. What that is was made and
//! opened beforehand, and waits here; what nobody comes for is closed after a time.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::content::Opened;
use crate::image::{ImageName, ImageNumber};

/// How long an opened file waits for the thread that it was opened for.
const PATIENCE: Duration = Duration::from_secs(5);

struct Claim {
    thread: u32,
    name: ImageName,
    /// The inode that was opened at first.
    instead_of: ImageNumber,
    number: ImageNumber,
    opened: Opened,
    until: Instant,
}

/// All that waits. The mutex guards the list alone.
#[derive(Default)]
pub(crate) struct Claims {
    waiting: Mutex<Vec<Claim>>,
}

impl Claims {
    /// Keeps what was opened for a thread that is told to look `name` up again, instead of the image that
    /// it opened.
    pub(crate) fn offer(
        &self,
        thread: u32,
        name: ImageName,
        (instead_of, number): (ImageNumber, ImageNumber),
        opened: Opened,
    ) {
        let until = Instant::now() + PATIENCE;
        self.waiting.lock().push(Claim { thread, name, instead_of, number, opened, until });
    }

    /// The image that a thread is to find under a name in `active/`.
    pub(crate) fn named(&self, thread: u32, name: &ImageName) -> Option<ImageNumber> {
        let waiting = self.waiting.lock();
        let found = waiting.iter().find(|claim| claim.thread == thread && claim.name == *name);
        found.map(|claim| claim.number)
    }

    /// What waits for a thread that opens an image.
    pub(crate) fn take(&self, thread: u32, number: ImageNumber) -> Option<Opened> {
        self.remove(|claim| claim.thread == thread && claim.number == number)
    }

    /// What waits in vain for a thread: it came back with the inode that it had opened at first.
    pub(crate) fn refuse(&self, thread: u32, number: ImageNumber) -> Option<Opened> {
        self.remove(|claim| claim.thread == thread && claim.instead_of == number)
    }

    /// What nobody came for.
    pub(crate) fn expired(&self) -> Option<Opened> {
        let now = Instant::now();
        self.remove(|claim| claim.until <= now)
    }

    /// Whether anything waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    fn remove(&self, is_it: impl Fn(&Claim) -> bool) -> Option<Opened> {
        let mut waiting = self.waiting.lock();
        let at = waiting.iter().position(is_it)?;
        Some(waiting.swap_remove(at).opened)
    }
}
