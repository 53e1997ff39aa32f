//! The bytes of an upload: each write, from the first one on.

use std::sync::Arc;

use super::upload::{Reference, State};
use super::{Catalog, Shared, UploadSession};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Algorithm, Content, ImageId, Seal};
use crate::ingest::{Turn, Upload};
use crate::lifecycle::Event;
use crate::store::{Extent, StoreFile};

/// From this length on a write is answered before it is done.
const EARLY_BYTES: usize = 256 << 10;

/// The kernel copies 4 GiB less a page at once at most.
const WHOLE_BYTES: u64 = (4 << 30) - (64 << 10);

/// Data that is copied from.
pub struct Source {
    /// The data.
    pub file: Arc<StoreFile>,
    /// What it is, where it is sealed and never changes.
    pub seal: Option<Seal>,
}

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

/// The mode bit of fallocate(2) that leaves the length as it is.
const KEEP_SIZE: u32 = 1;

impl Catalog {
    /// Writes `data` at `offset`. The first byte makes a queued image `saving`; a write after a vote
    /// withdraws the vote. The turn that is answered is to be taken with the same data.
    ///
    /// Large data is accepted by `accept` as soon as it is its turn to be written: then its writer may go
    /// on, and hears at its next write or its close if it could not be.
    ///
    /// # Errors
    /// The upload has failed before, the image was removed, or the disk refuses. The error stays: the
    /// upload can't be closed into success.
    pub fn write(
        &self,
        session: &UploadSession,
        offset: u64,
        data: &[u8],
        accept: &mut dyn FnMut(),
    ) -> Result<Option<Turn>> {
        let is_early = data.len() >= EARLY_BYTES && !session.is_staging();
        let end = offset + data.len() as u64;
        self.shared.change(session, &mut |upload| {
            let size_bytes = upload.size_bytes().max(end);
            self.shared.check_growth(session, size_bytes)?;
            upload.wait_for_room();
            if is_early {
                session.grew(size_bytes);
                accept();
            }
            upload.write(offset, data)
        })
    }

    /// Copies a stretch of `source`, which is another image's data, to `offset`, without bringing it here.
    ///
    /// Of an image that is sealed and copied whole into an upload that has nothing yet, nothing is copied:
    /// the new image has the same content.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn copy(
        &self,
        session: &UploadSession,
        source: &Source,
        from: Extent,
        offset: u64,
    ) -> Result<()> {
        if !session.is_staging() && self.shared.refer(session, source, from, offset)? {
            return Ok(());
        }
        self.shared.change(session, &mut |upload| {
            let size_bytes = upload.size_bytes().max(offset + from.length);
            self.shared.check_growth(session, size_bytes)?;
            upload.copy(&source.file, from, offset)
        })
    }

    /// Changes the length or the allocation of an upload. A length of zero before any data makes
    /// the image an explicitly empty one.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn resize(&self, session: &UploadSession, resize: Resize) -> Result<()> {
        if resize == Resize::To(0) && !session.is_staging() {
            let mut state = session.state.lock();
            if !state.is_begun && state.failure.is_none() {
                session.check_not_cancelled()?;
                state.is_emptied = true;
                return Ok(());
            }
        }
        if resize == Resize::To(0) {
            // Written anew: what failed before is of no account.
            session.state.lock().is_emptied = true;
        }
        self.shared.change(session, &mut |upload| match resize {
            Resize::To(size_bytes) => {
                self.shared.check_growth(session, size_bytes)?;
                upload.set_size(size_bytes)
            }
            Resize::Allocate { mode, extent } => {
                let end = extent.offset.saturating_add(extent.length);
                let makes_longer = mode & KEEP_SIZE == 0;
                let size_bytes = if makes_longer { upload.size_bytes().max(end) } else { 0 };
                self.shared.check_growth(session, size_bytes)?;
                upload.allocate(mode, extent)
            }
        })
    }
}

impl Shared {
    /// Changes the bytes of an upload, beginning it or withdrawing its vote where that is due. The
    /// first error stays.
    fn change<T>(
        &self,
        session: &UploadSession,
        work: &mut dyn FnMut(&mut Upload) -> Result<T>,
    ) -> Result<T> {
        let mut state = session.state.lock();
        session.check_not_cancelled()?;
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let mut done = self.change_once(session, &mut state, work);
        while done.as_ref().is_err_and(Error::wants_room) && self.make_room() {
            done = self.change_once(session, &mut state, work);
        }
        done.inspect_err(|error| {
            if !error.spoils_upload() {
                return;
            }
            log::warn!("image={} op=write errno={}: {error}", session.id(), error.errno());
            state.failure = Some(error.clone());
            if error.wants_room() && !session.is_staging() {
                self.free(session, &mut state);
            }
        })
    }

