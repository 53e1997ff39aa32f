//! Facts about open(2): who may, with which flags, and what a descriptor lets do.

use libc::{
    O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE,
    O_TRUNC, O_WRONLY,
};

use super::differences::Difference::{NoOtherFiles, Removed, Trash};
use super::fact::Step::{Append, Close, Execute, Links, Open, Read, Resize, Sync, Unlink, Write};
use super::fact::{Fact, Step, User};

/// All facts.
pub fn facts() -> Vec<Fact> {
    [permissions(), flags(), descriptors(), creation(), programs()].concat()
}

/// Owner, group and others, and root, with each mode that tells them apart.
fn permissions() -> Vec<Fact> {
    let mut facts = Vec::new();
    for mode in [0, 0o200, 0o400, 0o640, 0o060, 0o046, 0o604, 0o602] {
        for user in User::ALL {
            for (access, says) in [(O_RDONLY, "read"), (O_WRONLY, "write"), (O_RDWR, "both")] {
                let says = format!("open to {says} with mode {mode:o}");
                facts.push(Fact::new(says, user, mode, &[Open("f", access, 0)]));
            }
        }
    }
    facts
}

fn flags() -> Vec<Fact> {
    let cases: [(&str, &str, i32); 18] = [
        ("O_CREAT|O_EXCL of what is there", "f", O_CREAT | O_EXCL | O_WRONLY),
        ("O_CREAT|O_EXCL of a link", "l", O_CREAT | O_EXCL | O_WRONLY),
        ("O_CREAT of what is there", "f", O_CREAT | O_RDWR),
        ("O_TRUNC", "f", O_WRONLY | O_TRUNC),
        ("O_CREAT|O_TRUNC", "f", O_WRONLY | O_CREAT | O_TRUNC),
        ("O_RDWR|O_TRUNC", "f", O_RDWR | O_TRUNC),
        ("O_NOFOLLOW of a file", "f", O_RDONLY | O_NOFOLLOW),
        ("O_NOFOLLOW of a link", "l", O_RDONLY | O_NOFOLLOW),
        ("O_PATH of a link", "l", O_PATH | O_NOFOLLOW),
        ("through a link", "l", O_RDWR),
        ("O_DIRECTORY of a file", "f", O_RDONLY | O_DIRECTORY),
        ("what is not there", "g", O_RDONLY),
        ("below what is not there", "absent/x", O_RDONLY),
        ("below a file", "f/x", O_RDONLY),
        ("O_CREAT below a file", "f/x", O_CREAT | O_WRONLY),
        ("a folder, to write", ".", O_WRONLY),
        ("a folder, to read and write", ".", O_RDWR),
        ("a folder with O_CREAT", ".", O_RDONLY | O_CREAT),
    ];
    let fact = |(says, path, flags): (&str, &'static str, i32)| {
        Fact::new(format!("open: {says}"), User::Owner, 0o644, &[Open(path, flags, 0o644)])
    };
    let mut facts: Vec<Fact> = cases.into_iter().map(fact).collect();
    // Who may not write may not truncate either.
    for user in [User::Root, User::Member, User::Stranger] {
        for mode in [0o644, 0o664, 0o646] {
            let says = format!("O_TRUNC with mode {mode:o}");
            facts.push(Fact::new(says, user, mode, &[Open("f", O_WRONLY | O_TRUNC, 0)]));
        }
    }
    let temporary = [Open(".", O_TMPFILE | O_RDWR, 0o600)];
    facts.push(
        Fact::new("O_TMPFILE", User::Owner, 0o644, &temporary)
            .refused(NoOtherFiles, &[Err(libc::EOPNOTSUPP)]),
    );
    facts
}

