//! Disks that fail: each kind of operation, on each kind of file of a store, under each verb. Whoever asked gets an error
//! or has what he asked for; nothing that was answered is lost, nothing is half there; and when the fault is over the same
//! daemon goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::XattrFlags;

use crate::disk::machine::{Door, Machine, close, put, rename};
use crate::disk::{Cut, Op, State, When};
use crate::support::{attribute, eventually};

mod registry;
mod room;
mod silent;
mod tools;

/// What can fail, and on what.
const FAULTS: [(Op, &str); 21] = [
    (Op::Write, "/staging/"),
    (Op::Fsync, "/staging/"),
    (Op::Fsync, "/staging$"),
    (Op::Create, "/staging/"),
    (Op::Unlink, "/staging/"),
    (Op::Attributes, "/staging/"),
    (Op::Read, "/staging/"),
    (Op::Open, "/staging/"),
    (Op::Truncate, "/staging/"),
    (Op::Link, "/blobs/"),
    (Op::Fsync, "/blobs/"),
    (Op::Unlink, "/blobs/"),
    (Op::Read, "/blobs/"),
    (Op::Open, "/blobs/"),
    (Op::Create, "/manifests/"),
    (Op::Write, "/manifests/"),
    (Op::Fsync, "/manifests/"),
    (Op::Rename, "/manifests/"),
    (Op::Unlink, "/manifests/"),
    (Op::Write, "sps.db-wal"),
    (Op::Fsync, "sps.db-wal"),
];

/// Something that somebody asks of the mount, on images of its own.
struct Verb {
    name: &'static str,
    prepare: fn(&Path),
    work: fn(&Path) -> bool,
    /// What there is when it was done, or, otherwise, what there may be.
    check: fn(&Machine, bool),
}

const PIECE: usize = 50_000;

/// Puts an image there while nothing fails.
fn there(root: &Path, path: &str, content: &str) {
    put(&root.join(path), content, Door::New, PIECE).expect("uploaded");
    eventually("it is there", || root.join(path).exists());
}

fn content(machine: &Machine, path: &str) -> Option<String> {
    machine.tree().get(path).cloned()
}

fn is(machine: &Machine, path: &str, allowed: &[Option<&str>]) {
    let found = content(machine, path);
    assert!(allowed.contains(&found.as_deref()), "{path} is {found:?}: {:?}", machine.tree());
}

const VERBS: [Verb; 12] = [
    Verb {
        name: "create",
        prepare: |_| (),
        work: |root| std::fs::File::create(root.join("queued/x")).and_then(close).is_ok(),
        check: |machine, done| {
            let is_there = content(machine, "queued/x").is_some();
            assert!(is_there || !done, "it is gone");
        },
    },
    Verb {
        name: "restore",
        prepare: |root| {
            there(root, "active/x", "old");
            std::fs::remove_file(root.join("active/x")).expect("removed");
        },
        work: |root| rename(&root.join("pending_delete/x"), &root.join("active/x")).is_ok(),
        check: |machine, done| {
            is(machine, "active/x", &[Some("old"), none_unless(done)]);
            let is_removed = content(machine, "pending_delete/x").is_some();
            assert_eq!(is_removed, content(machine, "active/x").is_none());
        },
    },
    Verb {
        name: "sparse",
        prepare: |_| (),
        work: |root| put(&root.join("active/x"), "sparse", Door::New, PIECE).is_ok(),
        check: |machine, done| is(machine, "active/x", &[Some("sparse"), none_unless(done)]),
    },
    Verb {
        name: "upload",
        prepare: |_| (),
        work: |root| put(&root.join("active/x"), "new", Door::New, PIECE).is_ok(),
        check: |machine, done| is(machine, "active/x", &[Some("new"), none_unless(done)]),
    },
    Verb {
        name: "replace",
        prepare: |root| there(root, "active/x", "old"),
        work: |root| put(&root.join("active/x"), "new", Door::Replace, PIECE).is_ok(),
        check: |machine, done| {
            is(machine, "active/x", &[Some("new"), none_unless(done).or(Some("old"))]);
        },
    },
    Verb {
        name: "import",
        prepare: |root| there(root, "uploading/x", "staged"),
        work: |root| rename(&root.join("uploading/x"), &root.join("active/x")).is_ok(),
        check: |machine, _| {
            // What goes on in the background may fail: then it is queued, with the reason.
            is(machine, "active/x", &[Some("staged"), None]);
            let tree = machine.tree();
            let kept = ["active/x", "uploading/x", "queued/x"];
            assert!(kept.iter().any(|path| tree.contains_key(*path)), "it is nowhere: {tree:?}");
        },
    },
    Verb {
        name: "stage",
        prepare: |_| (),
        work: |root| put(&root.join("uploading/x"), "staged", Door::New, PIECE).is_ok(),
        check: |machine, done| {
            if done {
                is(machine, "uploading/x", &[Some("staged")]);
            }
        },
    },
    Verb {
        name: "remove",
        prepare: |root| there(root, "active/x", "old"),
        work: |root| std::fs::remove_file(root.join("active/x")).is_ok(),
        check: |machine, done| {
            is(machine, "active/x", &[None, Some("old").filter(|_| !done)]);
            let is_removed = content(machine, "pending_delete/x").is_some();
            assert_eq!(is_removed, content(machine, "active/x").is_none());
        },
    },
    Verb {
        name: "purge",
        prepare: |root| {
            there(root, "active/x", "old");
            std::fs::remove_file(root.join("active/x")).expect("removed");
        },
        work: |root| std::fs::remove_file(root.join("pending_delete/x")).is_ok(),
        check: |machine, done| {
            let is_there = content(machine, "pending_delete/x").is_some();
            assert!(!is_there || !done, "it is back");
        },
    },
    Verb {
        name: "attributes",
        prepare: |root| there(root, "active/x", "old"),
        work: |root| {
            let path = root.join("active/x");
            rustix::fs::setxattr(&path, "user.sps.tags", b"a", XattrFlags::empty()).is_ok()
        },
        check: |machine, done| {
            is(machine, "active/x", &[Some("old")]);
            let tags = attribute(&machine.path("active/x"), "tags").unwrap_or_default();
            assert!(tags == "a" || (tags.is_empty() && !done), "tags are {tags:?}");
        },
    },
    Verb {
        name: "rename",
        prepare: |root| there(root, "active/x", "old"),
        work: |root| rename(&root.join("active/x"), &root.join("active/y")).is_ok(),
        check: |machine, done| {
            let wanted = Some("old".to_owned());
            let before = content(machine, "active/x") == wanted;
            let after = content(machine, "active/y") == wanted;
            assert!(before != after && (after || !done), "{:?}", machine.tree());
        },
    },
    Verb {
        name: "read",
        prepare: |root| there(root, "active/x", "old"),
        work: |root| {
            let read = std::fs::read(root.join("active/x"));
            let is_right = |bytes: &Vec<u8>| *bytes == crate::disk::machine::content("old");
            assert!(read.as_ref().map_or(true, is_right), "other bytes were read");
            read.is_ok()
        },
        check: |machine, _| {
            // Data that could not be read is withheld.
            let tree = machine.tree();
            let is_there = tree.get("active/x").is_some_and(|found| found == "old");
            assert!(is_there || tree.contains_key("deactivated/x"), "{tree:?}");
        },
    },
];

