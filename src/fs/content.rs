//! Operations on what is open: open, read, write, close.

use fuser::FopenFlags;

use super::caller::Ending;
use super::gesture::{self, Opening, Usage};
use super::handles::{Handle, UploadHandle};
use super::mount::{Asker, Mount};
use super::page;
use super::tree::Node;
use crate::catalog::Resize;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::store::{Extent, Seek};

/// A file that was opened, and how the kernel is to treat it.
pub(crate) struct Opened {
    pub(crate) handle: u64,
    /// The content never changes: the kernel may keep what it read.
    pub(crate) is_immutable: bool,
}

impl Opened {
    /// How the kernel is to cache it.
    pub(crate) const fn flags(&self) -> FopenFlags {
        if self.is_immutable { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::FOPEN_DIRECT_IO }
    }
}

impl Mount {
    /// Opens a file with the flags of open(2).
    pub(crate) fn open(&self, asker: Asker, inode: u64, flags: i32) -> Result<Opened> {
        let is_write = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        match Self::node(inode)? {
            Node::Image(number) => {
                let image = self.image(number)?;
                let usage = Usage { is_write, is_root: asker.actor().is_root() };
                self.open_image(asker, image, usage)
            }
            Node::StatusPage if is_write => Err(Error::NoPermission("the page is made by sps")),
            Node::StatusPage => {
                let text = page::render(self)?.into_bytes();
                let handle = self.handles.insert(Handle::Page(text));
                Ok(Opened { handle, is_immutable: false })
            }
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::ById
            | Node::Link(_) => Err(Error::Invalid("it is not a file".into())),
        }
    }

    fn open_image(&self, asker: Asker, image: Image, usage: Usage) -> Result<Opened> {
        match gesture::open(image.status, usage)? {
            Opening::Read => {
                let file = self.catalog.open_sealed(&image)?;
                let handle = self.handles.insert(Handle::Read { file, image: Box::new(image) });
                Ok(Opened { handle, is_immutable: true })
            }
            Opening::ReadNothing => {
                let handle = self.handles.insert(Handle::Empty);
                Ok(Opened { handle, is_immutable: false })
            }
            Opening::Upload => {
                let handle = self.open_upload(asker, &image)?;
                Ok(Opened { handle, is_immutable: false })
            }
        }
    }

    /// Opens an image to be uploaded.
    pub(crate) fn open_upload(&self, asker: Asker, image: &Image) -> Result<u64> {
        let session = self.catalog.open_upload(image)?;
        let handle = UploadHandle::new(session, asker.caller().process());
        Ok(self.handles.insert(Handle::Upload(handle)))
    }

    /// Reads into `buffer`; answers how many bytes there were.
    pub(crate) fn read(&self, handle: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let handle = self.handles.of(handle).ok_or(Error::BadHandle)?;
        match handle.as_ref() {
            Handle::Read { file, .. } => file.read_at(offset, buffer),
            Handle::Empty => Ok(0),
            Handle::Upload(upload) => match upload.session.staged() {
                Some(file) => file.read_at(offset, buffer),
                None => Ok(0),
            },
            Handle::Page(text) => {
                let rest = usize::try_from(offset).ok().and_then(|at| text.get(at..));
                let rest = rest.unwrap_or_default();
                let length = rest.len().min(buffer.len());
                for (to, from) in buffer.iter_mut().zip(rest) {
                    *to = *from;
                }
                Ok(length)
            }
        }
    }

    /// Whether a change through a handle would have to wait for a vote, or for another change.
    pub(crate) fn is_busy(&self, handle: u64) -> bool {
        match self.handles.of(handle).as_deref() {
            Some(Handle::Upload(upload)) => upload.session.is_busy(),
            Some(Handle::Read { .. } | Handle::Empty | Handle::Page(_)) | None => false,
        }
    }

    /// Writes to an upload.
    pub(crate) fn write(&self, asker: Asker, handle: u64, offset: u64, data: &[u8]) -> Result<()> {
        self.with_upload(handle, |upload| {
            self.departures.settle(upload.session.number());
            upload.wrote(asker.caller());
            self.catalog.write(&upload.session, offset, data)
        })
    }

    /// Changes the extent of an upload, through a handle.
    pub(crate) fn resize(&self, asker: Asker, handle: u64, resize: Resize) -> Result<()> {
        self.with_upload(handle, |upload| {
            self.departures.settle(upload.session.number());
            upload.wrote(asker.caller());
            self.catalog.resize(&upload.session, resize)
        })
    }

    /// Changes the length of an image by its path: an open, a change and a close in one.
    pub(crate) fn truncate(&self, asker: Asker, image: &Image, size_bytes: u64) -> Result<()> {
        let usage = Usage { is_write: true, is_root: asker.actor().is_root() };
        gesture::open(image.status, usage)?;
        let session = self.catalog.open_upload(image)?;
        let done = self
            .catalog
            .resize(&session, Resize::To(size_bytes))
            .and_then(|()| self.catalog.vote(&session));
        self.catalog.close_upload(&session);
        done
    }

    /// A descriptor of the file is closed: whoever closes it votes on what becomes of the upload
    /// (specification, section 2, Publishing, 2).
    pub(crate) fn flush(&self, asker: Asker, handle: u64) -> Result<()> {
        let handle = self.handles.of(handle).ok_or(Error::BadHandle)?;
        let Handle::Upload(upload) = handle.as_ref() else {
            return Ok(());
        };
        let caller = asker.caller();
        let ending = caller.ending();
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
        if let Ok(image) = self.image(upload.session.number()) {
            self.departures.expect(image.number, image.id, image.name);
        }
        voted
    }

    /// The last descriptor is closed: what was voted is committed.
    pub(crate) fn release(&self, handle: u64) {
        let Some(handle) = self.handles.remove(handle) else {
            return;
        };
        if let Handle::Upload(upload) = handle.as_ref()
            && self.catalog.close_upload(&upload.session)
        {
            self.departures.settle(upload.session.number());
        }
    }

    /// Makes what was written durable.
    pub(crate) fn fsync(&self, handle: u64) -> Result<()> {
        let handle = self.handles.of(handle).ok_or(Error::BadHandle)?;
        match handle.as_ref() {
            Handle::Upload(upload) => upload.session.staged().map_or(Ok(()), |file| file.sync()),
            Handle::Read { .. } | Handle::Empty | Handle::Page(_) => Ok(()),
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
            Handle::Page(text) if offset < text.len() as u64 => Some(match whence {
                Seek::Data => offset,
                Seek::Hole => text.len() as u64,
            }),
            Handle::Empty | Handle::Page(_) => None,
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
