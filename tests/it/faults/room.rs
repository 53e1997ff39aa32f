//! Disks that fill up, that are read-only for a while, and that fail for long.

use super::{base, is, there};
use crate::disk::machine::{Door, Machine, put, rename};
use crate::disk::{Cut, Op, When};
use crate::support::{eventually, names_in};

// semantics: full-disk
#[test]
fn a_store_that_fills_up_goes_on_when_there_is_room_again() {
    let mut machine = Machine::boot(base(), &[]);
    there(&machine.root(), "uploading/staged", "staged");
    machine.disk.leave_room(100_000);
    for name in ["a", "b", "c"] {
        let told = put(&machine.path(&format!("active/{name}")), "big", Door::New, 50_000);
        assert_eq!(told.expect_err("full").raw_os_error(), Some(libc::ENOSPC));
        is(&machine, &format!("active/{name}"), &[None]);
    }
    let told = put(&machine.path("active/kept"), "big", Door::Replace, 1 << 20);
    assert_eq!(told.expect_err("full").raw_os_error(), Some(libc::ENOSPC));
    is(&machine, "active/kept", &[Some("kept")]);
    // Nothing at all is free: what is there can be removed all the same.
    machine.disk.leave_room(0);
    machine.settle();
    for name in names_in(&machine.path("killed")) {
        let killed = machine.path("killed").join(name);
        std::fs::remove_file(killed).expect("removed on a full disk");
    }
    is(&machine, "uploading/staged", &[Some("staged")]);
    machine.disk.set_capacity(1 << 30);
    put(&machine.path("active/a"), "big", Door::New, 1 << 20).expect("room again");
    rename(&machine.path("uploading/staged"), &machine.path("active/staged")).expect("too");
    machine.settle();
    is(&machine, "active/a", &[Some("big")]);
    is(&machine, "active/staged", &[Some("staged")]);
    machine.stop();
    machine.audit();
}

#[test]
fn a_store_below_which_the_disk_is_read_only_reads_and_goes_on_when_it_is_writable() {
    let mut machine = Machine::boot(base(), &[]);
    there(&machine.root(), "active/x", "old");
    machine.disk.set_read_only(true);
    put(&machine.path("active/y"), "new", Door::New, 50_000).expect_err("read-only");
    put(&machine.path("active/x"), "new", Door::Replace, 50_000).expect_err("read-only");
    std::fs::remove_file(machine.path("active/x")).expect_err("read-only");
    std::fs::rename(machine.path("active/x"), machine.path("active/z")).expect_err("read-only");
    is(&machine, "active/x", &[Some("old")]);
    is(&machine, "active/kept", &[Some("kept")]);
    machine.disk.set_read_only(false);
    put(&machine.path("active/z"), "new", Door::New, 50_000).expect("writable again");
    put(&machine.path("active/x"), "new", Door::Replace, 50_000).expect("writable again");
    machine.settle();
    is(&machine, "active/x", &[Some("new")]);
    is(&machine, "active/z", &[Some("new")]);
    machine.stop();
    machine.audit();
}

#[test]
fn a_disk_that_fails_for_long_loses_nothing_that_was_there_before() {
    let mut machine = Machine::boot(base(), &[]);
    there(&machine.root(), "active/x", "old");
    for op in [Op::Write, Op::Fsync, Op::Create, Op::Link, Op::Unlink, Op::Rename] {
        machine.disk.fail(op, "/", When::Always, libc::EIO);
    }
    for round in 0..20 {
        let path = machine.path(&format!("active/y{round}"));
        put(&path, "small", Door::New, 1 << 20).expect_err("the disk fails");
    }
    std::fs::rename(machine.path("active/x"), machine.path("active/z")).expect_err("it fails");
    is(&machine, "active/x", &[Some("old")]);
    assert!(machine.disk.heal() > 20);
    put(&machine.path("active/y"), "new", Door::New, 50_000).expect("it works again");
    machine.settle();
    is(&machine, "active/x", &[Some("old")]);
    is(&machine, "active/y", &[Some("new")]);
    machine.stop();
    machine.audit();
}

