//! What is recorded, and what changes together.

use crate::image::{
    Details, Digest, Image, ImageId, ImageName, Moment, Ownership, StoreTime, Timestamp,
};
use crate::lifecycle::Status;
use crate::task::{Task, TaskDraft};

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
