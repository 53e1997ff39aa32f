//! The causes of the transition table.

use super::{Status, TABLE};

/// What can happen to an image: the causes of the transition table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The first byte arrives.
    Write,
    /// The image is to be staged.
    Stage,
    /// An import from a remote source begins.
    ImportRemote,
    /// A location is added: the data lies elsewhere.
    Locate,
    /// The size is explicitly set to zero.
    SetEmpty,
    /// The upload ended well and is published.
    Publish,
    /// The upload failed.
    Fail,
    /// The upload failed, in a store that lets it be tried again under the same id.
    FailRetry,
    /// The staged data is to be taken in.
    Import,
    /// Staging failed.
    StagingFail,
    /// The import ended well.
    ImportSucceed,
    /// The import failed.
    ImportFail,
    /// The data is withheld because somebody asks for it.
    Deactivate,
    /// The data is withheld because it is damaged, or its writer failed right after closing it.
    Withhold,
    /// The data is given out again.
    Reactivate,
    /// Delete, with delayed delete on.
    Delete,
    /// Delete, with delayed delete off.
    DeleteNow,
    /// Restore an image that was active when it was deleted.
    RestoreActive,
    /// Restore an image that was deactivated when it was deleted.
    RestoreDeactivated,
    /// Its time in the trash is over.
    Purge,
    /// The last location is removed.
    Unlocate,
    /// The record itself is dropped.
    Forget,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 22] = [
        Self::Write,
        Self::Stage,
        Self::ImportRemote,
        Self::Locate,
        Self::SetEmpty,
        Self::Publish,
        Self::Fail,
        Self::FailRetry,
        Self::Import,
        Self::StagingFail,
        Self::ImportSucceed,
        Self::ImportFail,
        Self::Deactivate,
        Self::Withhold,
        Self::Reactivate,
        Self::Delete,
        Self::DeleteNow,
        Self::RestoreActive,
        Self::RestoreDeactivated,
        Self::Purge,
        Self::Unlocate,
        Self::Forget,
    ];

    /// The cause in words, as the diagram and the log give it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Write => "first data",
            Self::Stage => "stage",
            Self::ImportRemote => "import from a remote source",
            Self::Locate => "add a location",
            Self::SetEmpty => "set size to zero",
            Self::Publish => "upload succeeded",
            Self::Fail => "upload failed",
            Self::FailRetry => "upload failed (retry)",
            Self::Import => "import",
            Self::StagingFail => "staging failed",
            Self::ImportSucceed => "import succeeded",
            Self::ImportFail => "import failed",
            Self::Deactivate => "deactivate",
            Self::Withhold => "damage found, or its writer failed",
            Self::Reactivate => "reactivate",
            Self::Delete => "delete",
            Self::DeleteNow => "delete (delayed delete off)",
            Self::RestoreActive => "restore",
            Self::RestoreDeactivated => "restore (was deactivated)",
            Self::Purge => "scrub time passed",
            Self::Unlocate => "last location removed",
            Self::Forget => "forget",
        }
    }

    /// Whether the event takes an image away from those who use it: what protection is against.
    pub(super) const fn removes(self) -> bool {
        match self {
            Self::Delete
            | Self::DeleteNow
            | Self::Deactivate
            | Self::Unlocate
            | Self::Purge
            | Self::Forget => true,
            Self::Write
            | Self::Stage
            | Self::ImportRemote
            | Self::Locate
            | Self::SetEmpty
            | Self::Publish
            | Self::Fail
            | Self::FailRetry
            | Self::Import
            | Self::StagingFail
            | Self::ImportSucceed
            | Self::ImportFail
            | Self::Withhold
            | Self::Reactivate
            | Self::RestoreActive
            | Self::RestoreDeactivated => false,
        }
    }

    /// Whether an image of `status` is where the event would lead, so that asking again is harmless.
    pub(super) fn is_fulfilled_by(self, status: Status) -> bool {
        TABLE.iter().any(|row| row.event == self && row.to == status)
    }
}
