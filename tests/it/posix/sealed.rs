//! Facts about an active image, which nobody changes, and about a mount that is read-only.

use libc::{EACCES, ENOENT, EPERM, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

use super::differences::Difference::{
    Immutable, NoOtherFiles, OthersNames, Protected, Queued, Replaced,
};
use super::fact::Step::{
    Access, Allocate, Chmod, Chown, Close, Execute, Link, Links, Mkdir, Node, Open, Read, Rename,
    Resize, ResizeAt, Symlink, Sync, Times, Unlink, Write,
};
use super::fact::Time::{At, Now};
use super::fact::{Fact, Step, User};
use crate::support::BOB;

fn own(says: &str, steps: &[Step]) -> Fact {
    Fact::new(says, User::Owner, 0o644, steps)
}

/// All facts of an active image.
pub fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    for mode in [0, 0o400, 0o640, 0o604, 0o066] {
        for user in User::ALL {
            let steps = [Open("f", O_RDONLY, 0), Read(2, 40), Links];
            facts.push(Fact::new(format!("read with mode {mode:o}"), user, mode, &steps));
        }
    }
    for user in [User::Root, User::Owner] {
        for (says, step) in [
            ("open to write", Open("f", O_WRONLY, 0)),
            ("open to read and write", Open("f", O_RDWR, 0)),
            ("O_CREAT of what is there", Open("f", O_WRONLY | O_CREAT, 0o644)),
            ("truncate", ResizeAt("f", 3)),
            ("truncate to its length", ResizeAt("f", 10)),
        ] {
            facts.push(Fact::new(says, user, 0o666, &[step]).refused(Immutable, &[Err(EACCES)]));
        }
    }
    facts.extend([
        own("O_CREAT|O_EXCL of what is there", &[Open("f", O_WRONLY | O_CREAT | O_EXCL, 0)]),
        Fact::new("open to write by a stranger", User::Stranger, 0o644, &[Open("f", O_WRONLY, 0)]),
        Fact::new(
            "O_TRUNC by a stranger",
            User::Stranger,
            0o644,
            &[Open("f", O_WRONLY | O_TRUNC, 0)],
        ),
        Fact::new("truncate by a stranger", User::Stranger, 0o644, &[ResizeAt("f", 3)]),
        own("write to what is open to read", &[Open("f", O_RDONLY, 0), Write(0, b"x")]),
        own("cut what is open to read", &[Open("f", O_RDONLY, 0), Resize(3)]),
        own("fallocate of what is open to read", &[Open("f", O_RDONLY, 0), Allocate(0, 0, 50)]),
        own("sync what is open to read", &[Open("f", O_RDONLY, 0), Sync]),
        own("read beyond the end", &[Open("f", O_RDONLY, 0), Read(10, 4)]),
        own("read through a link", &[Open("l", O_RDONLY, 0), Read(0, 4)]),
        own("access to read", &[Access("f", 4)]),
        own("chmod", &[Chmod("f", 0o600)]),
        own("chmod with bits that are dropped", &[Chmod("f", 0o6755)]),
        Fact::new("chmod by a stranger", User::Stranger, 0o666, &[Chmod("f", 0o600)]),
        Fact::new("chown by root", User::Root, 0o644, &[Chown("f", Some(BOB), Some(BOB))]),
        own("chown by its owner", &[Chown("f", Some(BOB), None)]),
        own("utimensat", &[Times("f", Some(At(5, 6)), Some(At(7, 8)))]),
        own("utimensat to now", &[Times("f", Some(Now), Some(Now))]),
        Fact::new(
            "utimensat by a stranger",
            User::Stranger,
            0o644,
            &[Times("f", Some(Now), Some(Now))],
        ),
        own("rename", &[Rename("f", "g", 0)]),
        own("rename onto another", &[Rename("f", "g", 0)]).other(),
        own("rename onto another, with RENAME_NOREPLACE", &[Rename("f", "g", 1)]).other(),
        own("unlink", &[Unlink("f")]),
        own("read what is removed", &[Open("f", O_RDONLY, 0), Unlink("f"), Read(0, 10)]),
        own(
            "create, write and close",
            &[Open("g", O_CREAT | O_WRONLY, 0o640), Write(0, b"new"), Close],
        ),
        own("create, and look", &[Open("g", O_CREAT | O_WRONLY, 0o640), Access("g", 0)])
            .differs(Queued, &[Ok(0), Err(ENOENT)]),
        own("O_TRUNC, write and close", &[Open("f", O_RDWR | O_TRUNC, 0), Write(0, b"new"), Close])
            .differs(Replaced, &[Ok(0), Ok(3), Ok(0)]),
        own("link", &[Link("f", "g")]).refused(NoOtherFiles, &[Err(EPERM)]),
        own("mkdir", &[Mkdir("g")]).refused(NoOtherFiles, &[Err(EPERM)]),
        own("run a program", &[Execute("f")]),
        Fact::new("unlink of another's", User::Stranger, 0o666, &[Unlink("f")])
            .refused(OthersNames, &[Err(EACCES)]),
        Fact::new("rename of another's", User::Stranger, 0o666, &[Rename("f", "g", 0)])
            .refused(OthersNames, &[Err(EACCES)]),
        Fact::new("unlink of what is protected", User::Root, 0o1644, &[Unlink("f")])
            .refused(Protected, &[Err(EPERM)]),
        Fact::new(
            "O_TRUNC of what is protected",
            User::Owner,
            0o1644,
            &[Open("f", O_WRONLY | O_TRUNC, 0)],
        )
        .refused(Protected, &[Err(EPERM)]),
    ]);
    facts
}

/// All facts of a mount that is read-only.
pub fn read_only() -> Vec<Fact> {
    let mut facts = Vec::new();
    for user in [User::Root, User::Owner] {
        for (says, step) in [
            ("open to write", Open("f", O_WRONLY, 0)),
            ("open to read and write", Open("f", O_RDWR, 0)),
            ("O_TRUNC", Open("f", O_RDONLY | O_TRUNC, 0)),
            ("create", Open("g", O_CREAT | O_WRONLY, 0o644)),
            ("O_CREAT of what is there", Open("f", O_CREAT | O_RDONLY, 0o644)),
            ("O_CREAT|O_EXCL of what is there", Open("f", O_CREAT | O_EXCL, 0o644)),
            ("open to read", Open("f", O_RDONLY, 0)),
            ("truncate", ResizeAt("f", 3)),
            ("chmod", Chmod("f", 0o600)),
            ("chown", Chown("f", None, None)),
            ("utimensat", Times("f", Some(Now), Some(Now))),
            ("rename", Rename("f", "g", 0)),
            ("unlink", Unlink("f")),
            ("link", Link("f", "g")),
            ("symlink", Symlink("f", "g")),
            ("mkdir", Mkdir("g")),
            ("mknod of a file", Node("g", libc::S_IFREG)),
            ("mknod of a FIFO", Node("g", libc::S_IFIFO)),
            ("access to write", Access("f", 2)),
            ("access to read", Access("f", 4)),
        ] {
            facts.push(Fact::new(says, user, 0o644, &[step]));
        }
    }
    facts
}
