//! The transition table of the specification, section 1, a row a line.

use super::{Effect, Event, Status};

/// One row of the transition table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The status before.
    pub from: Status,
    /// The cause.
    pub event: Event,
    /// The status after.
    pub to: Status,
    /// What else happens.
    pub effects: &'static [Effect],
}

const fn row(from: Status, event: Event, to: Status, effects: &'static [Effect]) -> Row {
    Row { from, event, to, effects }
}

/// The whole table: any other transition is refused (specification, section 1).
pub const TABLE: &[Row] = {
    use Effect::{
        BindDigest, CancelWriter, ClearSize, DropRecord, Reclaim, RememberOrigin, TakeName,
    };
    use Event as E;
    use Status as S;
    &[
        row(S::Queued, E::Write, S::Saving, &[]),
        row(S::Queued, E::Stage, S::Uploading, &[Reclaim, ClearSize]),
        row(S::Queued, E::ImportRemote, S::Importing, &[]),
        row(S::Queued, E::Locate, S::Active, &[TakeName, BindDigest]),
        row(S::Queued, E::SetEmpty, S::Active, &[TakeName, BindDigest]),
        row(S::Queued, E::Delete, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Queued, E::DeleteNow, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Saving, E::Publish, S::Active, &[TakeName, BindDigest]),
        row(S::Saving, E::Fail, S::Killed, &[Reclaim]),
        row(S::Saving, E::FailRetry, S::Queued, &[Reclaim, ClearSize]),
        row(S::Saving, E::Delete, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Saving, E::DeleteNow, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Uploading, E::Import, S::Importing, &[]),
        row(S::Uploading, E::StagingFail, S::Queued, &[Reclaim, ClearSize]),
        row(S::Uploading, E::Delete, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Uploading, E::DeleteNow, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Importing, E::ImportSucceed, S::Active, &[TakeName, BindDigest]),
        row(S::Importing, E::ImportFail, S::Queued, &[Reclaim, ClearSize]),
        row(S::Importing, E::Delete, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Importing, E::DeleteNow, S::Deleted, &[CancelWriter, Reclaim]),
        row(S::Active, E::Deactivate, S::Deactivated, &[]),
        row(S::Active, E::Withhold, S::Deactivated, &[]),
        row(S::Active, E::Delete, S::PendingDelete, &[RememberOrigin]),
        row(S::Active, E::DeleteNow, S::Deleted, &[Reclaim]),
        row(S::Active, E::Unlocate, S::Queued, &[ClearSize]),
        row(S::Deactivated, E::Reactivate, S::Active, &[TakeName]),
        row(S::Deactivated, E::Delete, S::PendingDelete, &[RememberOrigin]),
        row(S::Deactivated, E::DeleteNow, S::Deleted, &[Reclaim]),
        row(S::Killed, E::Delete, S::Deleted, &[Reclaim]),
        row(S::Killed, E::DeleteNow, S::Deleted, &[Reclaim]),
        row(S::PendingDelete, E::RestoreActive, S::Active, &[TakeName]),
        row(S::PendingDelete, E::RestoreDeactivated, S::Deactivated, &[]),
        row(S::PendingDelete, E::Delete, S::Deleted, &[Reclaim]),
        row(S::PendingDelete, E::DeleteNow, S::Deleted, &[Reclaim]),
        row(S::PendingDelete, E::Purge, S::Deleted, &[Reclaim]),
        row(S::Deleted, E::Forget, S::Deleted, &[DropRecord]),
    ]
};