/// A daemon that has no descriptor left says so, and goes on when it has.
#[test]
fn a_daemon_that_runs_out_of_descriptors_loses_nothing() {
    let mut machine = Machine::boot(base(), &[]);
    there(&machine.root(), "active/x", "old");
    let pid = rustix::process::Pid::from_raw(machine.pid());
    // The daemon has those of its parent.
    let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limits = |current| rustix::process::Rlimit { current: Some(current), maximum };
    let limit = |current| {
        let before =
            rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limits(current));
        before.expect("a limit").current
    };
    let open =
        std::fs::read_dir(format!("/proc/{}/fd", machine.pid())).expect("open files").count();
    let before = limit(open as u64 + 20);
    let mut readers = Vec::new();
    let mut failures = Vec::new();
    for _ in 0..100 {
        match std::fs::File::open(machine.path("active/x")) {
            Ok(file) => readers.push(file),
            Err(error) => failures.push(error.raw_os_error()),
        }
    }
    for round in 0..20 {
        if let Err(error) =
            put(&machine.path(&format!("active/y{round}")), "new", Door::New, 50_000)
        {
            failures.push(error.raw_os_error());
        }
    }
    assert!(
        !failures.is_empty()
            && failures.iter().all(|errno| [Some(libc::EIO), Some(libc::ENFILE)].contains(errno)),
        "{failures:?}"
    );
    drop(readers);
    limit(before.unwrap_or(1024));
    put(&machine.path("active/z"), "new", Door::New, 50_000).expect("it goes on");
    machine.settle();
    is(&machine, "active/x", &[Some("old")]);
    is(&machine, "active/kept", &[Some("kept")]);
    is(&machine, "active/z", &[Some("new")]);
    for name in names_in(&machine.path("active")).iter().filter(|name| name.starts_with('y')) {
        is(&machine, &format!("active/{name}"), &[Some("new")]);
    }
    machine.stop();
    machine.audit();
}

/// A file has one name only on some filesystems: then a rename has to do.
#[test]
fn a_filesystem_without_second_names_keeps_what_was_answered_too() {
    for errno in [libc::EPERM, libc::EOPNOTSUPP, libc::EMLINK] {
        let mut machine = Machine::boot(base(), &[]);
        machine.disk.fail(Op::Link, "/", When::Always, errno);
        there(&machine.root(), "active/x", "new");
        there(&machine.root(), "uploading/y", "staged");
        rename(&machine.path("uploading/y"), &machine.path("active/y")).expect("taken in");
        machine.settle();
        assert!(machine.disk.heal() >= 2);
        machine.cut();
        let mut after = Machine::boot(machine.disk.left(Cut::Lose, 0), &[]);
        after.settle();
        is(&after, "active/x", &[Some("new")]);
        is(&after, "active/y", &[Some("staged")]);
        after.stop();
        after.audit();
    }
}

/// Data that was found damaged is replaced by the next whole copy.
#[test]
fn what_is_uploaded_again_takes_the_place_of_what_is_damaged() {
    let mut machine = Machine::boot(base(), &[]);
    there(&machine.root(), "active/x", "old");
    machine.disk.fail(Op::Read, "/blobs/", When::Always, libc::EIO);
    machine.disk.forget_pages("/blobs/");
    let task = r#"{"type": "verify", "input": {"image": "x"}}"#;
    std::fs::write(machine.path("tasks/pending/check"), task).expect("a task");
    eventually("it is found damaged", || machine.path("deactivated/x").exists());
    machine.disk.heal();
    there(&machine.root(), "active/y", "old");
    is(&machine, "active/y", &[Some("old")]);
    machine.settle();
    machine.cut();
    let mut after = Machine::boot(machine.disk.left(Cut::Lose, 0), &[]);
    after.settle();
    is(&after, "active/y", &[Some("old")]);
    after.stop();
    after.audit();
}
