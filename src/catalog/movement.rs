//! A rename from the folder of one status into that of another: the transition that it asks for.

use super::{Actor, Catalog, Shared};
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageId, ImageName};
use crate::lifecycle::{Decision, Effect, Event, Status, decide_move};
use crate::registry::Durability;

/// What a rename into another folder asks for.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// The status in which the image was seen.
    pub seen: Status,
    /// The folder that it is to go to.
    pub to: Status,
    /// The transition.
    pub event: Event,
    /// The name it is to have there.
    pub name: &'a ImageName,
    /// Refuse a name that is taken there.
    pub no_replace: bool,
    /// On whose behalf.
    pub actor: Actor,
}

impl Catalog {
    /// Takes an image from one status to another. In `active/` whoever has the name goes into the trash
    /// in the same step.
    ///
    /// # Errors
    /// The caller does not govern it, it is protected or not where it was seen, the lifecycle forbids
    /// it, or the name is taken and may not be.
    pub fn move_image(&self, id: ImageId, wanted: Move<'_>) -> Result<()> {
        let shared = &self.shared;
        let choose = |image: &Image| shared.may_move(image, wanted);
        let taken = shared.transition(id, Some(wanted.actor), choose, |next, also| {
            also.durability = Durability::Durable;
            next.name = wanted.name.clone();
            next.message = match next.message.take() {
                _ if wanted.event == Event::Fail => Some("its upload was aborted".into()),
                _ if wanted.event == Event::Reactivate || wanted.event == Event::Stage => None,
                message => message,
            };
            Ok(())
        })?;
        let before = taken.map(|taken| taken.before.status);
        if before.is_some_and(|status| status.publication().is_some() || status.is_staging()) {
            shared.cut_off(id)?;
        }
        self.keeper.wake();
        Ok(())
    }
}

impl Shared {
    /// Whether the image may go where it is wanted; answers the event.
    pub(super) fn may_move(&self, image: &Image, wanted: Move<'_>) -> Result<Event> {
        let Move { seen, event, name, no_replace, actor, .. } = wanted;
        if image.status != seen {
            return Err(Error::NotFound);
        }
        actor.must_govern(image)?;
        let step = match decide_move(image.subject(), image.origin, event) {
            Decision::Step(step) => step,
            Decision::Already => return Err(Error::NotFound),
            Decision::Denied(reason) => return Err(reason.into()),
        };
        self.check_trash_time(image, event)?;
        if event == Event::Unlocate {
            check_unlocatable(image)?;
        }
        if step.to.has_unique_names()
            && let Content::Sealed(seal) = image.content
            && self.store.is_damaged(&seal.digest)?
        {
            let what = "the data of the image: upload it again, or have it verified again";
            return Err(Error::Damaged(what.into()));
        }
        if no_replace && self.registry.find(wanted.to, name, None)?.is_some() {
            return Err(Error::Exists);
        }
        // Whoever loses the name is the mover's to replace as well: `transition` asks for the rest.
        if step.effects.contains(&Effect::TakeName) && name != &image.name {
            let holder = self.registry.find(step.to, name, None)?;
            holder.map_or(Ok(()), |holder| actor.must_govern(&holder))?;
        }
        Ok(event)
    }
}

/// Whether the location of an image may be taken away: then its id is bound to what it was.
fn check_unlocatable(image: &Image) -> Result<()> {
    match (&image.content, image.bound_digest) {
        (Content::Located(_), Some(_)) => Ok(()),
        (Content::Located(_), None) => Err(Error::Busy(
            "its digest is still being computed: wait until user.sps.blake3 is there, or remove it"
                .into(),
        )),
        (Content::Absent | Content::Staged | Content::Sealed(_) | Content::Gone(_), _) => {
            Err(Error::Forbidden("only an image whose data lies elsewhere can lose its location"))
        }
    }
}
