//! The daemon is killed at every failpoint and at every moment of an upload; what comes up is true.

use std::fs;

use sps::failpoint::Failpoint;

use crate::support::{Sandbox, eventually};

/// Drives every verb that writes, each part going on whatever came of the one before.
const WORK: &str = "
    exec 2>/dev/null
    timeout 10 cp $F/x $M/active/published
    timeout 10 sh -c 'cat $F/x; kill -9 $$' > $M/active/failed
    exec 3>$M/active/removed; echo part >&3; timeout 10 rm $M/saving/removed; exec 3>&-
    timeout 10 rm $M/active/old
    timeout 10 rm $M/pending_delete/old
    timeout 10 truncate -s 0 $M/active/empty
    timeout 10 cp $F/x $M/active/replaced
    timeout 10 cp $F/x $M/uploading/imported
    timeout 10 mv $M/uploading/imported $M/active/imported
    timeout 10 python3 -c '
import os
path = os.environ[\"M\"] + \"/active/reopened\"
f = os.open(path, os.O_CREAT | os.O_WRONLY); os.write(f, b\"head \"); os.close(f)
f = os.open(path, os.O_RDWR); os.pwrite(f, b\"tail\", 5); os.close(f)'
    timeout 10 bash -c 'exec 3> $M/active/voted; cat $F/x >&3; (sleep 0.1; printf more >&3) & exec 3>&-; wait'
    timeout 10 python3 -c '
import os
f = open(os.environ[\"M\"] + \"/active/withdrawn\", \"wb\"); f.write(b\"part\"); f.close(); os._exit(3)'
    timeout 5 sh -c 'until ! ls $M/deactivated || ls $M/deactivated | grep -q withdrawn; do sleep 0.02; done'
    timeout 5 sh -c 'while ls $M/deleted | grep -q .; do sleep 0.02; done'
    true";

/// What may be found after a crash: each image in a status that is true of it.
fn check(sandbox: &Sandbox, failpoint: &str) {
    // An import goes on by itself.
    eventually("imports are done", || sandbox.names("importing").is_empty());
    let tree = sandbox.tree();
    for path in &tree {
        let allowed: &[&str] = match path.split(['/', '~']).nth(1).unwrap_or_default() {
            "published" => &["active", "killed", "queued"],
            "failed" => &["killed", "queued"],
            "removed" => &["killed", "deleted", "queued"],
            "old" => &["active", "pending_delete", "deleted"],
            "empty" => &["active", "queued"],
            "kept" => &["active"],
            "replaced" => &["active", "pending_delete", "killed", "queued"],
            "imported" => &["uploading", "active"],
            "reopened" | "voted" => &["active", "killed", "queued"],
            "withdrawn" => &["active", "deactivated", "killed", "queued"],
            other => panic!("{failpoint}: {other} came from nowhere"),
        };
        let status = path.split('/').next().unwrap_or_default();
        assert!(allowed.contains(&status), "{failpoint}: {tree:?}");
    }
    assert!(tree.contains(&"active/kept".to_owned()), "{failpoint}: {tree:?}");
    sandbox.ok("cmp $F/kept $M/active/kept");
    // A name that is replaced is never missing, and never half there.
    sandbox.ok("cmp -s $F/old2 $M/active/replaced || cmp -s $F/x $M/active/replaced");
    if tree.contains(&"active/imported".to_owned()) {
        sandbox.ok("cmp $F/x $M/active/imported");
    }
    if tree.contains(&"active/published".to_owned()) {
        sandbox.ok("cmp $F/x $M/active/published");
    }
    if tree.contains(&"active/voted".to_owned()) {
        sandbox.ok("cmp $F/x $M/active/voted || cat $F/x <(printf more) | cmp - $M/active/voted");
    }
    // And the store goes on working.
    sandbox.ok("cp $F/x $M/active/again && cmp $F/x $M/active/again");
    sandbox.ok("rm $M/active/again && rm $M/pending_delete/again");
}

/// Does the work with a daemon that is killed at a failpoint, and checks what comes up. Answers whether the
/// daemon got there.
fn survives(failpoint: Failpoint) -> bool {
    let name = failpoint.name();
    let sandbox = Sandbox::with(&["forget_time=1s"]);
    sandbox.source("x", 300_000);
    sandbox.source("kept", 200_000);
    sandbox.source("old2", 100_000);
    sandbox.ok("cp $F/old2 $M/active/replaced; cp $F/kept $M/active/kept; cp $F/kept $F/old; echo o >> $F/old; cp $F/old $M/active/old");
    // Something to recover.
    let mut writer = sandbox
        .bash_command("exec 3>$M/active/failed; cat $F/x >&3; exec sleep 60")
        .spawn()
        .expect("a writer");
    eventually("it is being written", || sandbox.names("saving") == ["failed"]);
    sandbox.kill_daemon();
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    let ready = sandbox.mount_failing_at(name);
    if ready {
        sandbox.bash(WORK);
        // What the daemon does by itself may take it there, too.
        let is_alive = || sandbox.daemon().is_some();
        if is_alive() {
            sandbox.bash("timeout 10 umount $M");
            sandbox.wait_for_daemons_end();
        }
    }
    let log = sandbox.log();
    let clean = log.lines().filter(|line| line.contains("is unmounted")).count();
    sandbox.bash("umount -l $M");
    sandbox.recover();
    check(&sandbox, name);
    sandbox.umount();
    sandbox.audit();
    clean == 0
}

// semantics: never-stuck daemon-killed
#[test]
fn a_daemon_killed_at_any_failpoint_leaves_a_store_that_is_true() {
    let reached = std::sync::Mutex::new(Vec::new());
    let left = std::sync::Mutex::new(Failpoint::ALL.to_vec());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(failpoint) = left.lock().expect("a list").pop() else { break };
                    if survives(failpoint) {
                        reached.lock().expect("a list").push(failpoint.name());
                    }
                }
            });
        }
    });
    let reached = reached.into_inner().expect("a list");
    let missed: Vec<&str> =
        Failpoint::ALL.iter().map(|f| f.name()).filter(|name| !reached.contains(name)).collect();
    assert!(missed.is_empty(), "the work never came by {missed:?}");
}

