//! From the vote to `active`.
//!
//! The vote is taken at a close and answered to the writer; it leaves durable data, with its digest for a
//! name, and a durable sealed record. The last close publishes: the manifest is written, and the record
//! becomes active in one commit with the name it takes. A crash between any two of these is settled by
//! `recover`.

use std::sync::Arc;

use super::reserve::Claim;
use super::upload::{Reference, State};
use super::{Actor, Catalog, Shared, UploadSession};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Checksums, Content, Image, ImageId, Seal, Timestamp};
use crate::ingest::{Examined, Upload};
use crate::lifecycle::{Decision, decide};
use crate::registry::{Change, Key, Reclaim};

impl Catalog {
    /// Checks the upload and makes it durable: after that, only a loss of the disk keeps it from
    /// becoming active. An image without data is made durable as it is.
    ///
    /// # Errors
    /// Whatever keeps it from becoming active. The error stays.
    pub fn vote(&self, session: &UploadSession) -> Result<()> {
        let mut state = session.hold();
        session.check_not_cancelled()?;
        // Also where the first byte failed, and nothing has begun.
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        self.shared.sync_staged(session, &mut state)?;
        if session.is_staging() || (!state.is_begun && !state.is_emptied) {
            drop(state);
            return self.shared.registry.flush();
        }
        self.shared.vote(session, &mut state)
    }

    /// Lets the upload fail: its writer did.
    pub fn fail(&self, session: &UploadSession, failure: Error) {
        if session.is_staging() {
            return;
        }
        self.shared.fail(session, &mut session.hold(), failure);
    }
}

impl Shared {
    pub(super) fn fail(&self, session: &UploadSession, state: &mut State, failure: Error) {
        if state.seal.take().is_some()
            && let Err(error) = self.unseal(session.id(), None)
        {
            log::warn!("image={} op=withdraw: {error}", session.id());
        }
        if state.is_begun {
            state.failure.get_or_insert(failure);
        } else {
            // Nothing was written: the image stays queued, and is not an empty one.
            state.is_emptied = false;
            state.upload = None;
            session.set_staged(None);
            if let Err(error) = self.store.discard(session.id()) {
                log::warn!("image={} op=discard: {error}", session.id());
            }
        }
    }

    /// Takes a sealed record back: the data is about to change, or the upload failed. The content it
    /// held may be nobody's now. With a message the image stays where it is, and says why.
    pub(super) fn unseal(&self, id: ImageId, message: Option<String>) -> Result<()> {
        self.until_settled(|| {
            let mut image = self.load(id)?;
            let sealed = image.content.seal().copied();
            let is_news = sealed.is_some() || message.is_some();
            if image.status.publication().is_none() || !is_news {
                return Ok(());
            }
            if sealed.is_some() {
                let has_begun = image.status.failure(false).is_some();
                image.content = if has_begun { Content::Staged } else { Content::Absent };
                image.checksums = Checksums::default();
            }
            image.is_provisional &= message.is_none();
            image.message.clone_from(&message);
            let mut change = Change::update(image);
            change.reclaims.extend(sealed.map(|seal| Reclaim { id, digest: seal.digest }));
            self.commit(change)
        })
    }

    /// Whether the image may take its name when it is published: whoever has the name may be another
    /// user's, or protected.
    ///
    /// Answers the record.
    pub(super) fn check_name(&self, id: ImageId) -> Result<Image> {
        let image = self.load(id)?;
        let Some(event) = image.status.publication() else { return Err(Error::Cancelled) };
        match decide(image.subject(), event) {
            Decision::Step(step) => {
                let by = self.uploads.of(id).map(|session| session.actor());
                self.evict_holder(&image, step.to, by, &mut Change::default())?;
                Ok(image)
            }
            Decision::Already => Ok(image),
            Decision::Denied(reason) => Err(reason.into()),
        }
    }

