//! Ends of a mount: under load, and of a daemon that is killed while it drains.

use std::fs;
use std::process::Stdio;

use super::Puppet;
use crate::support::{Sandbox, eventually, run, signal, text};

/// Each upload that succeeds is noted, until there is no mount any more.
const UPLOADER: &str = "
n=0; while cp $F/a $M/active/$W-$n 2>/dev/null; do echo $W-$n; n=$((n + 1)); sleep 0.03; test -e $F/stop && exit; done; true";

// semantics: umount-drains closed-survives
#[test]
fn umount_under_load_loses_no_upload_whose_close_succeeded() {
    let sandbox = Sandbox::new();
    sandbox.source("a", 200_000);
    for round in 0..3 {
        let uploaders: Vec<_> = (0..4)
            .map(|writer| {
                let mut command = sandbox.bash_command(UPLOADER);
                command.env("W", format!("r{round}-w{writer}")).stdout(Stdio::piped());
                command.spawn().expect("an uploader")
            })
            .collect();
        let begun = |name: &String| name.starts_with(&format!("r{round}"));
        eventually("uploads run", || {
            sandbox.names("active").iter().filter(|name| begun(name)).count() > 8
        });
        let ended = run(sandbox.sps().args(["umount", "--wait", "10"]).arg(sandbox.root()));
        fs::write(sandbox.file("stop"), "").expect("a flag");
        let mut noted = Vec::new();
        for uploader in uploaders {
            let output = uploader.wait_with_output().expect("an end");
            noted.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        }
        if !ended.status.success() {
            // There was no moment at which nothing was open.
            assert!(text(&ended).contains("stays mounted"), "{}", text(&ended));
            sandbox.umount();
        }
        fs::remove_file(sandbox.file("stop")).expect("the flag");
        assert_eq!(fs::read_dir(sandbox.root()).expect("a folder").count(), 0, "nothing below");
        sandbox.audit();
        sandbox.mount();
        assert!(noted.len() > 8);
        let active = sandbox.names("active");
        for name in noted {
            assert!(active.contains(&name), "{name} is lost");
        }
        sandbox.ok("for x in $M/active/*; do cmp $F/a $x || exit 1; done");
    }
}

// semantics: umount-drains
#[test]
fn umount_of_a_daemon_that_is_stopped_says_so_and_does_not_hang() {
    let sandbox = Sandbox::new();
    sandbox.ok("cp /etc/hostname $M/active/x");
    let daemon = sandbox.daemon().expect("a daemon");
    signal(daemon, "STOP");
    let mut umount = std::process::Command::new("timeout");
    umount.args(["-k", "1", "30", env!("CARGO_BIN_EXE_sps"), "umount", "--wait", "1"]);
    let output = run(umount.arg(sandbox.root()));
    signal(daemon, "CONT");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("gives no answer"), "{said}");
    // A look-up waits a second for the end of the upload, and the daemon was stopped for longer.
    eventually("it is published", || sandbox.path("active/x").exists());
    sandbox.ok("cmp /etc/hostname $M/active/x");
    sandbox.umount();
    sandbox.audit();
}

// semantics: umount-died
#[test]
fn umount_says_when_the_daemon_was_killed_while_it_drained() {
    let sandbox = Sandbox::new();
    let mut writer = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/active/x', os.O_WRONLY | os.O_CREAT)
os.write(file, b'part')
say('written')
wait()
",
    );
    assert_eq!(writer.hear(), "written");
    let umount = sandbox
        .sps()
        .arg("umount")
        .arg(sandbox.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sps umount");
    // It has the daemon in sight as soon as it holds a descriptor of it.
    let fds = format!("/proc/{}/fd", umount.id());
    let watches = || {
        let links = fs::read_dir(&fds).into_iter().flatten().flatten();
        let mut links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|target| target.display().to_string().contains("pidfd"))
    };
    eventually("it drains", watches);
    signal(sandbox.daemon().expect("a daemon"), "KILL");
    let output = umount.wait_with_output().expect("an end");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("killed by signal 9") && said.contains("mount it again"), "{said}");
    writer.go_on();
    sandbox.recover();
    assert_eq!(sandbox.tree(), ["killed/x"]);
    sandbox.umount();
    sandbox.audit();
}
