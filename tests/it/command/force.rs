//! `sps umount --force`: what is being uploaded is killed, and open readers read on.

use std::os::unix::fs::FileExt;

use crate::support::{Sandbox, eventually, pattern};

#[test]
fn a_mount_is_taken_off_by_force_uploads_are_killed_and_readers_read_on() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 500_000);
    sandbox.ok("cp $F/x $M/active/x");
    let reader = std::fs::File::open(sandbox.path("active/x")).expect("open");
    let mut writer = sandbox
        .bash_command("exec 3> $M/active/y; cat $F/x >&3; exec sleep 60")
        .spawn()
        .expect("a writer");
    eventually("it is being written", || sandbox.names("saving") == ["y"]);
    sandbox.fails("$SPS umount --wait 0 $M", "in use");
    sandbox.ok("$SPS umount --force $M; ! mountpoint -q $M");
    if std::env::var("SPS_PASSTHROUGH").is_err() {
        let mut bytes = vec![0; 500_000];
        reader.read_exact_at(&mut bytes, 0).expect("it reads on");
        assert_eq!(bytes, pattern("x", 500_000));
    }
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    sandbox.wait_for_daemons_end();
    sandbox.mount();
    assert_eq!(sandbox.tree(), ["active/x", "killed/y"]);
    let why = sandbox.attribute("killed/y", "message").expect("a reason");
    assert!(why.contains("during upload"), "{why}");
    drop(reader);
    sandbox.umount();
    sandbox.audit();
}
