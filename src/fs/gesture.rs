//! What a file operation asks for: pure, from the operation and the nodes it names.

use super::tree::Node;
use crate::error::{Error, Result};
use crate::lifecycle::{Access, Status};

/// What opening an image asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Read its sealed data.
    Read,
    /// Read nothing: there is none yet.
    ReadNothing,
    /// Upload it.
    Upload,
}

/// How an open(2) means to use the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    /// It may be written.
    pub(crate) is_write: bool,
    /// The caller is root.
    pub(crate) is_root: bool,
}

/// Says what a file made in `folder` is to become.
///
/// # Errors
/// Only the doors take new files (specification, section 2, "create elsewhere").
pub(crate) fn create(folder: Node) -> Result<()> {
    match folder {
        Node::Folder(status) if status.takes_uploads() => Ok(()),
        Node::Root
        | Node::Folder(_)
        | Node::Tasks
        | Node::TaskFolder(_)
        | Node::ById
        | Node::StatusPage
        | Node::Image(_)
        | Node::Link(_) => Err(Error::Forbidden("images are made in active/ or queued/")),
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
            Status::Saving
            | Status::Uploading
            | Status::Importing
            | Status::Active
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
        Access::Staged | Access::Nobody => {
            Err(Error::NoPermission("an image of this status can't be read"))
        }
    }
}

/// What a rename asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renaming {
    /// The folder that the image stands in, before and after.
    pub(crate) status: Status,
    /// Refuse a name that is taken.
    pub(crate) no_replace: bool,
}

/// Says what renaming from one folder to another asks for, with the flags of renameat2(2).
///
/// # Errors
/// The flags can't be met, or the lifecycle has no such transition.
pub(crate) fn rename(from: Node, to: Node, flags: u32) -> Result<Renaming> {
    const NO_REPLACE: u32 = 1;
    if flags & !NO_REPLACE != 0 {
        return Err(Error::Invalid("only RENAME_NOREPLACE can be asked of a rename".into()));
    }
    match (from, to) {
        (Node::Folder(status), Node::Folder(target)) if status == target => {
            Ok(Renaming { status, no_replace: flags & NO_REPLACE != 0 })
        }
        _ => Err(Error::Forbidden("an image is renamed within its folder only")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_opens_as_the_specification_says() {
        use Opening::{Read, ReadNothing, Upload};
        // Status, by a user, by root, for writing.
        let table = [
            (Status::Queued, Some(ReadNothing), Some(ReadNothing), Some(Upload)),
            (Status::Saving, None, None, None),
            (Status::Importing, None, None, None),
            (Status::Active, Some(Read), Some(Read), None),
            (Status::Deactivated, None, Some(Read), None),
            (Status::Killed, None, None, None),
            (Status::PendingDelete, None, None, None),
            (Status::Deleted, None, None, None),
        ];
        for (status, user, root, write) in table {
            let ask = |is_write, is_root| open(status, Usage { is_write, is_root }).ok();
            assert_eq!(ask(false, false), user, "{status} by a user");
            assert_eq!(ask(false, true), root, "{status} by root");
            assert_eq!(ask(true, true), write, "{status} for writing");
        }
    }

    #[test]
    fn images_are_made_at_the_two_doors_only() {
        for status in Status::ALL {
            let is_door = status == Status::Active || status == Status::Queued;
            assert_eq!(create(Node::Folder(status)).is_ok(), is_door, "{status}");
        }
        for node in [Node::Root, Node::ById, Node::Tasks] {
            assert!(create(node).is_err(), "{node:?}");
        }
    }
}
