//! Images whose data lies elsewhere: registered by a link or an attribute, read in place.

use std::fs;
use std::path::PathBuf;

use crate::support::{ALICE, BOB, Sandbox, eventually, text};

/// A sandbox, and a folder below which images may lie.
fn sandbox() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::unmounted(&["publish=all"]);
    let root = sandbox.file("lib");
    fs::create_dir(&root).expect("a folder");
    let option = format!("location_root={}", root.display());
    let sandbox = sandbox.and(&option);
    sandbox.mount();
    (sandbox, root)
}

fn has_digest(sandbox: &Sandbox, path: &str) {
    let found = || sandbox.attribute(path, "blake3").is_some();
    eventually("the digest is computed", found);
}

// semantics: locations
#[test]
fn a_link_or_an_attribute_registers_an_image_that_is_read_where_it_lies() {
    let (sandbox, root) = sandbox();
    sandbox.source("lib/a", 5_000_000);
    sandbox.ok("ln -s $F/lib/a $M/active/linked
                ln -s $F/lib/a $M/queued/queued
                touch $M/queued/set; setfattr -n user.sps.locations -v $F/lib/a $M/queued/set");
    assert_eq!(sandbox.tree(), ["active/linked", "active/queued", "active/set"]);
    let digest = blake3::hash(&fs::read(root.join("a")).expect("the source")).to_string();
    for name in ["linked", "queued", "set"] {
        let path = format!("active/{name}");
        let kind = sandbox.ok(&format!("stat -c '%F %s' $M/{path}; cmp $F/lib/a $M/{path}"));
        assert_eq!(kind, "regular file 5000000\n");
        let location = sandbox.attribute(&path, "locations").expect("a location");
        assert_eq!(location, root.join("a").display().to_string());
        assert_eq!(sandbox.attribute(&path, "disk_format").as_deref(), Some("raw"));
        has_digest(&sandbox, &path);
        assert_eq!(sandbox.attribute(&path, "blake3").as_deref(), Some(digest.as_str()));
        assert!(sandbox.ok("ls -l $M/active").contains("5000000"));
    }
    sandbox.wait_for_reclaim(0);
    assert!(!sandbox.log().contains("to=saving"), "never saving");
    sandbox.remount();
    sandbox.ok("cmp $F/lib/a $M/active/linked; cp $M/active/linked $M/active/own; cmp $F/lib/a $M/active/own
                rm $M/active/linked; mv $M/pending_delete/linked $M/active/; cmp $F/lib/a $M/active/linked
                rm $M/active/linked; rm $M/pending_delete/linked; test -e $F/lib/a");
}

// semantics: location-changed
#[test]
fn a_source_that_changed_is_never_read_as_if_it_were_the_image() {
    let (sandbox, root) = sandbox();
    for change in [
        "echo more >> $F/lib/a",
        "touch -d 2001-02-03 $F/lib/a",
        "rm $F/lib/a",
        "cp -p $F/lib/a $F/b; mv $F/b $F/lib/a",
        "cp -p $F/lib/a $F/b; printf x | dd of=$F/lib/a conv=notrunc status=none; touch -r $F/b $F/lib/a",
    ] {
        sandbox.source("lib/a", 100_000);
        sandbox.ok("ln -s $F/lib/a $M/active/a; cat $M/active/a > /dev/null");
        has_digest(&sandbox, "active/a");
        sandbox.ok(change);
        sandbox.fails("cat $M/active/a", "Stale file handle");
        // A task that verifies it withholds it.
        sandbox.ok(
            "echo '{\"type\": \"verify\", \"input\": {\"image\": \"a\"}}' > $M/tasks/pending/v",
        );
        eventually("it is withheld", || sandbox.names("deactivated") == ["a"]);
        let message = sandbox.attribute("deactivated/a", "message").expect("a reason");
        assert!(message.contains(&root.join("a").display().to_string()), "{message}");
        sandbox.ok("rm $M/deactivated/a; rm $M/pending_delete/a; rm $M/tasks/*/v");
    }
}

// semantics: location-refused
#[test]
fn what_may_not_be_used_is_refused_and_leaves_nothing() {
    let (sandbox, root) = sandbox();
    sandbox.source("lib/secret", 1000);
    sandbox.source("lib/b", 1000);
    sandbox.source("outside", 1000);
    sandbox.ok("chmod 600 $F/lib/secret; ln -s $F/outside $F/lib/out; ln -s b $F/lib/in; mkdir $F/lib/d
                ln -s .. $F/lib/up; mkfifo $F/lib/pipe; chmod 755 $F $F/lib
                qemu-img create -q -f qcow2 -u -b /etc/shadow -F raw $F/lib/backing 1M; echo taken > $M/active/taken; chmod +t $M/active/taken");
    sandbox.ok("ln -s $F/lib/in $M/active/in; cmp $F/lib/b $M/active/in; rm $M/active/in; rm $M/pending_delete/in; rm $M/deleted/in");
    for (target, word) in [
        ("$F/outside", "not permitted"),
        ("/etc/passwd", "not permitted"),
        ("$F/lib/out", "not permitted"),
        ("$F/lib/up/outside", "not permitted"),
        ("$F/lib/../outside", "not permitted"),
        ("$F/lib/d", "Invalid argument"),
        ("$F/lib/pipe", "Invalid argument"),
        ("$F/lib/gone", "Invalid argument"),
        ("lib/b", "not permitted"),
        ("$F/lib/backing", "Input/output error"),
    ] {
        sandbox.fails(&format!("ln -s {target} $M/active/x"), word);
        sandbox.fails(
            &format!("touch $M/queued/x; setfattr -n user.sps.locations -v {target} $M/queued/x"),
            word,
        );
        assert!(sandbox.log().contains("op=locate"), "why stands in the log");
        assert_eq!(sandbox.tree(), ["active/taken", "queued/x"], "{target}");
        sandbox.ok("rm $M/queued/x; rm $M/deleted/x");
    }
    sandbox.fails("ln -s $F/lib/b $M/active/taken", "File exists");
    for folder in ["saving", "uploading", "killed", "tasks/pending", "."] {
        sandbox.fails(&format!("ln -s $F/lib/b $M/{folder}/x"), "not permitted");
    }
    let output = sandbox.bash_as(ALICE, "ln -s $F/lib/secret $M/active/x");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    let output =
        sandbox.bash_as(ALICE, "ln -s $F/lib/b $M/active/mine && cat $M/active/mine > /dev/null");
    assert!(output.status.success(), "{}", text(&output));
    let owner = sandbox.ok("stat -c %u $M/active/mine");
    assert_eq!(owner.trim(), ALICE.to_string());
    let output = sandbox.bash_as(BOB, "setfattr -x user.sps.locations $M/active/mine");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    assert!(root.join("secret").exists());
    // No root is allowed by default.
    let plain = Sandbox::new();
    plain.source("a", 10);
    plain.fails("ln -s $F/a $M/active/a", "not permitted");
}

/// The kernel holds the folder while a link is made: what this mount would have to answer itself must not be
/// asked then.
// semantics: location-refused
#[test]
fn a_location_in_the_mount_or_on_another_filesystem_is_refused_and_nothing_hangs() {
    let sandbox = Sandbox::unmounted(&[]);
    let root = sandbox.file("..").canonicalize().expect("the folder of all");
    let sandbox = sandbox.and(&format!("location_root={}", root.display()));
    sandbox.mount();
    sandbox.source("a", 1000);
    sandbox.ok("echo real > $M/active/real; ln -s ../mnt/active/real $F/in; mkdir $F/tmp; mount -t tmpfs t $F/tmp; cp $F/a $F/tmp/a");
    for target in ["$M/active/real", "$F/in", "$F/tmp/a", "$M/STATUS", "$M/../store/sps.db"] {
        let made = sandbox.bash(&format!("timeout 10 ln -s {target} $M/active/x"));
        assert_eq!(made.status.code(), Some(1), "{target}: {}", text(&made));
    }
    sandbox.ok("umount $F/tmp; ln -s $F/a $M/active/x; cmp $F/a $M/active/x; ls $M/active");
}

// semantics: location-removed
#[test]
fn an_id_that_lost_its_location_takes_the_same_content_only() {
    let (sandbox, _) = sandbox();
    sandbox.source("lib/a", 100_000);
    sandbox.source("lib/other", 100_000);
    sandbox.ok("ln -s $F/lib/a $M/active/a; echo own > $M/active/own");
    has_digest(&sandbox, "active/a");
    let id = sandbox.attribute("active/a", "id");
    sandbox.fails("mv $M/active/own $M/queued/", "not permitted");
    sandbox.ok("mv $M/active/a $M/queued/");
    assert_eq!(sandbox.attribute("queued/a", "id"), id);
    assert_eq!(sandbox.attribute("queued/a", "size"), None);
    // The same by another way in is taken, other content is not.
    sandbox
        .fails("setfattr -n user.sps.locations -v $F/lib/other $M/queued/a", "Input/output error");
    sandbox.ok("setfattr -n user.sps.locations -v $F/lib/a $M/queued/a; cmp $F/lib/a $M/active/a
                setfattr -x user.sps.locations $M/active/a; cp $F/lib/a $M/queued/a; cmp $F/lib/a $M/active/a");
    assert_eq!(sandbox.attribute("active/a", "id"), id);
    assert_eq!(sandbox.attribute("active/a", "locations"), None, "it is the store's own now");
    sandbox.ok("ln -s $F/lib/a $M/active/b");
    has_digest(&sandbox, "active/b");
    sandbox.ok("mv $M/active/b $M/queued/");
    sandbox.fails("dd if=$F/lib/other of=$M/queued/b status=none", "Input/output error");
    let message = sandbox.attribute("killed/b", "message").expect("a reason");
    assert!(message.contains("was active with other content"), "{message}");
}

// semantics: location-expected
#[test]
fn what_is_declared_is_held_against_what_lies_elsewhere() {
    let (sandbox, _) = sandbox();
    sandbox.source("lib/a", 100_000);
    for (name, good, bad) in [
        ("expected_size", "100000".to_owned(), "99999".to_owned()),
        ("expected_sha256", sandbox.ok("sha256sum $F/lib/a | cut -d' ' -f1"), "1".repeat(64)),
        ("expected_blake3", sandbox.ok("b3sum $F/lib/a | cut -d' ' -f1"), "1".repeat(64)),
        ("disk_format", "raw".to_owned(), "qcow2".to_owned()),
    ] {
        for (value, is_good) in [(bad.trim(), false), (good.trim(), true)] {
            sandbox.ok(&format!(
                "touch $M/queued/x; setfattr -n user.sps.{name} -v {value} $M/queued/x"
            ));
            let set = "setfattr -n user.sps.locations -v $F/lib/a $M/queued/x";
            if is_good {
                sandbox.ok(set);
                sandbox.ok("rm $M/active/x; rm $M/pending_delete/x");
            } else {
                sandbox.fails(set, "Input/output error");
                sandbox.ok("rm $M/queued/x; rm $M/deleted/x");
            }
        }
    }
}

/// A disk that gives other bytes than it was given changes no time and no length.
#[test]
fn what_lies_elsewhere_and_rots_is_found_by_its_digest_and_withheld() {
    let (sandbox, root) = sandbox();
    sandbox.ok("truncate -s 16M $F/disk; mkfs.ext4 -q $F/disk; mount -o loop $F/disk $F/lib");
    sandbox.source("lib/whole", 30_000);
    sandbox.ok("
                (head -c 200000 /dev/zero; echo ORIGINAL; head -c 100000 /dev/zero) > $F/lib/x
                ln -s $F/lib/x $M/active/x; ln -s $F/lib/whole $M/active/whole");
    has_digest(&sandbox, "active/x");
    has_digest(&sandbox, "active/whole");
    let rotten = sandbox.bash("set -e; umount $F/lib; at=$(LC_ALL=C grep -abo ORIGINAL $F/disk | head -n 1 | cut -d: -f1)
                printf Z | dd of=$F/disk bs=1 seek=$at conv=notrunc status=none; mount -o loop $F/disk $F/lib");
    let (path, said) = (root.join("x"), sandbox.bash("$SPS verify --json $M"));
    let is_rotten =
        fs::read(path).is_ok_and(|bytes| bytes.windows(8).any(|word| word == b"ZRIGINAL"));
    sandbox.bash("umount -l $F/lib");
    assert!(rotten.status.success() && is_rotten, "{}", text(&rotten));
    let report = text(&said);
    let report: serde_json::Value =
        serde_json::from_str(report.split("\nsps: ").next().unwrap_or_default()).expect("JSON");
    assert_eq!(said.status.code(), Some(1), "{report}");
    assert_eq!((&report["damaged"], &report["contents"]), (&1.into(), &2.into()), "{report}");
    assert_eq!(report["size_bytes"], 30_000 + 300_009);
    assert_eq!(sandbox.tree(), ["active/whole", "deactivated/x"]);
    assert!(
        sandbox.attribute("deactivated/x", "message").is_some_and(|told| told.contains("damaged"))
    );
    // It is not read again, though it looks from outside as it was.
    sandbox.fails("mv $M/deactivated/x $M/active/x && cat $M/active/x", "");
}

// semantics: verify-damage
#[test]
fn what_lies_elsewhere_and_was_changed_or_is_gone_is_counted_and_withheld() {
    let (sandbox, _) = sandbox();
    for name in ["changed", "gone", "whole"] {
        sandbox.source(&format!("lib/{name}"), 30_000);
        sandbox.ok(&format!("ln -s $F/lib/{name} $M/active/{name}"));
        has_digest(&sandbox, &format!("active/{name}"));
    }
    sandbox.ok("echo more >> $F/lib/changed; rm $F/lib/gone");
    let said = sandbox.bash("$SPS verify --json $M 2> /dev/null");
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(said.status.code(), Some(1), "{report}");
    assert_eq!((&report["damaged"], &report["contents"]), (&2.into(), &3.into()), "{report}");
    assert_eq!(sandbox.tree(), ["active/whole", "deactivated/changed", "deactivated/gone"]);
}
