//! Replacing an image, and taking back what was published a moment ago: because its writer opens it
//! again, or ends by saying that it failed (specification, section 2, Publishing, 6).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Actor, Catalog, Newcomer, Shared, UploadSession};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Content, Image, ImageId, ImageName, Ownership, User};
use crate::ingest::Upload;
use crate::lifecycle::{Decision, Event, Status, decide};
use crate::registry::{Change, Durability, Key, Reclaim, Transition};
use crate::store::{Extent, StoreFile};

/// How long what an image replaced is remembered: longer than its writer is watched.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Images that are remembered at most.
const RECENTS_MAX: usize = 4096;

/// How long it is waited at least between two looks for what need not be remembered.
const PAUSE: Duration = Duration::from_secs(1);

struct Recent {
    replaced: Option<ImageId>,
    until: Instant,
}

/// What was published lately, and what it replaced. The mutex guards the map alone.
#[derive(Default)]
pub(super) struct Recents {
    published: Mutex<Published>,
}

#[derive(Default)]
struct Published {
    all: HashMap<ImageId, Recent>,
    /// When it is worth while to look again for what need not be remembered any more.
    cleared: Option<Instant>,
}

impl Recents {
    /// Notes that an image was published, and what it replaced.
    pub(super) fn note(&self, id: ImageId, replaced: Option<ImageId>) {
        let now = Instant::now();
        let mut published = self.published.lock();
        if published.all.len() >= RECENTS_MAX && published.cleared.is_none_or(|at| at <= now) {
            published.all.retain(|_, recent| recent.until > now);
            published.cleared = Some(now + PAUSE);
        }
        if published.all.len() < RECENTS_MAX {
            published.all.insert(id, Recent { replaced, until: now + REMEMBERED });
        }
    }

    /// Notes what an image that was published lately has replaced since, by a rename.
    pub(super) fn renamed(&self, id: ImageId, replaced: ImageId) {
        if let Some(recent) = self.published.lock().all.get_mut(&id) {
            recent.replaced = Some(replaced);
        }
    }

    /// What an image replaced, if it was published lately.
    pub(super) fn replaced_by(&self, id: ImageId) -> Option<ImageId> {
        self.published.lock().all.get(&id).and_then(|recent| recent.replaced)
    }
}

impl Catalog {
    /// Makes a replacement of an active image: a new image of its name, with its owner and mode. Until
    /// it has data it is nothing by itself.
    ///
    /// # Errors
    /// The image is protected, or the registry can't write.
    pub fn queue_replacement(&self, old: &Image, actor: Actor) -> Result<Image> {
        self.check_replaceable(old)?;
        let image = self.shared.queue(in_place_of(old, actor))?;
        hit(Failpoint::ReplaceQueued);
        Ok(image)
    }

    fn check_replaceable(&self, old: &Image) -> Result<()> {
        let event = old.status.removal(self.shared.policy.delayed_delete);
        match decide(old.subject(), event) {
            Decision::Denied(reason) => Err(reason.into()),
            Decision::Step(_) | Decision::Already => Ok(()),
        }
    }

