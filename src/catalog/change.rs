//! How a record changes: read, decide, commit, and decide again when it changed in between.

use super::{Actor, CONFLICTS_MAX, Shared};
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageId, ImageNumber, User};
use crate::lifecycle::{Decision, Effect, Event, Status, Step, decide};
use crate::registry::{Change, Durability, Key, Reclaim, Transition};

/// How many withdrawn images are looked behind, of one name within seconds.
const CHAIN_MAX: usize = 16;

/// A transition that was made.
pub(super) struct Taken {
    /// The record before it.
    pub(super) before: Image,
    /// Who had the name and gave it up.
    pub(super) evicted: Option<ImageId>,
}

impl Shared {
    pub(super) fn load(&self, id: ImageId) -> Result<Image> {
        self.registry.image(Key::Id(id))?.ok_or(Error::NotFound)
    }

    /// Commits, and tells the log which statuses changed.
    pub(super) fn commit(&self, mut change: Change) -> Result<()> {
        // What is published has its manifest before, and what is on its way has none.
        let outdated = change.updates.iter().filter(|image| {
            let is_sealed = matches!(image.content, Content::Sealed(_));
            is_sealed && image.status.publication().is_none() && change.manifested != Some(image.id)
        });
        change.outdated = outdated.map(|image| image.id).collect();
        let transitions = change.transitions.clone();
        let changed: Vec<ImageNumber> =
            change.updates.iter().chain(&change.forgotten).map(|image| image.number).collect();
        let committed = match self.registry.commit(change.clone()) {
            // There is a little room for just this: what removes something must be possible.
            Err(error) if error.is_full() => {
                self.store.yield_reserve();
                self.registry.commit(change)
            }
            committed => committed,
        };
        committed?;
        if let Some(told) = self.told.get() {
            told(&changed);
        }
        for Transition { id, name, from, to, cause, uid, .. } in transitions {
            let (name, from, to) = (name.as_str(), named(from), named(to));
            log::info!("image={id} name={name:?} from={from} to={to} op={cause:?} uid={uid:?}");
        }
        Ok(())
    }

    /// Reads the record and commits what `edit` makes of it, until nobody else changes it in
    /// between. An edit that answers none changes nothing.
    pub(super) fn amend(
        &self,
        id: ImageId,
        durability: Durability,
        mut edit: impl FnMut(Image) -> Result<Option<Image>>,
    ) -> Result<()> {
        self.until_settled(|| {
            let Some(mut next) = edit(self.load(id)?)? else {
                return Ok(());
            };
            next.updated_at = self.clock.moment().at;
            self.commit(Change { durability, ..Change::update(next) })
        })
    }

    /// The same for a record that is to hold sealed data: durably, and only as long as all images together
    /// hold no more than they may.
    pub(super) fn amend_to_hold(
        &self,
        id: ImageId,
        mut edit: impl FnMut(Image) -> Result<Image>,
    ) -> Result<()> {
        self.until_settled(|| {
            let mut next = edit(self.load(id)?)?;
            next.updated_at = self.clock.moment().at;
            let quota_bytes = self.policy.quota.bytes;
            self.commit(Change { quota_bytes, ..Change::update(next).durably() })
        })
    }

