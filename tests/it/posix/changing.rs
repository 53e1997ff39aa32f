//! Facts about what is changed of a file: its length, mode, owner and times.

use libc::{O_RDONLY, O_RDWR, O_WRONLY};

use super::fact::Step::{
    Access, Allocate, Chmod, ChmodOpen, Chown, ChownLink, Open, Resize, ResizeAt, Times, TimesOpen,
};
use super::fact::Time::{At, Now};
use super::fact::{Fact, Step, User};
use crate::support::{ALICE, BOB};

const KEEP_SIZE: u32 = libc::FALLOC_FL_KEEP_SIZE as u32;
const PUNCH: u32 = KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE as u32;

/// All facts.
pub fn facts() -> Vec<Fact> {
    [lengths(), modes(), owners(), times()].concat()
}

fn own(says: &str, steps: &[Step]) -> Fact {
    Fact::new(says, User::Owner, 0o644, steps)
}

fn lengths() -> Vec<Fact> {
    let mut facts = Vec::new();
    for length in [0, 4, 10, 5000, 1 << 32, -1, i64::MIN] {
        let steps = [Open("f", O_RDWR, 0), Resize(length)];
        facts.push(own(&format!("ftruncate to {length}"), &steps));
        facts.push(own(&format!("truncate to {length}"), &[ResizeAt("f", length)]));
    }
    for (mode, user) in [(0o644, User::Stranger), (0o646, User::Stranger), (0o444, User::Owner)] {
        let says = format!("truncate with mode {mode:o}");
        facts.push(Fact::new(says, user, mode, &[ResizeAt("f", 3)]));
    }
    // What was opened may be cut, whatever its mode is then.
    let steps = [Open("f", O_RDWR, 0), ChmodOpen(0), Resize(3)];
    facts.push(own("ftruncate of what may not be written any more", &steps));
    for (says, path) in [
        ("a folder", "."),
        ("what is not there", "g"),
        ("below a file", "f/x"),
        ("through a link", "l"),
    ] {
        facts.push(own(&format!("truncate: {says}"), &[ResizeAt(path, 3)]));
    }
    for (says, how, offset, length) in [
        ("beyond the end", 0, 0, 5000),
        ("within", 0, 2, 4),
        ("nothing", 0, 2, 0),
        ("a negative place", 0, u64::MAX, 4),
        ("with the size kept", KEEP_SIZE, 0, 5000),
        ("a hole", PUNCH, 2, 4),
        ("a hole beyond the end", PUNCH, 5000, 4),
        ("a hole without the size kept", libc::FALLOC_FL_PUNCH_HOLE as u32, 2, 4),
    ] {
        let steps = [Open("f", O_RDWR, 0), Allocate(how, offset, length)];
        facts.push(own(&format!("fallocate: {says}"), &steps));
    }
    let steps = [Open("f", O_RDONLY, 0), Allocate(0, 0, 5000)];
    facts.push(own("fallocate of what is open to read", &steps));
    facts
}

fn modes() -> Vec<Fact> {
    let mut facts = Vec::new();
    for mode in [0, 0o111, 0o4755, 0o2755, 0o6777, 0o1644, 0o777] {
        facts.push(own(&format!("chmod {mode:o}"), &[Chmod("f", mode)]));
        let steps = [Open("f", O_RDONLY, 0), ChmodOpen(mode)];
        facts.push(own(&format!("fchmod {mode:o}"), &steps));
    }
    for user in [User::Root, User::Member, User::Stranger] {
        facts.push(Fact::new("chmod of another's file", user, 0o666, &[Chmod("f", 0o600)]));
    }
    for path in ["g", "f/x", "absent/x", "l"] {
        facts.push(own(&format!("chmod of {path}"), &[Chmod(path, 0o600)]));
    }
    let folder = Fact::new("chmod of the folder", User::Root, 0o644, &[Chmod(".", 0o755)]);
    facts.push(folder);
    for (what, says) in [(libc::R_OK, "read"), (libc::W_OK, "write"), (libc::X_OK, "run")] {
        for user in User::ALL {
            for mode in [0o640, 0o751] {
                let says = format!("access to {says} with mode {mode:o}");
                let steps = [Access("f", what.cast_unsigned())];
                facts.push(Fact::new(says, user, mode, &steps));
            }
        }
    }
    facts
}

