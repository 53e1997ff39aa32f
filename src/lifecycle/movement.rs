//! What a rename from the folder of one status into that of another asks for (specification, section 2,
//! "rename into another status folder").

use super::{Decision, Event, Reason, Status, Subject, decide};

/// A transition that a rename may ask for: from, to, and what it means.
pub type Move = (Status, Status, Event);

/// All that a rename between folders may ask for; any other is refused.
pub const MOVES: &[Move] = {
    use Event as E;
    use Status as S;
    &[
        (S::Queued, S::Uploading, E::Stage),
        (S::Uploading, S::Queued, E::StagingFail),
        (S::Uploading, S::Active, E::Import),
        (S::Saving, S::Killed, E::Fail),
        (S::Active, S::Deactivated, E::Deactivate),
        (S::Deactivated, S::Active, E::Reactivate),
        (S::Active, S::Queued, E::Unlocate),
        (S::Active, S::PendingDelete, E::Delete),
        (S::Deactivated, S::PendingDelete, E::Delete),
        (S::PendingDelete, S::Active, E::RestoreActive),
        (S::PendingDelete, S::Deactivated, E::RestoreDeactivated),
        (S::PendingDelete, S::Deleted, E::Delete),
        (S::Queued, S::Deleted, E::Delete),
        (S::Saving, S::Deleted, E::Delete),
        (S::Uploading, S::Deleted, E::Delete),
        (S::Importing, S::Deleted, E::Delete),
        (S::Killed, S::Deleted, E::Delete),
    ]
};

/// The event that a rename from `from` to `to` asks for, if it asks for any.
#[must_use]
pub fn moved(from: Status, to: Status) -> Option<Event> {
    MOVES.iter().find(|(a, b, _)| (*a, *b) == (from, to)).map(|(_, _, event)| *event)
}

/// Says whether a rename may make `event` happen to `subject`, which came from `origin` where it is one
/// that can be restored. A protected image is not renamed out of its status at all, and one that is
/// restored goes to where it came from.
#[must_use]
pub fn decide_move(subject: Subject, origin: Option<Status>, event: Event) -> Decision {
    if subject.protected {
        return Decision::Denied(Reason::Protected { event });
    }
    let is_restore = Status::ALL.iter().any(|status| status.restore_event() == Some(event));
    if is_restore && origin.and_then(Status::restore_event) != Some(event) {
        return Decision::Denied(Reason::NotItsOrigin { event });
    }
    decide(subject, event)
}
