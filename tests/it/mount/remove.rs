//! Removing: twice for the data, a third time for the record.

use crate::support::{ALICE, Sandbox, text};

// semantics: rm-is-delayed rm-twice rm-forgets
#[test]
fn an_image_is_removed_in_three_steps() {
    let sandbox = Sandbox::with(&["publish=all"]);
    sandbox.source("x", 100_000);
    let output = sandbox.bash_as(ALICE, "cp $F/x $M/active/x && rm $M/active/x");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(sandbox.tree(), ["pending_delete/x"]);
    assert_eq!(sandbox.attribute("pending_delete/x", "size").as_deref(), Some("100000"));
    sandbox.wait_for_reclaim(1);
    assert!(sandbox.bash_as(ALICE, "rm -f $M/pending_delete/x").status.success());
    assert_eq!(sandbox.tree(), ["deleted/x"]);
    assert_eq!(sandbox.ok("stat -c '%s %b' $M/deleted/x"), "100000 0\n");
    sandbox.wait_for_reclaim(0);
    let output = sandbox.bash_as(ALICE, "rm -f $M/deleted/x");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    sandbox.ok("rm -f $M/deleted/x");
    assert_eq!(sandbox.tree(), Vec::<String>::new());
    sandbox.umount();
    sandbox.audit();
}

// semantics: rm-queued
#[test]
fn what_was_never_active_is_deleted_at_once() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/active/q && rm $M/queued/q");
    sandbox.bash("sh -c 'echo part; kill -9 $$' > $M/active/k");
    sandbox.ok("rm $M/killed/k");
    sandbox.bash("exec 3>$M/active/s; echo part >&3; rm $M/saving/s");
    assert_eq!(sandbox.tree(), ["deleted/k", "deleted/q", "deleted/s"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: delayed-delete-off
#[test]
fn without_delayed_delete_an_active_image_is_deleted_at_once() {
    let sandbox = Sandbox::with(&["delayed_delete=no"]);
    sandbox.ok("echo a > $M/active/x; echo b > $M/active/y; mv $M/active/y $M/active/x");
    assert_eq!(sandbox.tree(), ["active/x", "deleted/x"]);
    sandbox.ok("rm $M/active/x");
    assert_eq!(sandbox.names("deleted").len(), 2);
    sandbox.wait_for_reclaim(0);
    sandbox.umount();
    sandbox.audit();
}

// semantics: protected
#[test]
fn a_protected_image_stays_even_from_root() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo gold > $M/active/g; chmod +t $M/active/g; echo new > $M/active/n");
    assert_eq!(sandbox.attribute("active/g", "protected").as_deref(), Some("true"));
    for script in ["rm -f $M/active/g", "mv $M/active/n $M/active/g"] {
        sandbox.fails(script, "Operation not permitted");
    }
    assert_eq!(sandbox.tree(), ["active/g", "active/n"]);
    sandbox.ok("chmod -t $M/active/g && rm $M/active/g");
    assert_eq!(sandbox.tree(), ["active/n", "pending_delete/g"]);
}

#[test]
fn an_image_removed_at_the_moment_of_its_close_leaves_no_stray() {
    use std::io::Write;
    let sandbox = Sandbox::new();
    for round in 0..300 {
        let path = sandbox.path(&format!("active/x{round}"));
        let mut file = std::fs::File::create(path).expect("a new image");
        file.write_all(&[round as u8; 3000]).expect("written");
        let saving = sandbox.path(&format!("saving/x{round}"));
        std::thread::scope(|scope| {
            scope.spawn(move || drop(file));
            // Whether it comes before the close or after it, both are fine.
            scope.spawn(move || std::fs::remove_file(saving));
        });
    }
    for path in sandbox.tree() {
        assert!(path.starts_with("active/") || path.starts_with("deleted/"), "{path}");
    }
    sandbox.umount();
    sandbox.audit();
}
