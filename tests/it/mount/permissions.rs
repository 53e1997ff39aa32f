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

// semantics: name-of-others
#[test]
fn an_upload_does_not_take_the_name_of_an_image_that_its_writer_could_not_write() {
    let sandbox = Sandbox::with(&["publish=all"]);
    assert!(sandbox.bash_as(ALICE, "echo gold > $M/active/x").status.success());
    let output = sandbox.bash_as(BOB, "cp /etc/hostname $M/queued/x");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    assert_eq!(sandbox.tree(), ["active/x", "killed/x"]);
    let message = sandbox.attribute("killed/x", "message").expect("a reason");
    assert!(message.contains("another user"), "{message}");
    assert_eq!(sandbox.ok("cat $M/active/x"), "gold\n");
    // Root protects it: then nobody's upload takes its name, and close says so.
    sandbox.ok("chmod +t $M/active/x");
    sandbox.fails("cp /etc/hostname $M/queued/x", "Operation not permitted");
    // One that is explicitly empty stays queued.
    let output = sandbox.bash_as(BOB, "touch $M/queued/x; truncate -s 0 $M/queued/x");
    assert!(!output.status.success());
    assert_eq!(sandbox.names("queued"), ["x"]);
    sandbox.ok("chmod -t $M/active/x; chmod 666 $M/active/x");
    assert!(
        sandbox
            .bash_as(BOB, "cp /etc/hostname $M/queued/x2 && cat /etc/hostname > $M/queued/x")
            .status
            .success()
    );
    assert_eq!(sandbox.names("active"), ["x", "x2"]);
    sandbox.umount();
    sandbox.audit();
}
