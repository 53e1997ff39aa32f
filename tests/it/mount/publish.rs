//! The vote and the commit: what is decided at each close.

use std::fs;

use crate::support::{Sandbox, SmallDisk, text};

// semantics: holder-waits
#[test]
fn nothing_is_decided_while_a_parent_holds_the_file() {
    let sandbox = Sandbox::new();
    // The first half is closed by its writer; its parent goes on.
    let script =
        "(echo one; /bin/echo two; ls $M/active $M/saving >&2; /bin/echo three) > $M/active/x";
    let output = sandbox.bash(script);
    let said = text(&output);
    assert!(said.contains("saving:\nx"), "{said}");
    assert_eq!(fs::read(sandbox.path("active/x")).expect("readable"), b"one\ntwo\nthree\n");
    // A daemon that dies between two halves never has them active.
    sandbox.source("a", 100_000);
    sandbox.ok("mkfifo $F/wait");
    let mut writer = sandbox
        .bash_command("(cat $F/a; touch $F/half; exec 9<$F/wait; cat $F/a) > $M/active/y")
        .spawn()
        .expect("a writer");
    crate::support::eventually("the first half is written", || sandbox.file("half").exists());
    sandbox.kill_daemon();
    // The writer goes on as soon as somebody opens that, finds its file gone, and may be faster than a write.
    sandbox.ok(": > $F/wait");
    assert!(!writer.wait().expect("the writer ended").success());
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["active/x", "killed/y"]);
    let message = sandbox.attribute("killed/y", "message").expect("a reason");
    assert!(message.contains("daemon stopped during upload"), "{message}");
    sandbox.umount();
    sandbox.audit();
}

