//! The nine statuses of an image, and what each means for names, uploads and readers.

use std::fmt;

use super::Event;

/// Where an image is in its life: the nine statuses of the image lifecycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The id and the name are reserved; there is no data yet.
    Queued,
    /// Data is being written.
    Saving,
    /// Data is being put into staging and may be reopened.
    Uploading,
    /// A staged or remote image is being checked and taken in.
    Importing,
    /// Complete, checked, durable, readable, immutable.
    Active,
    /// Complete, but withheld from everyone but root.
    Deactivated,
    /// The upload failed; the reason is kept.
    Killed,
    /// Removed, the data still there.
    PendingDelete,
    /// The data is gone; the record is kept for a while.
    Deleted,
}

impl Status {
    /// Every status, in the order of an image's life.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Saving,
        Self::Uploading,
        Self::Importing,
        Self::Active,
        Self::Deactivated,
        Self::Killed,
        Self::PendingDelete,
        Self::Deleted,
    ];

    /// The status as it is written everywhere: folder, column, JSON, log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Saving => "saving",
            Self::Uploading => "uploading",
            Self::Importing => "importing",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Killed => "killed",
            Self::PendingDelete => "pending_delete",
            Self::Deleted => "deleted",
        }
    }

    /// The status of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether only one image of a name may have this status.
    #[must_use]
    pub const fn has_unique_names(self) -> bool {
        match self {
            Self::Active => true,
            Self::Queued
            | Self::Saving
            | Self::Uploading
            | Self::Importing
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => false,
        }
    }

    /// The status of a new image whose file is made in the folder of this one, if it takes new files
    /// (specification, section 2, "create").
    #[must_use]
    pub const fn creation(self) -> Option<Self> {
        match self {
            Self::Queued | Self::Active => Some(Self::Queued),
            Self::Uploading => Some(Self::Uploading),
            Self::Saving
            | Self::Importing
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => None,
        }
    }

    /// Whether the data is in staging, to be worked on until it is imported.
    #[must_use]
    pub const fn is_staging(self) -> bool {
        match self {
            Self::Uploading => true,
            Self::Queued
            | Self::Saving
            | Self::Importing
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => false,
        }
    }

    /// Whether it may still be said what the data must be: not once that is being checked.
    #[must_use]
    pub const fn takes_declarations(self) -> bool {
        match self {
            Self::Queued | Self::Saving | Self::Uploading => true,
            Self::Importing
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => false,
        }
    }

    /// Whether all that is seen of an image of this status stays as it is until a commit changes it.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        match self {
            Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => true,
            Self::Queued | Self::Saving | Self::Uploading | Self::Importing => false,
        }
    }

    /// Whether an image of this status may have data in staging that a restart must not take away.
    #[must_use]
    pub const fn keeps_staged_data(self) -> bool {
        match self {
            Self::Uploading | Self::Importing => true,
            Self::Queued
            | Self::Saving
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => false,
        }
    }

    /// What happens by itself to an image that has had this status for its time (specification, section
    /// 2, Time).
    #[must_use]
    pub const fn expiry(self) -> Option<Event> {
        match self {
            Self::PendingDelete => Some(Event::Purge),
            Self::Killed => Some(Event::Delete),
            Self::Deleted => Some(Event::Forget),
            Self::Queued
            | Self::Saving
            | Self::Uploading
            | Self::Importing
            | Self::Active
            | Self::Deactivated => None,
        }
    }

    /// The event that makes what came in active: none where nothing can be on its way.
    #[must_use]
    pub const fn publication(self) -> Option<Event> {
        match self {
            Self::Queued => Some(Event::SetEmpty),
            Self::Saving => Some(Event::Publish),
            Self::Importing => Some(Event::ImportSucceed),
            Self::Uploading
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => None,
        }
    }

    /// The event of an upload or an import that failed: none where no data can have come.
    #[must_use]
    pub const fn failure(self, retry: bool) -> Option<Event> {
        match self {
            Self::Saving if retry => Some(Event::FailRetry),
            Self::Saving => Some(Event::Fail),
            Self::Importing => Some(Event::ImportFail),
            Self::Queued
            | Self::Uploading
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => None,
        }
    }

    /// Whether an image can be had back from this status after a delete.
    #[must_use]
    pub const fn is_recoverable(self) -> bool {
        match self {
            Self::PendingDelete => true,
            Self::Queued
            | Self::Saving
            | Self::Uploading
            | Self::Importing
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::Deleted => false,
        }
    }

    /// Whether an image of this status counts as one that holds data, or will.
    #[must_use]
    pub const fn is_counted(self) -> bool {
        match self {
            Self::Queued
            | Self::Saving
            | Self::Uploading
            | Self::Importing
            | Self::Active
            | Self::Deactivated
            | Self::PendingDelete => true,
            Self::Killed | Self::Deleted => false,
        }
    }

    /// Who may read the data of an image of this status (specification, section 2, "open for reading").
    #[must_use]
    pub const fn access(self) -> Access {
        match self {
            Self::Active => Access::Mode,
            Self::Queued => Access::Empty,
            Self::Uploading => Access::Staged,
            Self::Deactivated => Access::Root,
            Self::Saving | Self::Importing | Self::Killed | Self::PendingDelete | Self::Deleted => {
                Access::Nobody
            }
        }
    }

    /// The event that brings an image back to where it came from, if it came from `self`.
    #[must_use]
    pub const fn restore_event(self) -> Option<Event> {
        match self {
            Self::Active => Some(Event::RestoreActive),
            Self::Deactivated => Some(Event::RestoreDeactivated),
            Self::Queued
            | Self::Saving
            | Self::Uploading
            | Self::Importing
            | Self::Killed
            | Self::PendingDelete
            | Self::Deleted => None,
        }
    }

    /// The event that `rm` of an image of this status asks for.
    #[must_use]
    pub const fn removal(self, delayed_delete: bool) -> Event {
        match self {
            Self::Deleted => Event::Forget,
            Self::Queued
            | Self::Saving
            | Self::Uploading
            | Self::Importing
            | Self::Active
            | Self::Deactivated
            | Self::Killed
            | Self::PendingDelete => {
                if delayed_delete {
                    Event::Delete
                } else {
                    Event::DeleteNow
                }
            }
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who may read an image's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever the mode bits let.
    Mode,
    /// Whoever the mode bits let; there is nothing in it yet.
    Empty,
    /// Whoever the mode bits let, from staging.
    Staged,
    /// Root alone.
    Root,
    /// Nobody.
    Nobody,
}
