//! What is done to an image by its name: removing it, renaming it, changing whose it is.

use super::{Actor, CONFLICTS_MAX, Catalog, Shared, now};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Image, ImageId, ImageName, Timestamp};
use crate::lifecycle::{Decision, Event, Status, decide};
use crate::registry::{Change, Durability};

/// What of an image's attributes is to change; none of a field leaves it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// When the content changed.
    pub modified_at: Option<Timestamp>,
}

impl Catalog {
    /// Removes an image as the lifecycle says: into the trash, out of it, or the record itself.
    /// Whoever writes it is cut off; whoever reads it reads on. It is removed from where it was seen:
    /// one that has gone on to another status meanwhile is not there any more.
    ///
    /// # Errors
    /// The caller does not govern it, it is protected, or the registry can't write.
    pub fn remove(&self, id: ImageId, seen: Status, actor: Actor) -> Result<()> {
        let delayed_delete = self.shared.policy.delayed_delete;
        let choose = |image: &Image| {
            if image.status != seen {
                return Err(Error::NotFound);
            }
            actor.must_govern(image)?;
            let event = image.status.removal(delayed_delete);
            if event == Event::Forget && !actor.is_root() {
                return Err(Error::NoPermission(
                    "only root may drop the record of a deleted image",
                ));
            }
            Ok(event)
        };
        self.shared.transition(id, choose, |_| {})?;
        hit(Failpoint::RemoveRecorded);
        self.shared.cut_off_removed(id)?;
        hit(Failpoint::RemoveDiscarded);
        self.keeper.wake();
        Ok(())
    }

    /// Gives an image another name in its folder. Where that name is taken, its bearer goes into
    /// the trash if it can be had back from there; otherwise both live.
    ///
    /// # Errors
    /// The caller does not govern both, the name is taken and may not be, or protection forbids it.
    pub fn rename(&self, id: ImageId, name: &ImageName, rename: Rename) -> Result<()> {
        for _ in 0..CONFLICTS_MAX {
            let change = self.shared.renamed(id, name, rename)?;
            match self.shared.registry.commit(change) {
                Err(Error::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    log::info!("image={id} name={:?} op=rename", name.as_str());
                    self.keeper.wake();
                    return Ok(());
                }
            }
        }
        Err(Error::Conflict)
    }

    /// Changes whose an image is, its mode bits, or the time of its content.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn set_attributes(&self, id: ImageId, attributes: Attributes) -> Result<()> {
        let upload = self.shared.uploads.of(id);
        if let (Some(upload), Some(at)) = (&upload, attributes.modified_at) {
            upload.set_modified_at(at);
        }
        self.shared.amend(id, Durability::Transient, |mut image| {
            image.ownership.uid = attributes.uid.unwrap_or(image.ownership.uid);
            image.ownership.gid = attributes.gid.unwrap_or(image.ownership.gid);
            image.ownership.mode = attributes.mode.unwrap_or(image.ownership.mode);
            image.modified_at = attributes.modified_at.unwrap_or(image.modified_at);
            Ok(Some(image))
        })
    }
}

/// From where an image is renamed, how a name that is taken is treated, and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Rename {
    /// The status in which the image was seen.
    pub seen: Status,
    /// On whose behalf.
    pub actor: Actor,
    /// Refuse a name that is taken.
    pub no_replace: bool,
}

impl Shared {
    /// Cuts off the writer of an image that is deleted, and frees its staged data.
    fn cut_off_removed(&self, id: ImageId) -> Result<()> {
        let is_gone = self.load(id).map_or(true, |image| image.status.publication().is_none());
        if !is_gone {
            return Ok(());
        }
        if let Some(upload) = self.uploads.of(id) {
            upload.cancel();
        }
        // An upload that ended meanwhile may have left its data to nobody.
        self.store.discard(id)
    }

    fn renamed(&self, id: ImageId, name: &ImageName, rename: Rename) -> Result<Change> {
        let mut image = self.load(id)?;
        if image.status != rename.seen {
            return Err(Error::NotFound);
        }
        rename.actor.must_govern(&image)?;
        let mut change = Change::update(image.clone());
        change.updates.clear();
        let bearer = self.registry.find(image.status, name, None)?;
        if let Some(bearer) = bearer.filter(|bearer| bearer.id != id) {
            if rename.no_replace {
                return Err(Error::Exists);
            }
            change = self.replaced(&bearer, rename.actor, change)?;
        }
        image.name = name.clone();
        image.updated_at = now();
        change.updates.push(image);
        Ok(change)
    }

    fn replaced(&self, bearer: &Image, actor: Actor, change: Change) -> Result<Change> {
        actor.must_govern(bearer)?;
        let event = bearer.status.removal(self.policy.delayed_delete);
        match decide(bearer.subject(), event) {
            Decision::Step(step)
                if step.to.is_recoverable() || bearer.status.has_unique_names() =>
            {
                self.stepped(bearer, step, |_| {})
            }
            Decision::Step(_) | Decision::Already => Ok(change),
            Decision::Denied(reason) => Err(reason.into()),
        }
    }
}
