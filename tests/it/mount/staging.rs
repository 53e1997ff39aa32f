//! Staging and import: what is worked on in place, and how it is taken in.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use crate::support::{ALICE, Sandbox, SmallDisk, eventually, text};

/// A quarter of a second, and what a busy machine adds to it.
const HOLD_MAX: Duration = Duration::from_millis(1500);

// semantics: create-uploading staging-in-place
#[test]
fn what_is_staged_is_reopened_patched_cut_grown_and_renamed_at_will() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 1_000_000);
    sandbox.ok("cp $F/x $M/uploading/u; cmp $F/x $M/uploading/u; cp $F/x $F/y");
    assert_eq!(sandbox.tree(), ["uploading/u"]);
    for file in ["$M/uploading/u", "$F/y"] {
        sandbox.ok(&format!(
            "printf patched | dd of={file} bs=1 seek=500000 conv=notrunc status=none
             truncate -s 900000 {file}; truncate -s 1200000 {file}; echo end >> {file}
             python3 -c 'import os; os.truncate(os.path.expandvars(\"{file}\"), 1100000)'
             fallocate -p -o 8192 -l 65536 {file}"
        ));
    }
    sandbox
        .ok("cmp $F/y $M/uploading/u; mv $M/uploading/u $M/uploading/v; cmp $F/y $M/uploading/v");
    let stat = fs::metadata(sandbox.path("uploading/v")).expect("there");
    assert_eq!(stat.len(), 1_100_000);
    assert!(stat.blocks() * 512 < 1_100_000, "a hole stays one: {}", stat.blocks());
    // Two who have it open see each other's writes, and a failing writer takes nothing away.
    let one = OpenOptions::new().read(true).write(true).open(sandbox.path("uploading/v"));
    let one = one.expect("reopened");
    let two = File::open(sandbox.path("uploading/v")).expect("read as well");
    one.write_all_at(b"seen", 77).expect("written");
    let mut seen = [0; 4];
    two.read_exact_at(&mut seen, 77).expect("read");
    assert_eq!(&seen, b"seen");
    drop((one, two));
    sandbox.bash("(printf more; kill -9 $BASHPID) >> $M/uploading/v");
    assert_eq!(fs::metadata(sandbox.path("uploading/v")).expect("there").len(), 1_100_004);
    sandbox.ok(": > $M/uploading/v");
    assert_eq!(fs::metadata(sandbox.path("uploading/v")).expect("there").len(), 0);
    sandbox.ok("rm $M/uploading/v");
    assert_eq!(sandbox.tree(), ["deleted/v"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: staging-mmap
#[test]
fn what_is_staged_can_be_mapped_to_be_written() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 1M $M/uploading/u; python3 -c '
import mmap, os
f = os.open(os.environ[\"M\"] + \"/uploading/u\", os.O_RDWR)
m = mmap.mmap(f, 1 << 20, mmap.MAP_SHARED)
m[5000:5006] = b\"mapped\"
m.flush()
assert os.pread(f, 6, 5000) == b\"mapped\"
os.pwrite(f, b\"written\", 9000)
assert m[9000:9007] == b\"written\"
m[700000:700004] = b\"last\"
m.close()
os.close(f)
'
         mv $M/uploading/u $M/active/u; settled
         test \"$(dd if=$M/active/u bs=1 skip=5000 count=6 status=none)\" = mapped
         test \"$(dd if=$M/active/u bs=1 skip=9000 count=7 status=none)\" = written
         test \"$(dd if=$M/active/u bs=1 skip=700000 count=4 status=none)\" = last");
    let bytes = fs::read(sandbox.path("active/u")).expect("readable");
    let digest = blake3::hash(&bytes).to_string();
    assert_eq!(sandbox.attribute("active/u", "blake3"), Some(digest));
    sandbox.umount();
    sandbox.audit();
}

/// A mapping outlives its descriptor, and the kernel says nothing of it: nobody waits for such a file again and again.
// semantics: staging-mmap never-slow
#[test]
fn a_file_that_is_mapped_is_closed_and_opened_again_without_delay() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 64K $M/uploading/u; python3 -c '
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
path = os.environ[\"M\"] + \"/uploading/u\"
def once():
    f = os.open(path, os.O_RDWR)
    # Of the mmap module each mapping has a descriptor of its own.
    assert libc.mmap(None, 65536, 1, 1, f, 0) != ctypes.c_void_p(-1).value
    os.close(f)
once()
begun = time.monotonic()
for _ in range(20): once()
took = time.monotonic() - begun
# Each close once cost three quarters of a second.
assert took < 7.5, took
'");
    assert_eq!(sandbox.tree(), ["uploading/u"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: staging-survives
#[test]
fn what_is_staged_survives_a_restart_and_a_kill() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 500_000);
    sandbox.ok("cp $F/x $M/uploading/u; touch $M/uploading/empty");
    sandbox.remount();
    sandbox.ok("cmp $F/x $M/uploading/u");
    sandbox.ok("printf zz | dd of=$M/uploading/u bs=1 seek=3 conv=notrunc status=none");
    sandbox.ok("printf zz | dd of=$F/x bs=1 seek=3 conv=notrunc status=none");
    sandbox.kill_daemon();
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["uploading/empty", "uploading/u"]);
    sandbox.ok("cmp $F/x $M/uploading/u; mv $M/uploading/u $M/uploading/empty $M/active/; settled");
    sandbox.ok("cmp $F/x $M/active/u");
    assert_eq!(sandbox.tree(), ["active/empty", "active/u"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: staging-import import-seen-as-task
#[test]
fn a_staged_image_is_imported_by_mv_under_any_name_and_seen_as_a_task() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 300_000);
    sandbox
        .ok("cp -p $F/x $M/uploading/u; chmod 640 $M/uploading/u; mv $M/uploading/u $M/active/a; settled");
    assert_eq!(sandbox.tree(), ["active/a"]);
    sandbox.ok("cmp $F/x $M/active/a; test $(stat -c %a $M/active/a) = 640");
    sandbox.ok("test $(stat -c %Y $M/active/a) = $(stat -c %Y $F/x)");
    assert_eq!(sandbox.names("tasks/success"), ["a"]);
    let task: serde_json::Value =
        serde_json::from_str(&sandbox.ok("cat $M/tasks/success/a")).expect("JSON");
    assert_eq!((&task["type"], &task["status"]), (&"import".into(), &"success".into()));
    let id = sandbox.attribute("active/a", "id").expect("an id");
    assert_eq!(task["result"]["image"], id.as_str());
    // Onto a name that is taken: the one that had it goes to the trash.
    sandbox.ok("echo new > $M/uploading/a; mv -f $M/uploading/a $M/active/; settled");
    assert_eq!(sandbox.tree(), ["active/a", "pending_delete/a"]);
    assert_eq!(sandbox.ok("cat $M/active/a"), "new\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: import-quarter importing-unreadable
#[test]
fn a_long_import_holds_no_folder_and_goes_on_by_itself() {
    let sandbox = Sandbox::new();
    // A file that takes seconds to hash, made without the mount hashing it on the way.
    sandbox.ok("truncate -s 40G $M/uploading/big; echo end >> $M/uploading/big");
    let began = Instant::now();
    sandbox.ok("mv $M/uploading/big $M/active/");
    let took = began.elapsed();
    assert!(took < HOLD_MAX, "{took:?}");
    assert_eq!(sandbox.tree(), ["importing/big"], "it takes longer than that");
    sandbox.fails("cat $M/importing/big", "Permission denied");
    let page = sandbox.ok("cat $M/STATUS");
    assert!(page.contains("import ") && page.contains(" %"), "{page}");
    eventually("its task says how far it is", || {
        let text = fs::read_to_string(sandbox.path("tasks/processing/big")).unwrap_or_default();
        let task: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        task["progress"].as_u64().is_some_and(|percent| percent > 0)
            || sandbox.names("active") == ["big"]
    });
    sandbox.fails("rm $M/tasks/processing/big && echo", "Device or resource busy");
    eventually("it is active", || sandbox.names("active") == ["big"]);
    let size = fs::metadata(sandbox.path("active/big")).expect("there").len();
    assert_eq!(size, (40 << 30) + 4);
    sandbox.umount();
}

// semantics: import-fails
#[test]
fn an_import_that_fails_leaves_the_image_queued_with_the_reason_and_can_be_tried_again() {
    let sandbox = Sandbox::new();
    sandbox
        .ok("echo data > $M/uploading/u; setfattr -n user.sps.expected_size -v 9 $M/uploading/u");
    let renamed = fs::rename(sandbox.path("uploading/u"), sandbox.path("active/u"));
    // On a busy machine it may have returned before.
    let errno = renamed.err().and_then(|error| error.raw_os_error());
    assert!(errno.is_none() || errno == Some(libc::EIO), "{errno:?}");
    eventually("it has failed", || sandbox.tree() == ["queued/u"]);
    let message = sandbox.attribute("queued/u", "message").expect("a reason");
    assert!(message.contains("9 were declared"), "{message}");
    assert!(sandbox.ok("cat $M/STATUS").contains("9 were declared"));
    assert_eq!(crate::support::count_files(&sandbox.store().join("staging")), 0);
    assert_eq!(sandbox.names("tasks/failure"), ["u"]);
    let id = sandbox.attribute("queued/u", "id");
    sandbox.ok("echo nine-byt > $M/queued/u");
    assert_eq!(sandbox.tree(), ["active/u"]);
    assert_eq!(sandbox.attribute("active/u", "id"), id);
    sandbox.umount();
    sandbox.audit();
}

// semantics: import-open
#[test]
fn what_is_still_open_is_not_imported() {
    let sandbox = Sandbox::new();
    sandbox.fails("exec 3>$M/uploading/u; echo one >&3; mv $M/uploading/u $M/active/", "busy");
    assert_eq!(sandbox.tree(), ["uploading/u"]);
    for round in 0..20 {
        sandbox.ok(&format!(
            "echo {round} > $M/uploading/u && mv $M/uploading/u $M/active/u && settled"
        ));
    }
    assert_eq!(sandbox.ok("cat $M/active/u"), "19\n");
}

// semantics: import-refused
#[test]
fn what_could_not_have_its_name_stays_staged() {
    let sandbox = Sandbox::with(&["publish=all"]);
    sandbox.ok("echo gold > $M/active/g; chmod +t $M/active/g; echo roots > $M/active/r");
    sandbox.ok("echo u > $M/uploading/g");
    sandbox.fails("mv -f $M/uploading/g $M/active/", "not permitted");
    let output = sandbox.bash_as(ALICE, "echo a > $M/uploading/r; mv -f $M/uploading/r $M/active/");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    let output = sandbox.bash_as(ALICE, "mv -f $M/uploading/g $M/active/n");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    assert_eq!(sandbox.tree(), ["active/g", "active/r", "uploading/g", "uploading/r"]);
    sandbox.fails("mv -nT $M/uploading/g $M/active/r && test ! -e $M/uploading/g", "");
    assert_eq!(sandbox.names("uploading"), ["g", "r"], "RENAME_NOREPLACE");
}

// semantics: stage-queued
#[test]
fn a_queued_image_goes_to_staging_and_back() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/queued/q; mv $M/queued/q $M/uploading/; echo data > $M/uploading/q");
    let id = sandbox.attribute("uploading/q", "id");
    sandbox.ok("mv $M/uploading/q $M/queued/");
    assert_eq!(sandbox.tree(), ["queued/q"]);
    assert_eq!(fs::metadata(sandbox.path("queued/q")).expect("there").len(), 0);
    assert_eq!(crate::support::count_files(&sandbox.store().join("staging")), 0);
    sandbox.ok(
        "mv $M/queued/q $M/uploading/; echo more > $M/uploading/q; mv $M/uploading/q $M/active/; settled",
    );
    assert_eq!(sandbox.attribute("active/q", "id"), id);
    assert_eq!(sandbox.ok("cat $M/active/q"), "more\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: staging-pages
#[test]
fn what_the_kernel_kept_from_staging_is_never_read_for_what_was_sealed() {
    let sandbox = Sandbox::new();
    for round in 0..10 {
        sandbox.ok(&format!(
            "head -c 8192 /dev/zero | tr '\\0' a > $M/uploading/u; cat $M/uploading/u > /dev/null
             mv $M/uploading/u $M/queued/u; head -c 8192 /dev/zero | tr '\\0' b > $M/queued/u
             mv $M/active/u $M/active/u{round}; ! grep -q a $M/active/u{round}"
        ));
    }
}

// semantics: abort delete-by-mv
#[test]
fn an_upload_is_aborted_and_images_are_deleted_by_mv() {
    let sandbox = Sandbox::new();
    sandbox.fails(
        "exec 3>$M/active/x; echo part >&3; mv $M/saving/x $M/killed/; echo more >&3",
        "Operation canceled",
    );
    assert_eq!(sandbox.tree(), ["killed/x"]);
    let message = sandbox.attribute("killed/x", "message").expect("a reason");
    assert!(message.contains("aborted"), "{message}");
    sandbox.ok("touch $M/queued/q; echo u > $M/uploading/u");
    sandbox.ok(
        "mv $M/killed/x $M/deleted/; mv $M/queued/q $M/deleted/; mv $M/uploading/u $M/deleted/",
    );
    sandbox.fails(
        "exec 3>$M/active/s; echo part >&3; mv $M/saving/s $M/deleted/; echo more >&3",
        "Operation canceled",
    );
    // An import that is deleted ends.
    sandbox.ok("truncate -s 12G $M/uploading/big; mv $M/uploading/big $M/active/");
    sandbox.ok("mv $M/importing/big $M/deleted/");
    assert_eq!(sandbox.tree(), ["deleted/big", "deleted/q", "deleted/s", "deleted/u", "deleted/x"]);
    eventually("its task ends", || sandbox.names("tasks/failure") == ["big"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: import-open
#[test]
fn a_writer_that_opens_it_while_its_import_begins_changes_nothing_that_is_sealed() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 600_000);
    for round in 0..60 {
        sandbox.ok(&format!("cp $F/x $M/uploading/u{round}"));
        let staged = sandbox.path(&format!("uploading/u{round}"));
        let active = sandbox.path(&format!("active/u{round}"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    if let Ok(file) = OpenOptions::new().write(true).open(&staged) {
                        // It may be cut off.
                        let _ = file.write_all_at(b"patched", 1000);
                    }
                }
            });
            scope.spawn(|| {
                while fs::rename(&staged, &active).is_err() {
                    assert!(staged.exists() || active.exists(), "it is one of the two");
                }
            });
        });
        eventually("it is imported", || active.exists());
        let bytes = fs::read(&active).expect("readable");
        let digest = blake3::hash(&bytes).to_string();
        assert_eq!(sandbox.attribute(&format!("active/u{round}"), "blake3"), Some(digest));
    }
    sandbox.umount();
    sandbox.audit();
}

// semantics: staging-full
#[test]
fn a_full_disk_takes_no_staged_data_away_and_lets_nothing_torn_in() {
    let disk = SmallDisk::new(40, &[]);
    let sandbox = &disk.0;
    sandbox.source("x", 4_000_000);
    sandbox.ok("cp $F/x $M/uploading/a; echo old > $M/active/old");
    {
        let file = OpenOptions::new().write(true).open(sandbox.path("uploading/a"));
        let file = file.expect("reopened");
        disk.fill();
        file.write_all_at(b"!", 5).expect("no room is needed for that");
    }
    sandbox.ok("ls -l $M/uploading");
    disk.free();
    let mut bytes = fs::read(sandbox.file("x")).expect("the source");
    bytes[5] = b'!';
    assert!(fs::read(sandbox.path("uploading/a")).expect("still there") == bytes);
    // What one had before a write found no room is still there.
    sandbox.ok("cp $F/x $M/uploading/p");
    sandbox.fails("head -c 60000000 /dev/urandom >> $M/uploading/p", "No space left");
    sandbox.ok("cmp -n 4000000 $F/x $M/uploading/p; rm $M/uploading/p $M/deleted/p");
    // A write that failed fails the close, and what is torn is not taken in until it is written anew.
    let output = sandbox.bash("head -c 60000000 /dev/zero > $M/uploading/t");
    assert!(!output.status.success(), "{}", text(&output));
    // On the full disk, what is there can be removed.
    disk.fill();
    sandbox.ok("rm $M/active/old; rm $M/pending_delete/old");
    disk.free();
    let renamed = fs::rename(sandbox.path("uploading/t"), sandbox.path("active/t"));
    assert_eq!(renamed.expect_err("torn").raw_os_error(), Some(libc::EIO));
    sandbox.ok("cp $F/x $M/uploading/t; mv $M/uploading/t $M/uploading/a $M/active/; settled");
    sandbox.ok("cmp $F/x $M/active/t");
    assert!(fs::read(sandbox.path("active/a")).expect("there") == bytes);
    sandbox.umount();
    sandbox.audit();
}
