//! What was once lost by a power cut, each at the moment at which it was lost.

use std::fs::File;
use std::io::Write;

use super::base;
use crate::disk::machine::{Door, Machine, close, content, put, rename};
use crate::disk::{Cut, Op, State, Stop, When};
use crate::support::{attribute, count_files, eventually, names_in};

/// Checks what comes up from all that can be left.
fn each_left(state: &State, check: impl Fn(&Machine, String)) {
    let cuts = [(Cut::Lose, 0), (Cut::Keep, 0), (Cut::Ordered, 0), (Cut::Ordered, 1)];
    for (cut, seed) in cuts.into_iter().chain((0..6).map(|seed| (Cut::Scattered, seed))) {
        let mut machine = Machine::boot(state.left(cut, seed), &[]);
        machine.settle();
        check(&machine, format!("{cut:?} {seed}: {:?}", machine.tree()));
        machine.stop();
        machine.audit();
    }
}

/// A sync that fails makes the kernel take the pages for clean: what is in the log before them is lost, unless it is written
/// again.
#[test]
fn after_a_failed_sync_of_the_log_what_is_answered_survives() {
    for nth in 1..=3 {
        let mut machine = Machine::boot(base(), &[]);
        machine.disk.fail(Op::Fsync, "sps.db-wal", When::Nth(nth), libc::EIO);
        let mut told = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            let path = machine.path(&format!("active/{name}"));
            if put(&path, "small", Door::New, 1 << 20).is_ok() {
                told.push(format!("active/{name}"));
            }
        }
        let hits = machine.disk.heal();
        assert!(hits == 1 && told.len() >= 4, "{hits} {told:?}");
        machine.cut();
        each_left(&machine.disk.state(), |machine, found| {
            let tree = machine.tree();
            let lost =
                told.iter().find(|path| tree.get(*path).map(String::as_str) != Some("small"));
            assert_eq!(lost, None, "sync {nth}, told {told:?}, {found}");
        });
    }
}

#[test]
fn after_a_checkpoint_that_failed_what_is_answered_survives() {
    for (op, errno) in [(Op::Fsync, libc::EIO), (Op::Write, libc::EIO), (Op::Write, libc::ENOSPC)] {
        let mut machine = Machine::boot(base(), &[]);
        for name in ["a", "b"] {
            put(&machine.path(&format!("active/{name}")), "small", Door::New, 1 << 20)
                .expect("closed");
        }
        machine.disk.fail(op, "sps.db$", When::Nth(1), errno);
        // Many small commits, until the log is moved to the table.
        let path = machine.path("active/a");
        let round = std::cell::Cell::new(0);
        eventually("a checkpoint fails", || {
            for _ in 0..20 {
                let value = format!("{}", round.replace(round.get() + 1));
                let empty = rustix::fs::XattrFlags::empty();
                let set = rustix::fs::setxattr(&path, "user.sps.tags", value.as_bytes(), empty);
                set.expect("a checkpoint is nobody's commit");
            }
            machine.disk.hits() > 0
        });
        machine.disk.heal();
        put(&machine.path("active/c"), "small", Door::New, 1 << 20).expect("closed");
        machine.cut();
        let last = format!("{}", round.get() - 1);
        each_left(&machine.disk.state(), |machine, found| {
            for path in ["active/a", "active/b", "active/c"] {
                assert_eq!(machine.tree().get(path).map(String::as_str), Some("small"), "{found}");
            }
            assert_eq!(attribute(&machine.path("active/a"), "tags"), Some(last.clone()), "{found}");
        });
    }
}

/// A file has its new name in one directory and loses the old one in another: a cut keeps either of that.
#[test]
fn an_import_loses_nothing_while_its_data_gets_its_name() {
    for (op, part) in
        [(Op::Fsync, "/blobs/"), (Op::Unlink, "/staging/"), (Op::Write, "/manifests/")]
    {
        let mut machine = Machine::boot(base(), &[]);
        machine.disk.stop_at(op, part, Stop::Cut);
        let from = machine.path("uploading/staged");
        let told = rename(&from, &machine.path("active/staged")).is_ok();
        eventually("the cut", || machine.disk.is_off());
        machine.cut();
        each_left(&machine.disk.state(), |machine, found| {
            let tree = machine.tree();
            let is_there = |path| tree.get(path).map(String::as_str) == Some("staged");
            let is_kept = is_there("active/staged") || (!told && is_there("uploading/staged"));
            assert!(is_kept, "cut at {op:?} {part}, told {told}, {found}");
        });
    }
}

