//! Taking in what is staged, or what lies below an allowed root: check, seal, publish.

use std::path::Path;
use std::sync::Arc;

use super::staging::Import;
use super::{Actor, Catalog, Move, Newcomer, Shared};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Content, Details, DiskFormat, Image, ImageId, ImageName, Ownership, User};
use crate::ingest::{Examined, Upload, Watch};
use crate::lifecycle::{Event, Status};
use crate::registry::{Durability, Reclaim, TaskChange};
use crate::task::{ImportPath, Task, TaskDraft, TaskId, TaskInput};

/// Whoever asked for a task may read how it goes, and so may all others.
pub(super) const TASK_MODE: u32 = 0o444;

/// A new image that a task makes.
pub(super) struct New<'a> {
    /// It, if an attempt before this one made it.
    pub(super) made: Option<ImageId>,
    pub(super) name: &'a ImageName,
    /// Whose is what it is made of, and who may read that.
    pub(super) source: Ownership,
    /// What it is declared to be.
    pub(super) format: Option<DiskFormat>,
    /// What is said of it.
    pub(super) details: Details,
    /// The input of the task that names it.
    pub(super) noted: &'a dyn Fn(ImageId) -> TaskInput,
}

impl Catalog {
    /// Asks for a staged image to be taken in: it is importing, and a task is pending that does it.
    ///
    /// # Errors
    /// The caller does not govern it, it is protected, still open for writing, or may not have the name.
    pub fn begin_import(&self, id: ImageId, wanted: Move<'_>) -> Result<TaskId> {
        let shared = &self.shared;
        if shared.uploads.of(id).is_some() {
            return Err(Error::Busy("the image is still open: close it, then move it".into()));
        }
        // Each close has synced it: this waits for data only that its writer never closed.
        if let Some(staged) = shared.store.staged(id)? {
            shared.store.sync(&staged).inspect_err(|error| shared.note_torn(id, error))?;
        }
        let task = TaskId::random();
        let choose = |image: &Image| {
            let event = shared.may_move(image, wanted)?;
            shared.check_import_name(image, wanted)?;
            match &image.message {
                Some(failed) => Err(Error::Rejected(format!("{failed}: write it anew"))),
                None => Ok(event),
            }
        };
        shared.transition(id, Some(wanted.actor), choose, |next, also| {
            also.durability = Durability::Durable;
            next.name = wanted.name.clone();
            if let Content::Sealed(seal) = &next.content {
                also.reclaims.push(Reclaim { id, digest: seal.digest });
            }
            next.content = Content::Staged;
            let uid = wanted.actor.uid;
            also.tasks.push(TaskChange::Create(TaskDraft {
                id: task,
                name: wanted.name.clone(),
                ownership: Ownership { uid, gid: next.ownership.gid, mode: TASK_MODE },
                input: TaskInput::ImportStaged { image: id },
                created: shared.clock.moment(),
            }));
            Ok(())
        })?;
        hit(Failpoint::ImportRecorded);
        Ok(task)
    }

    /// Takes in the staged data of an image that is importing. An import that fails leaves the image
    /// queued, with the reason.
    ///
    /// # Errors
    /// What keeps it from becoming active; or what `watch` says, and then it can be gone on with.
    pub fn import_staged(&self, id: ImageId, watch: &dyn Fn(u8) -> Result<()>) -> Result<()> {
        let image = self.by_id(id)?.ok_or(Error::Cancelled)?;
        if image.status.has_unique_names() {
            // It was done before its task could say so.
            return Ok(());
        }
        if image.status.publication() != Some(Event::ImportSucceed) {
            return Err(Error::Cancelled);
        }
        self.shared.close_off(id);
        let size_bytes = self.open_staged(&image)?.map_or(Ok(0), |file| file.size_bytes())?;
        self.importing(id, size_bytes, watch, |watch| {
            let examined = match image.content {
                Content::Sealed(seal) => {
                    Examined { seal, checksums: image.checksums, refusal: None }
                }
                Content::Absent | Content::Staged | Content::Located(_) | Content::Gone(_) => {
                    self.shared.seal_staged(id, watch)?
                }
            };
            self.shared.take_in(id, &examined)
        })
    }

    /// Takes in a file below an allowed root, on behalf of the author of the task. Answers the new image.
    ///
    /// # Errors
    /// As [`import_staged`](Self::import_staged); or the author could not read the file himself.
    pub fn import_path(
        &self,
        task: &Task,
        import: &ImportPath,
        watch: &dyn Fn(u8) -> Result<()>,
    ) -> Result<ImageId> {
        let source = {
            let reader = author(task, &import.groups);
            self.shared.locations.open(Path::new(&import.from), &reader)?
        };
        let size_bytes = source.size_bytes()?;
        let new = New {
            made: import.image,
            name: &import.name,
            source: source.ownership()?,
            format: import.disk_format,
            details: import.details.clone(),
            noted: &|id| TaskInput::ImportPath(ImportPath { image: Some(id), ..import.clone() }),
        };
        self.import_new(task, &new, (size_bytes, watch), &|upload, watch| {
            let before = source.fingerprint()?;
            self.shared.check_size(before.size_bytes)?;
            upload.take(&source, watch)?;
            if source.fingerprint()? == before {
                return Ok(());
            }
            // What was taken may be a part of it, or of two.
            let told = format!("{} changed while it was read: import it again", import.from);
            Err(Error::SourceChanged(told))
        })
    }

