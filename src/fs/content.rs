//! Operations on what is open: read, write, close.

use std::sync::Arc;

use fuser::FopenFlags;

use super::caller::Ending;
use super::gesture::{self, Usage};
use super::handles::{Handle, UploadHandle};
use super::mount::{Asker, Mount};
use super::tree::Node;
use super::watch::Writer;
use crate::catalog::{Catalog, Resize, Source, UploadSession};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::ingest::Turn;
use crate::lifecycle::Status;
use crate::metrics;
use crate::store::{Extent, Seek};

/// What one request copies at most: its answer has 32 bits.
const COPIED_MAX: u64 = 0xffff_f000;

/// Processes that are watched for one image at most.
const WRITERS_WATCHED: usize = 8;

/// How the kernel is to keep what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// The content never changes, and the kernel may keep what it read.
    Keep,
    /// The kernel may keep what it reads from now on, and writes through: the file can be mapped.
    Pages,
    /// Every read and write is asked, and the file can be mapped all the same.
    Mapped,
    /// Every read and write is asked.
    Direct,
}

/// A file that was opened, and how the kernel is to treat it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) handle: u64,
    pub(crate) caching: Caching,
}

impl Opened {
    /// What is asked for each read and write.
    pub(crate) const fn direct(handle: u64) -> Self {
        Self { handle, caching: Caching::Direct }
    }

    /// How the kernel is to cache it.
    pub(crate) const fn flags(&self) -> FopenFlags {
        match self.caching {
            Caching::Keep => FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH),
            Caching::Pages => FopenFlags::empty(),
            Caching::Mapped | Caching::Direct => FopenFlags::FOPEN_DIRECT_IO,
        }
    }
}

/// Copies what there is of `bytes` at `offset`; answers how many bytes that were.
pub(super) fn copy_at(bytes: &[u8], offset: u64, buffer: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
    for (to, from) in buffer.iter_mut().zip(rest) {
        *to = *from;
    }
    rest.len().min(buffer.len())
}