#[test]
fn a_daemon_killed_again_while_it_recovers_leaves_a_store_that_is_true() {
    let points = ["recover.begun", "recover.settled", "publish.sealed", "publish.recorded"];
    for failpoint in points {
        let sandbox = Sandbox::new();
        sandbox.source("x", 300_000);
        sandbox.umount();
        // A sealed upload that was not published, to be rolled forward.
        assert!(sandbox.mount_failing_at("vote.recorded"));
        sandbox.bash("cp $F/x $M/active/x 2>/dev/null");
        sandbox.wait_for_daemons_end();
        for _ in 0..2 {
            sandbox.bash("umount -l $M");
            // The second time there may be nothing left to recover.
            if sandbox.mount_failing_at(failpoint) {
                sandbox.umount();
            }
            sandbox.wait_for_daemons_end();
        }
        sandbox.recover();
        assert_eq!(sandbox.tree(), ["active/x"], "{failpoint}");
        sandbox.ok("cmp $F/x $M/active/x");
        sandbox.umount();
        sandbox.audit();
    }
}

// semantics: closed-survives
#[test]
fn a_hundred_kills_right_after_close_lose_nothing() {
    let sandbox = Sandbox::unmounted(&[]);
    for round in 0..100 {
        sandbox.mount();
        sandbox.source("x", 50_000 + round);
        let script = format!("cp $F/x $M/active/x{round} && kill -9 $(cat $S/lock)");
        sandbox.ok(&script);
        sandbox.wait_for_daemons_end();
    }
    sandbox.recover();
    assert_eq!(sandbox.names("active").len(), 100, "{:?}", sandbox.tree());
    assert_eq!(sandbox.tree().len(), 100, "{:?}", sandbox.tree());
    for round in [0, 1, 50, 99] {
        let size = fs::metadata(sandbox.path(&format!("active/x{round}"))).expect("there").len();
        assert_eq!(size, 50_000 + round);
    }
    sandbox.umount();
    sandbox.audit();
}