    /// Makes a new image in the place of one that the caller has just removed: that one has its name
    /// back until the new one is published, unless it is protected by now and could not be replaced then. Until the new
    /// one has data it is nothing by itself.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn queue_in_place(
        &self,
        removed: ImageId,
        name: ImageName,
        ownership: Ownership,
    ) -> Result<Image> {
        let actor = Actor { uid: ownership.uid };
        let old = self.shared.load(removed);
        if old.as_ref().is_ok_and(|old| !old.ownership.is_protected()) {
            self.shared.until_settled(|| {
                let mut change = Change::default();
                self.shared.bring_back(removed, removed, &mut change)?;
                if change.updates.is_empty() { Ok(()) } else { self.shared.commit(change) }
            })?;
        }
        let details = old.map(|old| old.details).unwrap_or_default();
        let (status, in_place_by) = (Status::Queued, Some(actor));
        self.shared.queue(Newcomer { name, status, ownership, details, in_place_by })
    }

    /// Its writer opens again what he has just published: it leaves `active/`, what it had replaced has
    /// its name back, and its content is the beginning of a new upload, of a new image. An id never
    /// serves other bytes than those it was active with.
    ///
    /// # Errors
    /// The image is not active any more, is protected, or the disk refuses.
    pub fn reopen(&self, id: ImageId, user: User) -> Result<(Image, Arc<UploadSession>)> {
        let shared = &self.shared;
        let old = shared.load(id)?;
        self.check_replaceable(&old)?;
        let file = self.open_sealed(&old)?;
        let new = shared.queue(in_place_of(&old, Actor { uid: user.uid }))?;
        let session = self.open_upload(&new, user)?;
        let swapped = shared
            .begin_with(&session, &file)
            .and_then(|()| {
                hit(Failpoint::ReopenCopied);
                shared.take_back(&old)
            })
            .and_then(|()| shared.load(new.id));
        hit(Failpoint::ReopenRecorded);
        self.keeper.wake();
        swapped.map(|new| (new, Arc::clone(&session))).inspect_err(|error| {
            self.fail(&session, error.clone());
            self.close_upload(&session);
        })
    }

    /// Withholds what was published a moment ago, as its writer has failed since. What it had replaced has
    /// its name back. Answers whether there was anything to withhold.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn withdraw(&self, id: ImageId, reason: &str) -> Result<bool> {
        let replaced = self.shared.recents.replaced_by(id);
        let choose = |image: &Image| match image.status.has_unique_names() {
            true => Ok(Event::Withhold),
            false => Err(Error::NotFound),
        };
        let withheld = self.shared.transition(id, None, choose, |next, also| {
            next.message = Some(reason.to_owned());
            replaced.map_or(Ok(()), |replaced| self.shared.bring_back(replaced, id, also))
        });
        hit(Failpoint::WithdrawRecorded);
        match withheld {
            Ok(taken) => Ok(taken.is_some()),
            Err(Error::NotFound) => self.withhold_removed(id, reason),
            Err(error) => Err(error),
        }
    }

    /// What was removed or replaced meanwhile comes back withheld, if it is restored.
    fn withhold_removed(&self, id: ImageId, reason: &str) -> Result<bool> {
        let mut is_withheld = false;
        let amended = self.shared.amend(id, Durability::Transient, |mut image| {
            is_withheld =
                image.status.is_recoverable() && image.origin.is_some_and(Status::has_unique_names);
            image.origin = Some(Status::Deactivated);
            image.message = Some(reason.to_owned());
            Ok(is_withheld.then_some(image))
        });
        match amended {
            Err(Error::NotFound) => Ok(false),
            done => done.map(|()| is_withheld),
        }
    }
}

/// A new image that has all that is said of `old`.
fn in_place_of(old: &Image, actor: Actor) -> Newcomer {
    let Image { name, ownership, details, .. } = old.clone();
    Newcomer { name, status: Status::Queued, ownership, details, in_place_by: Some(actor) }
}

impl Shared {
    /// Begins an upload with the content of `file`.
    fn begin_with(&self, session: &UploadSession, file: &StoreFile) -> Result<()> {
        let mut state = session.state.lock();
        let upload: &mut Upload = self.ready(session, &mut state)?;
        let all = Extent { offset: 0, length: file.size_bytes()? };
        upload.copy(file, all, 0)?;
        let size_bytes = upload.size_bytes();
        session.grew(size_bytes);
        Ok(())
    }

    /// Takes an image out of `active/` as if it had never been there.
    fn take_back(&self, old: &Image) -> Result<()> {
        self.until_settled(|| {
            let image = self.load(old.id)?;
            if !image.status.has_unique_names() {
                return Err(Error::Busy("the image was removed meanwhile: try again".into()));
            }
            let mut change = Change::default();
            if let Content::Sealed(seal) = image.content {
                change.reclaims.push(Reclaim { id: image.id, digest: seal.digest });
            }
            change.transitions.push(self.dropped(&image, "opened again by its writer"));
            if let Some(replaced) = self.recents.replaced_by(image.id) {
                self.bring_back(replaced, image.id, &mut change)?;
            }
            change.forgotten.push(image);
            self.commit(change)
        })
    }

    /// Drops a record that is nothing by itself and got no data.
    pub(super) fn drop_unused(&self, id: ImageId) -> Result<()> {
        self.until_settled(|| {
            let Some(image) = self.registry.image(Key::Id(id))? else {
                return Ok(());
            };
            if !image.is_provisional || image.content != Content::Absent {
                return Ok(());
            }
            let mut change = Change::default();
            change.transitions.push(self.dropped(&image, "nothing was written"));
            change.forgotten.push(image);
            self.commit(change)
        })
    }

    fn dropped(&self, image: &Image, cause: &str) -> Transition {
        Transition {
            at: self.clock.moment().at,
            id: image.id,
            name: image.name.clone(),
            from: Some(image.status),
            to: None,
            cause: cause.to_owned(),
            uid: Some(image.ownership.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{RECENTS_MAX, Recents};
    use crate::image::ImageId;

    #[test]
    fn what_was_published_lately_is_remembered_and_no_more_than_there_is_room_for() {
        let recents = Recents::default();
        let [first, replaced, late] = [(); 3].map(|()| ImageId::random());
        recents.note(first, Some(replaced));
        for _ in 1..RECENTS_MAX {
            recents.note(ImageId::random(), None);
        }
        recents.note(late, Some(replaced));
        assert_eq!(recents.replaced_by(first), Some(replaced), "it is as new as the others");
        assert_eq!(recents.replaced_by(late), None, "there is no room");
        recents.renamed(first, late);
        assert_eq!(recents.replaced_by(first), Some(late));
    }
}
