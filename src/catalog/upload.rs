//! An upload under way: for each image at most one session, shared by all who have it open.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{Actor, Catalog, now};
use crate::error::{Error, Result};
use crate::image::{Algorithm, Image, ImageId, ImageNumber, Seal, Timestamp, User};
use crate::ingest::Upload;
use crate::store::StoreFile;

/// An upload under way. What a look-up needs is read without waiting for a write.
#[derive(Debug)]
pub struct UploadSession {
    id: ImageId,
    user: User,
    number: ImageNumber,
    started_at: Timestamp,
    size_bytes: AtomicU64,
    /// How long the data becomes before it is looked at again whether it fits.
    looked_at_bytes: AtomicU64,
    modified_at: AtomicI64,
    is_cancelled: AtomicBool,
    /// What its writer was told when the disk did not answer.
    given_up: Mutex<Option<Error>>,
    /// How many hold the state for long, or want to.
    votes: AtomicU32,
    /// How many have it open.
    handles: AtomicU32,
    /// The data is worked on in place, and nothing is decided at a close.
    is_staging: bool,
    /// When somebody last wrote, for uploads that stall.
    written_at: Mutex<Instant>,
    /// The staged file, to read and to ask without waiting for a write.
    staged: Mutex<Option<Arc<StoreFile>>>,
    /// Held while the upload's own bytes are written, hashed or flushed, and by nothing else: the
    /// kernel lets one write at a time into a file anyway.
    pub(super) state: Mutex<State>,
}

/// How far an upload is.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The data, once there is any.
    pub(super) upload: Option<Upload>,
    /// Whether the first byte came, and the image is `saving`.
    pub(super) is_begun: bool,
    /// Whether the size was explicitly set to zero, before any data.
    pub(super) is_emptied: bool,
    /// What the last vote found, if nothing was written since.
    pub(super) seal: Option<Seal>,
    /// The first thing that went wrong.
    pub(super) failure: Option<Error>,
    /// The digests that were declared before there was data.
    pub(super) wanted: Vec<Algorithm>,
    /// The content that the upload is a copy of, as long as it is nothing but that.
    pub(super) reference: Option<Reference>,
}

/// Sealed content that an upload refers to. It stays at hand, whatever becomes of its image.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) file: Arc<StoreFile>,
    pub(super) seal: Seal,
    /// How much of it was copied so far.
    pub(super) size_bytes: u64,
}

/// The state of an upload, held for long.
pub(super) struct Held<'a> {
    votes: &'a AtomicU32,
    state: MutexGuard<'a, State>,
}

impl Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.votes.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is known of an upload without asking the registry.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// The image.
    pub id: ImageId,
    /// When it was opened.
    pub started_at: Timestamp,
    /// Bytes so far.
    pub size_bytes: u64,
    /// When it was last written, or what a tool set.
    pub modified_at: Timestamp,
}

impl UploadSession {
    pub(super) fn new(image: &Image, user: User) -> Self {
        Self {
            id: image.id,
            user,
            number: image.number,
            started_at: now(),
            size_bytes: AtomicU64::new(0),
            looked_at_bytes: AtomicU64::new(0),
            modified_at: AtomicI64::new(image.modified_at.as_nanoseconds()),
            is_cancelled: AtomicBool::new(false),
            given_up: Mutex::default(),
            votes: AtomicU32::new(0),
            handles: AtomicU32::new(1),
            is_staging: image.status.is_staging(),
            written_at: Mutex::new(Instant::now()),
            staged: Mutex::new(None),
            state: Mutex::new(State::default()),
        }
    }

    /// Has digests beside the store's own computed of what is written.
    pub(super) fn want(&self, wanted: Vec<Algorithm>) {
        let mut state = self.state.lock();
        if let Some(upload) = &mut state.upload {
            upload.want(wanted);
        } else {
            state.wanted = wanted;
        }
    }

    /// The image it is for.
    #[must_use]
    pub const fn id(&self) -> ImageId {
        self.id
    }

    /// Who opened it first.
    pub(super) const fn actor(&self) -> Actor {
        Actor { uid: self.user.uid }
    }

    /// The same, with his groups.
    pub(super) const fn user(&self) -> &User {
        &self.user
    }

    /// The number of the image it is for.
    #[must_use]
    pub const fn number(&self) -> ImageNumber {
        self.number
    }

    /// Size and time as they are now.
    #[must_use]
    pub fn live(&self) -> Live {
        Live {
            id: self.id,
            started_at: self.started_at,
            size_bytes: self.size_bytes.load(Ordering::Acquire),
            modified_at: self.modified_at(),
        }
    }

