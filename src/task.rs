//! What a task is: work that an executor does, with a record of how it went.
//!
//! This module refuses to know who does the work, and where records are kept.

use std::fmt;

use uuid::Uuid;

use crate::image::{
    Details, DiskFormat, ImageId, ImageName, Moment, Ownership, StoreTime, Timestamp,
};
use crate::lifecycle::{TaskDecision, TaskEvent, TaskStatus, decide_task};

mod wire;

pub use wire::{Fault, Order, parse_order};

/// How often a task is begun at most: an executor that dies of it three times gives it up.
pub const ATTEMPTS_MAX: u32 = 3;

/// The identity of a task: a version 4 UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(Uuid);

impl TaskId {
    /// An id that nobody has had before.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id with these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The same identity as tasks of one name are told apart by: `NAME~ID8`, as with images.
    #[must_use]
    pub const fn as_image_id(&self) -> ImageId {
        ImageId::from_bytes(*self.0.as_bytes())
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

/// The number of a task in the mount, the same across restarts and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskNumber(u64);

impl TaskNumber {
    /// The number `value`, counted from 1.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a task is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskInput {
    /// Check the staged data of an image and take it in.
    ImportStaged {
        /// The image, which is importing.
        image: ImageId,
    },
    /// Copy a file that lies below an allowed root, check it and take it in.
    ImportPath(ImportPath),
    /// Make a new image of another, in another format.
    Convert(Convert),
    /// Read and hash again: one image, or all of them.
    Verify {
        /// The image; none for all.
        image: Option<ImageId>,
    },
    /// Purge what is due.
    Scrub,
}

/// A file that is to become an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportPath {
    /// Its absolute path.
    pub from: String,
    /// The name of the new image.
    pub name: ImageName,
    /// What it is declared to be.
    pub disk_format: Option<DiskFormat>,
    /// What is said of it.
    pub details: Details,
    /// The supplementary groups of the author, who must be able to read it.
    pub groups: Vec<u32>,
    /// The new image, once there is one.
    pub image: Option<ImageId>,
}

/// An image that is to be made in another format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convert {
    /// The image as it is.
    pub source: ImageId,
    /// The format of the new one.
    pub to: DiskFormat,
    /// The name of the new one.
    pub name: ImageName,
    /// The supplementary groups of the author, who must be able to read the source.
    pub groups: Vec<u32>,
    /// The new image, once there is one.
    pub image: Option<ImageId>,
}

impl TaskInput {
    /// The type of the task, as it is written everywhere.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ImportStaged { .. } | Self::ImportPath(_) => "import",
            Self::Convert(_) => "convert",
            Self::Verify { .. } => "verify",
            Self::Scrub => "scrub",
        }
    }
}

/// What came of a task that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskResult {
    /// An image was taken in.
    Imported {
        /// The image.
        image: ImageId,
    },
    /// Contents were read and hashed.
    Verified {
        /// How many contents.
        contents: u64,
        /// How many bytes of them.
        size_bytes: u64,
        /// How many of them were damaged.
        damaged: u64,
    },
    /// Images were purged.
    Scrubbed {
        /// How many.
        images: u64,
    },
}

/// A task that is to be recorded; the registry gives it a number.
#[derive(Clone, Debug)]
pub struct TaskDraft {
    /// Its identity.
    pub id: TaskId,
    /// The name of its file.
    pub name: ImageName,
    /// Its author.
    pub ownership: Ownership,
    /// What it is to do.
    pub input: TaskInput,
    /// When it was made.
    pub created: Moment,
}

/// What the registry knows of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// Its number in the mount.
    pub number: TaskNumber,
    /// How often the record was changed; a change compares it.
    pub version: u64,
    /// The name of its file.
    pub name: ImageName,
    /// Its author.
    pub ownership: Ownership,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// What it is to do.
    pub input: TaskInput,
    /// What came of it.
    pub result: Option<TaskResult>,
    /// Why it failed, or what it is waiting for.
    pub message: Option<String>,
    /// How far it is, in percent.
    pub progress: u8,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
    /// When the status last changed.
    pub status_at: Timestamp,
    /// When it did by the store's own clock.
    pub entered_at: StoreTime,
    /// When its record goes, once it is finished.
    pub expires_at: Option<Timestamp>,
}

impl Task {
    /// The record after `event`, if the task table has such a row.
    #[must_use]
    pub fn stepped(&self, event: TaskEvent, now: Moment) -> Option<Self> {
        match decide_task(self.status, event) {
            TaskDecision::Step(to) => Some(Self {
                status: to,
                status_at: now.at,
                updated_at: now.at,
                entered_at: now.age,
                attempts: self.attempts + u32::from(event == TaskEvent::Start),
                ..self.clone()
            }),
            TaskDecision::Already | TaskDecision::Denied => None,
        }
    }

    /// The record as the file of the task shows it: JSON, one line a field.
    #[must_use]
    pub fn to_text(&self) -> String {
        wire::render(self)
    }

    /// The input as it is stored.
    #[must_use]
    pub fn input_text(input: &TaskInput) -> String {
        wire::render_input(input)
    }

    /// The input that a stored text says.
    #[must_use]
    pub fn parse_input(text: &str) -> Option<TaskInput> {
        wire::parse_input(text)
    }

    /// The result as it is stored.
    #[must_use]
    pub fn result_text(result: &TaskResult) -> String {
        wire::render_result(result)
    }

    /// The result that a stored text says.
    #[must_use]
    pub fn parse_result(text: &str) -> Option<TaskResult> {
        wire::parse_result(text)
    }
}