// semantics: write-after-vote
#[test]
fn data_written_after_a_vote_withdraws_it_and_belongs_to_the_image() {
    let sandbox = Sandbox::new();
    let script = "python3 -c '
import os, sys
path = os.environ[\"M\"] + \"/active/x\"
f = os.open(path, os.O_CREAT | os.O_WRONLY)
os.write(f, b\"one \")
r, w = os.pipe()
done, tell = os.pipe()
if os.fork() == 0:
    os.close(w)
    os.read(r, 1)
    # The parent has closed: that was a vote.
    os.write(f, b\"two\")
    os.close(f)
    os._exit(0)
os.close(r)
os.close(f)
sealed = os.stat(os.environ[\"M\"] + \"/saving/x\").st_size
os.close(w)
os.wait()
print(sealed, open(path).read())
'";
    assert_eq!(sandbox.ok(script), "4 one two\n");
    // And it is one that fails if the later writer does.
    let script = script
        .replace("/x", "/z")
        .replace("os._exit(0)", "os._exit(1)")
        .replace("    os.close(f)\n    os._exit", "    os._exit");
    sandbox.bash(&script);
    assert_eq!(sandbox.tree(), ["active/x", "killed/z"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: write-error-kills full-disk
#[test]
fn a_full_disk_fails_the_writer_and_kills_the_image_and_leaves_the_rest() {
    let disk = SmallDisk::new(24, &[]);
    let sandbox = &disk.0;
    sandbox.source("small", 1_000_000);
    sandbox.ok("cp $F/small $M/active/before");
    sandbox.ok("truncate -s 1 $F/big; head -c 40M /dev/urandom > $F/big");
    sandbox.fails("cp $F/big $M/active/big", "No space left on device");
    sandbox.fails("cat $F/big > $M/active/big2", "No space left on device");
    assert_eq!(sandbox.tree(), ["active/before", "killed/big", "killed/big2"]);
    let message = sandbox.attribute("killed/big", "message").expect("a reason");
    assert!(message.contains("No space left"), "{message}");
    sandbox.ok("cmp $F/small $M/active/before && cp $F/big $F/b2 && truncate -s 10M $F/b2");
    sandbox.ok("cp $F/b2 $M/active/after && cmp $F/b2 $M/active/after");
    // What the filesystem below does not offer (zeroing a range, on this one) spoils nothing.
    sandbox.ok("python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
f = os.open(os.environ[\"M\"] + \"/active/plain\", os.O_CREAT | os.O_WRONLY)
os.write(f, b\"data\")
done = libc.fallocate64(f, 0x10, ctypes.c_int64(0), ctypes.c_int64(4096))
assert done != 0, \"this filesystem offers it: the test needs another\"
os.close(f)
' && grep data $M/active/plain");
    assert!(sandbox.log().contains("errno=28"), "{}", sandbox.log());
    sandbox.umount();
    sandbox.audit();
}

// semantics: rm-cuts-writer
#[test]
fn the_writer_of_a_removed_image_is_cut_off_at_its_next_write_and_at_close() {
    let sandbox = Sandbox::new();
    let script = "python3 -c '
import errno, os
m = os.environ[\"M\"]
f = os.open(m + \"/active/x\", os.O_CREAT | os.O_WRONLY)
os.write(f, b\"data\")
os.unlink(m + \"/saving/x\")
for step in (lambda: os.write(f, b\"more\"), lambda: os.close(f)):
    try:
        step()
        print(\"done\")
    except OSError as error:
        print(errno.errorcode[error.errno])
'";
    assert_eq!(sandbox.ok(script), "ECANCELED\nECANCELED\n");
    assert_eq!(sandbox.tree(), ["deleted/x"]);
    // One that is only queued, too.
    let script = script.replace("os.write(f, b\"data\")", "").replace("saving", "queued");
    assert_eq!(sandbox.ok(&script), "ECANCELED\nECANCELED\n");
    // And close alone, for a writer that has nothing more to write.
    let script = script.replace("lambda: os.write(f, b\"more\"), ", "");
    assert_eq!(
        sandbox.ok(&script.replace("(lambda: os.close(f))", "[lambda: os.close(f)]")),
        "ECANCELED\n"
    );
    sandbox.umount();
    sandbox.audit();
}

// semantics: retry-queued
#[test]
fn a_store_that_lets_uploads_be_retried_keeps_the_image_queued() {
    let sandbox = Sandbox::with(&["on_failed_upload=queued"]);
    sandbox.bash("sh -c 'echo part; kill -9 $$' > $M/active/x");
    assert_eq!(sandbox.tree(), ["queued/x"]);
    let message = sandbox.attribute("queued/x", "message").expect("a reason");
    assert!(message.contains("SIGKILL"), "{message}");
    assert_eq!(fs::metadata(sandbox.path("queued/x")).expect("there").len(), 0);
    let id = sandbox.attribute("queued/x", "id");
    sandbox.ok("echo whole > $M/queued/x && grep whole $M/active/x");
    assert_eq!(sandbox.attribute("active/x", "id"), id);
    assert_eq!(sandbox.attribute("active/x", "message"), None);
    sandbox.umount();
    sandbox.audit();
}

/// Data is sealed at a vote, which a write after it takes back: the content of others stays what it is.
// semantics: write-after-vote
#[test]
fn what_is_written_after_a_vote_changes_no_image_that_has_the_same_content() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 3_000_000);
    // A child has the file as well, and outlives the close that is a vote.
    let voted = "exec 3> $M/active/NAME; cat $F/x >&3; (sleep 0.3; MORE) & exec 3>&-; wait";
    let append = "printf more >&3";
    for before in ["", "cp $F/x $M/active/other"] {
        sandbox.ok(before);
        sandbox.ok(&voted.replace("NAME", "a").replace("MORE", append));
        sandbox.ok(
            "cat $F/x - <<< '' | head -c 3000000 > $F/y; printf more >> $F/y; cmp $F/y $M/active/a",
        );
        if !before.is_empty() {
            sandbox.ok("cmp $F/x $M/active/other");
        }
        sandbox.ok("rm -f $M/active/*; rm -f $M/pending_delete/*");
        sandbox.wait_for_reclaim(0);
    }
    // Another one takes the same content in between the vote and the write.
    sandbox.ok("exec 3> $M/active/a; cat $F/x >&3; (sleep 0.5; printf more >&3) & exec 3>&-
                cp $F/x $M/active/other; wait; cmp $F/y $M/active/a; cmp $F/x $M/active/other");
    let digest = sandbox.attribute("active/other", "blake3").expect("a digest");
    assert_eq!(digest, blake3::hash(&std::fs::read(sandbox.file("x")).expect("read")).to_string());
    // What was voted for and then failed gives its space back.
    sandbox.ok("rm $M/active/*; rm $M/pending_delete/*");
    sandbox.bash("exec 3> $M/active/a; cat $F/x >&3; (sleep 0.3; printf more >&3; kill -9 $BASHPID) & exec 3>&-; wait");
    assert_eq!(sandbox.names("killed"), ["a"]);
    sandbox.wait_for_reclaim(0);
}

/// Two uploads of one content, each of which goes on after its vote: each is what was written to it.
// semantics: write-after-vote
#[test]
fn two_uploads_of_one_content_that_go_on_after_their_votes_are_each_what_was_written() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 2_000_000);
    sandbox.ok("cp $F/x $M/active/third");
    for round in 0..5 {
        sandbox.ok(
            "for name in a b; do
                 (exec 3> $M/active/$name; cat $F/x >&3
                  (sleep 0.2; printf $name | dd of=/dev/fd/3 bs=1 seek=5 conv=notrunc status=none 2>/dev/null || printf $name >&3) &
                  exec 3>&-; wait) &
             done; wait
             for name in a b; do cp $F/x $F/$name; printf $name >> $F/$name; done",
        );
        for name in ["a", "b"] {
            sandbox.ok(&format!(
                "cmp $F/{name} $M/active/{name} || cmp -n 2000000 $F/x $M/active/{name} || exit 0"
            ));
            let digest = sandbox.attribute(&format!("active/{name}"), "blake3").expect("a digest");
            let bytes = std::fs::read(sandbox.path(&format!("active/{name}"))).expect("read");
            assert_eq!(digest, blake3::hash(&bytes).to_string(), "{round} {name}");
            assert_ne!(bytes, std::fs::read(sandbox.file("x")).expect("read"), "it was written to");
        }
        sandbox
            .ok("cmp $F/x $M/active/third; rm $M/active/a $M/active/b; rm -f $M/pending_delete/*");
    }
    let digest = sandbox.attribute("active/third", "blake3").expect("a digest");
    assert_eq!(
        digest,
        blake3::hash(&std::fs::read(sandbox.path("active/third")).expect("read")).to_string()
    );
}
