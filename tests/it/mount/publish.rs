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
