//! What is done to an image by its name: removing it, renaming it, changing whose it is.

use super::{Actor, Catalog, Shared};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Image, ImageId, ImageName, Ownership, Timestamp};
use crate::lifecycle::{Decision, Event, Status, decide};
use crate::registry::{Change, Durability, Key};

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
            if event == Event::Forget && !actor.is_operator() {
                return Err(Error::NoPermission(
                    "only root and who runs the daemon may drop the record of a deleted image",
                ));
            }
            self.shared.check_trash_time(image, event)?;
            Ok(event)
        };
        self.shared.transition(id, Some(actor), choose, |_, _| Ok(()))?;
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
        let replaced = self.shared.until_settled(|| {
            let (change, replaced) = self.shared.renamed(id, name, rename)?;
            self.shared.commit(change.durably())?;
            Ok(replaced)
        })?;
        log::info!("image={id} name={:?} op=rename", name.as_str());
        if let Some(replaced) = replaced {
            self.shared.recents.renamed(id, replaced);
        }
        self.keeper.wake();
        Ok(())
    }

    /// Changes whose an image is, its mode bits, or the time of its content.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn set_attributes(&self, id: ImageId, attributes: Attributes) -> Result<()> {
        let upload = self.shared.uploads.of(id);
        if let (Some(upload), Some(at)) = (&upload, attributes.modified_at) {
            // What was accepted before is written before.
            upload.wait_for_writes();
            upload.set_modified_at(at);
        }
        self.shared.amend(id, Durability::Transient, |mut image| {
            image.ownership.uid = attributes.uid.unwrap_or(image.ownership.uid);
            image.ownership.gid = attributes.gid.unwrap_or(image.ownership.gid);
            let mode = attributes.mode.unwrap_or(image.ownership.mode);
            image.ownership.mode = mode & Ownership::MODE_BITS;
            image.modified_at = attributes.modified_at.unwrap_or(image.modified_at);
            Ok(Some(image))
        })?;
        // What is not protected any more may be due.
        self.keeper.wake();
        Ok(())
    }
}

impl Catalog {
    /// Changes what is said or declared of an image, durably.
    ///
    /// # Errors
    /// The caller does not govern it, what `edit` says, or the registry can't write.
    pub fn declare(
        &self,
        id: ImageId,
        actor: Actor,
        edit: impl Fn(&mut Image) -> Result<()>,
    ) -> Result<()> {
        let mut wanted = Vec::new();
        self.shared.amend(id, Durability::Durable, |mut image| {
            actor.must_govern(&image)?;
            let before = image.expected.clone();
            edit(&mut image)?;
            if image.expected != before && !image.may_be_declared() {
                return Err(Error::Forbidden("it may be declared until all data has come"));
            }
            wanted = image.expected.checksums.algorithms().collect();
            Ok(Some(image))
        })?;
        if let (Some(session), false) = (self.shared.uploads.of(id), wanted.is_empty()) {
            session.want(wanted);
        }
        self.keeper.wake();
        Ok(())
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
    /// Cuts off the writer of an image that was deleted, and frees its staged data.
    fn cut_off_removed(&self, id: ImageId) -> Result<()> {
        let status = self.registry.image(Key::Id(id))?.map(|image| image.status);
        let is_gone = status
            .is_none_or(|status| status.publication().is_none() && !status.keeps_staged_data());
        if is_gone { self.cut_off(id) } else { Ok(()) }
    }

    /// Cuts off the writer of an image, and frees its staged data.
    pub(super) fn cut_off(&self, id: ImageId) -> Result<()> {
        if let Some(upload) = self.uploads.of(id) {
            upload.cancel();
        }
        self.staging.forget(id);
        // An upload that ended meanwhile may have left its data to nobody.
        self.store.discard(id)
    }

    fn renamed(
        &self,
        id: ImageId,
        name: &ImageName,
        rename: Rename,
    ) -> Result<(Change, Option<ImageId>)> {
        let mut image = self.load(id)?;
        if image.status != rename.seen {
            return Err(Error::NotFound);
        }
        rename.actor.must_govern(&image)?;
        let mut change = Change::default();
        let bearer = self.registry.find(image.status, name, None)?;
        let bearer = bearer.filter(|bearer| bearer.id != id);
        if bearer.is_some() && rename.no_replace {
            return Err(Error::Exists);
        }
        let now = self.clock.moment().at;
        if bearer.is_some() {
            // Where both live, or more of the name do, what was renamed last bears it.
            image.status_at = now;
        }
        let replaced = bearer
            .map(|bearer| self.replaced(&bearer, rename.actor, &mut change))
            .transpose()?
            .flatten();
        image.name = name.clone();
        image.updated_at = now;
        change.updates.push(image);
        Ok((change, replaced))
    }

    fn replaced(
        &self,
        bearer: &Image,
        actor: Actor,
        change: &mut Change,
    ) -> Result<Option<ImageId>> {
        actor.must_govern(bearer)?;
        let event = bearer.status.removal(self.policy.delayed_delete);
        match decide(bearer.subject(), event) {
            Decision::Step(step)
                if step.to.is_recoverable() || bearer.status.has_unique_names() =>
            {
                let next = self.step(bearer, step, (event, Some(actor)), change);
                change.updates.push(next);
                Ok(Some(bearer.id))
            }
            Decision::Step(_) | Decision::Already => Ok(None),
            Decision::Denied(reason) => Err(reason.into()),
        }
    }
}
