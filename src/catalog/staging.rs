//! Staged data: worked on in place as often as one likes, hashed and synced in the background after each
//! close, so that its import finds little left to do.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::upload::State;
use super::{Catalog, Shared, UploadSession, now};
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, Timestamp};
use crate::ingest::{Examined, Upload, Watch};
use crate::registry::{Durability, Key};

/// Images whose staged data is kept open, with what is hashed of it; of others it is hashed at the import.
const PREPARED_MAX: usize = 64;

/// How often whoever waits for the hashing says how far it is.
const TELL: Duration = Duration::from_millis(100);

/// Staged data between a close and its import.
#[derive(Default)]
struct Prepared {
    upload: Mutex<Option<Upload>>,
    hashed_bytes: AtomicU64,
    is_stopped: AtomicBool,
}

/// How far an import is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Bytes in all.
    pub size_bytes: u64,
    /// When it began.
    pub started_at: Timestamp,
}

/// An import under way.
pub(super) struct Import {
    done_bytes: AtomicU64,
    size_bytes: AtomicU64,
    started_at: Timestamp,
}

/// What is staged and not open, and what is imported. The mutexes guard the maps alone.
#[derive(Default)]
pub(super) struct Staging {
    prepared: Mutex<HashMap<ImageId, Arc<Prepared>>>,
    imports: Mutex<HashMap<ImageId, Arc<Import>>>,
    waiting: Mutex<VecDeque<ImageId>>,
    added: Condvar,
}

impl Staging {
    fn keep(&self, id: ImageId, upload: Upload) {
        let mut prepared = self.prepared.lock();
        if prepared.len() < PREPARED_MAX || prepared.contains_key(&id) {
            let upload = Mutex::new(Some(upload));
            prepared.insert(id, Arc::new(Prepared { upload, ..Prepared::default() }));
            drop(prepared);
            self.waiting.lock().push_back(id);
            self.added.notify_one();
        }
    }

    fn of(&self, id: ImageId) -> Option<Arc<Prepared>> {
        self.prepared.lock().get(&id).map(Arc::clone)
    }

    /// Lets go of what is prepared of an image: it is opened again, or gone.
    pub(super) fn forget(&self, id: ImageId) -> Option<Upload> {
        let prepared = self.prepared.lock().remove(&id)?;
        prepared.is_stopped.store(true, Ordering::Release);
        // Whoever is hashing it keeps it, and ends.
        prepared.upload.try_lock().and_then(|mut upload| upload.take())
    }

    /// The next image whose staged data is to be hashed; waits for one, up to a time.
    pub(super) fn next(&self, patience: Duration) -> Option<ImageId> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.added.wait_for(&mut waiting, patience);
        }
        waiting.pop_front()
    }

    /// Wakes whoever waits for work.
    pub(super) fn wake(&self) {
        self.added.notify_all();
    }

    /// Notes an import, until [`ended`](Self::ended).
    pub(super) fn began(&self, id: ImageId, size_bytes: u64) -> Arc<Import> {
        let import = Arc::new(Import {
            done_bytes: AtomicU64::new(0),
            size_bytes: AtomicU64::new(size_bytes),
            started_at: now(),
        });
        self.imports.lock().insert(id, Arc::clone(&import));
        import
    }

    /// Strikes an import out.
    pub(super) fn ended(&self, id: ImageId) {
        self.imports.lock().remove(&id);
    }

    /// The imports under way.
    pub(super) fn imports(&self) -> Vec<(ImageId, Progress)> {
        self.imports.lock().iter().map(|(id, import)| (*id, import.progress())).collect()
    }
}

impl Import {
    /// Notes how many bytes are done.
    pub(super) fn advance(&self, done_bytes: u64) {
        self.done_bytes.store(done_bytes, Ordering::Release);
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            done_bytes: self.done_bytes.load(Ordering::Acquire),
            size_bytes: self.size_bytes.load(Ordering::Acquire),
            started_at: self.started_at,
        }
    }
}

impl Progress {
    /// The share that is done, in percent.
    #[must_use]
    pub fn percent(self) -> u8 {
        let percent = (self.done_bytes.saturating_mul(100)).checked_div(self.size_bytes);
        u8::try_from(percent.unwrap_or(0).min(100)).unwrap_or(100)
    }
}

impl Catalog {
    /// Returns when what was written is on the disk; of a staged image with its name and its record, as nothing is
    /// decided of it at a close.
    ///
    /// # Errors
    /// The disk does not take it. The error stays: what is synced next may be only a part of it.
    pub fn sync(&self, session: &UploadSession) -> Result<()> {
        if session.is_staging() {
            return self.vote(session);
        }
        let Some(file) = session.staged() else { return Ok(()) };
        self.shared.store.sync_data(&file).inspect_err(|error| {
            session.state.lock().failure.get_or_insert_with(|| error.clone());
        })
    }
}

impl Shared {
    /// Gives a session of a staged image its data, as it was left.
    pub(super) fn attach_staged(&self, session: &UploadSession) -> Result<()> {
        let mut state = session.state.lock();
        if state.upload.is_some() {
            return Ok(());
        }
        let upload = match self.staging.forget(session.id()) {
            Some(upload) => upload,
            None => Upload::resume(Arc::new(self.store.stage_again(session.id())?))?,
        };
        session.set_staged(Some(Arc::clone(upload.file())));
        session.has_size(upload.size_bytes());
        state.upload = Some(upload);
        state.is_begun = true;
        Ok(())
    }