// semantics: daemon-killed
#[test]
fn a_daemon_killed_mid_upload_leaves_the_image_killed_and_its_space_free() {
    let sandbox = Sandbox::new();
    for round in 0..5 {
        let script = format!("head -c {}M /dev/urandom > $M/active/big{round}", 20 + round);
        let mut writer = sandbox.bash_command(&script).spawn().expect("a writer");
        eventually("it is being written", || {
            let path = sandbox.path(&format!("saving/big{round}"));
            fs::metadata(path).is_ok_and(|stat| stat.len() > 1_000_000)
        });
        sandbox.kill_daemon();
        assert!(!writer.wait().expect("ended").success());
        sandbox.recover();
    }
    assert_eq!(sandbox.names("killed").len(), 5);
    let message = sandbox.attribute("killed/big0", "message").expect("a reason");
    assert!(message.contains("daemon stopped during upload"), "{message}");
    sandbox.umount();
    sandbox.audit();
}

#[test]
fn a_sealed_import_whose_data_was_changed_is_not_rolled_forward() {
    let sandbox = Sandbox::unmounted(&[]);
    assert!(sandbox.mount_failing_at("import.sealed"));
    sandbox.source("x", 100_000);
    sandbox.bash("cp $F/x $M/uploading/x; mv $M/uploading/x $M/active/ 2>/dev/null");
    sandbox.wait_for_daemons_end();
    sandbox.ok("for f in $S/staging/*; do printf z | dd of=$f bs=1 seek=5000 conv=notrunc status=none; done");
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["queued/x"]);
    sandbox.umount();
    sandbox.audit();
}

/// A vote that is taken back and a daemon that ends before that is recorded: what was voted for counts.
#[test]
fn a_vote_that_was_being_taken_back_when_the_daemon_ended_counts() {
    let sandbox = Sandbox::unmounted(&[]);
    assert!(sandbox.mount_failing_at("vote.taken-back"));
    sandbox.source("x", 100_000);
    sandbox
        .bash("exec 3> $M/active/x; cat $F/x >&3; (sleep 0.3; printf more >&3) & exec 3>&-; wait");
    sandbox.wait_for_daemons_end();
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["active/x"]);
    sandbox.ok("cmp $F/x $M/active/x");
    sandbox.umount();
    sandbox.audit();
}

// semantics: never-stuck
#[test]
fn strays_and_orphans_are_given_back_and_what_a_manifest_names_is_kept() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 100_000);
    sandbox.ok("cp $F/x $M/active/x");
    sandbox.umount();
    let digest = blake3::hash(b"orphan").to_string();
    let named = blake3::hash(b"named").to_string();
    for (digest, bytes) in [(&digest, "orphan"), (&named, "named")] {
        let folder = sandbox.store().join("blobs").join(&digest[..2]);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(digest), bytes).expect("an orphan");
    }
    sandbox.ok(&format!(
        "echo stray > $S/staging/stray; echo stray > $S/staging/$(cat /proc/sys/kernel/random/uuid)
         sed 's/\"blake3\": \"[0-9a-f]*\"/\"blake3\": \"{named}\"/' $S/manifests/*.json > $S/manifests/old.json"
    ));
    sandbox.mount();
    sandbox.wait_for_reclaim(2);
    eventually("it is reported", || sandbox.log().contains("the registry does not know"));
    assert!(crate::support::names_in(&sandbox.store().join("staging")).is_empty());
    assert_eq!(sandbox.tree(), ["active/x"]);
}
