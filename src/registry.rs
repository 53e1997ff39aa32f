//! The registry: what is known of every image, kept so that a crash can't half-change it.
//!
//! A backend stands behind [`Registry`]. It stores records, compares versions and answers questions;
//! it refuses to know what a status permits, where bytes are, and what the time is. Every change is one
//! [`Change`], applied whole or not at all.

use crate::error::Result;
use crate::image::{
    Digest, IdPrefix, Image, ImageId, ImageName, ImageNumber, StoreTime, Timestamp,
};
use crate::lifecycle::{Status, TaskStatus};
use crate::task::{Task, TaskId, TaskNumber};

mod change;
mod sqlite;

pub use change::{
    Change, ClockMark, Draft, Durability, Quota, Reclaim, TRANSITIONS_KEPT, TaskChange, Transition,
};
pub use sqlite::SqliteRegistry;

/// A record by one of its keys.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// By identity.
    Id(ImageId),
    /// By number.
    Number(ImageNumber),
}

/// An image as a folder lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The record.
    pub image: Image,
    /// Whether a newer image of the same status bears the plain name.
    pub is_shadowed: bool,
}

/// A name that a folder lists.
#[derive(Clone, Debug)]
pub struct ListedName {
    /// The number of the image.
    pub number: ImageNumber,
    /// Its identity.
    pub id: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Whether a newer image of the same status bears the plain name.
    pub is_shadowed: bool,
}

/// A task by one of its keys.
#[derive(Clone, Copy, Debug)]
pub enum TaskKey {
    /// By identity.
    Id(TaskId),
    /// By number.
    Number(TaskNumber),
}

/// A task as a folder lists it.
#[derive(Clone, Debug)]
pub struct ListedTask {
    /// The record.
    pub task: Task,
    /// Whether a newer task of the same status bears the plain name.
    pub is_shadowed: bool,
}

/// How many images have a status, and how much they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The status.
    pub status: Status,
    /// Number of images.
    pub images: u64,
    /// Sum of the sizes of their content in bytes.
    pub size_bytes: u64,
}

impl Total {
    /// Bytes that all images hold.
    #[must_use]
    pub fn held_bytes(all: &[Self]) -> u64 {
        all.iter().map(|total| total.size_bytes).sum()
    }

    /// How many images hold data, or will.
    #[must_use]
    pub fn counted(all: &[Self]) -> u64 {
        let counted = all.iter().filter(|total| total.status.is_counted());
        counted.map(|total| total.images).sum()
    }
}

/// How many tasks have a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTotal {
    /// Number of tasks.
    pub tasks: u64,
    /// When the one that has had it longest got it.
    pub oldest_at: Option<Timestamp>,
}

/// What keeps the records.
pub trait Registry: Send + Sync {
    /// Records a new image.
    ///
    /// # Errors
    /// There are as many as there may be, or the registry can't write.
    fn create(&self, draft: Draft) -> Result<Image>;

    /// Makes all of `change`, if every record still has the version that was read and no unique name
    /// is taken twice.
    ///
    /// # Errors
    /// [`OverQuota`](crate::error::Error::OverQuota) when all images would hold more than they may, and
    /// [`Conflict`](crate::error::Error::Conflict) when something changed in between; nothing is done.
    fn commit(&self, change: Change) -> Result<()>;

    /// Returns when all that was committed before is on the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    fn flush(&self) -> Result<()>;

    /// The record of `key`, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    fn image(&self, key: Key) -> Result<Option<Image>>;

