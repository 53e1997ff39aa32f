//! What can be asked of the catalog: records, counts, room, and sealed data to read.

use std::sync::Arc;

use super::{Catalog, Progress, Shared, Usage};
use crate::error::{Error, Result};
use crate::image::{Content, IdPrefix, Image, ImageId, ImageName, ImageNumber, Moment};
use crate::lifecycle::{Status, TaskStatus};
use crate::registry::{Key, Listed, ListedName, ListedTask, TaskKey, TaskTotal, Total, Transition};
use crate::store::{Space, StoreFile};
use crate::task::{Task, TaskId, TaskNumber};

impl Catalog {
    /// The present, by the clock on the wall and by the store's own.
    #[must_use]
    pub fn moment(&self) -> Moment {
        self.shared.clock.moment()
    }

    /// The image with this number, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn by_number(&self, number: ImageNumber) -> Result<Option<Image>> {
        self.shared.registry.image(Key::Number(number))
    }

    /// The image with this id, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn by_id(&self, id: ImageId) -> Result<Option<Image>> {
        self.shared.registry.image(Key::Id(id))
    }

    /// The newest image of a name in a status or, with a prefix, the one whose id begins so.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn find(
        &self,
        status: Status,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Image>> {
        self.shared.registry.find(status, name, prefix)
    }

    /// Images with a number above `after`, at most `limit`, of one status or of all.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn page(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<Listed>> {
        self.shared.registry.page(status, after, limit)
    }

    /// The names of images with a number above `after`, at most `limit`, of one status or of all.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn names(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<ListedName>> {
        self.shared.registry.names(status, after, limit)
    }

    /// The name by which the folder of its status lists the image.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn listed_name(&self, image: &Image) -> Result<String> {
        let is_shadowed = self.shared.registry.is_shadowed(image)?;
        Ok(if is_shadowed { image.name.listed_as(image.id) } else { image.name.to_string() })
    }

    /// Counts and sizes, a row for each status that has images.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn totals(&self) -> Result<Vec<Total>> {
        self.shared.registry.totals()
    }

    /// The images that entered a status last and have a message that says why, the latest first.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn latest_told(&self, status: Status, limit: u32) -> Result<Vec<Image>> {
        self.shared.registry.latest_told(status, limit)
    }

    /// What is used of the quota.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn usage(&self) -> Result<Usage> {
        self.shared.usage()
    }

    /// How much room the store has.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn space(&self) -> Result<Space> {
        self.shared.store.space()
    }

    /// The sealed data of an image, to read. It stays readable to whoever has it, whatever becomes of
    /// the image.
    ///
    /// # Errors
    /// It has none, or it is gone from the disk.
    pub fn open_sealed(&self, image: &Image) -> Result<Arc<StoreFile>> {
        self.shared.open_data(image)
    }

    /// The staged data of an image, to read, if there is any.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open_staged(&self, image: &Image) -> Result<Option<StoreFile>> {
        self.shared.store.staged(image.id)
    }

    /// The last transitions, the earliest first.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn transitions(&self) -> Result<Vec<Transition>> {
        self.shared.registry.transitions()
    }

    /// The imports under way.
    #[must_use]
    pub fn imports(&self) -> Vec<(ImageId, Progress)> {
        self.shared.staging.imports()
    }

    /// The task with this id, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn task(&self, id: TaskId) -> Result<Option<Task>> {
        self.shared.registry.task(TaskKey::Id(id))
    }

    /// The task with this number, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn task_by_number(&self, number: TaskNumber) -> Result<Option<Task>> {
        self.shared.registry.task(TaskKey::Number(number))
    }

    /// The newest task of a name in a status or, with a prefix, the one whose id begins so.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn find_task(
        &self,
        status: TaskStatus,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Task>> {
        self.shared.registry.find_task(status, name, prefix)
    }

    /// The tasks that entered a status last, the latest first.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn latest_tasks(&self, status: TaskStatus, limit: u32) -> Result<Vec<Task>> {
        self.shared.registry.latest_tasks(status, limit)
    }

    /// How many tasks have a status.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn task_total(&self, status: TaskStatus) -> Result<TaskTotal> {
        self.shared.registry.task_total(status)
    }

    /// Tasks of a status with a number above `after`, at most `limit`.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn task_page(
        &self,
        status: TaskStatus,
        after: TaskNumber,
        limit: u32,
    ) -> Result<Vec<ListedTask>> {
        self.shared.registry.task_page(status, after, limit)
    }
}

impl Shared {
    /// The data of an image that is complete, to read.
    pub(super) fn open_data(&self, image: &Image) -> Result<Arc<StoreFile>> {
        match &image.content {
            Content::Sealed(seal) => self.store.open(&seal.digest).or_else(|error| {
                if !error.tells_of_damage() {
                    return Err(error);
                }
                match self.registry.image(Key::Id(image.id))?.map(|now| now.content) {
                    Some(Content::Sealed(_)) => {
                        Err(Error::Damaged(format!("data of image {}: {error}", image.id)))
                    }
                    // It was removed since it was looked up.
                    Some(
                        Content::Absent | Content::Staged | Content::Located(_) | Content::Gone(_),
                    )
                    | None => Err(Error::NotFound),
                }
            }),
            Content::Located(located) => self.open_located(located).map(Arc::new),
            Content::Absent | Content::Staged | Content::Gone(_) => Err(Error::NotFound),
        }
    }
}
