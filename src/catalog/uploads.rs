//! Which uploads are under way, and which ended and could not be settled yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use super::UploadSession;
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, User};

/// All uploads under way, by image. The mutex guards the map alone.
#[derive(Default)]
pub(super) struct Uploads {
    open: Mutex<HashMap<ImageId, Arc<UploadSession>>>,
    /// Images whose upload ended, and which could not be published, or killed for that failure, yet.
    unsettled: Mutex<BTreeMap<ImageId, Option<Error>>>,
}

impl Uploads {
    /// All sessions.
    pub(super) fn sessions(&self) -> Vec<Arc<UploadSession>> {
        self.open.lock().values().map(Arc::clone).collect()
    }

    /// The session of an image.
    pub(super) fn of(&self, id: ImageId) -> Option<Arc<UploadSession>> {
        self.open.lock().get(&id).map(Arc::clone)
    }

    /// Joins the upload of an image that is under way, or begins one.
    pub(super) fn join(&self, image: &Image, user: User) -> Result<Arc<UploadSession>> {
        let mut open = self.open.lock();
        if let Some(session) = open.get(&image.id) {
            if session.handles() == 0 {
                return Err(Error::Busy("the last upload of this image is just ending".into()));
            }
            if session.check_not_cancelled().is_err() {
                let told = "whoever wrote this image before still has it open: he is to close it";
                return Err(Error::Busy(told.into()));
            }
            session.has_one_more();
            return Ok(Arc::clone(session));
        }
        let session = Arc::new(UploadSession::new(image, user));
        open.insert(image.id, Arc::clone(&session));
        Ok(session)
    }

    /// Takes one handle off. Answers whether it was the last.
    pub(super) fn leave(&self, id: ImageId) -> bool {
        let open = self.open.lock();
        open.get(&id).is_some_and(|session| session.has_one_less())
    }

    /// Notes an image that could not be published, or killed for a failure.
    pub(super) fn keep_unsettled(&self, id: ImageId, failure: Option<Error>) {
        self.unsettled.lock().insert(id, failure);
    }

    /// The images that could not be settled.
    pub(super) fn unsettled(&self) -> Vec<(ImageId, Option<Error>)> {
        self.unsettled.lock().iter().map(|(id, failure)| (*id, failure.clone())).collect()
    }

    /// Strikes out an image that is settled.
    pub(super) fn strike_unsettled(&self, id: ImageId) {
        self.unsettled.lock().remove(&id);
    }

    /// Ends the session of an image.
    pub(super) fn end(&self, id: ImageId) {
        self.open.lock().remove(&id);
    }
}