fn descriptors() -> Vec<Fact> {
    let own = |says: &str, steps: &[Step]| Fact::new(says, User::Owner, 0o644, steps);
    vec![
        own("write to what is open to read", &[Open("f", O_RDONLY, 0), Write(0, b"x")]),
        own("read what is open to write", &[Open("f", O_WRONLY, 0), Read(0, 4)]),
        own("cut what is open to read", &[Open("f", O_RDONLY, 0), Resize(3)]),
        own("read with O_PATH", &[Open("f", O_PATH, 0), Read(0, 4)]),
        own("sync what is open to read", &[Open("f", O_RDONLY, 0), Sync]),
        own("read at the end", &[Open("f", O_RDONLY, 0), Read(10, 4)]),
        own("read across the end", &[Open("f", O_RDONLY, 0), Read(7, 40)]),
        own("read far beyond the end", &[Open("f", O_RDONLY, 0), Read(1 << 40, 4)]),
        own("write within", &[Open("f", O_WRONLY, 0), Write(3, b"xyz")]),
        own("write across the end", &[Open("f", O_WRONLY, 0), Write(8, b"xyz")]),
        own("write beyond the end", &[Open("f", O_WRONLY, 0), Write(5000, b"xyz")]),
        own("write nothing", &[Open("f", O_WRONLY, 0), Write(5000, b"")]),
        own("O_APPEND", &[Open("f", O_WRONLY | O_APPEND, 0), Append(b"ab"), Append(b"cd")]),
        own("O_APPEND and a place", &[Open("f", O_RDWR | O_APPEND, 0), Write(2, b"ab")]),
        own("O_APPEND and read", &[Open("f", O_RDWR | O_APPEND, 0), Append(b"ab"), Read(8, 9)]),
        own("O_TRUNC and read", &[Open("f", O_RDWR | O_TRUNC, 0), Read(0, 9)]),
        own("O_TRUNC and write", &[Open("f", O_RDWR | O_TRUNC, 0), Write(2, b"ab")]),
        own("write and sync", &[Open("f", O_RDWR, 0), Write(2, b"ab"), Sync]),
        own("write what is closed", &[Open("f", O_RDWR, 0), Close, Write(2, b"ab")]),
        own("a file has one link", &[Open("f", O_RDONLY, 0), Links]),
        own("read what is removed", &[Open("f", O_RDONLY, 0), Unlink("f"), Read(0, 10)]),
        own("write what is removed", &[Open("f", O_RDWR, 0), Unlink("f"), Write(0, b"x"), Links])
            .differs(Removed, &[Ok(0), Ok(0), Err(libc::ECANCELED), Ok(1)]),
        own("links of what is removed", &[Open("f", O_RDONLY, 0), Unlink("f"), Links])
            .differs(Trash, &[Ok(0), Ok(0), Ok(1)]),
    ]
}

fn creation() -> Vec<Fact> {
    let mut facts = Vec::new();
    for mode in [0o644, 0o755, 0o777, 0o600, 0o400, 0, 0o1644, 0o4755, 0o2755] {
        for user in [User::Root, User::Owner] {
            let steps = [Open("g", O_CREAT | O_EXCL | O_RDWR, mode), Write(0, b"new")];
            facts.push(Fact::new(format!("create with mode {mode:o}"), user, 0o644, &steps));
        }
    }
    let steps = [Open("g", O_CREAT | O_RDONLY, 0o644), Write(0, b"x"), Close];
    facts.push(Fact::new("create to read", User::Stranger, 0o644, &steps));
    let steps = [Open("f", O_CREAT | O_EXCL, 0), Write(0, b"x")];
    let taken = Fact::new("create what is there, and write", User::Owner, 0o644, &steps);
    facts.push(taken);
    facts
}

/// What runs is not written, and what is written does not run.
fn programs() -> Vec<Fact> {
    let own = |says: &str, steps: &[Step]| Fact::new(says, User::Owner, 0o755, steps).program();
    vec![
        own("write a program that runs", &[Execute("f"), Open("f", O_WRONLY, 0)]),
        own("O_TRUNC of a program that runs", &[Execute("f"), Open("f", O_WRONLY | O_TRUNC, 0)]),
        own("truncate a program that runs", &[Execute("f"), Step::ResizeAt("f", 3)]),
        own("read a program that runs", &[Execute("f"), Open("f", O_RDONLY, 0), Read(0, 4)]),
        own("remove a program that runs", &[Execute("f"), Unlink("f")]),
        own("run a program that is written", &[Open("f", O_RDWR, 0), Execute("f")]),
        Fact::new("run a program without its bit", User::Root, 0o644, &[Execute("f")]).program(),
    ]
}
