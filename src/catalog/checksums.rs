//! Digests that are asked for of sealed data: computed once, in the background, and kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Catalog, Shared};
use crate::error::{Error, Result};
use crate::image::{Algorithm, Content, Image, ImageId};
use crate::ingest::Upload;
use crate::registry::{Durability, Key};

/// Digests that wait to be computed at most; what is beyond that is to be asked for again.
const WAITING_MAX: usize = 1024;

/// The digests that somebody asked for. The mutex guards the list alone.
#[derive(Default)]
pub(super) struct Wanted {
    waiting: Mutex<VecDeque<(ImageId, Algorithm)>>,
    added: Condvar,
}

impl Wanted {
    /// Wakes whoever waits for work.
    pub(super) fn wake(&self) {
        self.added.notify_all();
    }

    /// The image that comes next, with all that is asked of it.
    fn next(&self, patience: Duration) -> Option<(ImageId, Vec<Algorithm>)> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.added.wait_for(&mut waiting, patience);
        }
        let (id, _) = *waiting.front()?;
        let own = waiting.iter().filter(|(other, _)| *other == id);
        Some((id, own.map(|(_, algorithm)| *algorithm).collect()))
    }

    fn done(&self, id: ImageId, algorithms: &[Algorithm]) {
        let is_done = |(other, algorithm): &(ImageId, Algorithm)| {
            *other == id && algorithms.contains(algorithm)
        };
        self.waiting.lock().retain(|one| !is_done(one));
    }
}

impl Catalog {
    /// Has a digest of an image's data computed, if it is not known and nobody asked before.
    pub fn want_checksum(&self, image: &Image, algorithm: Algorithm) {
        let is_sealed = matches!(image.content, Content::Sealed(_));
        if !is_sealed || image.checksums.hex(algorithm).is_some() {
            return;
        }
        let wanted = &self.shared.wanted;
        let mut waiting = wanted.waiting.lock();
        if waiting.len() < WAITING_MAX && !waiting.contains(&(image.id, algorithm)) {
            waiting.push_back((image.id, algorithm));
            wanted.added.notify_one();
        }
    }
}

impl Shared {
    /// Computes what is wanted, until `is_stopped`.
    pub(super) fn compute_checksums(&self, is_stopped: impl Fn() -> bool) {
        /// How long the thread sleeps between two looks at whether it is to stop.
        const PATIENCE: Duration = Duration::from_secs(5);
        while !is_stopped() {
            let Some((id, algorithms)) = self.wanted.next(PATIENCE) else { continue };
            match self.compute(id, &algorithms, &is_stopped) {
                Ok(()) | Err(Error::NotFound | Error::Cancelled) => {}
                Err(error) => log::warn!("image={id} op=digest errno={}: {error}", error.errno()),
            }
            self.wanted.done(id, &algorithms);
        }
    }

    fn compute(
        &self,
        id: ImageId,
        algorithms: &[Algorithm],
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<()> {
        let image = self.registry.image(Key::Id(id))?.ok_or(Error::NotFound)?;
        let Content::Sealed(seal) = image.content else { return Err(Error::NotFound) };
        let mut data = Upload::resume(Arc::clone(&self.store.open(&seal.digest)?))?;
        data.want(algorithms.iter().copied());
        let watch = |_| if is_stopped() { Err(Error::Cancelled) } else { Ok(()) };
        let found = data.examine_watched(&watch)?;
        if found.seal.digest != seal.digest {
            return Err(Error::Damaged("the data is not what was sealed: verify it".into()));
        }
        self.amend(id, Durability::Transient, |mut image| {
            let is_same = image.content.seal().is_some_and(|now| now.digest == seal.digest);
            image.checksums.extend(found.checksums.clone());
            Ok(is_same.then_some(image))
        })
    }
}
