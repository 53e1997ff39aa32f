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
    /// Without an algorithm, the store's own digest of data that lies elsewhere.
    waiting: Mutex<VecDeque<(ImageId, Option<Algorithm>)>>,
    added: Condvar,
}

impl Wanted {
    /// Wakes whoever waits for work.
    pub(super) fn wake(&self) {
        self.added.notify_all();
    }

    /// The image that comes next, with all that is asked of it.
    fn next(&self, patience: Duration) -> Option<(ImageId, Vec<Option<Algorithm>>)> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.added.wait_for(&mut waiting, patience);
        }
        let (id, _) = *waiting.front()?;
        let own = waiting.iter().filter(|(other, _)| *other == id);
        Some((id, own.map(|(_, algorithm)| *algorithm).collect()))
    }

    fn add(&self, one: (ImageId, Option<Algorithm>)) {
        let mut waiting = self.waiting.lock();
        // What binds an id to its content is not left out, however much is asked for.
        if (waiting.len() < WAITING_MAX || one.1.is_none()) && !waiting.contains(&one) {
            waiting.push_back(one);
            self.added.notify_one();
        }
    }

    fn done(&self, id: ImageId, algorithms: &[Option<Algorithm>]) {
        let is_done = |(other, algorithm): &(ImageId, Option<Algorithm>)| {
            *other == id && algorithms.contains(algorithm)
        };
        self.waiting.lock().retain(|one| !is_done(one));
    }
}

impl Catalog {
    /// Has a digest of an image's data computed, if it is not known and nobody asked before.
    pub fn want_checksum(&self, image: &Image, algorithm: Algorithm) {
        let has_data = matches!(image.content, Content::Sealed(_) | Content::Located(_));
        if has_data && image.checksums.hex(algorithm).is_none() {
            self.shared.wanted.add((image.id, Some(algorithm)));
        }
    }

    /// Has the store's own digest of data computed that lies elsewhere.
    pub(super) fn want_digest(&self, id: ImageId) {
        self.shared.wanted.add((id, None));
    }
}

impl Shared {
    /// Computes what is wanted, until `is_stopped`.
    pub(super) fn compute_checksums(&self, is_stopped: impl Fn() -> bool) {
        /// How long the thread sleeps between two looks at whether it is to stop.
        const PATIENCE: Duration = Duration::from_secs(5);
        match self.unhashed() {
            Ok(all) => all.into_iter().for_each(|id| self.wanted.add((id, None))),
            Err(error) => log::warn!("op=digest errno={}: {error}", error.errno()),
        }
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
        algorithms: &[Option<Algorithm>],
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<()> {
        let image = self.registry.image(Key::Id(id))?.ok_or(Error::NotFound)?;
        let watch = |_| if is_stopped() { Err(Error::Cancelled) } else { Ok(()) };
        let algorithms: Vec<Algorithm> = algorithms.iter().copied().flatten().collect();
        let seal = match &image.content {
            Content::Sealed(seal) => *seal,
            Content::Located(located) => {
                let examined = self.hash_located(located, &algorithms, &watch)?;
                return self.note_digest(id, located, &examined);
            }
            Content::Absent | Content::Staged | Content::Gone(_) => return Err(Error::NotFound),
        };
        let mut data = Upload::resume(Arc::clone(&self.store.open(&seal.digest)?))?;
        data.want(algorithms);
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
