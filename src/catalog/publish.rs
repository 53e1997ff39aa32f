//! From the first byte to `active`: begin, write, vote, publish; and the end of an upload that failed.
//!
//! The vote is taken at a close and answered to the writer; it leaves durable data and a durable sealed
//! record. The last close publishes: the data gets its digest for a name, the manifest is written, and
//! the record becomes active in one commit with the name it takes. A crash between any two of these is
//! settled by `recover`.

use std::sync::Arc;

use super::reserve::Claim;
use super::upload::State;
use super::{CONFLICTS_MAX, Catalog, Shared, UploadSession, manifest::Manifest};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Content, Image, ImageId, Seal};
use crate::ingest::Upload;
use crate::lifecycle::{Decision, Event, decide};
use crate::registry::{Change, Durability, Key, Reclaim};
use crate::store::Extent;

/// A change of an upload's extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Cut or grow to this length, as ftruncate(2).
    To(u64),
    /// Allocate or free, as fallocate(2) with these mode bits.
    Allocate {
        /// The mode bits.
        mode: u32,
        /// The stretch.
        extent: Extent,
    },
}

impl Catalog {
    /// Writes `data` at `offset`. The first byte makes a queued image `saving`; a write after a vote
    /// withdraws the vote.
    ///
    /// # Errors
    /// The upload has failed before, the image was removed, or the disk refuses. The error stays: the
    /// upload can't be closed into success.
    pub fn write(&self, session: &UploadSession, offset: u64, data: &[u8]) -> Result<()> {
        self.shared.change(session, |upload| upload.write(offset, data))
    }

    /// Changes the length or the allocation of an upload. A length of zero before any data makes
    /// the image an explicitly empty one.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn resize(&self, session: &UploadSession, resize: Resize) -> Result<()> {
        if resize == Resize::To(0) {
            let mut state = session.state.lock();
            if !state.is_begun && state.failure.is_none() {
                session.check_not_cancelled()?;
                state.is_emptied = true;
                return Ok(());
            }
        }
        self.shared.change(session, |upload| match resize {
            Resize::To(size_bytes) => upload.set_size(size_bytes),
            Resize::Allocate { mode, extent } => upload.allocate(mode, extent),
        })
    }

    /// Checks the upload and makes it durable: after that, only a loss of the disk keeps it from
    /// becoming active. An image without data is made durable as it is.
    ///
    /// # Errors
    /// Whatever keeps it from becoming active. The error stays.
    pub fn vote(&self, session: &UploadSession) -> Result<()> {
        let mut state = session.state.lock();
        session.check_not_cancelled()?;
        if !state.is_begun && !state.is_emptied {
            drop(state);
            return self.shared.registry.flush();
        }
        self.shared.vote(session, &mut state)
    }

    /// Lets the upload fail: its writer did.
    pub fn fail(&self, session: &UploadSession, failure: Error) {
        let mut state = session.state.lock();
        if state.seal.take().is_some()
            && let Err(error) = self.shared.unseal(session.id(), None)
        {
            log::warn!("image={} op=withdraw: {error}", session.id());
        }
        if state.is_begun {
            state.failure.get_or_insert(failure);
        } else {
            // Nothing was written: the image stays queued, and is not an empty one.
            state.is_emptied = false;
        }
    }
}

impl Shared {
    /// Changes the bytes of an upload, beginning it or withdrawing its vote where that is due. The
    /// first error stays.
    fn change(
        &self,
        session: &UploadSession,
        work: impl FnOnce(&mut Upload) -> Result<()>,
    ) -> Result<()> {
        let mut state = session.state.lock();
        session.check_not_cancelled()?;
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let done = self.ready(session, &mut state).and_then(|upload| {
            work(upload)?;
            session.grew(upload.size_bytes());
            Ok(())
        });
        done.inspect_err(|error| {
            if !error.spoils_upload() {
                return;
            }
            log::warn!("image={} op=write errno={}: {error}", session.id(), error.errno());
            state.failure = Some(error.clone());
        })
    }

