//! Who may do what.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{ALICE, BOB, Sandbox, text};

// semantics: publish mode-bits
#[test]
fn the_mounting_user_alone_puts_images_in_unless_others_are_let() {
    let sandbox = Sandbox::new();
    let output = sandbox.bash_as(ALICE, "echo x > $M/active/x");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    let shared = Sandbox::with(&["publish=all"]);
    assert!(shared.bash_as(ALICE, "umask 077; echo x > $M/active/x").status.success());
    let stat = fs::metadata(shared.path("active/x")).expect("there");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (ALICE, ALICE, 0o600));
    assert!(!shared.bash_as(BOB, "cat $M/active/x").status.success());
    let group = Sandbox::with(&["publish=group", &format!("gid={BOB}")]);
    assert!(group.bash_as(BOB, "echo x > $M/active/x").status.success());
    assert!(!group.bash_as(ALICE, "echo y > $M/active/y").status.success());
}

// semantics: owner-governs
#[test]
fn only_root_and_the_owner_remove_and_rename() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let script = "echo x > $M/active/x; chmod 666 $M/active/x; touch $M/queued/q";
    assert!(sandbox.bash_as(ALICE, script).status.success());
    sandbox.ok("echo own > $M/active/roots");
    for script in [
        "rm -f $M/active/x",
        "mv $M/active/x $M/active/z",
        "rm -f $M/queued/q",
        "chmod 777 $M/active/x",
        "touch $M/active/b && echo b > $M/active/own && mv $M/active/own $M/active/x",
        "rm -f $M/active/roots",
    ] {
        let output = sandbox.bash_as(BOB, script);
        assert!(!output.status.success(), "{script}");
        let said = text(&output);
        assert!(said.contains("denied") || said.contains("not permitted"), "{script}: {said}");
    }
    assert_eq!(sandbox.ok("cat $M/active/x"), "x\n");
    assert!(
        sandbox.bash_as(ALICE, "mv $M/active/x $M/active/z && rm $M/active/z").status.success()
    );
}