impl Mount {
    /// Reads into `buffer`; answers how many bytes there were.
    pub(crate) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let handle = self.handles.of(handle).ok_or(Error::BadHandle)?;
        match handle.as_ref() {
            Handle::Read { file, image } => {
                let count = file.read_at(offset, buffer)?;
                Catalog::check_source(image, file)?;
                Ok(count)
            }
            Handle::Empty => Ok(0),
            Handle::Upload(upload) => {
                upload.session.wait_for_writes();
                match upload.session.staged() {
                    Some(file) => file.read_at(offset, buffer),
                    None => Ok(0),
                }
            }
            Handle::Page { text, .. } => Ok(copy_at(text, offset, buffer)),
            Handle::Draft(draft) => Ok(draft.read(offset, buffer)),
        }
    }

    /// Whether a reading through a handle would have to wait for what is being written.
    pub(crate) fn is_written(&self, handle: u64) -> bool {
        self.with_upload(handle, |upload| Ok(upload.session.is_writing())).unwrap_or(false)
    }

    /// Whether a change through a handle would have to wait for a vote.
    pub(crate) fn is_busy(&self, handle: u64) -> bool {
        self.with_upload(handle, |upload| Ok(upload.session.is_busy())).unwrap_or(false)
    }

    /// Writes to an upload. What is large is accepted before it is written. The turn that is answered is to
    /// be taken with the same data.
    pub(crate) fn write(
        &self,
        asker: Asker,
        handle: u64,
        (offset, data): (u64, &[u8]),
        accept: &mut dyn FnMut(),
    ) -> Result<Option<Turn>> {
        if let Some(Handle::Draft(draft)) = self.handles.of(handle).as_deref() {
            return draft.write(offset, data).map(|()| None);
        }
        self.with_upload(handle, |upload| {
            self.changes(upload, handle);
            upload.wrote(asker.caller());
            self.catalog.write(&upload.session, offset, data, accept)
        })
    }

    /// Copies a stretch of what one handle reads to an upload; answers how many bytes that were.
    pub(crate) fn copy(
        &self,
        asker: Asker,
        (source, from): (u64, Extent),
        (handle, offset): (u64, u64),
    ) -> Result<u64> {
        let source = match self.handles.of(source).as_deref() {
            Some(Handle::Read { file, image }) => {
                Source { file: Arc::clone(file), seal: image.content.seal().copied() }
            }
            Some(Handle::Upload(upload)) => {
                upload.session.wait_for_writes();
                let Some(file) = upload.session.staged() else { return Ok(0) };
                Source { file, seal: None }
            }
            Some(Handle::Empty) => return Ok(0),
            // Of what is generated the kernel copies what it reads.
            Some(Handle::Page { .. } | Handle::Draft(_)) | None => return Err(Error::CantCopy),
        };
        let left = source.file.size_bytes()?.saturating_sub(from.offset);
        let length = from.length.min(left).min(COPIED_MAX);
        let from = Extent { length, ..from };
        if length > 0 {
            self.with_upload(handle, |upload| {
                self.changes(upload, handle);
                upload.wrote(asker.caller());
                self.catalog.copy(&upload.session, &source, from, offset)
            })?;
        }
        metrics::copied(length);
        Ok(length)
    }

    /// Changes the extent of an upload, through a handle.
    pub(crate) fn resize(&self, asker: Asker, handle: u64, resize: Resize) -> Result<()> {
        if let (Some(Handle::Draft(draft)), Resize::To(size_bytes)) =
            (self.handles.of(handle).as_deref(), resize)
        {
            return draft.set_size(size_bytes);
        }
        self.with_upload(handle, |upload| {
            self.changes(upload, handle);
            upload.wrote(asker.caller());
            self.catalog.resize(&upload.session, resize)
        })
    }

    /// What was expected of an upload by its last vote does not hold any more.
    fn changes(&self, upload: &UploadHandle, handle: u64) {
        self.departures.settle(upload.session.number(), handle);
    }

    /// Changes the length of an image by its path: an open, a change and a close in one.
    pub(crate) fn truncate(&self, asker: Asker, image: &Image, size_bytes: u64) -> Result<()> {
        let is_root = asker.actor().is_root();
        gesture::open(image.status, Usage { is_write: true, is_truncated: false, is_root })?;
        if image.status.has_unique_names() {
            return Err(Error::NoPermission("an active image can't be written"));
        }
        let session = self.catalog.open_upload(image, asker.user_as_known())?;
        let done = self
            .catalog
            .resize(&session, Resize::To(size_bytes))
            .and_then(|()| self.catalog.vote(&session));
        self.catalog.close_upload(&session);
        done
    }

    /// A descriptor of the file is closed: whoever closes it votes on what becomes of the upload
    /// (specification, section 2, Publishing, 2).
    pub(crate) fn flush(&self, asker: Asker, number: u64) -> Result<()> {
        let handle = self.handles.of(number).ok_or(Error::BadHandle)?;
        let upload = match handle.as_ref() {
            Handle::Upload(upload) => upload,
            Handle::Draft(draft) => return self.flush_draft(asker, draft),
            Handle::Read { .. } | Handle::Empty | Handle::Page { .. } => return Ok(()),
        };
        let caller = asker.caller();
        let ending = caller.ending().inspect_err(|error| {
            self.catalog.fail(&upload.session, error.clone());
        })?;
        if let Some(reason) = ending.failure()
            && upload.depends_on(caller.process())
        {
            self.catalog.fail(&upload.session, Error::WriterFailed(reason));
        }
        let inode = Node::Image(upload.session.number()).inode();
        let is_held = self
            .identity
            .get()
            .is_some_and(|mount| caller.still_holds(upload.opener, inode, mount));
        log::debug!("op=flush inode={inode} ending={ending:?} held={is_held}");
        if is_held {
            return Ok(());
        }
        let voted = match ending {
            // Whether the writer failed can't be known: the last close decides alone.
            Ending::Unknown => Ok(()),
            Ending::Close | Ending::Exit(_) | Ending::Signal(_) => {
                self.catalog.vote(&upload.session)
            }
        };
        // Who has brought nothing is no uploader, though the image may be active by another way.
        if voted.is_ok() && !upload.session.is_staging() && upload.session.is_begun() {
            // While this caller waits for its answer, none of its descriptors names another process.
            let authors = upload.authors().into_iter().take(WRITERS_WATCHED);
            let writers = authors.filter_map(|process| {
                process.open().map(|descriptor| Writer { process, descriptor })
            });
            self.watch.voted(upload.session.number(), writers.collect());
        }
        if let Ok(image) = self.image(upload.session.number()) {
            self.departures.expect(&upload.session, number, image.name);
            // Whoever looks from now on waits for the RELEASE, whatever the kernel has kept.
            self.epoch.advance();
        }
        voted
    }

    /// The last descriptor is closed: what was voted is committed.
    pub(crate) fn release(&self, number: u64) {
        let Some(handle) = self.handles.remove(number) else {
            return;
        };
        match handle.as_ref() {
            Handle::Upload(upload) => {
                self.backings.close(upload.session.number(), number);
                if self.catalog.close_upload(&upload.session) {
                    self.settled(&upload.session);
                }
                self.departures.settle(upload.session.number(), number);
            }
            Handle::Draft(draft) => self.release_draft(draft),
            Handle::Read { image, .. } => self.backings.close(image.number, number),
            Handle::Empty | Handle::Page { .. } => {}
        }
    }

    /// An upload has ended: if it was published, its writers are watched.
    fn settled(&self, session: &UploadSession) {
        let number = session.number();
        match self.image(number) {
            Ok(image) if image.status == Status::Active => {
                self.watch.published(image.id, number, &image.name);
            }
            Ok(_) | Err(_) => self.watch.withdrawn(number),
        }
    }

    /// Makes what was written durable.
    pub(crate) fn fsync(&self, handle: u64) -> Result<()> {
        let handle = self.handles.of(handle).ok_or(Error::BadHandle)?;
        match handle.as_ref() {
            Handle::Upload(upload) => self.catalog.sync(&upload.session),
            Handle::Read { .. } | Handle::Empty | Handle::Page { .. } | Handle::Draft(_) => Ok(()),
        }
    }

    /// What lseek(2) looks for.
    pub(crate) fn whence(whence: i32) -> Result<Seek> {
        match whence {
            libc::SEEK_DATA => Ok(Seek::Data),
            libc::SEEK_HOLE => Ok(Seek::Hole),
            other => Err(Error::Invalid(format!("lseek whence {other}"))),
        }
    }

    /// The next data or hole of an open file, as lseek(2).
    pub(crate) fn seek(&self, handle: u64, whence: Seek, offset: u64) -> Result<u64> {
        let handle = self.handles.of(handle).ok_or(Error::BadHandle)?;
        let found = match handle.as_ref() {
            Handle::Read { file, .. } => file.seek(whence, offset)?,
            Handle::Upload(upload) => match upload.session.staged() {
                Some(file) => file.seek(whence, offset)?,
                None => None,
            },
            Handle::Page { text, .. } if offset < text.len() as u64 => Some(match whence {
                Seek::Data => offset,
                Seek::Hole => text.len() as u64,
            }),
            Handle::Empty | Handle::Page { .. } | Handle::Draft(_) => None,
        };
        found.ok_or(Error::BeyondEnd)
    }

    /// The stretch that fallocate(2) names.
    pub(crate) fn allocate(
        &self,
        asker: Asker,
        handle: u64,
        mode: i32,
        extent: Extent,
    ) -> Result<()> {
        let mode = u32::try_from(mode).map_err(|_| Error::Invalid("fallocate mode".into()))?;
        self.resize(asker, handle, Resize::Allocate { mode, extent })
    }
}