    fn ready<'a>(&self, session: &UploadSession, state: &'a mut State) -> Result<&'a mut Upload> {
        if state.seal.is_some() {
            self.unseal(session.id(), None)?;
            state.seal = None;
        }
        if !state.is_begun {
            self.begin(session.id())?;
            state.is_begun = true;
            hit(Failpoint::BeginRecorded);
        }
        if state.upload.is_none() {
            let staged = Arc::new(self.store.stage(session.id())?);
            hit(Failpoint::BeginStaged);
            session.set_staged(Some(Arc::clone(&staged)));
            state.upload = Some(Upload::new(staged));
        }
        state.upload.as_mut().ok_or(Error::BadHandle)
    }

    fn begin(&self, id: ImageId) -> Result<()> {
        let begun =
            self.transition(id, |_| Ok(Event::Write), |next| next.content = Content::Staged);
        match begun {
            // Whoever removed the image was faster.
            Err(Error::NotFound | Error::Denied(_)) => Err(Error::Cancelled),
            other => other.map(|_| ()),
        }
    }

    /// Takes a sealed record back: the data is about to change, or the upload failed. The content it
    /// held may be nobody's now.
    fn unseal(&self, id: ImageId, message: Option<String>) -> Result<()> {
        for _ in 0..CONFLICTS_MAX {
            let mut image = self.load(id)?;
            let Content::Sealed(seal) = image.content else { return Ok(()) };
            if image.status.publication().is_none() {
                return Ok(());
            }
            let has_begun = image.status.failure(false).is_some();
            image.content = if has_begun { Content::Staged } else { Content::Absent };
            image.message.clone_from(&message);
            let mut change = Change::update(image);
            change.reclaims.push(Reclaim { id, digest: seal.digest });
            match self.registry.commit(change) {
                Err(Error::Conflict) => {}
                done => return done,
            }
        }
        Err(Error::Conflict)
    }

    /// Whether the image may take its name when it is published: whoever has the name may be another
    /// user's, or protected.
    fn check_name(&self, id: ImageId) -> Result<()> {
        let image = self.load(id)?;
        let Some(event) = image.status.publication() else { return Err(Error::Cancelled) };
        match decide(image.subject(), event) {
            Decision::Step(step) => {
                self.evict_holder(&image, step.to, &mut Change::update(image.clone()))
            }
            Decision::Already => Ok(()),
            Decision::Denied(reason) => Err(reason.into()),
        }
    }

    fn vote(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.seal.is_some() {
            return Ok(());
        }
        match self.seal(session, state) {
            Ok(seal) => {
                state.seal = Some(seal);
                Ok(())
            }
            Err(error) => {
                log::warn!("image={} op=vote errno={}: {error}", session.id(), error.errno());
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    fn seal(&self, session: &UploadSession, state: &mut State) -> Result<Seal> {
        if state.upload.is_none() {
            // Explicitly empty: what is sealed and published is a file of no bytes.
            let staged = Arc::new(self.store.stage(session.id())?);
            session.set_staged(Some(Arc::clone(&staged)));
            state.upload = Some(Upload::new(staged));
        }
        self.check_name(session.id())?;
        let upload = state.upload.as_mut().ok_or(Error::BadHandle)?;
        let seal = upload.examine()?;
        self.store.sync(upload.file())?;
        hit(Failpoint::VoteSynced);
        self.amend(session.id(), Durability::Durable, |mut image| {
            if image.status.publication().is_none() {
                return Err(Error::Cancelled);
            }
            if image.bound_digest.is_some_and(|bound| bound != seal.digest) {
                return Err(Error::Rejected(format!(
                    "image {} was active with other content: upload this under a new image",
                    image.id
                )));
            }
            image.content = Content::Sealed(seal);
            image.modified_at = session.modified_at();
            Ok(Some(image))
        })?;
        hit(Failpoint::VoteRecorded);
        Ok(seal)
    }

    /// The last close: commits what the session came to, and ends it. With a failure, an upload that
    /// is not sealed has failed for that reason.
    pub(super) fn finish(&self, session: &Arc<UploadSession>, failure: Option<Error>) {
        let id = session.id();
        let mut state = session.state.lock();
        let outcome = self.settle(session, &mut state, failure);
        // The staged file is closed before anybody is told, so that its space is free.
        *state = State::default();
        drop(state);
        self.uploads.end(id);
        if let Err((failure, error)) = outcome {
            log::error!("image={id} op=release errno={}: {error}; trying again", error.errno());
            self.uploads.keep_unsettled(id, failure);
        }
    }

    /// Commits the outcome. What can't be committed comes back, with the failure to kill it for, if
    /// that is its outcome.
    fn settle(
        &self,
        session: &UploadSession,
        state: &mut State,
        failure: Option<Error>,
    ) -> std::result::Result<(), (Option<Error>, Error)> {
        let id = session.id();
        let discarded = || self.store.discard(id).map_err(|error| (None, error));
        if session.check_not_cancelled().is_err() {
            return discarded();
        }
        let failure = state.failure.clone().or_else(|| failure.filter(|_| state.seal.is_none()));
        let voted = match failure {
            Some(failure) => Err(failure),
            None if !state.is_begun && !state.is_emptied => return discarded(),
            None => self.vote(session, state),
        };
        // The staged file is closed before its end is recorded: the disk may be full.
        state.upload = None;
        session.set_staged(None);
        match voted {
            Err(failure) => self.kill(id, &failure).map_err(|error| (Some(failure), error)),
            // Its writer was told that it is safe: what can't be published now is kept.
            Ok(()) => self.publish_or_kill(id).map_err(|error| (None, error)),
        }
    }

    /// Publishes, or kills what may not have its name.
    pub(super) fn publish_or_kill(&self, id: ImageId) -> Result<()> {
        match self.publish(id) {
            Err(error @ (Error::Denied(_) | Error::NoPermission(_))) => self.kill(id, &error),
            other => other,
        }
    }

    /// Makes a sealed image active. Harmless when it was done before, or when the image was removed.
    pub(super) fn publish(&self, id: ImageId) -> Result<()> {
        let Some((_, seal)) = self.publishable(id)? else { return self.store.discard(id) };
        let content = self.reservations.reserve(Claim::Content(seal.digest));
        // Removed before the claim, its data was given back already and must not come again; removed
        // after it, its data is given back when the claim is let go.
        let Some((image, seal)) = self.publishable(id)? else { return self.store.discard(id) };
        self.store.seal(id, &seal)?;
        hit(Failpoint::PublishSealed);
        self.write_manifest(&image);
        hit(Failpoint::PublishManifested);
        let publication = |image: &Image| image.status.publication().ok_or(Error::Cancelled);
        let published = self.transition(id, publication, |next| next.message = None);
        drop(content);
        hit(Failpoint::PublishRecorded);
        match published {
            // Removed meanwhile: its manifest may have been dropped before it was written.
            Err(Error::Cancelled | Error::NotFound) => self.drop_manifest_unless_sealed(id),
            other => other.map(|_| ()),
        }
    }

    fn publishable(&self, id: ImageId) -> Result<Option<(Image, Seal)>> {
        let Some(image) = self.registry.image(Key::Id(id))? else { return Ok(None) };
        match image.content {
            Content::Sealed(seal) if image.status.publication().is_some() => {
                Ok(Some((image, seal)))
            }
            Content::Sealed(_) | Content::Absent | Content::Staged | Content::Gone(_) => Ok(None),
        }
    }

    /// A manifest that can't be written does not undo a publication: the registry has it all.
    fn write_manifest(&self, image: &Image) {
        let Some(manifest) = Manifest::of(image) else {
            return;
        };
        let _claim = self.reservations.reserve(Claim::Manifest(image.id));
        if let Err(error) = self.store.put_manifest(image.id, &manifest.to_text()) {
            log::error!("image={} op=manifest errno={}: {error}", image.id, error.errno());
        }
    }

    /// The end of an upload that failed: the staged data goes first, as the disk may be full.
    pub(super) fn kill(&self, id: ImageId, failure: &Error) -> Result<()> {
        self.store.discard(id)?;
        hit(Failpoint::FailDiscarded);
        let retry = self.policy.retry_failed_upload;
        let choose = |image: &Image| image.status.failure(retry).ok_or(Error::Cancelled);
        let killed = self.transition(id, choose, |next| next.message = Some(failure.to_string()));
        hit(Failpoint::FailRecorded);
        match killed {
            // It is where nothing is killed: queued, as an explicitly empty one, or removed.
            Err(Error::Cancelled) => self.unseal(id, Some(failure.to_string())),
            Err(Error::NotFound) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}