    /// Gives back at once what an upload took that found no room: it can't become an image any more, and
    /// the registry needs room to say so.
    fn free(&self, session: &UploadSession, state: &mut State) {
        state.upload = None;
        session.set_staged(None);
        if let Err(error) = self.store.discard(session.id()) {
            log::warn!("image={} op=discard errno={}: {error}", session.id(), error.errno());
        }
    }

    fn change_once<T>(
        &self,
        session: &UploadSession,
        state: &mut State,
        work: &mut dyn FnMut(&mut Upload) -> Result<T>,
    ) -> Result<T> {
        let upload = self.ready(session, state)?;
        let done = work(upload)?;
        session.grew(upload.size_bytes());
        Ok(done)
    }

    /// Notes that an upload has the content of `source`, from its beginning on, if it has nothing else.
    /// Answers whether that is so.
    fn refer(
        &self,
        session: &UploadSession,
        source: &Source,
        from: Extent,
        offset: u64,
    ) -> Result<bool> {
        let Some(seal) = source.seal else { return Ok(false) };
        let mut state = session.state.lock();
        session.check_not_cancelled()?;
        let before = state.reference.as_ref().map_or(0, |reference| reference.size_bytes);
        let goes_on = from.offset == before && offset == before;
        let is_same = match &state.reference {
            Some(reference) => reference.seal == seal,
            // A part of an image is copied by who wants a part.
            None => from.length >= WHOLE_BYTES.min(seal.size_bytes),
        };
        if state.upload.is_some() || state.failure.is_some() || !goes_on || !is_same {
            return Ok(false);
        }
        if self.check_size(seal.size_bytes).is_err() {
            // The copying itself says so, and spoils the upload.
            return Ok(false);
        }
        self.take_back_vote(session, &mut state)?;
        self.begun(session, &mut state)?;
        let size_bytes = (before + from.length).min(seal.size_bytes);
        let file = Arc::clone(&source.file);
        session.set_staged(Some(Arc::clone(&file)));
        state.reference = Some(Reference { file, seal, size_bytes });
        session.grew(size_bytes);
        Ok(true)
    }

    /// Makes a real copy of what an upload only refers to: it is to become something else.
    pub(super) fn dereference(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        let Some(reference) = &state.reference else { return Ok(()) };
        let staged = Arc::new(self.store.stage(session.id())?);
        let mut upload = Upload::new(Arc::clone(&staged));
        let all = Extent { offset: 0, length: reference.size_bytes };
        if let Err(error) = upload.copy(&reference.file, all, 0) {
            self.store.discard(session.id())?;
            return Err(error);
        }
        session.set_staged(Some(staged));
        state.upload = Some(upload);
        state.reference = None;
        Ok(())
    }

    fn take_back_vote(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        let Some(seal) = state.seal else { return Ok(()) };
        if state.upload.is_some() {
            // What was sealed is written to no more, as others may have it by now: a copy of it is.
            let file = self.store.open(&seal.digest)?;
            session.set_staged(Some(Arc::clone(&file)));
            state.upload = None;
            state.reference = Some(Reference { file, seal, size_bytes: seal.size_bytes });
            hit(Failpoint::VoteTakenBack);
        }
        self.unseal(session.id(), None)?;
        state.seal = None;
        Ok(())
    }

    fn begun(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        if !state.is_begun {
            state.wanted.extend(self.begin(session.id())?);
            state.is_begun = true;
            hit(Failpoint::BeginRecorded);
        }
        Ok(())
    }

    /// The upload of a session, begun if it was not.
    pub(super) fn ready<'a>(
        &self,
        session: &UploadSession,
        state: &'a mut State,
    ) -> Result<&'a mut Upload> {
        self.take_back_vote(session, state)?;
        self.begun(session, state)?;
        self.dereference(session, state)?;
        if state.upload.is_none() {
            let staged = Arc::new(self.store.stage(session.id())?);
            hit(Failpoint::BeginStaged);
            session.set_staged(Some(Arc::clone(&staged)));
            let mut upload = Upload::new(staged);
            upload.want(state.wanted.drain(..));
            state.upload = Some(upload);
        }
        state.upload.as_mut().ok_or(Error::BadHandle)
    }

    /// Answers the digests that were declared.
    fn begin(&self, id: ImageId) -> Result<Vec<Algorithm>> {
        let begun = self.transition(
            id,
            None,
            |_| Ok(Event::Write),
            |next, _| {
                next.content = Content::Staged;
                // What failed before is being tried again.
                next.message = None;
                Ok(())
            },
        );
        match begun {
            // Whoever removed the image was faster.
            Err(Error::NotFound | Error::Denied(_)) => Err(Error::Cancelled),
            other => {
                let before = other?.map(|taken| taken.before.expected.checksums);
                Ok(before.map(|declared| declared.algorithms().collect()).unwrap_or_default())
            }
        }
    }
}
