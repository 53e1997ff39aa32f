//! Opening: what open(2) of a node comes to, and what a thread finds that is told to look again.

use super::content::{Caching, Opened};
use super::gesture::{self, Opening, Usage};
use super::handles::{Handle, UploadHandle};
use super::mount::{Asker, Mount};
use super::page;
use super::tree::Node;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::lifecycle::Status;

impl Mount {
    /// Opens a file with the flags of open(2).
    pub(crate) fn open(&self, asker: Asker, inode: u64, flags: i32) -> Result<Opened> {
        let is_truncated = flags & libc::O_TRUNC != 0;
        let is_write = flags & libc::O_ACCMODE != libc::O_RDONLY || is_truncated;
        match Self::node(inode)? {
            Node::Image(number) => {
                // It has looked as often as it does.
                self.claims.looks_again(asker.thread);
                if let Some(opened) = self.claims.take(asker.thread, number) {
                    return Ok(opened);
                }
                if let Some(opened) = self.claims.refuse(asker.thread, number) {
                    // It was not opened by its name in `active/`.
                    self.release(opened.handle);
                    return Err(Error::NoPermission("it can't be opened so by this path"));
                }
                self.handles.must_have_room()?;
                let is_root = asker.actor().is_root();
                let usage = Usage { is_write, is_truncated, is_root };
                match self.image(number) {
                    Ok(image) => self.open_image(asker, image, usage),
                    // Its record went while it was looked up: its name may be another's.
                    Err(_) => Err(self.tell_to_look_again(asker, usage)),
                }
            }
            Node::Page(_) | Node::Task(_) if is_write => {
                Err(Error::NoPermission("it is made by sps"))
            }
            node @ Node::Page(page) => Ok(self.open_text(node, page::render(self, page)?)),
            node @ Node::Task(number) => {
                let task = self.catalog.task_by_number(number)?.ok_or(Error::NotFound)?;
                Ok(self.open_text(node, page::task(&task)))
            }
            Node::Draft(_) => Err(Error::Busy("the task is still being written".into())),
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::Own
            | Node::ById
            | Node::Link(_) => Err(Error::Invalid("it is not a file".into())),
        }
    }

    fn open_text(&self, node: Node, text: String) -> Opened {
        let handle = self.handles.insert(Handle::Page { node, text: text.into_bytes() });
        Opened::direct(handle)
    }

    fn open_image(&self, asker: Asker, image: Image, usage: Usage) -> Result<Opened> {
        let opening = match gesture::open(image.status, usage) {
            Ok(opening) => opening,
            Err(error) => return self.open_successor(asker, &image, usage, error),
        };
        match opening {
            Opening::Read => match self.open_to_read(&image) {
                // It was removed since it was looked up.
                Err(error @ Error::NotFound) => self.open_successor(asker, &image, usage, error),
                opened => opened,
            },
            Opening::ReadNothing => {
                let handle = self.handles.insert(Handle::Empty);
                Ok(Opened::direct(handle))
            }
            Opening::ReadStaged => self.open_staged(image),
            Opening::Upload => self.open_upload(asker, &image),
            Opening::Stage => {
                let opened = self.open_upload(asker, &image)?;
                if usage.is_truncated {
                    self.resize(asker, opened.handle, crate::catalog::Resize::To(0))?;
                }
                Ok(opened)
            }
            Opening::Replace => self.open_replacement(asker, &image, &image, usage),
            Opening::Reopen => self.reopen(asker, &image, usage),
        }
    }

    fn open_to_read(&self, image: &Image) -> Result<Opened> {
        let file = self.catalog.open_sealed(image)?;
        // What the kernel has of it from when it was staged is not what is sealed.
        let is_paged = self.paged.lock().remove(&image.number);
        let handle = self.handles.insert(Handle::Read { file, image: Box::new(image.clone()) });
        Ok(Opened { handle, caching: if is_paged { Caching::Pages } else { Caching::Keep } })
    }

    fn open_staged(&self, image: Image) -> Result<Opened> {
        self.paged.lock().insert(image.number);
        let handle = match self.catalog.open_staged(&image)? {
            Some(file) => Handle::Read { file: file.into(), image: Box::new(image) },
            None => Handle::Empty,
        };
        Ok(Opened { handle: self.handles.insert(handle), caching: self.staged_caching() })
    }

    /// How the kernel keeps what is staged. Where it drops names at each commit it would drop the pages with
    /// them, gigabytes of them, and hold the folder meanwhile: there it has those alone that are mapped.
    fn staged_caching(&self) -> Caching {
        if self.epoch.is_kept() { Caching::Mapped } else { Caching::Pages }
    }

