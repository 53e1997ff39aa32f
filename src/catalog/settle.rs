//! The end of an upload: at the last close it is published, or killed for what went wrong.

use std::sync::Arc;

use super::upload::State;
use super::{Shared, UploadSession};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Image, ImageId};

impl Shared {
    /// The last close: commits what the session came to, and ends it. With a failure, an upload that
    /// is not sealed has failed for that reason.
    pub(super) fn finish(&self, session: &Arc<UploadSession>, failure: Option<Error>) {
        let id = session.id();
        let mut state = session.hold();
        let outcome = if session.is_staging() {
            // The data stays where it is, whatever can't be noted of it.
            if let Err(error) = self.leave_staged(session, &mut state) {
                log::warn!("image={id} op=release errno={}: {error}", error.errno());
            }
            Ok(())
        } else {
            self.settle(session, &mut state, failure)
        };
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
        if let Some(failure) = session.given_up() {
            self.fail(session, state, failure);
        }
        let failure = failure.filter(|_| state.seal.is_none());
        let is_empty = state.is_emptied && failure.is_none();
        if state.failure.is_none() && !state.is_begun && !is_empty {
            return self.drop_unused(id).map_err(|error| (None, error));
        }
        let voted = match state.failure.clone().or(failure) {
            Some(failure) => Err(failure),
            None => self.vote(session, state),
        };
        // The staged file is closed before its end is recorded: the disk may be full.
        state.upload = None;
        state.reference = None;
        session.set_staged(None);
        match voted {
            Err(failure) => self.kill(id, &failure).map_err(|error| (Some(failure), error)),
            // Its writer was told that it is safe: what can't be published now is kept.
            Ok(()) => self.publish_or_kill(id, true, None).map_err(|error| (None, error)),
        }
    }

    /// The end of an upload that failed: the staged data goes first, as the disk may be full.
    pub(super) fn kill(&self, id: ImageId, failure: &Error) -> Result<()> {
        self.store.discard(id)?;
        hit(Failpoint::FailDiscarded);
        let retry = self.policy.retry_failed_upload;
        let choose = |image: &Image| image.status.failure(retry).ok_or(Error::Cancelled);
        let killed = self.transition(id, None, choose, |next, _| {
            next.message = Some(failure.to_string());
            Ok(())
        });
        hit(Failpoint::FailRecorded);
        match killed {
            // It is where nothing is killed: queued, as an explicitly empty one, or removed.
            Err(Error::Cancelled) => self.unseal(id, Some(failure.to_string())),
            Err(Error::NotFound) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}
