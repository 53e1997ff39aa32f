//! Renames between status folders: the transitions they ask for, and no other.

use std::fs;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sps::lifecycle::{MOVES, Status};

use crate::support::{ALICE, BOB, Sandbox, text};

/// Puts an image `i` into a status, on an empty store.
fn put(sandbox: &Sandbox, status: Status) {
    sandbox.ok(match status {
        Status::Queued => "touch $M/queued/i",
        Status::Saving => "",
        Status::Uploading => "echo u > $M/uploading/i",
        Status::Importing => "truncate -s 30G $M/uploading/i; mv $M/uploading/i $M/active/i",
        Status::Active => "echo a > $M/active/i",
        Status::Deactivated => "echo d > $M/active/i; mv $M/active/i $M/deactivated/",
        Status::Killed => "! (echo k; exec sh -c 'kill -9 $$') > $M/active/i; test -e $M/killed/i",
        Status::PendingDelete => "echo p > $M/active/i; rm $M/active/i",
        Status::Deleted => "touch $M/queued/i; rm $M/queued/i",
    });
}

// semantics: move-transitions folders-are-statuses
#[test]
fn every_pair_of_folders_is_a_transition_of_the_table_or_refused_and_changes_nothing() {
    for from in Status::ALL {
        let sandbox = Sandbox::new();
        let mut writer = None;
        for to in Status::ALL.into_iter().filter(|to| *to != from) {
            if sandbox.tree() != [format!("{from}/i")] {
                drop(writer.take());
                for folder in Status::ALL {
                    // Out of the way of the next one, wherever it went.
                    sandbox.bash(&format!("rm -f $M/{folder}/i*; true"));
                }
                sandbox.bash("rm -f $M/deleted/*; rm -f $M/deleted/*");
                put(&sandbox, from);
                if from == Status::Saving {
                    let mut file = fs::File::create(sandbox.path("active/i")).expect("new");
                    std::io::Write::write_all(&mut file, b"part").expect("written");
                    writer = Some(file);
                }
            }
            let listed = format!("{from}/i");
            assert_eq!(sandbox.tree(), std::slice::from_ref(&listed), "before {from} to {to}");
            let renamed = fs::rename(sandbox.path(&listed), sandbox.path(&format!("{to}/i")));
            let is_move = MOVES.iter().any(|(a, b, _)| (*a, *b) == (from, to));
            let is_origin = from != Status::PendingDelete || to != Status::Deactivated;
            // It has no location to lose.
            let is_located = (from, to) != (Status::Active, Status::Queued);
            if is_move && is_origin && is_located {
                renamed.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
                assert_ne!(sandbox.tree(), [listed], "{from} to {to}");
            } else {
                let error = renamed.expect_err("refused").raw_os_error();
                assert_eq!(error, Some(libc::EPERM), "{from} to {to}");
                assert_eq!(sandbox.tree(), [listed], "{from} to {to}");
            }
        }
    }
}

// semantics: deactivate
#[test]
fn a_deactivated_image_is_withheld_from_all_but_root_until_it_is_reactivated() {
    let sandbox = Sandbox::with(&["publish=all"]);
    assert!(sandbox.bash_as(ALICE, "echo data > $M/active/a").status.success());
    assert!(!sandbox.bash_as(BOB, "mv $M/active/a $M/deactivated/").status.success());
    assert!(sandbox.bash_as(ALICE, "mv $M/active/a $M/deactivated/").status.success());
    assert_eq!(sandbox.tree(), ["deactivated/a"]);
    let output = sandbox.bash_as(ALICE, "cat $M/deactivated/a");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    assert_eq!(sandbox.ok("cat $M/deactivated/a"), "data\n");
    sandbox.remount();
    assert!(
        sandbox
            .bash_as(ALICE, "mv $M/deactivated/a $M/active/ && cat $M/active/a")
            .status
            .success()
    );
    assert_eq!(sandbox.tree(), ["active/a"]);
}