    pub(super) fn vote(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        if let Some(failure) = session.given_up() {
            self.fail(session, state, failure);
        }
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
                // A removal takes the data away under the vote: that is what is told, not what it led to.
                let error = session.check_not_cancelled().err().unwrap_or(error);
                log::warn!("image={} op=vote errno={}: {error}", session.id(), error.errno());
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    fn seal(&self, session: &UploadSession, state: &mut State) -> Result<Seal> {
        loop {
            match self.seal_once(session, state) {
                // What is purged may have been the same content.
                Err(Error::OverQuota(_)) if self.make_room() => {}
                done => return done,
            }
        }
    }

    fn seal_once(&self, session: &UploadSession, state: &mut State) -> Result<Seal> {
        if let Some(seal) = self.seal_reference(session, state)? {
            return Ok(seal);
        }
        if state.upload.is_none() {
            // Explicitly empty: what is sealed and published is a file of no bytes.
            let staged = Arc::new(self.store.stage(session.id())?);
            session.set_staged(Some(Arc::clone(&staged)));
            state.upload = Some(Upload::new(staged));
        }
        let image = self.check_name(session.id())?;
        let upload = state.upload.as_mut().ok_or(Error::BadHandle)?;
        upload.want(image.expected.checksums.algorithms());
        let examined = upload.examine()?;
        if let Some(reason) = examined.refusal {
            return Err(Error::Rejected(reason));
        }
        self.store.sync_data(upload.file())?;
        hit(Failpoint::VoteSynced);
        // Until the record holds it, nobody gives it back, and nobody else has it.
        let _content = self.reservations.reserve(Claim::Content(examined.seal.digest));
        let named = self.store.seal(session.id(), &examined.seal);
        hit(Failpoint::VoteNamed);
        let sealed = named
            .and_then(|()| self.commit_seal(session.id(), &examined, Some(session.modified_at())));
        hit(Failpoint::VoteRecorded);
        sealed.map(|()| examined.seal).inspect_err(|_| {
            if let Err(error) = self.restage(session, state, &examined.seal) {
                log::warn!("image={} op=restage: {error}", session.id());
            }
        })
    }

    /// Gives an upload back what could not be sealed of it, while the content is claimed. Where another image
    /// had it before, it stays, and the upload is a copy of it.
    fn restage(&self, session: &UploadSession, state: &mut State, seal: &Seal) -> Result<()> {
        let Some(upload) = &state.upload else { return Ok(()) };
        let is_staged = self.store.staged(session.id())?.is_some();
        if is_staged || self.store.take_back(session.id(), &seal.digest, upload.file())? {
            return Ok(());
        }
        let file = self.store.open(&seal.digest)?;
        state.upload = None;
        state.reference = Some(Reference { file, seal: *seal, size_bytes: seal.size_bytes });
        Ok(())
    }

    /// Seals an upload that is a copy of sealed content and has all of it: there is nothing to write. If it
    /// has not all, or the content is not to be had any more, it is copied in earnest.
    fn seal_reference(&self, session: &UploadSession, state: &mut State) -> Result<Option<Seal>> {
        let Some(reference) = &state.reference else { return Ok(None) };
        let seal = reference.seal;
        // Until the record holds it, it may be given back.
        let content = self.reservations.reserve(Claim::Content(seal.digest));
        if reference.size_bytes != seal.size_bytes || self.store.is_damaged(&seal.digest)? {
            // Nobody waits for the copying.
            drop(content);
            self.dereference(session, state)?;
            return Ok(None);
        }
        let image = self.check_name(session.id())?;
        let checksums = match image.expected.checksums.is_empty() {
            true => Checksums::default(),
            false => {
                let mut copied = Upload::resume(Arc::clone(&reference.file))?;
                copied.want(image.expected.checksums.algorithms());
                copied.examine()?.checksums
            }
        };
        let examined = Examined { seal, checksums, refusal: None };
        self.commit_seal(session.id(), &examined, Some(session.modified_at()))?;
        hit(Failpoint::VoteRecorded);
        Ok(Some(seal))
    }

    /// Commits durably what the content of an image is, if it is what was declared.
    pub(super) fn commit_seal(
        &self,
        id: ImageId,
        examined: &Examined,
        modified_at: Option<Timestamp>,
    ) -> Result<()> {
        let Examined { seal, checksums, refusal } = examined;
        self.check_size(seal.size_bytes)?;
        self.check_fits(seal.size_bytes)?;
        if let Some(reason) = refusal {
            return Err(Error::Rejected(reason.clone()));
        }
        self.amend_to_hold(id, |mut image| {
            if image.status.publication().is_none() {
                return Err(Error::Cancelled);
            }
            if let Some(told) = image.expected.contradiction(seal, checksums) {
                return Err(Error::Rejected(told));
            }
            if image.bound_digest.is_some_and(|bound| bound != seal.digest) {
                return Err(Error::Rejected(format!(
                    "image {} was active with other content: upload this under a new image",
                    image.id
                )));
            }
            image.content = Content::Sealed(*seal);
            image.checksums = checksums.clone();
            image.modified_at = modified_at.unwrap_or(image.modified_at);
            Ok(image)
        })
    }

    /// Publishes, or kills what may not have its name.
    pub(super) fn publish_or_kill(
        &self,
        id: ImageId,
        is_named: bool,
        by: Option<Actor>,
    ) -> Result<()> {
        match self.publish(id, is_named, by) {
            Err(error @ (Error::Denied(_) | Error::NoPermission(_) | Error::Damaged(_))) => {
                self.kill(id, &error)
            }
            other => other,
        }
    }

    /// Makes a sealed image active. Harmless when it was done before, or when the image was removed. `is_named`
    /// says that its data has its name already, durably. Where nobody is named, it is done for who uploads it.
    pub(super) fn publish(&self, id: ImageId, is_named: bool, by: Option<Actor>) -> Result<()> {
        let Some((_, seal)) = self.publishable(id)? else { return self.discard_stray(id) };
        let content = self.reservations.reserve(Claim::Content(seal.digest));
        // Removed before the claim, its data was given back already and must not come again; removed
        // after it, its data is given back when the claim is let go.
        let Some((image, seal)) = self.publishable(id)? else { return self.discard_stray(id) };
        if !is_named {
            self.store.seal(id, &seal)?;
        } else if self.store.is_damaged(&seal.digest)? {
            return Err(Error::Damaged("its data was found damaged: upload it again".into()));
        }
        hit(Failpoint::PublishSealed);
        let is_written = self.write_manifest(&image);
        hit(Failpoint::PublishManifested);
        let publication = |image: &Image| image.status.publication().ok_or(Error::Cancelled);
        let published = self.transition(id, by, publication, |next, also| {
            next.message = None;
            // What has changed since is noted.
            let is_same = next.version == image.version;
            also.manifested = (is_written && is_same).then_some(id);
            Ok(())
        });
        drop(content);
        hit(Failpoint::PublishRecorded);
        match published {
            // Removed meanwhile: its manifest may have been dropped before it was written.
            Err(Error::Cancelled | Error::NotFound) => self.drop_manifest_unless_sealed(id),
            Err(error) => Err(error),
            Ok(taken) => {
                self.recents.note(id, taken.and_then(|taken| taken.evicted));
                Ok(())
            }
        }
    }

    /// Drops staged data that no image has.
    fn discard_stray(&self, id: ImageId) -> Result<()> {
        let image = self.registry.image(Key::Id(id))?;
        if image.is_some_and(|image| image.status.keeps_staged_data()) {
            return Ok(());
        }
        self.store.discard(id)
    }

    fn publishable(&self, id: ImageId) -> Result<Option<(Image, Seal)>> {
        let Some(image) = self.registry.image(Key::Id(id))? else { return Ok(None) };
        match image.content {
            Content::Sealed(seal) if image.status.publication().is_some() => {
                Ok(Some((image, seal)))
            }
            Content::Sealed(_)
            | Content::Absent
            | Content::Staged
            | Content::Located(_)
            | Content::Gone(_) => Ok(None),
        }
    }
}