/// Nothing may be there unless it was done.
fn none_unless(done: bool) -> Option<&'static str> {
    done.then_some("there")
}

/// Takes all away that a verb has left, so that the next one begins anew.
fn clear(machine: &Machine) {
    let is_clear = || {
        let tree = machine.tree();
        let left: Vec<&String> = tree
            .keys()
            .filter(|path| !path.starts_with("deleted/") && *path != "active/kept")
            .collect();
        for path in &left {
            // What is on its way goes later.
            let _ = std::fs::remove_file(machine.path(path));
        }
        left.is_empty()
    };
    eventually("all is removed", is_clear);
}

/// What a machine begins with.
fn base() -> State {
    let mut machine = Machine::boot(State::default(), &[]);
    there(&machine.root(), "active/kept", "kept");
    machine.stop();
    machine.disk.left(Cut::Keep, 0)
}

/// A verb with a fault, and the same verb when that is over.
fn attempt(machine: &Machine, verb: &Verb, (op, part, when, errno): (Op, &str, When, i32)) -> u64 {
    let root = machine.root();
    (verb.prepare)(&root);
    machine.disk.fail(op, part, when, errno);
    let done = (verb.work)(&root);
    // What goes on in the background may fail too, and is tried again.
    let began = Instant::now();
    eventually("it is met, or not", || {
        machine.disk.hits() > 0 || began.elapsed() > Duration::from_millis(60)
    });
    let hits = machine.disk.heal();
    machine.settle();
    (verb.check)(machine, done);
    is(machine, "active/kept", &[Some("kept")]);
    clear(machine);
    hits
}

fn each_fault(base: &State, faults: &[(Op, &str)], when: When, errno: i32) -> u64 {
    let mut hits = 0;
    let mut machine = Machine::boot(base.clone(), &[]);
    for (op, part) in faults {
        for verb in &VERBS {
            let told = Told(format!("{} with {op:?} {part} {when:?} {errno}", verb.name));
            hits += attempt(&machine, verb, (*op, part, when, errno));
            drop(told);
        }
    }
    // And all of it works.
    for verb in &VERBS {
        (verb.prepare)(&machine.root());
        assert!((verb.work)(&machine.root()), "{} fails when nothing does", verb.name);
        machine.settle();
        (verb.check)(&machine, true);
        clear(&machine);
    }
    there(&machine.root(), "active/last", "small");
    let state = machine.disk.state();
    machine.stop();
    machine.audit();
    // Had the power been cut before that, nothing would be lost that was answered, whatever had failed.
    let mut after = Machine::boot(state.left(Cut::Lose, 0), &[]);
    after.settle();
    is(&after, "active/last", &[Some("small")]);
    is(&after, "active/kept", &[Some("kept")]);
    after.stop();
    after.audit();
    hits
}

/// Says where it was when a check fails.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}", self.0);
        }
    }
}

/// Every fault under every verb, on a few machines at a time: most of it is waiting for what is tried again.
fn all_faults(kinds: &[(When, i32)]) {
    /// How many faults a machine has.
    const FAULTS_A_MACHINE: usize = 4;
    let base = base();
    let hits: u64 = std::thread::scope(|scope| {
        let mut runs = Vec::new();
        for (when, errno) in kinds {
            for faults in FAULTS.chunks(FAULTS_A_MACHINE) {
                let base = &base;
                runs.push(scope.spawn(move || each_fault(base, faults, *when, *errno)));
            }
        }
        runs.into_iter().map(|run| run.join().expect("no panic")).sum()
    });
    eprintln!("{hits} operations failed");
    assert!(hits > 150, "only {hits} faults were met");
}

// semantics: never-stuck
#[test]
fn whatever_fails_once_is_told_or_done_and_the_daemon_goes_on() {
    all_faults(&[
        (When::Nth(1), libc::EIO),
        (When::Nth(2), libc::EIO),
        (When::Nth(1), libc::ENOSPC),
    ]);
}

// semantics: never-stuck
#[test]
fn whatever_fails_for_long_is_told_or_done_and_the_daemon_goes_on() {
    all_faults(&[(When::Always, libc::EIO), (When::Always, libc::ENOSPC)]);
}
