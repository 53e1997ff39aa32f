//! What happens by itself, and when: never early, whatever the clock does.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Sandbox, SmallDisk, eventually, run, text};

// semantics: scrub-time forget-time killed-time task-time purge-by-time
#[test]
fn each_status_that_time_ends_is_left_when_its_time_is_over() {
    let options = ["scrub_time=2s", "forget_time=2s", "killed_time=2s", "task_time=2s"];
    let sandbox = Sandbox::with(&options);
    sandbox.bash("(echo k; kill -9 $BASHPID) > $M/active/k");
    sandbox.ok("echo a > $M/active/a; echo p > $M/active/p; echo t > $M/active/t");
    sandbox.ok("echo '{\"type\": \"scrub\"}' > $M/tasks/pending/s; rm $M/active/a");
    sandbox.ok("rm $M/active/t; chmod +t $M/pending_delete/t");
    let began = Instant::now();
    assert_eq!(sandbox.tree(), ["active/p", "killed/k", "pending_delete/a", "pending_delete/t"]);
    assert!(sandbox.ok("cat $M/STATUS").contains("next purge in"));
    eventually("they are deleted", || sandbox.names("deleted").contains(&"a".to_owned()));
    assert!(began.elapsed() > Duration::from_millis(1500), "early: {:?}", began.elapsed());
    eventually("they are forgotten", || {
        sandbox.tree() == ["active/p", "pending_delete/t"]
            && sandbox.names("tasks/success").is_empty()
    });
    assert!(began.elapsed() > Duration::from_millis(3500), "early: {:?}", began.elapsed());
    // What is protected stays in the trash, until it is not.
    sandbox.ok("chmod -t $M/pending_delete/t");
    eventually("that goes, too", || sandbox.tree() == ["active/p"]);
    sandbox.wait_for_reclaim(1);
    sandbox.umount();
    sandbox.audit();
}

// semantics: zero-at-once
#[test]
fn a_time_of_zero_is_at_once() {
    let sandbox = Sandbox::with(&["scrub_time=0", "forget_time=0", "killed_time=0", "task_time=0"]);
    sandbox.bash("(echo k; kill -9 $BASHPID) > $M/active/k");
    sandbox.ok(
        "echo a > $M/active/a; rm $M/active/a; echo '{\"type\": \"scrub\"}' > $M/tasks/pending/s",
    );
    eventually("all is gone", || {
        sandbox.tree().is_empty() && sandbox.names("tasks/success").is_empty()
    });
    sandbox.wait_for_reclaim(0);
    sandbox.umount();
    sandbox.audit();
}

// semantics: min-trash-time
#[test]
fn nobody_purges_by_hand_before_the_least_time_in_the_trash() {
    let sandbox = Sandbox::with(&["min_trash_time=2s"]);
    sandbox.ok("echo a > $M/active/a; rm $M/active/a");
    let began = Instant::now();
    sandbox.fails("rm $M/pending_delete/a", "not permitted");
    sandbox.fails("mv $M/pending_delete/a $M/deleted/", "not permitted");
    sandbox.ok("mv $M/pending_delete/a $M/active/; rm $M/active/a");
    let without = Sandbox::with(&["min_trash_time=1h", "delayed_delete=no"]);
    without.umount();
    let mut mount = without.sps();
    mount.args(["mount", "--store"]).arg(without.store()).arg(without.root());
    assert!(run(&mut mount).status.success());
    without.ok("echo a > $M/active/a; rm $M/active/a");
    without.remount();
    without.fails("rm $M/pending_delete/a", "not permitted");
    eventually("it can be purged", || sandbox.bash("rm $M/pending_delete/a").status.success());
    assert!(began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
}

// semantics: stall-time
#[test]
fn an_upload_that_nobody_writes_to_is_killed_after_the_stall_time() {
    let sandbox = Sandbox::with(&["stall_time=3s"]);
    // One that goes on is left alone.
    let slow = "exec 3>$M/active/slow; for i in {1..10}; do echo $i >&3; read -t 0.5 < <(sleep 9); done; exec 3>&-";
    let mut slow = sandbox.bash_command(slow).spawn().expect("a writer");
    eventually("it has begun", || {
        fs::metadata(sandbox.path("saving/slow")).is_ok_and(|found| found.len() > 0)
    });
    let began = Instant::now();
    // So are one that has not begun, and one that nobody waits for.
    let output = sandbox.bash(
        "exec 3>$M/active/x 4>$M/active/late 5>$M/uploading/idle; echo part >&3; echo work >&5
        until test -e $M/killed/x; do read -t 0.05 < <(sleep 9); done; sleep 0.5
        echo late >&4 && echo more >&5 && exec 4>&- 5>&- || exit; ! echo more >&3",
    );
    assert!(began.elapsed() > Duration::from_secs(3), "it was killed too early");
    assert!(text(&output).contains("Operation canceled"), "{}", text(&output));
    let message = sandbox.attribute("killed/x", "message").expect("a reason");
    assert!(message.contains("nothing was written for 3 s"), "{message}");
    assert!(slow.wait().expect("ended").success());
    // It was closed well, and is kept though the sleepers have it open for longer than the stall time.
    eventually("the last of them ends", || sandbox.names("active") == ["late", "slow"]);
    assert_eq!(sandbox.tree(), ["active/late", "active/slow", "killed/x", "uploading/idle"]);
    assert_eq!(sandbox.ok("cat $M/uploading/idle"), "work\nmore\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: scrub-when-full
#[test]
fn the_oldest_of_the_trash_makes_room_for_an_upload() {
    let disk = SmallDisk::new(32, &["scrub_when_full=yes"]);
    let sandbox = &disk.0;
    for number in 0..3 {
        sandbox.source(&format!("x{number}"), 6_000_000);
        sandbox.ok(&format!("cp $F/x{number} $M/active/; rm $M/active/x{number}"));
    }
    sandbox.source("kept", 5_000_000);
    sandbox.source("big", 12_000_000);
    sandbox.ok("cp $F/kept $M/active/kept; cp $F/big $M/active/big; cmp $F/big $M/active/big");
    assert_eq!(sandbox.names("active"), ["big", "kept"]);
    let trash = sandbox.names("pending_delete");
    assert!(!trash.contains(&"x0".to_owned()) && trash.contains(&"x2".to_owned()), "{trash:?}");
    // More than there is at all fails, and what is kept is kept.
    sandbox.fails("head -c 40M /dev/urandom > $M/active/huge", "No space left");
    assert_eq!(sandbox.names("active"), ["big", "kept"]);
    sandbox.ok("cmp $F/kept $M/active/kept");
    sandbox.umount();
    sandbox.audit();
}

/// A store whose daemon sees the clock that a file says, from `faketime`.
struct Clock<'a> {
    sandbox: &'a Sandbox,
}

impl Clock<'_> {
    /// Mounts with the clock at an offset, such as `+40d`.
    fn mount(&self, offset: &str) {
        self.set(offset);
        let library = fs::read_dir("/usr/lib")
            .expect("a folder")
            .flatten()
            .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists())
            .expect("libfaketime: install the package faketime");
        let mut mount: Command = self.sandbox.sps();
        mount
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", self.sandbox.file("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .args(["mount", "-o", "scrub_time=7d", "--store"])
            .arg(self.sandbox.store())
            .arg(self.sandbox.root());
        let output = run(&mut mount);
        assert!(output.status.success(), "{}", text(&output));
    }

    fn set(&self, offset: &str) {
        fs::write(self.sandbox.file("clock"), format!("{offset}\n")).expect("a clock");
    }
}

