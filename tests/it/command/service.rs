//! Under a service manager: readiness, watchdog, the end, the levels of the journal; and mount(8).

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Sandbox, eventually, run, signal, text};

/// What is told next that begins so.
pub(super) fn told(socket: &UnixDatagram, word: &str) -> String {
    let mut buffer = [0; 4096];
    for _ in 0..1000 {
        let length = socket.recv(&mut buffer).expect("a message");
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if said.contains(word) {
            return said;
        }
    }
    panic!("{word} is not told");
}

#[test]
fn a_service_manager_is_told_that_it_is_ready_lives_and_ends_and_the_journal_gets_levels() {
    let sandbox = Sandbox::unmounted(&[]);
    let path = sandbox.file("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    let journal = std::fs::File::create(sandbox.file("journal")).expect("a file");
    let about = journal.metadata().expect("stat");
    let mut daemon = sandbox.sps();
    daemon.args(["mount", "-f", "--store"]).arg(sandbox.store()).arg(sandbox.root());
    daemon.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    daemon.env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()));
    let mut daemon = daemon.stderr(journal).stdout(Stdio::null()).spawn().expect("a daemon");
    let said = told(&socket, "READY=1");
    assert!(said.contains("STATUS=mounted at"), "{said}");
    sandbox.ok("ls $M/active");
    told(&socket, "WATCHDOG=1");
    told(&socket, "WATCHDOG=1");
    signal(i32::try_from(daemon.id()).expect("a number"), "TERM");
    told(&socket, "STOPPING=1");
    assert!(daemon.wait().expect("ended").success());
    let journal = std::fs::read_to_string(sandbox.file("journal")).expect("a journal");
    assert!(journal.lines().all(|line| line.starts_with("<6>sps::")), "{journal}");
    assert!(journal.contains("is unmounted"), "{journal}");
}

#[test]
fn mount_8_and_a_line_of_fstab_mount_a_store() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.source("x", 5000);
    // mount(8) looks for its helper in one folder; nobody else sees what is put there.
    let script = "set -ex
        mkdir $F/sbin; ln -s $SPS $F/sbin/mount.sps
        mount -t overlay overlay -o lowerdir=$F/sbin:$(readlink -f /sbin) $(readlink -f /sbin)
        mount -t sps -o _netdev,noauto,x-systemd.automount,scrub_time=3d $S $M
        cp $F/x $M/active/x; grep -q 'fuse.sps' /proc/self/mountinfo; $SPS umount $M
        echo \"$S $M sps noauto,nofail,rw 0 0\" > $F/fstab
        mount -T $F/fstab $M; cmp $F/x $M/active/x
        grep -q 'scrub_time_seconds.*604800' $M/.sps/config.json
        $SPS umount $M
        mount -t sps -o nonsense $S $M 2> $F/said && exit 1; grep -q 'there is no option nonsense' $F/said";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "slave", "bash", "-c", script]);
    let bash = sandbox.bash_command("");
    command.envs(bash.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output));
    eventually("its daemon ends", || sandbox.daemon().is_none());
}
