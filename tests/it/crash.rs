//! The daemon is killed at every failpoint and at every moment of an upload; what comes up is true.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sps::failpoint::Failpoint;

use crate::support::{Memory, Sandbox, eventually, run, text};
use crate::verbs::{PRELUDE, VERBS, Verb};

/// A verb, and the store it is done in, as it is before.
struct Prepared {
    verb: &'static Verb,
    base: Sandbox,
    /// The places it comes by when nothing stops it.
    trace: Vec<String>,
    /// How many of them are left out: those of the mount before it.
    skipped: usize,
}

impl Prepared {
    /// Does the verb once in peace; answers what was wrong then, too.
    fn new(memory: &Memory, verb: &'static Verb) -> (Self, Option<String>) {
        let base = Sandbox::below(memory.path(), verb.options);
        base.source("x", 300_000);
        base.source("y", 150_000);
        base.mount();
        let output = base.bash(&format!("{PRELUDE}set -e; {}", verb.before));
        assert!(output.status.success(), "before {}: {}", verb.name, text(&output));
        // Some leave a crash for the next mount.
        if base.daemon().is_some() {
            base.umount();
        }
        base.wait_for_daemons_end();
        base.bash("umount -l $M");
        if verb.name == "mount" {
            base.ok("rm -r $S");
        }
        let mut prepared = Self { verb, base, trace: Vec::new(), skipped: 0 };
        let sandbox = prepared.clone(memory);
        let file = sandbox.file("trace");
        sandbox.mount_tracing(&file);
        let noted = || fs::read_to_string(&file).unwrap_or_default();
        if !verb.is_at_mount {
            prepared.skipped = noted().lines().count();
        }
        prepared.act(&sandbox);
        for step in verb.act.split(" ok ").skip(1) {
            let note = format!("ok.{}", step.split([';', '\n']).next().unwrap_or_default().trim());
            assert!(sandbox.file(&note).exists(), "{} does not come to {note}", verb.name);
        }
        sandbox.umount();
        prepared.trace = noted().lines().map(str::to_owned).collect();
        let found = prepared.check(&sandbox, "nothing stopped it");
        (prepared, found)
    }

    /// Another sandbox with the same store and sources.
    fn clone(&self, memory: &Memory) -> Sandbox {
        let sandbox = Sandbox::below(memory.path(), self.verb.options);
        let (from, to) = (self.base.directory(), sandbox.directory());
        let copied = format!(
            "cd {} && cp -a $(ls | grep -v mnt) {} && rm -f $S/sps.log",
            from.display(),
            to.display()
        );
        sandbox.ok(&copied);
        sandbox
    }

    fn act(&self, sandbox: &Sandbox) {
        let script = format!("{PRELUDE}{}", self.verb.act);
        let mut command = sandbox.bash_command(&script);
        let mut actor = command.process_group(0).stderr(Stdio::null()).spawn().expect("bash");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(40);
        eventually("the verb ends", || {
            std::time::Instant::now() > end || actor.try_wait().expect("a child").is_some()
        });
        // What is left of it holds files open.
        let group = rustix::process::Pid::from_child(&actor);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        actor.wait().expect("ended");
    }

    /// Does the verb with a daemon that is killed at the `place`-th place; answers whether it got there, and what is
    /// wrong.
    fn kill_at(&self, memory: &Memory, place: usize) -> (bool, Option<String>) {
        let sandbox = self.clone(memory);
        let asked = format!("#{place}");
        let is_ready = sandbox.mount_failing_at(&asked);
        if is_ready {
            self.act(&sandbox);
        }
        // What is done at its end may take it there, too.
        if sandbox.daemon().is_some() {
            sandbox.bash("timeout 10 umount $M");
        }
        sandbox.wait_for_daemons_end();
        let is_killed = !sandbox.log().contains("is unmounted");
        let passed = self.trace.get(place - 1).map_or("", String::as_str);
        (is_killed, self.check(&sandbox, &format!("{asked}, about {passed}")))
    }

    /// Mounts again, and answers what is not true.
    fn check(&self, sandbox: &Sandbox, when: &str) -> Option<String> {
        sandbox.bash("umount -l $M");
        sandbox.recover();
        let check = self.verb.check;
        let again = "cp $F/x $M/active/again; cmp $F/x $M/active/again; rm $M/active/again; rm -f $M/pending_delete/again";
        let output = sandbox.bash(&format!(
            "{PRELUDE}set -eE; trap 'echo \"$BASH_COMMAND\"' ERR
             {check}
             # And the store goes on working, and what is nobody's is given back in the background.
             {again}
             until_ reclaimed"
        ));
        let said = format!(
            "{}, stopped at {when}: {}acknowledged {:?}, {:?}",
            self.verb.name,
            text(&output),
            crate::support::names_in(&sandbox.file("")),
            sandbox.tree(),
        );
        if !output.status.success() {
            return Some(said);
        }
        sandbox.umount();
        let audited = std::panic::catch_unwind(|| sandbox.audit());
        audited.is_err().then_some(said)
    }
}