    /// Returns when what is staged is on the disk. If it can't be, what is synced next may be only a part of it.
    pub(super) fn sync_staged(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        let Some(upload) = state.upload.as_ref().filter(|_| session.is_staging()) else {
            return Ok(());
        };
        self.store.sync(upload.file()).inspect_err(|error| state.failure = Some(error.clone()))
    }

    /// The last close of a staged image: nothing is decided, and its data is hashed in the background. A
    /// write that failed is remembered until the data is written anew.
    pub(super) fn leave_staged(&self, session: &UploadSession, state: &mut State) -> Result<()> {
        let id = session.id();
        let status = self.registry.image(Key::Id(id))?.map(|image| image.status);
        match status {
            Some(status) if status.is_staging() && session.check_not_cancelled().is_ok() => {}
            // Its import goes on with what was written.
            Some(status) if status.keeps_staged_data() && !status.is_staging() => return Ok(()),
            Some(_) | None => return self.store.discard(id),
        }
        if let Some(upload) = state.upload.take().filter(|_| state.failure.is_none()) {
            self.staging.keep(id, upload);
        }
        let modified_at = session.modified_at();
        let failed = state.failure.as_ref().map(|failure| format!("a write failed: {failure}"));
        self.amend(id, Durability::Transient, |mut image: Image| {
            let before = (image.modified_at, image.message.clone());
            image.modified_at = modified_at;
            if failed.is_some() || state.is_emptied {
                image.message.clone_from(&failed);
            }
            let is_news =
                image.status.is_staging() && before != (image.modified_at, image.message.clone());
            Ok(is_news.then_some(image))
        })
    }

    /// Notes that staged data may be lost in part: it is not to be taken in until it is written anew.
    pub(super) fn note_torn(&self, id: ImageId, failure: &Error) {
        let noted = self.amend(id, Durability::Transient, |mut image: Image| {
            image.message = Some(format!("a write failed: {failure}"));
            Ok(image.status.is_staging().then_some(image))
        });
        if let Err(error) = noted {
            log::warn!("image={id} op=note errno={}: {error}", error.errno());
        }
    }

    /// Cuts off whoever still has a staged image open for writing, and waits for what he is writing.
    pub(super) fn close_off(&self, id: ImageId) {
        if let Some(session) = self.uploads.of(id) {
            session.cancel();
            drop(session.state.lock());
        }
    }

    /// Hashes and syncs what waits for it, until `is_stopped`.
    pub(super) fn prepare_staged(&self, is_stopped: impl Fn() -> bool) {
        /// How long the thread sleeps between two looks at whether it is to stop.
        const PATIENCE: Duration = Duration::from_secs(5);
        while !is_stopped() {
            let Some(id) = self.staging.next(PATIENCE) else { continue };
            let Some(prepared) = self.staging.of(id) else { continue };
            let watch = |_| if is_stopped() { Err(Error::Cancelled) } else { Ok(()) };
            match self.seal_prepared(id, &prepared, &watch) {
                Ok(_) | Err(Error::Cancelled) => {}
                Err(error) => log::warn!("image={id} op=prepare errno={}: {error}", error.errno()),
            }
        }
    }

    /// What the staged data of an image is, durably on the disk.
    pub(super) fn seal_staged(&self, id: ImageId, watch: &Watch<'_>) -> Result<Examined> {
        if let Some(prepared) = self.staging.of(id) {
            match self.seal_prepared(id, &prepared, watch) {
                // Another stopped it: begin anew.
                Err(Error::Cancelled) => {}
                done => return done,
            }
            watch(0)?;
        }
        let staged = self
            .store
            .staged(id)?
            .ok_or_else(|| Error::Damaged(format!("the staged data of image {id} is gone")))?;
        let mut upload = Upload::resume(Arc::new(staged))?;
        upload.want(self.load(id)?.expected.checksums.algorithms());
        let examined = upload.examine_watched(watch)?;
        self.store.sync(upload.file())?;
        Ok(examined)
    }

    /// Only one hashes at a time; whoever comes second waits, and says how far it is.
    fn seal_prepared(
        &self,
        id: ImageId,
        prepared: &Prepared,
        watch: &Watch<'_>,
    ) -> Result<Examined> {
        let mut upload = loop {
            if let Some(upload) = prepared.upload.try_lock_for(TELL) {
                break upload;
            }
            watch(prepared.hashed_bytes.load(Ordering::Acquire))?;
        };
        let upload = upload.as_mut().ok_or(Error::Cancelled)?;
        upload.want(self.load(id)?.expected.checksums.algorithms());
        let examined = upload.examine_watched(&|hashed_bytes| {
            prepared.hashed_bytes.store(hashed_bytes, Ordering::Release);
            if prepared.is_stopped.load(Ordering::Acquire) {
                return Err(Error::Cancelled);
            }
            watch(hashed_bytes)
        })?;
        self.store.sync(upload.file()).inspect_err(|error| self.note_torn(id, error))?;
        Ok(examined)
    }
}