    /// Opens an image to be uploaded, or to be worked on in staging.
    pub(crate) fn open_upload(&self, asker: Asker, image: &Image) -> Result<Opened> {
        let session = self.catalog.open_upload(image, asker.user_as_known())?;
        let caching = if session.is_staging() {
            self.paged.lock().insert(image.number);
            self.staged_caching()
        } else {
            Caching::Direct
        };
        let handle = UploadHandle::new(session, asker.caller().process());
        Ok(Opened { handle: self.handles.insert(Handle::Upload(handle)), caching })
    }

    /// The image can't be opened so. If it has lost its name in `active/` while it was looked up, its
    /// successor is opened instead.
    fn open_successor(
        &self,
        asker: Asker,
        image: &Image,
        usage: Usage,
        error: Error,
    ) -> Result<Opened> {
        let find = || {
            let found = self.catalog.find(Status::Active, &image.name, None)?;
            found.ok_or(Error::NotFound)
        };
        let found = self.unless_vacant(asker, &image.name, find, |removed| removed);
        let Ok(successor) = found else { return Err(error) };
        if successor.number == image.number && !usage.is_write {
            // It has its name back, or has it a little longer.
            return self.open_to_read(&successor);
        }
        match self.open_ahead(asker, image, &successor, usage)? {
            Some(_) => Err(self.tell_to_look_again(asker, usage)),
            None => Err(error),
        }
    }

    /// Opens a new image that is to replace `old`, for whoever has opened `image`.
    fn open_replacement(
        &self,
        asker: Asker,
        image: &Image,
        old: &Image,
        usage: Usage,
    ) -> Result<Opened> {
        let new = self.catalog.queue_replacement(old, asker.actor())?;
        let opened = self.open_upload(asker, &new)?;
        self.offer(asker, image, &new, opened)?;
        Err(self.tell_to_look_again(asker, usage))
    }

    /// Opens what a thread is going to open that looks up the name of `found`, having opened `image` in
    /// vain. Answers the image that it is to be given; none where it can't be opened so.
    fn open_ahead(
        &self,
        asker: Asker,
        image: &Image,
        found: &Image,
        usage: Usage,
    ) -> Result<Option<Image>> {
        let (new, opened) = if !usage.is_write {
            (found.clone(), self.open_to_read(found)?)
        } else if usage.is_truncated && found.ownership.lets_write(&asker.user_as_known()) {
            let new = self.catalog.queue_replacement(found, asker.actor())?;
            let opened = self.open_upload(asker, &new)?;
            (new, opened)
        } else {
            return Ok(None);
        };
        self.offer(asker, image, &new, opened)?;
        Ok(Some(new))
    }

    /// What a thread finds in `active/` that was told to look again: what it opens then can't be lost to
    /// somebody else once more, as the kernel asks no third time.
    pub(crate) fn found_again(&self, asker: Asker, found: Image, usage: Usage) -> Image {
        while let Some(opened) = self.claims.abandoned(asker.thread) {
            self.release(opened.handle);
        }
        match self.open_ahead(asker, &found, &found, usage) {
            Ok(Some(new)) => new,
            // The open that comes says why.
            Ok(None) | Err(_) => found,
        }
    }

    /// Opens a new image that goes on with one whose writer has just published it.
    fn reopen(&self, asker: Asker, image: &Image, usage: Usage) -> Result<Opened> {
        let process = asker.caller().process();
        if process.is_none() || !self.watch.is_uploader(image.number, process) {
            return Err(Error::NoPermission("an active image can't be written"));
        }
        let (new, session) = self.catalog.reopen(image.id, asker.user_as_known())?;
        self.watch.forget(image.number);
        let handle = self.handles.insert(Handle::Upload(UploadHandle::new(session, process)));
        self.offer(asker, image, &new, Opened::direct(handle))?;
        Err(self.tell_to_look_again(asker, usage))
    }

    /// Keeps what was opened until the thread has looked the name up again.
    fn offer(&self, asker: Asker, image: &Image, new: &Image, opened: Opened) -> Result<()> {
        if asker.thread == 0 {
            // Of another pid namespace: who comes back can't be told.
            self.release(opened.handle);
            return Err(Error::NoPermission("it can't be opened so from another pid namespace"));
        }
        let numbers = (image.number, new.number);
        self.claims.offer(asker.thread, new.name.clone(), numbers, opened);
        self.watch.ring();
        Ok(())
    }

    /// The error that has the kernel look the name up once more.
    fn tell_to_look_again(&self, asker: Asker, usage: Usage) -> Error {
        self.claims.tell(asker.thread, usage);
        Error::Stale
    }
}
