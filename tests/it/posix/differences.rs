//! By what a file of a mount differs from a local one on purpose.

/// A difference that facts may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    StatusTime,
    AccessTime,
    FolderTime,
    SetId,
    OthersNames,
    Names,
    Removed,
    Trash,
    RenameFlags,
    NoOtherFiles,
    Folders,
    Immutable,
    Replaced,
    Protected,
    Queued,
}

/// Each with what is said of it, and the rule of docs/semantics.md that says so.
pub const DIFFERENCES: [(Difference, &str, &str); 15] = [
    (
        Difference::StatusTime,
        "its `ctime` is when its status last changed: writing, `chmod` and `chown` leave it",
        "ls-shows",
    ),
    (Difference::AccessTime, "no time of access is kept: `atime` is `mtime`", "local-files"),
    (Difference::FolderTime, "the time of its folder stays when names come and go", "local-files"),
    (Difference::SetId, "set-user-ID and set-group-ID bits are dropped", "no-setid"),
    (
        Difference::OthersNames,
        "in a folder that all may write, only root and its owner remove, rename or replace it: `EACCES`",
        "owner-governs",
    ),
    (Difference::Names, "its name has at most 246 bytes, and keeps to the rules", "names"),
    (
        Difference::Removed,
        "when it is removed, its writer's next write fails: `ECANCELED`",
        "rm-cuts-writer",
    ),
    (
        Difference::Trash,
        "when its name is removed the image goes on, in another folder: it still has a link",
        "rm-queued",
    ),
    (Difference::RenameFlags, "two names are not exchanged: `EINVAL`", "rename-flags"),
    (
        Difference::NoOtherFiles,
        "only regular files are made: `EPERM` for folders, links, devices, FIFOs",
        "no-other-files",
    ),
    (Difference::Folders, "`chmod`, `chown` and `touch` of a folder do nothing", "folders-ignore"),
    (Difference::Immutable, "it is not written, whatever its mode: `EACCES`", "active-immutable"),
    (
        Difference::Replaced,
        "opened with `O_TRUNC` it is replaced by a new image",
        "replace-truncate",
    ),
    (
        Difference::Protected,
        "with the sticky bit it is not removed or renamed out of its status: `EPERM`",
        "protected",
    ),
    (Difference::Queued, "what is made in `active/` is queued until it has data", "create-queues"),
];
