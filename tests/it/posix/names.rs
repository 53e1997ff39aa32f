//! Facts about names: making, renaming and removing them.

use libc::{EPERM, O_CREAT, O_RDONLY, O_RDWR, RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFREG};

use super::differences::Difference::{self, Names, NoOtherFiles, OthersNames};
use super::fact::Step::{
    self, Access, Link, Mkdir, Node, Open, Read, ReadLink, Rename, Rmdir, Symlink, Unlink,
};
use super::fact::{Fact, User};

/// All facts.
pub fn facts() -> Vec<Fact> {
    [removing(), renaming(), making(), long()].concat()
}

fn own(says: &str, steps: &[Step]) -> Fact {
    Fact::new(says, User::Owner, 0o644, steps)
}

fn removing() -> Vec<Fact> {
    let mut facts = vec![
        own("unlink", &[Unlink("f")]),
        own("unlink of what may not be written", &[Unlink("f")]),
        own("unlink twice", &[Unlink("f"), Unlink("f")]),
        own("unlink of what is not there", &[Unlink("g")]),
        own("unlink below what is not there", &[Unlink("absent/x")]),
        own("unlink below a file", &[Unlink("f/x")]),
        own("unlink and create", &[Unlink("f"), Open("f", O_CREAT | O_RDWR, 0o600)]),
        own("rmdir of a file", &[Rmdir("f")]),
        own("rmdir of what is not there", &[Rmdir("g")]),
        own("readlink of a file", &[ReadLink("f")]),
        own("readlink of a link", &[ReadLink("l")]),
        own("access to what is not there", &[Access("g", 0)]),
        own("access below a file", &[Access("f/x", 0)]),
        Fact::new("unlink by root", User::Root, 0o644, &[Unlink("f")]),
    ];
    for user in [User::Member, User::Stranger] {
        facts.push(
            Fact::new("unlink of another's file", user, 0o666, &[Unlink("f")])
                .refused(OthersNames, &[Err(libc::EACCES)]),
        );
    }
    facts
}

fn renaming() -> Vec<Fact> {
    let mut facts = vec![
        own("rename", &[Rename("f", "g", 0)]),
        own("rename to itself", &[Rename("f", "f", 0)]),
        own("rename and back", &[Rename("f", "g", 0), Rename("g", "f", 0)]),
        own("rename what is not there", &[Rename("g", "f", 0)]),
        own("rename below what is not there", &[Rename("f", "absent/x", 0)]),
        own("rename below a file", &[Rename("f", "f/x", 0)]),
        own("rename from below a file", &[Rename("f/x", "g", 0)]),
        own("rename to the folder", &[Rename("f", ".", 0)]),
        own("RENAME_NOREPLACE", &[Rename("f", "g", RENAME_NOREPLACE)]),
        own("RENAME_NOREPLACE of a name that is taken", &[Rename("f", "g", RENAME_NOREPLACE)])
            .other(),
        own("RENAME_EXCHANGE", &[Rename("f", "g", RENAME_EXCHANGE)])
            .other()
            .refused(Difference::RenameFlags, &[Err(libc::EINVAL)]),
        own(
            "flags that contradict each other",
            &[Rename("f", "g", RENAME_EXCHANGE | RENAME_NOREPLACE)],
        )
        .other(),
        own("flags that are not known", &[Rename("f", "g", 1 << 20)]),
        own("read what is renamed", &[Open("f", O_RDONLY, 0), Rename("f", "g", 0), Read(0, 10)]),
        Fact::new("rename by root", User::Root, 0o644, &[Rename("f", "g", 0)]),
    ];
    for user in [User::Member, User::Stranger] {
        facts.push(
            Fact::new("rename of another's file", user, 0o666, &[Rename("f", "g", 0)])
                .refused(OthersNames, &[Err(libc::EACCES)]),
        );
    }
    facts
}

fn making() -> Vec<Fact> {
    let refused = |says: &str, by, step: Step, errno| {
        Fact::new(says, by, 0o644, &[step]).refused(NoOtherFiles, &[Err(errno)])
    };
    vec![
        refused("link", User::Owner, Link("f", "g"), EPERM),
        refused("symlink", User::Owner, Symlink("f", "g"), EPERM),
        refused("mkdir", User::Owner, Mkdir("g"), EPERM),
        refused("mknod of a FIFO", User::Owner, Node("g", libc::S_IFIFO), EPERM),
        refused("mknod of a socket", User::Owner, Node("g", libc::S_IFSOCK), EPERM),
        refused("mknod of a device by root", User::Root, Node("g", libc::S_IFCHR), EPERM),
        refused("mknod of a disk by root", User::Root, Node("g", libc::S_IFBLK), EPERM),
        own("mknod of a device", &[Node("g", libc::S_IFCHR)]),
        own("mknod of a file", &[Node("g", S_IFREG)]),
        own("mknod of what is there", &[Node("f", S_IFREG)]),
        own("mknod of a FIFO that is there", &[Node("f", libc::S_IFIFO)]),
        own("mknod below a file", &[Node("f/x", S_IFREG)]),
        own("mknod below what is not there", &[Node("absent/x", S_IFREG)]),
        own("mkdir of what is there", &[Mkdir("f")]),
        own("mkdir below a file", &[Mkdir("f/x")]),
        own("symlink of what is there", &[Symlink("x", "f")]),
        own("symlink below a file", &[Symlink("x", "f/x")]),
        own("link of what is there", &[Link("f", "g")]).other(),
        own("link of what is not there", &[Link("g", "absent")]),
        own("link below a file", &[Link("f", "f/x")]),
    ]
}

fn long() -> Vec<Fact> {
    let create = |path| [Open(path, O_CREAT | O_RDWR, 0o644), Unlink(path)];
    let too_long = Err(libc::ENAMETOOLONG);
    vec![
        own("a name of 246 bytes", &create("#246")),
        own("a name of 247 bytes", &create("#247")).refused(Names, &[too_long, too_long]),
        own("a name of 255 bytes", &create("#255")).refused(Names, &[too_long, too_long]),
        own("a name of 256 bytes", &create("#256")),
        own("a path of 5000 bytes", &create("#5000")),
        own("rename to a name of 247 bytes", &[Rename("f", "#247", 0), Unlink("#247")])
            .refused(Names, &[too_long, too_long]),
        own("rename to a name of 256 bytes", &[Rename("f", "#256", 0)]),
        own("unlink of a name of 256 bytes", &[Unlink("#256")]),
        own("mkdir of a name of 256 bytes", &[Mkdir("#256")]),
        own("symlink of a name of 256 bytes", &[Symlink("x", "#256")]),
        own("link to a name of 256 bytes", &[Link("f", "#256")]),
        own("mknod of a name of 256 bytes", &[Node("#256", S_IFREG)]),
        own("access to a name of 256 bytes", &[Access("#256", 0)]),
    ]
}