    /// Space taken on the disk so far in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        self.staged().and_then(|file| file.allocated_bytes().ok()).unwrap_or(0)
    }

    /// The staged file, if there is one, to read or flush.
    #[must_use]
    pub fn staged(&self) -> Option<Arc<StoreFile>> {
        self.staged.lock().as_ref().map(Arc::clone)
    }

    /// How many have it open.
    #[must_use]
    pub fn handles(&self) -> u32 {
        self.handles.load(Ordering::Acquire)
    }

    /// Whether there is something to publish: data, or a size that was explicitly set to zero.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        let state = self.state.lock();
        state.is_begun || state.is_emptied
    }

    /// Somebody else opens it.
    pub(super) fn has_one_more(&self) {
        self.handles.fetch_add(1, Ordering::AcqRel);
    }

    /// Somebody closes it; answers whether he was the last.
    pub(super) fn has_one_less(&self) -> bool {
        self.handles.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether a write would have to wait for long: for a vote.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.votes.load(Ordering::Acquire) > 0
    }

    /// Whether something is being written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.state.is_locked()
    }

    /// Waits until what was accepted is written.
    pub fn wait_for_writes(&self) {
        drop(self.state.lock());
    }

    /// The state, to do what takes long: whoever wants to write meanwhile is told that it is busy.
    pub(super) fn hold(&self) -> Held<'_> {
        self.votes.fetch_add(1, Ordering::AcqRel);
        Held { votes: &self.votes, state: self.state.lock() }
    }

    /// Notes the staged file, or that it is closed.
    pub(super) fn set_staged(&self, file: Option<Arc<StoreFile>>) {
        *self.staged.lock() = file;
    }

    /// When the data was last written, or what a tool set since.
    #[must_use]
    pub fn modified_at(&self) -> Timestamp {
        Timestamp::from_nanoseconds(self.modified_at.load(Ordering::Acquire))
    }

    /// Sets the time of the content, as utimensat(2) does.
    pub fn set_modified_at(&self, at: Timestamp) {
        self.modified_at.store(at.as_nanoseconds(), Ordering::Release);
    }

    /// Notes that the data is `size_bytes` long and changed now.
    pub(super) fn grew(&self, size_bytes: u64) {
        self.has_size(size_bytes);
        self.set_modified_at(now());
        *self.written_at.lock() = Instant::now();
    }

    /// Whether the data is longer by a step than when this was last so.
    pub(super) fn has_grown(&self, size_bytes: u64, step_bytes: u64) -> bool {
        let next = self.looked_at_bytes.load(Ordering::Acquire);
        let has_grown = size_bytes >= next;
        if has_grown {
            self.looked_at_bytes.store(size_bytes.saturating_add(step_bytes), Ordering::Release);
        }
        has_grown
    }

    /// Notes how long the data is.
    pub(super) fn has_size(&self, size_bytes: u64) {
        self.size_bytes.store(size_bytes, Ordering::Release);
    }

    /// Whether the data is worked on in place, and nothing is decided at a close.
    #[must_use]
    pub const fn is_staging(&self) -> bool {
        self.is_staging
    }

    /// How long nobody has written.
    pub(super) fn idle(&self) -> Duration {
        self.written_at.lock().elapsed()
    }

    /// Cuts the writer off: the image was removed.
    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Release);
    }

    /// Notes that its writer was told that it failed, while the disk did not answer.
    pub fn give_up(&self, error: Error) {
        *self.given_up.lock() = Some(error);
    }

    /// Why it has failed, if its writer was told so.
    pub(super) fn given_up(&self) -> Option<Error> {
        self.given_up.lock().clone()
    }

    pub(super) fn check_not_cancelled(&self) -> Result<()> {
        if self.is_cancelled.load(Ordering::Acquire) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl Catalog {
    /// Opens an image to be uploaded. Whoever opens it closes it with
    /// [`close_upload`](Self::close_upload).
    ///
    /// # Errors
    /// Its last upload is just ending.
    pub fn open_upload(&self, image: &Image, user: User) -> Result<Arc<UploadSession>> {
        let session = self.shared.uploads.join(image, user)?;
        if session.is_staging()
            && let Err(error) = self.shared.attach_staged(&session).and_then(|()| {
                // Its import may have begun since it was looked up.
                match self.by_id(image.id)?.is_some_and(|now| now.status.is_staging()) {
                    true => Ok(()),
                    false => Err(Error::Busy("the image is being imported".into())),
                }
            })
        {
            self.close_upload(&session);
            return Err(error);
        }
        Ok(session)
    }

    /// Closes an upload. The last one commits: what was sealed becomes active, what is not is
    /// checked now, what failed is killed.
    ///
    /// Answers whether it was the last.
    pub fn close_upload(&self, session: &Arc<UploadSession>) -> bool {
        let is_last = self.shared.uploads.leave(session.id());
        if is_last {
            self.shared.finish(session, None);
            self.keeper.wake();
        }
        is_last
    }

    /// The upload of an image, if one is under way: one that was cut off is not, though somebody has it open.
    #[must_use]
    pub fn upload_of(&self, id: ImageId) -> Option<Arc<UploadSession>> {
        self.shared.uploads.of(id).filter(|session| session.check_not_cancelled().is_ok())
    }

    /// All uploads under way.
    #[must_use]
    pub fn uploads(&self) -> Vec<Live> {
        let sessions = self.shared.uploads.sessions().into_iter();
        let live = sessions.filter(|session| session.check_not_cancelled().is_ok());
        live.map(|session| session.live()).collect()
    }
}
