//! Replacing: the name is never missing and never half there.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{ALICE, BOB, Sandbox, names_in, text};

/// Ways to replace `$M/active/x` by `$F/new`.
const WAYS: [(&str, &str); 9] = [
    ("cp", "cp $F/new $M/active/x"),
    ("cp -f", "cp -f $F/new $M/active/x"),
    ("cp --remove-destination", "cp --remove-destination $F/new $M/active/x"),
    ("install", "install $F/new $M/active/x"),
    ("mv from another filesystem", "cp $F/new $F/m; mv $F/m $M/active/x"),
    ("redirection", "cat $F/new > $M/active/x"),
    ("dd", "dd if=$F/new of=$M/active/x bs=64k status=none"),
    ("rsync", "rsync --ignore-times $F/new $M/active/x"),
    ("tar", "cp $F/new $F/x; tar -C $F -cf $F/t.tar x; tar -C $M/active -xf $F/t.tar x"),
];

// semantics: replace-truncate replace-unlinked replace-readers
#[test]
fn every_way_to_replace_leaves_the_new_one_and_the_old_one_in_the_trash() {
    let sandbox = Sandbox::new();
    sandbox.source("old", 700_000);
    sandbox.source("new", 900_001);
    let old = fs::read(sandbox.file("old")).expect("the source");
    for (name, script) in WAYS {
        sandbox.ok("cp $F/old $M/active/x");
        let id = sandbox.attribute("active/x", "id");
        let mut reader = File::open(sandbox.path("active/x")).expect("readable");
        sandbox.ok(script);
        assert_eq!(sandbox.tree(), ["active/x", "pending_delete/x"], "{name}");
        sandbox.ok("cmp $F/new $M/active/x");
        assert_eq!(sandbox.attribute("pending_delete/x", "id"), id, "{name}");
        let mut found = Vec::new();
        reader.read_to_end(&mut found).expect("readable");
        assert!(found == old, "{name}: whoever reads goes on reading the old one");
        sandbox
            .ok("rm $M/active/x; rm $M/pending_delete/x*; rm $M/deleted/x*; rm -f $M/deleted/x*");
    }
    sandbox.umount();
    sandbox.audit();
}

