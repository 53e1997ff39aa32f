//! What a file operation asks for: pure, from the operation and the nodes it names.

use super::tree::Node;
use crate::error::{Error, Result};
use crate::lifecycle::{Access, Event, Status, TaskStatus, moved};

/// What opening an image asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Read its sealed data.
    Read,
    /// Read nothing: there is none yet.
    ReadNothing,
    /// Upload it.
    Upload,
    /// Read what is staged.
    ReadStaged,
    /// Work on what is staged.
    Stage,
    /// Replace it: what is written is a new image of its name.
    Replace,
    /// Go on with it, if the caller has published it just now.
    Reopen,
}

/// How an open(2) means to use the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// It may be written.
    pub(crate) is_write: bool,
    /// Its content is cut off at once, by O_TRUNC.
    pub(crate) is_truncated: bool,
    /// The caller is root.
    pub(crate) is_root: bool,
}

/// What a new file is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Creation {
    /// An image of this status.
    Image(Status),
    /// A task, when it is closed.
    Task,
}

/// Says what a file made in `folder` is to become.
///
/// # Errors
/// Only the doors take new files (specification, section 2, "create elsewhere").
pub(crate) fn create(folder: Node) -> Result<Creation> {
    const REFUSED: Error = Error::Forbidden("images are made in active/, queued/ or uploading/");
    match folder {
        Node::Folder(status) => status.creation().map(Creation::Image).ok_or(REFUSED),
        Node::TaskFolder(TaskStatus::Pending) => Ok(Creation::Task),
        Node::TaskFolder(_) => Err(Error::Forbidden("tasks are made in tasks/pending/")),
        Node::Root
        | Node::Tasks
        | Node::ById
        | Node::Own
        | Node::Page(_)
        | Node::Task(_)
        | Node::Draft(_)
        | Node::Image(_)
        | Node::Link(_) => Err(REFUSED),
    }
}

/// Says what opening an image of `status` asks for.
///
/// # Errors
/// The status does not let it be opened so.
pub(crate) fn open(status: Status, usage: Usage) -> Result<Opening> {
    if usage.is_write {
        return match status {
            Status::Queued => Ok(Opening::Upload),
            Status::Uploading => Ok(Opening::Stage),
            Status::Active if usage.is_truncated => Ok(Opening::Replace),
            Status::Active => Ok(Opening::Reopen),
            Status::Saving
            | Status::Importing
            | Status::Deactivated
            | Status::Killed
            | Status::PendingDelete
            | Status::Deleted => {
                Err(Error::NoPermission("an image of this status can't be written"))
            }
        };
    }
    match status.access() {
        Access::Mode => Ok(Opening::Read),
        Access::Empty => Ok(Opening::ReadNothing),
        Access::Root if usage.is_root => Ok(Opening::Read),
        Access::Root => Err(Error::NoPermission("only root may read a deactivated image")),
        Access::Staged => Ok(Opening::ReadStaged),
        Access::Nobody => Err(Error::NoPermission("an image of this status can't be read")),
    }
}

/// What a rename asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renaming {
    /// Another name, in the folder that the image stands in.
    Within(Status),
    /// A transition.
    Into {
        /// The folder that the image stands in.
        from: Status,
        /// The folder that it is to stand in.
        to: Status,
        /// What that asks for.
        event: Event,
    },
}

/// Says what renaming from one folder to another asks for, with the flags of renameat2(2), and whether a
/// name that is taken is to be refused.
///
/// # Errors
/// The flags can't be met, or the lifecycle has no such transition.
pub(crate) fn rename(from: Node, to: Node, flags: u32) -> Result<(Renaming, bool)> {
    const NO_REPLACE: u32 = 1;
    if flags & !NO_REPLACE != 0 {
        return Err(Error::Invalid("only RENAME_NOREPLACE can be asked of a rename".into()));
    }
    let (Node::Folder(from), Node::Folder(to)) = (from, to) else {
        return Err(Error::Forbidden("only images can be renamed, from one status to another"));
    };
    let renaming = match moved(from, to) {
        _ if from == to => Renaming::Within(from),
        Some(event) => Renaming::Into { from, to, event },
        None => {
            return Err(Error::Forbidden("the lifecycle has no such transition"));
        }
    };
    Ok((renaming, flags & NO_REPLACE != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_opens_as_the_specification_says() {
        use Opening::{Read, ReadNothing, ReadStaged, Reopen, Replace, Stage, Upload};
        // Status, by a user, by root, for writing, with O_TRUNC.
        let table = [
            (Status::Queued, Some(ReadNothing), Some(ReadNothing), Some(Upload), Some(Upload)),
            (Status::Saving, None, None, None, None),
            (Status::Uploading, Some(ReadStaged), Some(ReadStaged), Some(Stage), Some(Stage)),
            (Status::Importing, None, None, None, None),
            (Status::Active, Some(Read), Some(Read), Some(Reopen), Some(Replace)),
            (Status::Deactivated, None, Some(Read), None, None),
            (Status::Killed, None, None, None, None),
            (Status::PendingDelete, None, None, None, None),
            (Status::Deleted, None, None, None, None),
        ];
        for (status, user, root, write, truncate) in table {
            let ask = |is_write, is_truncated, is_root| {
                open(status, Usage { is_write, is_truncated, is_root }).ok()
            };
            assert_eq!(ask(false, false, false), user, "{status} by a user");
            assert_eq!(ask(false, false, true), root, "{status} by root");
            assert_eq!(ask(true, false, true), write, "{status} for writing");
            assert_eq!(ask(true, true, true), truncate, "{status} with O_TRUNC");
        }
    }

    #[test]
    fn images_are_made_at_the_three_doors_only() {
        let doors = [Status::Active, Status::Queued, Status::Uploading];
        for status in Status::ALL {
            assert_eq!(create(Node::Folder(status)).is_ok(), doors.contains(&status), "{status}");
        }
        for node in [Node::Root, Node::ById, Node::Tasks] {
            assert!(create(node).is_err(), "{node:?}");
        }
    }
}
