//! The registry: what is known of every image, kept so that a crash can't half-change it.
//!
//! A backend stands behind [`Registry`]. It stores records, compares versions and answers questions;
//! it refuses to know what a status permits, where bytes are, and what the time is. Every change is one
//! [`Change`], applied whole or not at all.

use crate::error::Result;
use crate::image::{
    Details, Digest, IdPrefix, Image, ImageId, ImageName, ImageNumber, Moment, Ownership,
    StoreTime, Timestamp,
};
use crate::lifecycle::{Status, TaskStatus};
use crate::task::{Task, TaskDraft, TaskId, TaskNumber};

mod sqlite;

pub use sqlite::SqliteRegistry;

/// An image that is to be recorded for the first time; the registry gives it a number.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its identity.
    pub id: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Its first status.
    pub status: Status,
    /// Whose it is.
    pub ownership: Ownership,
    /// What is said of it.
    pub details: Details,
    /// Without data it is nothing by itself.
    pub is_provisional: bool,
    /// Who asked for it.
    pub by: u32,
    /// How many images there may be with it; more is refused.
    pub quota_images: Option<u64>,
    /// When it was made; all its times begin so.
    pub created: Moment,
}

/// How many transitions are remembered at least.
pub const TRANSITIONS_KEPT: u32 = 4096;

/// A change of a status that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// Of which image.
    pub id: ImageId,
    /// What it was called then.
    pub name: ImageName,
    /// The status before; none when it was made.
    pub from: Option<Status>,
    /// The status after; none when its record was dropped.
    pub to: Option<Status>,
    /// Why, in the words of the transition table.
    pub cause: String,
    /// Who asked for it; none when it happened by itself.
    pub uid: Option<u32>,
}

/// A change of a task.
#[derive(Clone, Debug)]
pub enum TaskChange {
    /// Record it.
    Create(TaskDraft),
    /// Replace its record, of the version that was read.
    Update(Task),
    /// Drop its record, of the version that was read.
    Forget(Task),
}

/// How long the store had lived at a moment by the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockMark {
    /// By its own clock.
    pub lived: StoreTime,
    /// By the clock on the wall.
    pub at: Timestamp,
}

/// Sealed data that no record holds any more, to be given back. It is remembered until that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// The image whose manifest goes.
    pub id: ImageId,
    /// The content, which goes if no other image has it.
    pub digest: Digest,
}

/// Whether a commit must be on the disk before it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// It survives the end of the daemon, not a loss of power.
    #[default]
    Transient,
    /// It survives a loss of power.
    Durable,
}

/// How much the images of a store may be together; none of a field is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes that they hold, each counted with its whole length.
    pub bytes: Option<u64>,
    /// How many there are that hold data, or will.
    pub images: Option<u64>,
}

/// A set of changes that happen together.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Records to replace, each with the version that was read. One that gives up a unique name
    /// comes before the one that takes it.
    pub updates: Vec<Image>,
    /// Records to drop; they go first.
    pub forgotten: Vec<Image>,
    /// What is changed of tasks.
    pub tasks: Vec<TaskChange>,
    /// What is to be remembered of it.
    pub transitions: Vec<Transition>,
    /// Data that is to be given back once this is committed.
    pub reclaims: Vec<Reclaim>,
    /// What the commit must survive.
    pub durability: Durability,
    /// How many bytes all images may hold when it is made; more is refused.
    pub quota_bytes: Option<u64>,
    /// Images whose manifest says something else than their record then. It is remembered until that is mended.
    pub outdated: Vec<ImageId>,
    /// The image whose manifest was written before its record.
    pub manifested: Option<ImageId>,
}

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

impl Change {
    /// A change of one record that need not wait for the disk.
    #[must_use]
    pub fn update(image: Image) -> Self {
        Self { updates: vec![image], ..Self::default() }
    }

    /// The same change, answered only when it is on the disk.
    #[must_use]
    pub fn durably(mut self) -> Self {
        self.durability = Durability::Durable;
        self
    }
}
