//! A registry whose disk fails: at its start, in its log, and in what gives the log its name.

use super::{base, is, there};
use crate::disk::machine::{Door, Machine, put};
use crate::disk::{Cut, Op, State, When};

/// Who can't open, read or write the registry says so, and the store is as it was.
#[test]
fn a_daemon_whose_registry_fails_at_its_start_says_so_and_starts_later() {
    let state = base();
    for (op, part) in [
        (Op::Open, "sps.db$"),
        (Op::Read, "sps.db$"),
        (Op::Create, "sps.db-wal"),
        (Op::Write, "sps.db-wal"),
        (Op::Fsync, "/lib/sps$"),
        (Op::Open, "/lock$"),
        (Op::Write, "/lock$"),
    ] {
        let mut machine = Machine::with(state.clone(), &[]);
        machine.disk.fail(op, part, When::Always, libc::EIO);
        let told = machine.start().expect_err("it can't start");
        assert!(machine.disk.heal() > 0, "{op:?} {part} was not met");
        assert!(told.starts_with("sps: ") && told.lines().count() == 1, "{op:?} {part}: {told:?}");
        machine.start().expect("it starts");
        is(&machine, "active/kept", &[Some("kept")]);
        machine.stop();
        machine.audit();
    }
}

/// The log is made anew at each start; SQLite does not tell when its name could not be synced.
#[test]
fn a_log_whose_name_could_not_be_synced_takes_nothing_with_it() {
    let mut machine = Machine::with(base(), &[]);
    machine.disk.fail(Op::Fsync, "/lib/sps$", When::Nth(2), libc::EIO);
    if machine.start().is_err() {
        machine.disk.heal();
        machine.start().expect("it starts");
    }
    let told = put(&machine.path("active/x"), "new", Door::New, 50_000).is_ok();
    machine.disk.heal();
    machine.cut();
    let mut after = Machine::boot(machine.disk.left(Cut::Lose, 0), &[]);
    after.settle();
    assert!(!told || after.tree().get("active/x").map(String::as_str) == Some("new"));
    after.stop();
    after.audit();
}

/// Nobody gets an answer that is not on the disk as long as the log can't be written again.
#[test]
fn while_the_log_can_not_be_synced_nothing_is_answered_and_later_all_is() {
    let mut machine = Machine::boot(State::default(), &[]);
    there(&machine.root(), "active/kept", "kept");
    machine.disk.fail(Op::Fsync, "sps.db-wal", When::Always, libc::EIO);
    for round in 0..5 {
        let path = machine.path(&format!("active/x{round}"));
        put(&path, "small", Door::New, 1 << 20).expect_err("not on the disk");
    }
    let metrics = std::fs::read_to_string(machine.path(".sps/metrics")).expect("a page");
    let failed = metrics.lines().find_map(|l| l.strip_prefix("sps_registry_failed_commits_total "));
    assert!(failed.and_then(|failed| failed.parse().ok()).unwrap_or(0) >= 5, "{failed:?}");
    assert!(machine.disk.heal() >= 5);
    put(&machine.path("active/y"), "new", Door::New, 50_000).expect("on the disk");
    machine.cut();
    let mut after = Machine::boot(machine.disk.left(Cut::Lose, 0), &[]);
    after.settle();
    is(&after, "active/y", &[Some("new")]);
    is(&after, "active/kept", &[Some("kept")]);
    after.stop();
    after.audit();
}

/// A registry that can't be read for a while: that is an error, and not an empty folder.
#[test]
fn while_the_registry_can_not_be_read_nothing_seems_to_be_gone() {
    let mut machine = Machine::boot(base(), &[]);
    for round in 0..40 {
        there(&machine.root(), &format!("active/x{round}"), "small");
    }
    let mut hits = 0;
    for part in ["sps.db-wal", "sps.db$"] {
        // What SQLite keeps by itself is worth nothing after a change.
        there(&machine.root(), &format!("active/{}", part.trim_end_matches('$')), "small");
        machine.disk.fail(Op::Read, part, When::Always, libc::EIO);
        machine.disk.forget_pages(part);
        let errno = |error: std::io::Error| error.raw_os_error();
        match std::fs::metadata(machine.path("active/kept")) {
            Ok(found) => assert_eq!(found.len(), 64_000),
            Err(error) => assert_eq!(errno(error), Some(libc::EIO)),
        }
        let listed = std::fs::read_dir(machine.path("active"))
            .and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
        match listed {
            Ok(entries) => assert!(entries.len() > 40, "only {} are listed", entries.len()),
            Err(error) => assert_eq!(errno(error), Some(libc::EIO)),
        }
        // It is told or done.
        let told = put(&machine.path("active/y"), "new", Door::New, 50_000).is_ok();
        hits += machine.disk.heal();
        machine.settle();
        is(&machine, "active/y", &[Some("new"), if told { Some("new") } else { None }]);
        let _ = std::fs::remove_file(machine.path("active/y"));
        is(&machine, "active/kept", &[Some("kept")]);
    }
    assert!(hits > 0, "nothing was read");
    machine.stop();
    machine.audit();
}
