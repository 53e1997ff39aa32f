//! Operations that change names: make, remove, rename.

use std::path::Path;
use std::time::{Duration, Instant};

use super::content::Opened;
use super::gesture::{self, Creation, Renaming};
use super::mount::{Asker, Mount};
use super::names::Found;
use super::tree::Node;
use crate::catalog::{Move, Rename};
use crate::error::{Error, Result};
use crate::image::{Image, ImageName, Ownership};
use crate::lifecycle::{Event, Status, TaskStatus};

/// How long a rename waits at most: the kernel holds both folders meanwhile (specification, section 2).
const HOLD_MAX: Duration = Duration::from_millis(250);

impl Mount {
    /// Makes a new image of a status, or what replaces one that the caller has just removed.
    fn queue(
        &self,
        asker: Asker,
        folder: Node,
        (status, name): (Status, &[u8]),
        mode: u32,
    ) -> Result<Image> {
        let name = ImageName::new(name)?;
        let ownership = Ownership { uid: asker.uid, gid: asker.gid, mode: mode & 0o7777 };
        if folder == Node::Folder(Status::Active)
            && !self.vacancies.is_forgotten()
            && let Some(process) = asker.caller().process()
            && let Some(removed) = self.vacancies.removed_by(process, &name)
        {
            let made = self.catalog.queue_in_place(removed, name.clone(), ownership);
            self.vacancies.fill(&name);
            return made;
        }
        self.catalog.queue(name, status, ownership)
    }

    /// Makes a new image, or what is to become a task, and opens it.
    pub(crate) fn create(
        &self,
        asker: Asker,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(Opened, fuser::FileAttr)> {
        let folder = Self::node(parent)?;
        // The kernel looked before it asked; another may have been faster.
        if flags & libc::O_EXCL != 0 && self.look_up(parent, name).is_ok() {
            return Err(Error::Exists);
        }
        let status = match gesture::create(folder)? {
            Creation::Task => {
                let (handle, attributes) = self.draft(asker, name, mode)?;
                return Ok((Opened::direct(handle), attributes));
            }
            Creation::Image(status) => status,
        };
        self.handles.must_have_room()?;
        // What it was told to look for again is not there, and it makes it.
        self.claims.looks_again(asker.thread);
        let image = self.queue(asker, folder, (status, name), mode)?;
        let opened = self.open_upload(asker, &image)?;
        // It has no data that the kernel could read by itself.
        let _ = self.backed(&opened, |_| Err(std::io::ErrorKind::Unsupported.into()));
        Ok((opened, self.attributes_of(Node::Image(image.number), Some(image))))
    }

    /// Makes a new image by mknod(2), which has no close to make it durable.
    pub(crate) fn make_node(
        &self,
        asker: Asker,
        parent: u64,
        name: &[u8],
        mode: u32,
    ) -> Result<(fuser::FileAttr, Duration)> {
        if mode & libc::S_IFMT != libc::S_IFREG && mode & libc::S_IFMT != 0 {
            return Err(Error::Forbidden("only regular files can be made"));
        }
        let folder = Self::node(parent)?;
        let Creation::Image(status) = gesture::create(folder)? else {
            return Err(Error::Forbidden("a task is written, not made without content"));
        };
        let image = self.queue(asker, folder, (status, name), mode)?;
        if folder == Node::Folder(Status::Active)
            && let Some(process) = asker.caller().process()
        {
            self.nodes.note(process, image.name.clone(), image.number);
        }
        self.catalog.flush()?;
        Ok((self.attributes_of(Node::Image(image.number), Some(image)), Duration::ZERO))
    }

    /// Registers an image whose data lies at `target`. The kernel is told of a link, as that is what it asked
    /// for, and finds a regular file when it looks again.
    pub(crate) fn locate(
        &self,
        asker: Asker,
        parent: u64,
        name: &[u8],
        target: &Path,
    ) -> Result<(fuser::FileAttr, Duration)> {
        let folder = Self::node(parent)?;
        match gesture::create(folder)? {
            Creation::Image(Status::Queued) => {}
            Creation::Image(_) | Creation::Task => {
                return Err(Error::Forbidden("a location is registered in active/ or queued/"));
            }
        }
        let name = ImageName::new(name)?;
        let target = target.to_str().ok_or_else(|| Error::Invalid("a location is text".into()))?;
        let image = self.catalog.locate(name, target, &asker.user()?)?;
        let link = Node::Link(image.number);
        Ok((self.attributes_of(link, Some(image)), Duration::ZERO))
    }

    /// Removes an image, or a task.
    pub(crate) fn unlink(&self, asker: Asker, parent: u64, name: &[u8]) -> Result<()> {
        match self.look_up(parent, name)? {
            Found { image: Some(image), node: Node::Image(_), .. } => {
                // Before it is gone: whoever misses it is to know that it may come again.
                if image.status.has_unique_names()
                    && let Some(process) = asker.caller().process()
                {
                    self.vacancies.note(process, image.name.clone(), image.id);
                }
                let removed = self.catalog.remove(image.id, image.status, asker.actor());
                removed.inspect_err(|_| self.vacancies.fill(&image.name))
            }
            Found { task: Some(task), .. } => {
                let removed = self.catalog.remove_task(task.id, task.status, asker.actor());
                // It may have gone on since it was looked at.
                let is_running = || {
                    self.catalog.task(task.id).is_ok_and(|now| {
                        now.is_some_and(|now| now.status == TaskStatus::Processing)
                    })
                };
                match removed {
                    Err(Error::NotFound) if is_running() => {
                        Err(Error::Busy("the task has just begun".into()))
                    }
                    removed => removed,
                }
            }
            Found { .. } => Err(Error::Forbidden("only images and tasks can be removed")),
        }
    }

    /// Renames an image within its folder, or into another, which asks for a transition.
    pub(crate) fn rename(
        &self,
        asker: Asker,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: u32,
    ) -> Result<()> {
        let (renaming, no_replace) =
            gesture::rename(Self::node(from.0)?, Self::node(to.0)?, flags)?;
        // `n~ID8` as a target means `n`.
        let (name, _) = ImageName::parse_listed(to.1)?;
        let actor = asker.actor();
        match renaming {
            Renaming::Within(status) => {
                let image = self.image_named(status, from.1)?;
                self.catalog.rename(image.id, &name, Rename { seen: status, actor, no_replace })
            }
            Renaming::Into { from: seen, to, event } => {
                let image = self.image_named(seen, from.1)?;
                let wanted = Move { seen, to, event, name: &name, no_replace, actor };
                if event == Event::Import {
                    self.import(&image, wanted)
                } else {
                    self.catalog.move_image(image.id, wanted)
                }
            }
        }
    }

    /// Has a staged image taken in, and waits for that, a quarter of a second at most.
    fn import(&self, image: &Image, wanted: Move<'_>) -> Result<()> {
        let deadline = Instant::now() + HOLD_MAX;
        // Its last close may be on its way.
        self.departures.wait_until(image.number, deadline);
        let id = self.catalog.begin_import(image.id, wanted)?;
        self.tasks.wake();
        let left = deadline.saturating_duration_since(Instant::now());
        let ended = self.tasks.wait(id, left)?;
        match ended {
            Some(task) if task.status == TaskStatus::Failure => {
                Err(Error::Rejected(task.message.unwrap_or_else(|| "the import failed".into())))
            }
            // It is active, or it is importing still.
            Some(_) | None => Ok(()),
        }
    }
}