// semantics: restore restore-origin
#[test]
fn what_was_removed_is_restored_to_where_it_came_from_with_all_it_had() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 200_000);
    sandbox.ok("cp $F/x $M/active/a; chmod 604 $M/active/a; touch -d 2001-02-03 $M/active/a
                setfattr -n user.sps.tags -v gold $M/active/a
                setfattr -n user.sps.property.k -v v $M/active/a");
    sandbox.ok(&format!("chown {ALICE}:{BOB} $M/active/a; cp $F/x $M/active/d; echo d >> $F/x"));
    sandbox.ok("mv $M/active/d $M/deactivated/; rm $M/deactivated/d");
    let described = |folder: &str| {
        let stat = sandbox.ok(&format!("stat -c '%a %u %g %s %Y %i' $M/{folder}/a"));
        let path = format!("{folder}/a");
        let said = sandbox.ok(&format!("getfattr -d $M/{path} | grep user.sps"));
        (stat, said, sandbox.attribute(&path, "id"), sandbox.attribute(&path, "blake3"))
    };
    let before = described("active");
    sandbox.ok("rm -f $M/active/a");
    sandbox.remount();
    assert_eq!(described("pending_delete"), before);
    sandbox.fails("mv $M/pending_delete/a $M/deactivated/", "not permitted");
    sandbox.fails("mv $M/pending_delete/d $M/active/", "not permitted");
    sandbox.ok("mv $M/pending_delete/a $M/active/; mv $M/pending_delete/d $M/deactivated/");
    assert_eq!(described("active"), before);
    assert_eq!(sandbox.tree(), ["active/a", "deactivated/d"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: move-taken move-prefix
#[test]
fn a_name_that_is_taken_changes_hands_in_active_and_is_shared_elsewhere() {
    let sandbox = Sandbox::new();
    for text in ["one", "two", "three"] {
        sandbox.ok(&format!("echo {text} > $M/active/x"));
    }
    let older = sandbox.names("pending_delete");
    assert_eq!(older.len(), 2);
    // `NAME~ID8` comes back as `NAME`, and whoever has it goes.
    let oldest = older.iter().find(|name| name.contains('~')).expect("one");
    sandbox.ok(&format!(
        "mv -f '{}' $M/active/",
        sandbox.path(&format!("pending_delete/{oldest}")).display()
    ));
    assert_eq!(sandbox.ok("cat $M/active/x"), "one\n");
    assert_eq!(sandbox.names("active"), ["x"]);
    assert_eq!(sandbox.names("pending_delete").len(), 2);
    // In other folders images of one name stand side by side.
    sandbox.ok(
        "mv $M/active/x $M/deactivated/; echo four > $M/active/x; mv $M/active/x $M/deactivated/",
    );
    assert_eq!(sandbox.names("deactivated").len(), 2);
    sandbox.ok("mv $M/deactivated/x $M/active/renamed");
    assert_eq!(sandbox.ok("cat $M/active/renamed"), "four\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: move-noreplace
#[test]
fn a_move_that_must_not_replace_is_refused_where_the_name_is_taken() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/x; mv $M/active/x $M/deactivated/; echo b > $M/active/x");
    let rename = |flags| {
        renameat_with(CWD, sandbox.path("deactivated/x"), CWD, sandbox.path("active/x"), flags)
    };
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    assert_eq!(rename(RenameFlags::EXCHANGE), Err(rustix::io::Errno::INVAL));
    assert_eq!(sandbox.tree(), ["active/x", "deactivated/x"]);
    assert_eq!(rename(RenameFlags::empty()), Ok(()));
    assert_eq!(sandbox.tree(), ["active/x", "pending_delete/x"]);
}

// semantics: purge-by-hand
#[test]
fn a_move_from_the_trash_to_deleted_purges() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/x; mv $M/active/x $M/pending_delete/y");
    assert_eq!(sandbox.tree(), ["pending_delete/y"]);
    sandbox.ok("mv $M/pending_delete/y $M/deleted/");
    assert_eq!(sandbox.tree(), ["deleted/y"]);
    sandbox.wait_for_reclaim(0);
    sandbox.fails("mv $M/deleted/y $M/active/", "not permitted");
    sandbox.umount();
    sandbox.audit();
}

// semantics: protected protected-attribute
#[test]
fn a_protected_image_is_not_renamed_out_of_its_status_nor_replaced() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo gold > $M/active/g; setfattr -n user.sps.protected -v true $M/active/g");
    assert!(sandbox.ok("ls -l $M/active/g").starts_with("-rw-r--r-T"));
    let scripts = [
        "rm -f $M/active/g",
        "mv $M/active/g $M/deactivated/",
        "mv $M/active/g $M/pending_delete/",
        "echo x > $M/active/g",
        "cp /etc/hostname $M/active/g",
        "install /etc/hostname $M/active/g",
        "echo n > $M/uploading/n; mv -f $M/uploading/n $M/active/g",
        "echo n > $M/active/n; mv -f $M/active/n $M/active/g",
    ];
    for script in scripts {
        sandbox.fails(script, "not permitted");
    }
    assert_eq!(sandbox.ok("cat $M/active/g"), "gold\n");
    sandbox.ok("chmod +t $M/uploading/n");
    sandbox.fails("mv $M/uploading/n $M/active/other", "not permitted");
    sandbox
        .ok("setfattr -n user.sps.protected -v false $M/active/g; mv $M/active/g $M/deactivated/");
    sandbox.ok("chmod +t $M/deactivated/g");
    sandbox.fails("mv $M/deactivated/g $M/active/", "not permitted");
    assert!(sandbox.names("deactivated").contains(&"g".to_owned()));
}

// semantics: attributes-set
#[test]
fn attributes_that_can_be_set_are_durable_and_others_refused() {
    let sandbox = Sandbox::with(&["publish=all"]);
    sandbox.ok("echo a > $M/active/a; touch $M/queued/q");
    sandbox.ok("setfattr -n user.sps.visibility -v private $M/active/a");
    sandbox.ok("setfattr -n user.sps.name -v b $M/active/a");
    sandbox.ok("setfattr -n user.sps.expected_size -v 5 $M/queued/q");
    sandbox.kill_daemon();
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["active/b", "queued/q"]);
    assert_eq!(sandbox.ok("stat -c %a $M/active/b"), "640\n");
    assert_eq!(sandbox.attribute("queued/q", "expected_size").as_deref(), Some("5"));
    for (script, word) in [
        ("setfattr -n user.sps.protected -v maybe $M/active/b", "Invalid argument"),
        ("setfattr -n user.sps.visibility -v shared $M/active/b", "Invalid argument"),
        ("setfattr -n user.sps.name -v .spsx $M/active/b", "Invalid argument"),
        ("setfattr -n user.sps.expected_size -v big $M/queued/q", "Invalid argument"),
        ("setfattr -n user.sps.expected_size -v 1 $M/active/b", "not permitted"),
        ("setfattr -n user.sps.blake3 -v 1 $M/active/b", "not permitted"),
        ("setfattr -x user.sps.id $M/active/b", "not permitted"),
    ] {
        sandbox.fails(script, word);
    }
    sandbox.ok("chmod 666 $M/active/b");
    let output = sandbox.bash_as(ALICE, "setfattr -n user.sps.protected -v true $M/active/b");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
}

// semantics: expected-size
#[test]
fn an_upload_that_is_not_of_the_declared_size_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/queued/q; setfattr -n user.sps.expected_size -v 10 $M/queued/q");
    sandbox.fails("head -c 9 /dev/zero | dd of=$M/queued/q status=none", "Input/output error");
    assert_eq!(sandbox.tree(), ["killed/q"]);
    let message = sandbox.attribute("killed/q", "message").expect("a reason");
    assert!(message.contains("9 bytes, and 10 were declared"), "{message}");
    sandbox.ok("touch $M/queued/r; setfattr -n user.sps.expected_size -v 4000000 $M/queued/r");
    sandbox.ok("exec 3>$M/queued/r; head -c 1000000 /dev/zero >&3
                grep -q ' 25 %' $M/STATUS || { cat $M/STATUS; exit 1; }
                head -c 3000000 /dev/zero >&3");
    assert_eq!(sandbox.names("active"), ["r"]);
}
