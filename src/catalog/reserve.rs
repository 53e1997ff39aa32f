//! Who works on which file of the store, so that one content is not named and dropped at once.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

use crate::image::{Digest, ImageId};

/// What can be worked on by one thread at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// The sealed data of this digest.
    Content(Digest),
    /// The manifest of this image.
    Manifest(ImageId),
}

/// The claims that are held. The mutex guards the set alone and is not held during the work.
#[derive(Default)]
pub(super) struct Reservations {
    held: Mutex<HashSet<Claim>>,
    freed: Condvar,
}

/// A claim, until it is dropped.
pub(super) struct Reserved<'a> {
    reservations: &'a Reservations,
    claim: Claim,
}

impl Reservations {
    /// Waits until nobody has the claim, and takes it.
    pub(super) fn reserve(&self, claim: Claim) -> Reserved<'_> {
        let mut held = self.held.lock();
        while !held.insert(claim) {
            self.freed.wait(&mut held);
        }
        Reserved { reservations: self, claim }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.reservations.held.lock().remove(&self.claim);
        self.reservations.freed.notify_all();
    }
}