// semantics: replace-fails replace-nothing
#[test]
fn a_replacement_that_fails_or_brings_nothing_leaves_the_old_one_where_it_was() {
    let sandbox = Sandbox::new();
    sandbox.source("old", 300_000);
    sandbox.ok("cp $F/old $M/active/x");
    let before = sandbox.ok("stat -c '%i %z' $M/active/x");
    for script in [
        "no-such-command > $M/active/x",
        "false > $M/active/x",
        "cat $F/none > $M/active/x",
        "exec 3>$M/active/x; exec 3>&-",
        "cp /dev/null $M/active/x",
    ] {
        sandbox.bash(script);
        assert_eq!(sandbox.tree(), ["active/x"], "{script}");
    }
    assert_eq!(sandbox.ok("stat -c '%i %z' $M/active/x"), before, "it was never touched");
    for script in [
        "(echo part; kill -9 $BASHPID) > $M/active/x",
        "python3 -c '
import os
path = os.environ[\"M\"] + \"/active/x\"
os.unlink(path)
f = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.write(f, b\"part\")
os._exit(1)'",
    ] {
        assert!(!sandbox.bash(script).status.success());
        assert_eq!(sandbox.tree(), ["active/x", "killed/x"], "{script}");
        sandbox.ok("cmp $F/old $M/active/x; rm $M/killed/x; rm $M/deleted/x");
    }
    // Made again without content: it is the old one that has the name.
    sandbox.ok("python3 -c '
import os
path = os.environ[\"M\"] + \"/active/x\"
os.unlink(path)
os.close(os.open(path, os.O_CREAT | os.O_WRONLY))'");
    assert_eq!(sandbox.tree(), ["active/x"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: replace-fails
#[test]
fn a_daemon_that_dies_in_a_replacement_leaves_the_old_one() {
    let sandbox = Sandbox::new();
    sandbox.source("old", 300_000);
    sandbox.ok("cp $F/old $M/active/x");
    let open = || OpenOptions::new().write(true).truncate(true).open(sandbox.path("active/x"));
    let mut begun = open().expect("a replacement");
    begun.write_all(b"part").expect("written");
    let empty = open().expect("another one");
    sandbox.kill_daemon();
    drop((begun, empty));
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["active/x", "killed/x"]);
    sandbox.ok("cmp $F/old $M/active/x");
    sandbox.umount();
    sandbox.audit();
}

// semantics: replace-owner
#[test]
fn a_replacement_by_truncation_has_the_owner_and_the_mode_of_the_old_one() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let ready = "echo old > $M/active/x; chmod 662 $M/active/x; echo own > $M/active/own";
    assert!(sandbox.bash_as(ALICE, ready).status.success());
    assert!(sandbox.bash_as(BOB, "echo new > $M/active/x").status.success());
    let stat = fs::metadata(sandbox.path("active/x")).expect("there");
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (ALICE, 0o662));
    assert_eq!(sandbox.ok("cat $M/active/x"), "new\n");
    let output = sandbox.bash_as(BOB, "echo new > $M/active/own");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    sandbox.ok("echo roots > $M/active/own");
    let stat = fs::metadata(sandbox.path("active/own")).expect("there");
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (ALICE, 0o644));
    // What Bob removes and makes again is his; what he may not remove stays.
    assert!(!sandbox.bash_as(BOB, "rm -f $M/active/own").status.success());
    assert_eq!(sandbox.names("active"), ["own", "x"]);
}

// semantics: replace-writers-view
#[test]
fn the_writer_of_a_replacement_sees_the_new_one_and_all_others_the_old_one() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo old > $M/active/x; ln -s $M/active/x $F/link");
    for path in [sandbox.path("active/x"), sandbox.file("link")] {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .truncate(true)
            .custom_flags(libc::O_APPEND)
            .open(path)
            .expect("a replacement");
        assert_eq!(file.metadata().expect("fstat").len(), 0);
        file.write_all(b"much newer").expect("written");
        assert_eq!(file.metadata().expect("fstat").len(), 10);
        let seen = fs::read_to_string(sandbox.path("active/x")).expect("the old one");
        assert_ne!(seen, "much newer");
        assert_eq!(sandbox.names("saving"), ["x"]);
        drop(file);
        assert_eq!(fs::read(sandbox.path("active/x")).expect("the new one"), b"much newer");
        sandbox.ok("echo again > $M/active/x");
    }
    // By a descriptor there is no name to be had: it is refused, and nothing is left of it.
    let tree = sandbox.tree();
    sandbox.fails("exec 3<$M/active/x; echo x > /dev/fd/3", "Permission denied");
    assert_eq!(sandbox.tree(), tree);
}

// semantics: never-missing
#[test]
fn a_name_that_is_replaced_again_and_again_is_read_whole_a_thousand_times() {
    const READS: usize = 1000;
    let sandbox = Sandbox::new();
    let writers = [
        "while :; do cp $F/build $M/active/nightly || exit 1; done",
        "
        while :; do cp $F/build $F/m; mv -f $F/m $M/active/nightly || exit 1; done",
    ];
    for script in writers {
        sandbox
            .ok("head -c 3000000 /dev/zero | tr '\\0' b > $F/build; cp $F/build $M/active/nightly");
        let mut writer = sandbox.bash_command(script).spawn().expect("a writer");
        let reads = AtomicUsize::new(0);
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while reads.fetch_add(1, Ordering::Relaxed) < READS {
                        let image = fs::read(sandbox.path("active/nightly"));
                        let image = image.unwrap_or_else(|error| {
                            is_over.store(true, Ordering::Relaxed);
                            panic!("{error}")
                        });
                        assert_eq!(image.len(), 3_000_000);
                        assert!(image.iter().all(|byte| *byte == b'b'), "half another");
                    }
                });
            }
        });
        assert!(writer.try_wait().expect("asked").is_none(), "its writer failed");
        writer.kill().expect("killed");
        writer.wait().expect("ended");
        let replaced = names_in(&sandbox.path("pending_delete")).len();
        assert!(replaced > 20, "only {replaced} were replaced");
        sandbox.ok("rm -f $M/pending_delete/* $M/killed/*; rm -f $M/deleted/*; true");
    }
    let status = Command::new("true").status().expect("ended");
    assert!(status.success());
}

// semantics: vacant-name
#[test]
fn a_name_that_is_only_removed_is_gone_at_once_for_all() {
    let sandbox = Sandbox::new();
    let began = std::time::Instant::now();
    for _ in 0..20 {
        sandbox.ok("echo x > $M/active/x; rm $M/active/x; test ! -e $M/active/x");
    }
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    // Another process that makes it makes a new image, and none that was removed comes back.
    sandbox.ok("echo one > $M/active/y; rm $M/active/y; touch $M/active/y");
    assert_eq!(sandbox.names("queued"), ["y"]);
    assert!(!sandbox.names("active").contains(&"y".to_owned()));
}

// semantics: replace-truncate
#[test]
fn an_open_that_is_overtaken_by_renames_and_removals_is_answered_all_the_same() {
    const NAMES: u32 = 3;
    let sandbox = Sandbox::new();
    let is_over = AtomicBool::new(false);
    let path = |at: u32| sandbox.path(&format!("active/n{}", at % NAMES));
    let outcomes = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut stale = 0;
                    let mut opened = 0;
                    for at in worker.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let outcome = File::create(path(at)).and_then(|mut file| {
                            opened += 1;
                            file.write_all(b"data")
                        });
                        let errno = outcome.err().and_then(|error| error.raw_os_error());
                        stale += u32::from(errno == Some(libc::ESTALE));
                    }
                    (opened, stale)
                })
            })
            .collect();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(4);
        for at in 0.. {
            if std::time::Instant::now() > until {
                break;
            }
            // Whatever is there, or not there any more.
            let _ = fs::rename(path(at), path(at + 1));
            if at % 16 == 0 {
                let _ = fs::remove_file(path(at));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    let opened: u32 = outcomes.iter().map(|(opened, _)| opened).sum();
    let stale: u32 = outcomes.iter().map(|(_, stale)| stale).sum();
    assert!(opened > 100, "only {opened} were opened");
    assert_eq!(stale, 0, "of {opened}");
}