// semantics: clock-jumps scrub-grace
#[test]
fn nothing_is_purged_early_when_the_clock_jumps_or_an_old_store_is_mounted() {
    let sandbox = Sandbox::unmounted(&[]);
    let clock = Clock { sandbox: &sandbox };
    clock.mount("+0d");
    sandbox.ok("echo a > $M/active/a; rm $M/active/a");
    let year = |path: &str| sandbox.ok(&format!("date -d @$(stat -c %Z $M/{path}) +%Y"));
    let before: i32 = year("pending_delete/a").trim().parse().expect("a year");
    // Forward and back, with something removed at each time.
    for (offset, name, years) in [("+4000d", "b", 10), ("-4000d", "c", -10), ("+0d", "d", 0)] {
        clock.set(offset);
        sandbox.ok(&format!("echo {name} > $M/active/{name}; rm $M/active/{name}"));
        let found: i32 = year(&format!("pending_delete/{name}")).trim().parse().expect("a year");
        assert!((found - before - years).abs() <= 1, "the clock did not jump: {before} {found}");
        sandbox.ok("echo '{\"type\": \"scrub\"}' > $M/tasks/pending/s");
        eventually("it is scrubbed", || !sandbox.names("tasks/success").is_empty());
        sandbox.ok("rm $M/tasks/success/*");
        assert!(sandbox.names("deleted").is_empty(), "{offset}: {:?}", sandbox.tree());
    }
    assert_eq!(sandbox.names("pending_delete").len(), 4);
    sandbox.umount();
    // A month later: all of it is over, and yet whoever mounts it has an hour.
    clock.mount("+40d");
    sandbox.ok("echo '{\"type\": \"scrub\"}' > $M/tasks/pending/s");
    eventually("it is scrubbed", || !sandbox.names("tasks/success").is_empty());
    assert_eq!(sandbox.names("pending_delete").len(), 4);
    let page = sandbox.ok("cat $M/STATUS");
    assert!(page.contains("next purge in 59m") || page.contains("next purge in 1h"), "{page}");
    sandbox.umount();
    // With the clock back where it was nothing is due for a week from now on, and nothing was lost.
    clock.mount("+0d");
    assert_eq!(sandbox.names("pending_delete").len(), 4);
    sandbox.umount();
    sandbox.audit();
}

// semantics: scrub-task purge-by-time
#[test]
fn what_is_due_is_purged_when_it_is_asked_for_and_across_a_restart() {
    let sandbox = Sandbox::with(&["scrub_time=3s"]);
    sandbox.ok("echo a > $M/active/a; rm $M/active/a");
    let began = Instant::now();
    sandbox.remount();
    assert_eq!(sandbox.tree(), ["pending_delete/a"]);
    eventually("its time is over", || sandbox.tree() == ["deleted/a"]);
    assert!(began.elapsed() > Duration::from_millis(2500), "{:?}", began.elapsed());
    sandbox.umount();
    sandbox.audit();
}
