//! The bytes of an upload: each write, from the first one on.

use std::sync::Arc;

use super::upload::State;
use super::{Catalog, Shared, UploadSession};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Content, ImageId};
use crate::ingest::Upload;
use crate::lifecycle::Event;
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
        self.shared.change(session, |upload| match resize {
            Resize::To(size_bytes) => upload.set_size(size_bytes),
            Resize::Allocate { mode, extent } => upload.allocate(mode, extent),
        })
    }
}

impl Shared {
    /// Changes the bytes of an upload, beginning it or withdrawing its vote where that is due. The
    /// first error stays.
    fn change(
        &self,
        session: &UploadSession,
        work: impl Fn(&mut Upload) -> Result<()>,
    ) -> Result<()> {
        let mut state = session.state.lock();
        session.check_not_cancelled()?;
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let mut done = self.change_once(session, &mut state, &work);
        while done.as_ref().is_err_and(Error::is_full) && self.make_room() {
            done = self.change_once(session, &mut state, &work);
        }
        done.inspect_err(|error| {
            if !error.spoils_upload() {
                return;
            }
            log::warn!("image={} op=write errno={}: {error}", session.id(), error.errno());
            state.failure = Some(error.clone());
            if error.is_full() && !session.is_staging() {
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

    fn change_once(
        &self,
        session: &UploadSession,
        state: &mut State,
        work: impl Fn(&mut Upload) -> Result<()>,
    ) -> Result<()> {
        let upload = self.ready(session, state)?;
        work(upload)?;
        session.grew(upload.size_bytes());
        Ok(())
    }

    /// The upload of a session, begun if it was not.
    pub(super) fn ready<'a>(
        &self,
        session: &UploadSession,
        state: &'a mut State,
    ) -> Result<&'a mut Upload> {
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
        let begun = self.transition(
            id,
            None,
            |_| Ok(Event::Write),
            |next, _| {
                next.content = Content::Staged;
                Ok(())
            },
        );
        match begun {
            // Whoever removed the image was faster.
            Err(Error::NotFound | Error::Denied(_)) => Err(Error::Cancelled),
            other => other.map(|_| ()),
        }
    }
}