    /// The newest image of that name and status or, with a prefix, the one whose id begins so.
    ///
    /// # Errors
    /// The registry can't be read.
    fn find(
        &self,
        status: Status,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Image>>;

    /// At most `limit` images with a number above `after`, in the order of numbers: of one status, or
    /// of all.
    ///
    /// # Errors
    /// The registry can't be read.
    fn page(&self, status: Option<Status>, after: ImageNumber, limit: u32) -> Result<Vec<Listed>>;

    /// The names of at most `limit` images of a status, or of all, with a number above `after`, in the order
    /// of numbers.
    ///
    /// # Errors
    /// The registry can't be read.
    fn names(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<ListedName>>;

    /// Whether a newer image of its status bears the plain name of `image`.
    ///
    /// # Errors
    /// The registry can't be read.
    fn is_shadowed(&self, image: &Image) -> Result<bool>;

    /// Counts and sizes, a row for each status that has images.
    ///
    /// # Errors
    /// The registry can't be read.
    fn totals(&self) -> Result<Vec<Total>>;

    /// At most `limit` images with a number above `after` whose data lies elsewhere and has no digest yet.
    ///
    /// # Errors
    /// The registry can't be read.
    fn unhashed(&self, after: ImageNumber, limit: u32) -> Result<Vec<Image>>;

    /// The images that entered a status last and have a message that says why, the latest first.
    ///
    /// # Errors
    /// The registry can't be read.
    fn latest_told(&self, status: Status, limit: u32) -> Result<Vec<Image>>;

    /// Whether any record holds the content: its count of references is not zero.
    ///
    /// # Errors
    /// The registry can't be read.
    fn is_referenced(&self, digest: &Digest) -> Result<bool>;

    /// At most `limit` of the images that hold the content.
    ///
    /// # Errors
    /// The registry can't be read.
    fn holders(&self, digest: &Digest, limit: u32) -> Result<Vec<Image>>;

    /// At most `limit` of the images that have had a status, which time ends, since `until` or longer:
    /// those that have had it longest come first.
    ///
    /// # Errors
    /// The registry can't be read.
    fn due(&self, status: Status, until: StoreTime, limit: u32) -> Result<Vec<Image>>;

    /// The last transitions, the earliest first.
    ///
    /// # Errors
    /// The registry can't be read.
    fn transitions(&self) -> Result<Vec<Transition>>;

    /// The task of `key`, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    fn task(&self, key: TaskKey) -> Result<Option<Task>>;

    /// The newest task of that name and status or, with a prefix, the one whose id begins so.
    ///
    /// # Errors
    /// The registry can't be read.
    fn find_task(
        &self,
        status: TaskStatus,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Task>>;

    /// At most `limit` tasks of a status with a number above `after`, in the order of numbers.
    ///
    /// # Errors
    /// The registry can't be read.
    fn task_page(
        &self,
        status: TaskStatus,
        after: TaskNumber,
        limit: u32,
    ) -> Result<Vec<ListedTask>>;

    /// How many tasks have a status.
    ///
    /// # Errors
    /// The registry can't be read.
    fn task_total(&self, status: TaskStatus) -> Result<TaskTotal>;

    /// The tasks that entered a status last, the latest first.
    ///
    /// # Errors
    /// The registry can't be read.
    fn latest_tasks(&self, status: TaskStatus, limit: u32) -> Result<Vec<Task>>;

    /// At most `limit` of the tasks that have had a status since `until` or longer.
    ///
    /// # Errors
    /// The registry can't be read.
    fn tasks_due(&self, status: TaskStatus, until: StoreTime, limit: u32) -> Result<Vec<Task>>;

    /// How long the store had lived when that was last noted.
    ///
    /// # Errors
    /// The registry can't be read.
    fn clock(&self) -> Result<Option<ClockMark>>;

    /// Notes how long the store has lived.
    ///
    /// # Errors
    /// The registry can't write.
    fn set_clock(&self, mark: ClockMark) -> Result<()>;

    /// Says what of the registry itself is broken; nothing of a whole one.
    ///
    /// # Errors
    /// It can't be read at all.
    fn check(&self) -> Result<Vec<String>>;

    /// Counts the images anew. Answers whether the counts were wrong.
    ///
    /// # Errors
    /// The registry can't write.
    fn recount(&self) -> Result<bool>;

    /// At most `limit` images whose manifest says something else than their record, each with the version that
    /// this was noted of.
    ///
    /// # Errors
    /// The registry can't be read.
    fn outdated(&self, limit: u32) -> Result<Vec<(ImageId, u64)>>;

    /// Strikes out images whose manifest was written again, as far as nothing was noted of them since.
    ///
    /// # Errors
    /// The registry can't write.
    fn settle_outdated(&self, settled: &[(ImageId, u64)]) -> Result<()>;

    /// Records an image that is known from elsewhere, with all it has but its number.
    ///
    /// # Errors
    /// [`Conflict`](crate::error::Error::Conflict) when its id or its unique name is there already.
    fn adopt(&self, image: Image) -> Result<()>;

    /// At most `limit` of the data still to be given back.
    ///
    /// # Errors
    /// The registry can't be read.
    fn reclaims(&self, limit: u32) -> Result<Vec<Reclaim>>;

    /// Strikes out data that was given back.
    ///
    /// # Errors
    /// The registry can't write.
    fn settle(&self, reclaims: &[Reclaim]) -> Result<()>;
}
