//! The specification's "Who may do what", once more and by itself: what each operation of each user comes to.
//!
//! It knows users, mode bits and the table of renames, and nothing of the product.

use sps::lifecycle::Status;

use super::acts::Person;

const DONE: i32 = 0;
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EEXIST: i32 = 17;

/// Whose an image is, what its bits are, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    pub status: Status,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// What is done to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Stat,
    OpenToRead,
    OpenToWrite,
    /// An open with O_TRUNC, a write and a close.
    Replace,
    /// Making a file of its name with O_EXCL.
    Make,
    /// An upload to `queued/` under the name of an active image.
    TakeName,
    Unlink,
    /// Another name in the same folder.
    Rename,
    /// Renaming an image of one's own from a folder onto it, in `active/`.
    RenameOnto(Status),
    Move(Status),
    Chmod,
    /// To another user.
    Chown,
    /// To another group, which the owner is in.
    Chgrp,
    /// With a time that is given.
    SetTime,
    /// To now.
    Touch,
    /// An attribute that may be set at any time.
    Set(&'static str, &'static str),
    /// One that declares what comes.
    Declare(&'static str, &'static str),
    /// One that can't be set.
    SetFixed(&'static str),
    /// Taking an attribute off that was set.
    Drop(&'static str),
    Get,
    List,
    Truncate,
}

/// Whose bits count: the first class that one is in, and no other.
fn bits(person: Person, subject: Subject) -> u32 {
    if person.uid == subject.uid {
        subject.mode >> 6
    } else if person.gid == subject.gid || person.groups.contains(&subject.gid) {
        subject.mode >> 3
    } else {
        subject.mode
    }
}

pub fn may_read(person: Person, subject: Subject) -> bool {
    person.uid == 0 || bits(person, subject) & 4 != 0
}

pub fn may_write(person: Person, subject: Subject) -> bool {
    person.uid == 0 || bits(person, subject) & 2 != 0
}

fn governs(person: Person, subject: Subject) -> bool {
    person.uid == 0 || person.uid == subject.uid
}

/// What a rename from one folder into another may ask for, of images that have data of their own and, in the
/// trash, were active.
pub fn is_move(from: Status, to: Status) -> bool {
    use Status::{
        Active, Deactivated, Deleted, Importing, Killed, PendingDelete, Queued, Saving, Uploading,
    };
    [
        (Uploading, Active),
        (Queued, Uploading),
        (Uploading, Queued),
        (Saving, Killed),
        (Active, Deactivated),
        (Deactivated, Active),
        (Active, PendingDelete),
        (Deactivated, PendingDelete),
        (PendingDelete, Active),
        (PendingDelete, Deleted),
        (Queued, Deleted),
        (Uploading, Deleted),
        (Importing, Deleted),
        (Saving, Deleted),
        (Killed, Deleted),
    ]
    .contains(&(from, to))
}

/// Pairs that are moves of other images: of one that lies elsewhere, and of one that was withheld.
fn is_move_of_others(from: Status, to: Status) -> bool {
    use Status::{Active, Deactivated, PendingDelete, Queued};
    [(Active, Queued), (PendingDelete, Deactivated)].contains(&(from, to))
}

/// The error numbers that an operation may answer with. Where two rules refuse, either may be told.
pub fn expected(person: Person, operation: Operation, subject: Subject) -> Vec<i32> {
    use Operation as O;
    let is_protected = subject.mode & 0o1000 != 0;
    let (reads, writes) = (may_read(person, subject), may_write(person, subject));
    let governs = governs(person, subject);
    // Removing, replacing and moving: the owner's and root's, and nobody's of what is protected.
    let removing = || match (governs, is_protected) {
        (true, false) => vec![DONE],
        (true, true) => vec![EPERM],
        (false, false) => vec![EACCES],
        (false, true) => vec![EPERM, EACCES],
    };
    let only = |may: bool, otherwise: i32| vec![if may { DONE } else { otherwise }];
    match operation {
        O::Stat | O::List => vec![DONE],
        O::Get => only(reads, EACCES),
        O::OpenToRead => match subject.status {
            Status::Active | Status::Queued | Status::Uploading => only(reads, EACCES),
            Status::Deactivated => only(person.uid == 0, EACCES),
            _ => vec![EACCES],
        },
        O::OpenToWrite | O::Truncate => match subject.status {
            Status::Queued | Status::Uploading => only(writes, EACCES),
            _ => vec![EACCES],
        },
        O::Replace => match subject.status {
            Status::Queued | Status::Uploading => only(writes, EACCES),
            Status::Active if writes && is_protected => vec![EPERM],
            Status::Active => only(writes, EACCES),
            _ => vec![EACCES],
        },
        O::Make => vec![EEXIST],
        O::TakeName => match (writes || governs, is_protected) {
            (true, false) => vec![DONE],
            (true, true) => vec![EPERM],
            (false, false) => vec![EACCES],
            (false, true) => vec![EPERM, EACCES],
        },
        // The record of a deleted image is root's to forget.
        O::Unlink if subject.status == Status::Deleted => match (person.uid, is_protected) {
            (0, false) => vec![DONE],
            (0, true) => vec![EPERM],
            (_, false) => vec![EACCES],
            (_, true) => vec![EPERM, EACCES],
        },
        O::Unlink | O::RenameOnto(_) => removing(),
        O::Rename => only(governs, EACCES),
        O::Move(to) if is_move(subject.status, to) => removing(),
        O::Move(to) if is_move_of_others(subject.status, to) && !governs => vec![EPERM, EACCES],
        O::Move(_) => vec![EPERM],
        O::Chmod | O::SetTime | O::Chgrp => match person.uid {
            0 => vec![DONE],
            _ => only(governs, EPERM),
        },
        O::Chown => only(person.uid == 0, EPERM),
        O::Touch => only(governs || writes, EACCES),
        O::Set(..) | O::Drop(_) => only(governs && writes, EACCES),
        O::Declare(..) => match subject.status {
            _ if !(governs && writes) => vec![EACCES],
            Status::Queued | Status::Saving | Status::Uploading => vec![DONE],
            _ => vec![EPERM],
        },
        O::SetFixed(_) if governs && writes => vec![EPERM],
        O::SetFixed(_) => vec![EPERM, EACCES],
    }
}

/// Whether an operation that succeeds leaves all as it was.
pub fn changes_nothing(operation: Operation) -> bool {
    use Operation as O;
    matches!(operation, O::Stat | O::OpenToRead | O::OpenToWrite | O::Get | O::List)
}

/// Whether an operation that succeeds takes an image out of its folder, or may.
pub fn takes_away(operation: Operation) -> bool {
    use Operation as O;
    matches!(
        operation,
        O::Replace | O::TakeName | O::Unlink | O::RenameOnto(_) | O::Move(_) | O::Truncate
    )
}
