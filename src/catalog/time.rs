//! What happens by itself when its time has come: purging, forgetting, and the end of uploads that stall.

use std::time::Duration;

use super::{Catalog, Shared};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Image, StoreTime};
use crate::lifecycle::{Event, Reason, Status, TaskStatus};
use crate::registry::TaskChange;

/// Records that are read at once.
const BATCH: u32 = 64;

/// Nothing is scrubbed so soon after a mount, if the scrub time is not shorter: whoever mounts an old
/// store has time to look.
const GRACE: Duration = Duration::from_secs(3600);

/// The longest sleep of who waits for time to pass.
pub(super) const NAP: Duration = Duration::from_secs(60);

/// All of the store's time, as a column can hold it.
const ALWAYS: StoreTime = StoreTime::from_nanoseconds(i64::MAX as u64);

impl Catalog {
    /// Purges what is due. Answers how many images that were.
    ///
    /// # Errors
    /// The registry can't be read or written.
    pub fn scrub(&self) -> Result<u64> {
        let (purged, _) = self.shared.expire(Status::PendingDelete)?;
        self.keeper.wake();
        Ok(purged)
    }

    /// When the next image of the trash is purged, counted from now; none when the trash is empty.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn next_purge(&self) -> Result<Option<Duration>> {
        self.shared.next_due(Status::PendingDelete)
    }
}

impl Shared {
    /// How long an image has a status that time ends.
    fn span(&self, event: Event) -> Duration {
        if event == Event::Purge {
            self.policy.scrub_time
        } else if event == Event::Forget {
            self.policy.forget_time
        } else {
            self.policy.killed_time
        }
    }

    /// How long it is until anything may be scrubbed after the mount.
    fn grace(&self) -> Duration {
        let grace = self.policy.scrub_time.min(GRACE);
        let since = self.clock.moment().age.since(self.clock.opened());
        grace.saturating_sub(since)
    }

    /// How long it is until the next image leaves a status because its time is over.
    fn next_due(&self, status: Status) -> Result<Option<Duration>> {
        let Some(event) = status.expiry() else { return Ok(None) };
        let Some(first) = self.registry.due(status, ALWAYS, 1)?.pop() else { return Ok(None) };
        let left = first.entered_at.plus(self.span(event)).since(self.clock.moment().age);
        Ok(Some(if event == Event::Purge { left.max(self.grace()) } else { left }))
    }

    /// Lets go what has had `status` for its time. Answers how many images that were, and how long it is
    /// until the next one.
    fn expire(&self, status: Status) -> Result<(u64, Option<Duration>)> {
        let Some(event) = status.expiry() else { return Ok((0, None)) };
        let mut count = 0;
        loop {
            let left = self.next_due(status)?;
            if left != Some(Duration::ZERO) {
                return Ok((count, left));
            }
            let age = self.clock.moment().age.as_nanoseconds();
            let span = u64::try_from(self.span(event).as_nanos()).unwrap_or(u64::MAX);
            let until = StoreTime::from_nanoseconds(age.saturating_sub(span));
            let before = count;
            for image in self.registry.due(status, until, BATCH)? {
                count += u64::from(self.let_go(&image, event)?);
            }
            if count == before {
                // Somebody holds it back: it is looked at again later.
                return Ok((count, Some(NAP)));
            }
        }
    }

    /// Makes `event` happen to an image that is still where it was seen. Answers whether it did.
    fn let_go(&self, image: &Image, event: Event) -> Result<bool> {
        let choose = |now: &Image| {
            if (now.status, now.entered_at) == (image.status, image.entered_at) {
                Ok(event)
            } else {
                Err(Error::NotFound)
            }
        };
        let gone = self.transition(image.id, None, choose, |_, _| Ok(()));
        hit(Failpoint::PurgeRecorded);
        match gone {
            Ok(taken) => Ok(taken.is_some()),
            Err(Error::NotFound | Error::Denied(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go all whose time is over. Answers how long it is until there is more to do.
    pub(super) fn pass_time(&self) -> Result<Duration> {
        let mut nap = NAP;
        for status in Status::ALL {
            let (_, next) = self.expire(status)?;
            nap = nap.min(next.unwrap_or(NAP));
        }
        nap = nap.min(self.forget_tasks()?);
        Ok(nap.min(self.end_stalled()?))
    }

    fn forget_tasks(&self) -> Result<Duration> {
        let mut nap = NAP;
        for status in TaskStatus::ALL.into_iter().filter(|status| status.is_finished()) {
            for task in self.registry.tasks_due(status, ALWAYS, BATCH)? {
                let age = self.clock.moment().age;
                let left = task.entered_at.plus(self.policy.task_time).since(age);
                if left > Duration::ZERO {
                    nap = nap.min(left);
                    break;
                }
                let mut change = crate::registry::Change::default();
                change.tasks.push(TaskChange::Forget(task));
                match self.commit(change) {
                    Ok(()) | Err(Error::Conflict) => nap = nap.min(Duration::from_secs(1)),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(nap)
    }

    /// Kills the uploads that nobody has written to for too long.
    fn end_stalled(&self) -> Result<Duration> {
        let Some(stall_time) = self.policy.stall_time else { return Ok(NAP) };
        let mut nap = NAP;
        for session in self.uploads.sessions() {
            let left = stall_time.saturating_sub(session.idle());
            let is_begun = session.live().size_bytes > 0 && !session.is_staging();
            // One that is being written waits for the disk, not for a writer; and what was closed well is safe,
            // whoever else has it open.
            let is_waiting = session.state.try_lock().is_some_and(|state| state.seal.is_none());
            if !is_begun || session.is_busy() || !is_waiting {
                continue;
            }
            if left > Duration::ZERO {
                nap = nap.min(left);
                continue;
            }
            session.cancel();
            let seconds = stall_time.as_secs();
            let reason = Error::WriterFailed(format!("nothing was written for {seconds} s"));
            self.kill(session.id(), &reason)?;
        }
        Ok(nap)
    }

    /// Refuses to purge by hand what is to be kept in the trash for a time.
    pub(super) fn check_trash_time(&self, image: &Image, event: Event) -> Result<()> {
        let kept = self.clock.moment().age.since(image.entered_at);
        if image.status.is_recoverable()
            && [true, false].map(|delayed| image.status.removal(delayed)).contains(&event)
            && kept < self.policy.min_trash_time
        {
            return Err(Reason::TooEarly { event }.into());
        }
        Ok(())
    }

    /// Purges the oldest image of the trash, where the operator lets that be done for an upload that
    /// finds no room. Answers whether it is worth trying again.
    pub(super) fn make_room(&self) -> bool {
        if !self.policy.scrub_when_full {
            return false;
        }
        self.store.yield_reserve();
        let purged = self.registry.due(Status::PendingDelete, ALWAYS, 1).and_then(|mut oldest| {
            let Some(image) = oldest.pop() else { return Ok(false) };
            self.check_trash_time(&image, image.status.removal(true))?;
            let purged = self.let_go(&image, Event::Purge)?;
            while self.reclaim()? {}
            Ok(purged)
        });
        self.store.keep_reserve();
        match purged {
            Ok(purged) => purged,
            Err(error) => {
                log::warn!("op=make_room errno={}: {error}", error.errno());
                false
            }
        }
    }
}