fn owners() -> Vec<Fact> {
    let (a, b, none) = (Some(ALICE), Some(BOB), None);
    let mut facts = Vec::new();
    for (says, user, uid, gid) in [
        ("by root", User::Root, b, b),
        ("of the group by root", User::Root, none, b),
        ("of nothing by root", User::Root, none, none),
        ("to another by its owner", User::Owner, b, none),
        ("to himself by its owner", User::Owner, a, a),
        ("of the group to one that is not his", User::Owner, none, b),
        ("of the group to his", User::Owner, none, a),
        ("by a stranger", User::Stranger, b, b),
        ("of nothing by a stranger", User::Stranger, none, none),
        ("by one of the group", User::Member, none, a),
    ] {
        let steps = [Chown("f", uid, gid)];
        facts.push(Fact::new(format!("chown {says}"), user, 0o644, &steps));
        let steps = [ChownLink("f", uid, gid)];
        facts.push(Fact::new(format!("lchown {says}"), user, 0o644, &steps));
    }
    for path in ["g", "f/x", "l"] {
        let says = format!("chown of {path}");
        facts.push(Fact::new(says, User::Root, 0o644, &[Chown(path, b, b)]));
    }
    let link = [ChownLink("l", b, b)];
    facts.push(Fact::new("lchown of a link", User::Root, 0o644, &link));
    facts.push(Fact::new(
        "lchown of the folder by root",
        User::Root,
        0o644,
        &[Chown(".", none, none)],
    ));
    facts.push(Fact::new("chown of the folder", User::Stranger, 0o644, &[Chown(".", b, none)]));
    facts
}

fn times() -> Vec<Fact> {
    let moments = [
        ("both", Some(At(12_345, 0)), Some(At(67_890, 0))),
        ("the second later than the first", Some(At(67_890, 0)), Some(At(12_345, 0))),
        ("to the nanosecond", Some(At(5, 987_654_321)), Some(At(6, 123_456_789))),
        ("the time of access alone", Some(At(12_345, 0)), None),
        ("the time of change alone", None, Some(At(12_345, 0))),
        ("none", None, None),
        ("now", Some(Now), Some(Now)),
        ("after 2038", Some(At(1 << 31, 0)), Some(At(1 << 31, 0))),
        ("after 2106", Some(At(1 << 32, 0)), Some(At(1 << 32, 0))),
        ("before 1970", Some(At(-5, 0)), Some(At(-5, 0))),
        ("too many nanoseconds", Some(At(1, 1_000_000_000)), Some(At(1, 0))),
    ];
    let mut facts = Vec::new();
    for (says, accessed, modified) in moments {
        let says = format!("utimensat: {says}");
        facts.push(own(&says, &[Times("f", accessed, modified)]));
        let steps = [Open("f", O_WRONLY, 0), TimesOpen(accessed, modified)];
        facts.push(own(&says.replace("utimensat", "futimens"), &steps));
    }
    for (mode, user) in [
        (0o644, User::Root),
        (0o444, User::Owner),
        (0o646, User::Stranger),
        (0o664, User::Member),
        (0o644, User::Stranger),
    ] {
        for (says, time) in [("now", Some(Now)), ("a moment", Some(At(12_345, 0)))] {
            let says = format!("utimensat to {says} with mode {mode:o}");
            facts.push(Fact::new(says, user, mode, &[Times("f", time, time)]));
        }
    }
    for path in ["g", "f/x", "l"] {
        let time = Some(At(12_345, 0));
        facts.push(own(&format!("utimensat of {path}"), &[Times(path, time, time)]));
    }
    facts
}