// semantics: never-stuck daemon-killed
#[test]
fn a_daemon_killed_behind_any_effect_of_any_verb_leaves_a_store_that_is_true() {
    let memory = Memory::new();
    let kills = AtomicUsize::new(0);
    let passed = Mutex::new(BTreeSet::new());
    let wrong = Mutex::new(Vec::new());
    let left = Mutex::new(VERBS.iter().collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(verb) = left.lock().expect("a list").pop() else { break };
                    let (prepared, found) = Prepared::new(&memory, verb);
                    wrong.lock().expect("a list").extend(found);
                    let places = prepared.skipped + 1..=prepared.trace.len();
                    for place in places.clone() {
                        let (is_killed, found) = prepared.kill_at(&memory, place);
                        kills.fetch_add(usize::from(is_killed), Ordering::Relaxed);
                        wrong.lock().expect("a list").extend(found);
                    }
                    println!("{}: {} places", verb.name, places.count());
                    passed.lock().expect("a set").extend(prepared.trace);
                }
            });
        }
    });
    let passed = passed.into_inner().expect("a set");
    let places = Failpoint::ALL.iter().filter(|place| place.is_behind_an_effect());
    let missed: Vec<&str> =
        places.map(|place| place.name()).filter(|name| !passed.contains(*name)).collect();
    let wrong = wrong.into_inner().expect("a list");
    println!("{} kills", kills.load(Ordering::Relaxed));
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
    assert!(missed.is_empty(), "no verb came by {missed:?}");
}

/// Runs a command of `sps` in copies of a store, killed at each place it comes by in turn, and then again in peace.
/// Answers how often it was killed.
fn kill_a_tool(spoil: &str, words: &[&str], again: &str, check: impl Fn(&Sandbox)) -> usize {
    let memory = Memory::new();
    let base = Sandbox::below(memory.path(), &[]);
    base.source("x", 300_000);
    base.source("y", 150_000);
    base.mount();
    base.ok("cp $F/x $M/active/x; cp $F/y $M/active/y; cp $F/x $M/active/gone; rm $M/active/gone
             setfattr -n user.sps.tags -v a $M/active/x");
    base.umount();
    base.ok(spoil);
    for place in 1..1000 {
        let sandbox = Sandbox::below(memory.path(), &[]);
        let (from, to) = (base.directory().display(), sandbox.directory().display());
        sandbox.ok(&format!("cd {from} && cp -a files store {to}"));
        let command = |words: &[&str]| {
            let mut command = sandbox.sps();
            command
                .args(words)
                .arg("--store")
                .arg(sandbox.store())
                .current_dir(sandbox.directory());
            command
        };
        let output = run(command(words).env("FAILPOINT", format!("#{place}")));
        let is_killed = output.status.code().is_none();
        assert!(is_killed || output.status.success(), "{words:?}: {}", text(&output));
        if is_killed {
            sandbox.ok(again);
            let output = run(&mut command(words));
            assert!(output.status.success(), "{words:?} after #{place}: {}", text(&output));
        }
        check(&sandbox);
        sandbox.mount();
        sandbox.ok("cmp $F/x $M/active/x; cmp $F/y $M/active/y; test -e $M/pending_delete/gone
                    test $(getfattr --only-values -n user.sps.tags $M/active/x) = a");
        sandbox.umount();
        sandbox.audit();
        if !is_killed {
            return place - 1;
        }
    }
    panic!("{words:?} does not end");
}

#[test]
fn a_rebuild_that_is_killed_at_any_place_is_done_by_the_next_one() {
    let kills = kill_a_tool("rm $S/sps.db*", &["fsck", "--rebuild"], "true", |_| ());
    assert!(kills > 3, "{kills}");
    // What a crash left, and what the registry does not know of.
    let spoil = "cp $S/blobs/*/* $S/staging/; for f in $S/manifests/*; do echo > $f; done; echo > $S/manifests/a.json.new";
    let kills = kill_a_tool(spoil, &["fsck"], "true", |_| ());
    assert!(kills > 3, "{kills}");
}

#[test]
fn a_backup_that_is_killed_at_any_place_harms_nothing_and_is_never_taken_for_whole() {
    let is_whole = |sandbox: &Sandbox| {
        let copy = sandbox.directory().join("copy");
        crate::support::audit(&copy);
    };
    // What is half there is refused as a store, or is a whole one.
    let again = "cd ${S%/store}; if $SPS fsck --store copy; then :; else test ! -e copy/sps.db; fi; rm -rf copy";
    let kills = kill_a_tool("true", &["backup", "copy"], again, is_whole);
    assert!(kills > 10, "{kills}");
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

// semantics: never-stuck verify-damage
#[test]
fn an_upload_of_content_that_was_found_damaged_before_the_daemon_ended_is_killed() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 100_000);
    sandbox.ok("cp $F/x $M/active/a; ls $M/active/a");
    let mut file = fs::File::create(sandbox.path("active/b")).expect("created");
    let bytes = fs::read(sandbox.file("x")).expect("read");
    std::io::Write::write_all(&mut file, &bytes).expect("written");
    // Another one holds it, so that it is sealed and not published yet.
    let mut holder = std::process::Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(file.try_clone().expect("a copy"))
        .spawn()
        .expect("cat");
    crate::disk::machine::close(file).expect("sealed");
    sandbox.ok("for f in $S/blobs/*/*; do printf z | dd of=$f bs=1 seek=1000 conv=notrunc status=none; done");
    sandbox.fails("$SPS verify $M", "1 damaged");
    sandbox.kill_daemon();
    holder.wait().expect("ended");
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["deactivated/a", "killed/b"]);
    sandbox.umount();
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
