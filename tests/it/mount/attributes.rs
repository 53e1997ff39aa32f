//! What stat, chmod, chown, touch and getfattr show and keep.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use crate::support::{ALICE, Sandbox};

// semantics: ls-shows
#[test]
fn stat_shows_what_is_real() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 1_000_000);
    sandbox.ok("umask 027; cp $F/x $M/active/x");
    let stat = fs::metadata(sandbox.path("active/x")).expect("there");
    assert_eq!((stat.len(), stat.mode() & 0o7777), (1_000_000, 0o640));
    assert!((1_000_000..1_100_000).contains(&(stat.blocks() * 512)), "{}", stat.blocks());
    assert_eq!(stat.blksize(), 1 << 20);
    // ctime is when the status last changed: a chmod is none.
    sandbox.ok("touch -d 2001-02-03 $M/active/x; chmod 600 $M/active/x");
    let later = fs::metadata(sandbox.path("active/x")).expect("there");
    assert_eq!((later.ctime(), later.ctime_nsec()), (stat.ctime(), stat.ctime_nsec()));
    assert_eq!(later.mtime(), 981_158_400);
    sandbox.ok("rm $M/active/x");
    let removed = fs::metadata(sandbox.path("pending_delete/x")).expect("there");
    assert!((removed.ctime(), removed.ctime_nsec()) > (stat.ctime(), stat.ctime_nsec()));
    assert_eq!(removed.mtime(), 981_158_400);
}

// semantics: mtime-kept
#[test]
fn a_time_that_was_set_stays() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 1000);
    sandbox.ok("touch -d 1999-01-02 $F/x; cp -p $F/x $M/active/a; rsync -a $F/x $M/active/b");
    sandbox.ok("cp $F/x $M/active/c; touch -r $F/x $M/active/c; touch -d 1960-01-01 $F/x; cp -p $F/x $M/active/d");
    sandbox.remount();
    for name in ["a", "b", "c"] {
        let stat = fs::metadata(sandbox.path(&format!("active/{name}"))).expect("there");
        assert_eq!(stat.mtime(), 915_235_200, "{name}");
    }
    let stat = fs::metadata(sandbox.path("active/d")).expect("there");
    assert_eq!(stat.mtime(), -315_619_200);
}

/// A large write is answered before it is done: what is set after it must not be overtaken by it.
// semantics: mtime-kept
#[test]
fn a_time_that_is_set_right_after_a_large_write_stays() {
    let sandbox = Sandbox::new();
    let at = rustix::fs::Timespec { tv_sec: 915_235_200, tv_nsec: 0 };
    let times = &rustix::fs::Timestamps { last_access: at, last_modification: at };
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let path = sandbox.path(&format!("active/{writer}"));
            scope.spawn(move || {
                for round in 0..20 {
                    let mut file = fs::File::create(&path).expect("created");
                    file.write_all(&vec![round; 1 << 20]).expect("written");
                    rustix::fs::futimens(&file, times).expect("set");
                    drop(file);
                    let mtime = fs::metadata(&path).expect("there").mtime();
                    assert_eq!(mtime, 915_235_200, "{writer} {round}");
                }
            });
        }
    });
}

// semantics: chmod-kept
#[test]
fn chmod_and_chown_are_kept_in_every_status() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a; touch $M/queued/q; echo t > $M/active/t; rm $M/active/t");
    for path in ["active/a", "queued/q", "pending_delete/t"] {
        sandbox.ok(&format!("chmod 604 $M/{path}; chown {ALICE}:{ALICE} $M/{path}"));
    }
    sandbox.remount();
    for path in ["active/a", "queued/q", "pending_delete/t"] {
        let stat = fs::metadata(sandbox.path(path)).expect("there");
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (ALICE, ALICE, 0o604));
        assert_eq!(sandbox.attribute(path, "visibility").as_deref(), Some("public"));
    }
}

// semantics: folders-ignore
#[test]
fn changes_of_folders_are_accepted_and_ignored() {
    let sandbox = Sandbox::new();
    let before = fs::metadata(sandbox.path("active")).expect("there");
    sandbox.ok("chmod 700 $M/active $M; chown 1:1 $M/active; touch -d 2001-01-01 $M/active");
    let after = fs::metadata(sandbox.path("active")).expect("there");
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    sandbox.source("dir-member", 10);
    sandbox.ok(
        "mkdir $F/d; cp $F/dir-member $F/d/m; rsync -a $F/d/ $M/active/; cmp $F/d/m $M/active/m",
    );
}

// semantics: attributes-read attributes-foreign
#[test]
fn attributes_are_answered_by_name_and_foreign_ones_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("qemu-img create -q -f qcow2 $F/x 5M; cp $F/x $M/active/x");
    let read = |name: &str| sandbox.attribute("active/x", name);
    let values = [
        ("status", "active"),
        ("name", "x"),
        ("size", "196616"),
        ("virtual_size", "5242880"),
        ("disk_format", "qcow2"),
        ("container_format", "bare"),
        ("owner", "0"),
        ("visibility", "public"),
        ("protected", "false"),
    ];
    for (name, value) in values {
        assert_eq!(read(name).as_deref(), Some(value), "{name}");
    }
    let bytes = fs::read(sandbox.file("x")).expect("the source");
    let digest = blake3::hash(&bytes).to_string();
    assert_eq!(read("blake3"), Some(digest));
    for name in ["created_at", "updated_at", "status_at"] {
        let time = read(name).expect("a time");
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    }
    sandbox.fails("getfattr -n user.sps.message $M/active/x", "No such attribute");
    sandbox.fails("getfattr -n user.sps.nonsense $M/active/x", "No such attribute");
    sandbox.fails("getfattr -n user.other $M/active/x", "Operation not supported");
    sandbox.fails("setfattr -n user.other -v 1 $M/active/x", "Operation not supported");
    sandbox.fails("setfattr -n user.sps.status -v killed $M/active/x", "Operation not permitted");
    assert_eq!(sandbox.ok("getfattr -d $M/active/x"), "");
    sandbox.ok(
        "cp -a $M/active/x $M/active/y; cp -a $M/active/x $F/out; rsync -aX $F/out $M/active/z",
    );
}