    /// Does `attempt` again as long as it conflicts, a bounded number of times.
    pub(super) fn until_settled<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        for _ in 0..CONFLICTS_MAX {
            match attempt() {
                Err(Error::Conflict) => {}
                done => return done,
            }
        }
        Err(Error::Conflict)
    }

    /// Takes the step that `choose` asks of the record, with all its effects on records and sealed data.
    /// `amend` may change the record beyond the step, and add what is to change in the same commit,
    /// after it. Answers none when it was so already.
    pub(super) fn transition(
        &self,
        id: ImageId,
        by: Option<Actor>,
        choose: impl Fn(&Image) -> Result<Event>,
        amend: impl Fn(&mut Image, &mut Change) -> Result<()>,
    ) -> Result<Option<Taken>> {
        self.until_settled(|| {
            let image = self.load(id)?;
            let event = choose(&image)?;
            // What becomes of an upload is its writer's doing.
            let by = by.or_else(|| self.uploads.of(id).map(|session| session.actor()));
            let step = match decide(image.subject(), event) {
                Decision::Step(step) => step,
                Decision::Already => return Ok(None),
                Decision::Denied(reason) => return Err(reason.into()),
            };
            let mut change = Change::default();
            let mut also = Change::default();
            let mut next = self.step(&image, step, (event, by), &mut change);
            amend(&mut next, &mut also)?;
            let mut evicted = None;
            if step.effects.contains(&Effect::TakeName) {
                evicted = self.evict_holder(&next, step.to, by, &mut change)?;
            }
            if step.effects.contains(&Effect::DropRecord) {
                change.forgotten.push(image.clone());
            } else {
                change.updates.push(next);
            }
            change.updates.append(&mut also.updates);
            change.tasks.append(&mut also.tasks);
            change.transitions.append(&mut also.transitions);
            change.reclaims.append(&mut also.reclaims);
            change.durability = also.durability;
            change.manifested = also.manifested;
            self.commit(change)?;
            Ok(Some(Taken { before: image, evicted }))
        })
    }

    /// The record after a step. What else the step changes goes into `change`; the record itself is for
    /// the caller to put there.
    pub(super) fn step(
        &self,
        image: &Image,
        step: Step,
        (event, by): (Event, Option<Actor>),
        change: &mut Change,
    ) -> Image {
        let now = self.clock.moment();
        let next = image.stepped(step, now);
        let is_dropped = step.effects.contains(&Effect::DropRecord);
        change.transitions.push(Transition {
            at: now.at,
            id: image.id,
            name: image.name.clone(),
            from: Some(image.status),
            to: (!is_dropped).then_some(step.to),
            cause: event.name().to_owned(),
            uid: by.map(|actor| actor.uid),
        });
        if step.effects.contains(&Effect::Reclaim)
            && let Content::Sealed(seal) = image.content
        {
            change.reclaims.push(Reclaim { id: image.id, digest: seal.digest });
        }
        next
    }

    /// Adds to `change` that whoever has the name of `image` in the status `to` gives it up.
    pub(super) fn evict_holder(
        &self,
        image: &Image,
        to: Status,
        by: Option<Actor>,
        change: &mut Change,
    ) -> Result<Option<ImageId>> {
        let holder = self.registry.find(to, &image.name, None)?;
        let Some(holder) = holder.filter(|holder| holder.id != image.id) else {
            return Ok(None);
        };
        let session = self.uploads.of(image.id);
        may_replace(image, &holder, by, session.as_ref().map(|session| session.user()))?;
        let event = holder.status.removal(self.policy.delayed_delete);
        match decide(holder.subject(), event) {
            Decision::Step(step) => {
                let evicted = self.step(&holder, step, (event, by), change);
                change.updates.push(evicted);
                Ok(Some(holder.id))
            }
            Decision::Already => Ok(None),
            Decision::Denied(reason) => Err(reason.into()),
        }
    }

    /// Adds to `change` that an image that was replaced has its name back, if it can still be had back
    /// and nobody but `leaving` has the name.
    pub(super) fn bring_back(
        &self,
        replaced: ImageId,
        leaving: ImageId,
        change: &mut Change,
    ) -> Result<()> {
        let Some(image) = self.standing_behind(replaced)? else { return Ok(()) };
        let Some(event) = image.origin.and_then(Status::restore_event) else { return Ok(()) };
        let Decision::Step(step) = decide(image.subject(), event) else { return Ok(()) };
        let holder = self.registry.find(step.to, &image.name, None)?;
        if step.to.has_unique_names() && holder.is_some_and(|holder| holder.id != leaving) {
            return Ok(());
        }
        let next = self.step(&image, step, (event, None), change);
        change.updates.push(next);
        Ok(())
    }
}

impl Shared {
    /// An image that was replaced or, where that one was withdrawn itself since, what it had replaced.
    fn standing_behind(&self, replaced: ImageId) -> Result<Option<Image>> {
        let mut next = Some(replaced);
        for _ in 0..CHAIN_MAX {
            let Some(id) = next else { return Ok(None) };
            let image = self.registry.image(Key::Id(id))?;
            if image
                .as_ref()
                .is_some_and(|image| image.origin.is_some_and(Status::has_unique_names))
            {
                return Ok(image);
            }
            next = self.recents.replaced_by(id);
        }
        Ok(None)
    }
}

fn named(status: Option<Status>) -> &'static str {
    status.map_or("none", Status::name)
}

/// Whether `image` may be put in the place of `holder`, by whoever asks or by its owner. Whoever may write an
/// image by its mode may replace it by an upload (specification, section 2), as long as that is open: then all of
/// his groups are known. Whoever moves an image there, or has one imported, must govern what he replaces.
fn may_replace(
    image: &Image,
    holder: &Image,
    by: Option<Actor>,
    writer: Option<&User>,
) -> Result<()> {
    let (own, theirs) = (&image.ownership, &holder.ownership);
    let may_write = writer.is_some_and(|writer| theirs.lets_write(writer));
    let asker = by.unwrap_or(Actor { uid: own.uid });
    let governs =
        asker.must_govern(holder).is_ok() || (Actor { uid: own.uid }).must_govern(holder).is_ok();
    if governs || may_write {
        Ok(())
    } else {
        Err(Error::NoPermission("the name belongs to an image of another user"))
    }
}