/// A disk that is so slow that `mv` answers before the data is on it.
#[test]
fn an_import_that_was_answered_on_a_slow_disk_has_its_data() {
    let mut machine = Machine::boot(base(), &[]);
    put(&machine.path("uploading/more"), "new", Door::New, 50_000).expect("closed");
    machine.disk.stop_at(Op::Fsync, "/", Stop::Freeze);
    let (from, to) = (machine.path("uploading/more"), machine.path("active/more"));
    let renaming = std::thread::spawn(move || rename(&from, &to).is_ok());
    eventually("it waits for the disk", || machine.disk.is_frozen() || renaming.is_finished());
    let began = std::time::Instant::now();
    eventually("it is answered, or not", || {
        renaming.is_finished() || began.elapsed() > std::time::Duration::from_millis(600)
    });
    let was_answered = renaming.is_finished();
    machine.cut();
    let told = renaming.join().expect("no panic") && was_answered;
    each_left(&machine.disk.state(), |machine, found| {
        let tree = machine.tree();
        let is_active = tree.get("active/more").map(String::as_str);
        assert!(matches!(is_active, Some("new") | None), "half of it is active, {found}");
        assert!(is_active.is_some() || !told, "it was answered and is gone, {found}");
        // Its close was answered.
        let is_staged = tree.get("uploading/more").map(String::as_str) == Some("new");
        assert!(is_active.is_some() || is_staged, "what was closed is gone, {found}");
    });
}

/// The first start of a store, cut at any moment, leaves nothing that the next one stumbles over.
#[test]
fn whatever_is_left_of_a_first_start_is_no_hindrance_for_the_next() {
    let mut machine = Machine::with(State::default(), &[]);
    machine.disk.stop_at(Op::Fsync, "sps.db-journal", Stop::Cut);
    machine.start().expect_err("the power is cut");
    let mut moments = vec![machine.disk.state()];
    for (op, part) in [(Op::Unlink, "sps.db-journal"), (Op::Fsync, "sps.db-wal")] {
        let mut machine = Machine::with(State::default(), &[]);
        machine.disk.stop_at(op, part, Stop::Cut);
        machine.start().expect_err("the power is cut");
        moments.push(machine.disk.state());
    }
    for state in moments {
        each_left(&state, |machine, found| {
            assert_eq!(names_in(&machine.path("active")).len(), 0, "{found}");
            put(&machine.path("active/x"), "small", Door::New, 1 << 20).expect("it works");
            assert_eq!(count_files(&machine.store().join("blobs")), 1);
        });
    }
}

/// A sync that its writer asked for and that failed: the next one, at the close, would answer well and write nothing.
#[test]
fn a_failed_sync_is_not_forgotten_by_the_close_that_follows() {
    for folder in ["active", "uploading"] {
        let mut machine = Machine::boot(base(), &[]);
        let path = machine.path(&format!("{folder}/x"));
        let mut file = File::create(&path).expect("created");
        file.write_all(&content("new")).expect("written");
        machine.disk.fail(Op::Fsync, "/staging/", When::Nth(1), libc::EIO);
        file.sync_all().expect_err("it fails");
        assert_eq!(machine.disk.heal(), 1);
        let closed = close(file);
        assert_eq!(closed.expect_err("it has failed").raw_os_error(), Some(libc::EIO));
        machine.settle();
        if folder == "uploading" {
            rename(&path, &machine.path("active/x")).expect_err("a part of it may be lost");
            put(&path, "new", Door::Replace, 50_000).expect("written anew");
            rename(&path, &machine.path("active/x")).expect("taken in");
            machine.settle();
        }
        machine.cut();
        let wanted = if folder == "uploading" { Some("new") } else { None };
        each_left(&machine.disk.state(), |machine, found| {
            assert_eq!(machine.tree().get("active/x").map(String::as_str), wanted, "{found}");
        });
    }
}

#[test]
fn what_could_not_be_synced_at_its_close_is_not_taken_in() {
    let mut machine = Machine::boot(base(), &[]);
    machine.disk.fail(Op::Fsync, "/staging/", When::Always, libc::EIO);
    let path = machine.path("uploading/x");
    put(&path, "new", Door::New, 50_000).expect_err("it can't be synced");
    machine.disk.heal();
    eventually("its last close is through", || {
        let renamed = std::fs::rename(&path, machine.path("active/x"));
        renamed.is_err_and(|error| error.raw_os_error() == Some(libc::EIO))
    });
    machine.cut();
    each_left(&machine.disk.state(), |machine, found| {
        assert_eq!(machine.tree().get("active/x"), None, "{found}");
    });
}

/// What `fsync` has answered is there, with its name, though nobody has closed the file.
#[test]
fn a_staged_file_that_was_synced_is_there_though_it_was_never_closed() {
    let mut machine = Machine::boot(base(), &[]);
    let mut file = File::create(machine.path("uploading/x")).expect("created");
    file.write_all(&content("new")).expect("written");
    file.sync_all().expect("synced");
    machine.cut();
    drop(file);
    each_left(&machine.disk.state(), |machine, found| {
        assert_eq!(machine.tree().get("uploading/x").map(String::as_str), Some("new"), "{found}");
    });
}

/// What need not be durable when it is answered is so when the folder has been synced.
#[test]
fn what_was_changed_before_the_sync_of_a_folder_survives() {
    let mut machine = Machine::boot(base(), &[]);
    put(&machine.path("active/a"), "small", Door::New, 1 << 20).expect("closed");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(machine.path("active/a"), mode).expect("chmod");
    File::open(machine.path("active")).and_then(|folder| folder.sync_all()).expect("synced");
    machine.cut();
    each_left(&machine.disk.state(), |machine, found| {
        let about = std::fs::metadata(machine.path("active/a")).expect("there");
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&about) & 0o777, 0o600, "{found}");
    });
}