    /// Makes a new image, on behalf of the author of a task, with what `fill` puts into it.
    pub(super) fn import_new(
        &self,
        task: &Task,
        new: &New<'_>,
        (size_bytes, watch): (u64, &dyn Fn(u8) -> Result<()>),
        fill: &dyn Fn(&mut Upload, &Watch<'_>) -> Result<()>,
    ) -> Result<ImageId> {
        let id = self.image_to_import(task, new)?;
        let image = self.by_id(id)?.ok_or(Error::Cancelled)?;
        if image.status.has_unique_names() {
            return Ok(id);
        }
        if image.status.publication() != Some(Event::ImportSucceed) {
            return Err(Error::Cancelled);
        }
        self.importing(id, size_bytes, watch, |watch| {
            let examined = match image.content {
                Content::Sealed(seal) => {
                    Examined { seal, checksums: image.checksums, refusal: None }
                }
                Content::Absent | Content::Staged | Content::Located(_) | Content::Gone(_) => {
                    // What an attempt before this one has copied is not gone on with.
                    self.shared.store.discard(id)?;
                    let mut upload = Upload::new(Arc::new(self.shared.store.stage(id)?));
                    upload.want(image.expected.checksums.algorithms());
                    fill(&mut upload, watch)?;
                    let examined = upload.examine_watched(watch)?;
                    self.shared.store.sync(upload.file())?;
                    examined
                }
            };
            self.shared.take_in(id, &examined)
        })?;
        Ok(id)
    }

    /// The image that a task makes: queued when it is begun for the first time.
    fn image_to_import(&self, task: &Task, new: &New<'_>) -> Result<ImageId> {
        if let Some(id) = new.made {
            return Ok(id);
        }
        // It lets nobody read what he could not read before.
        let mode = new.source.readable_by_no_more(task.ownership.gid);
        let ownership = Ownership { mode, ..task.ownership };
        let image = self.shared.queue(Newcomer {
            name: new.name.clone(),
            status: Status::Queued,
            ownership,
            details: new.details.clone(),
            in_place_by: Some(Actor { uid: ownership.uid }),
        })?;
        let choose = |_: &Image| Ok(Event::ImportRemote);
        self.shared.transition(image.id, None, choose, |next, also| {
            next.content = Content::Staged;
            next.expected.format = new.format;
            let mut task = self.task(task.id)?.ok_or(Error::Cancelled)?;
            task.input = (new.noted)(image.id);
            also.tasks.push(TaskChange::Update(task));
            Ok(())
        })?;
        Ok(image.id)
    }

    /// Does the work of an import, and settles what becomes of the image.
    fn importing(
        &self,
        id: ImageId,
        size_bytes: u64,
        watch: &dyn Fn(u8) -> Result<()>,
        work: impl FnOnce(&Watch<'_>) -> Result<()>,
    ) -> Result<()> {
        let import = self.shared.staging.began(id, size_bytes);
        let told = |done_bytes| tell(&import, done_bytes, watch);
        let done = work(&told);
        self.shared.staging.ended(id);
        match done {
            Ok(()) => {
                hit(Failpoint::ImportPublished);
                self.shared.staging.forget(id);
                self.keeper.wake();
                Ok(())
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.shared.staging.forget(id);
                self.shared.kill(id, &error)?;
                self.keeper.wake();
                Err(error)
            }
        }
    }

    /// Gives up an import that nobody goes on with.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn give_up_import(&self, id: ImageId, reason: &Error) -> Result<()> {
        let image = self.by_id(id)?;
        if image.is_some_and(|image| image.status.publication() == Some(Event::ImportSucceed)) {
            self.shared.staging.forget(id);
            self.shared.kill(id, reason)?;
            self.keeper.wake();
        }
        Ok(())
    }
}

/// The author of a task, with the groups that he was in when he wrote it.
pub(super) fn author(task: &Task, groups: &[u32]) -> User {
    User { uid: task.ownership.uid, gid: task.ownership.gid, groups: groups.to_vec() }
}

fn tell(import: &Import, done_bytes: u64, watch: &dyn Fn(u8) -> Result<()>) -> Result<()> {
    import.advance(done_bytes);
    watch(import.progress().percent())
}

impl Shared {
    /// Refuses before anything is done what the end of the import would be refused for.
    fn check_import_name(&self, image: &Image, wanted: Move<'_>) -> Result<()> {
        let named = Image { name: wanted.name.clone(), ..image.clone() };
        let change = &mut crate::registry::Change::default();
        self.evict_holder(&named, wanted.to, Some(wanted.actor), change).map(|_| ())
    }

    fn take_in(&self, id: ImageId, examined: &Examined) -> Result<()> {
        let mut sealed = self.commit_seal(id, examined, None);
        while matches!(&sealed, Err(Error::OverQuota(_))) && self.make_room() {
            sealed = self.commit_seal(id, examined, None);
        }
        sealed?;
        hit(Failpoint::ImportSealed);
        self.publish(id, false, None)
    }
}
