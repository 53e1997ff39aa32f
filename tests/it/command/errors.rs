//! What each command says when it is not used as it should be, as it is kept in `golden/errors.txt`.

use std::fmt::Write;

use super::help::golden;
use crate::command::apart;
use crate::support::text;

/// What each is tried on: a mounted store with an image, and one that is removed.
const BEFORE: &str = "
    mkdir /mnt/sps /mnt/full /mnt/idle; touch /mnt/full/something; head -c 5000 /dev/zero > a.raw
    sps mount --store /srv/images /mnt/sps; cp a.raw /mnt/sps/active/a.raw; touch /mnt/sps/queued/empty
    truncate -s 1M b.raw; qemu-img convert -O qcow2 b.raw b.qcow2; head -c 100000 b.qcow2 > cut.qcow2\n";

const WRONG: [&str; 52] = [
    "sps mout",
    "sps mount",
    "sps mount --store /srv/other /mnt/nowhere",
    "sps mount --store /srv/other /mnt/full",
    "sps mount --store /root/a.raw /mnt/idle",
    "sps mount --store /srv/images /mnt/sps",
    "sps mount --store /srv/images /mnt/idle",
    "sps mount --store /srv/other -o nonsense /mnt/idle",
    "sps mount --store /srv/other -o scrub_time=soon /mnt/idle",
    "sps mount --store /srv/other -o log=loud /mnt/idle",
    "sps mount --store /mnt/idle/store /mnt/idle",
    "sps umount /mnt/idle",
    "sps umount /mnt/sps/active",
    "sps ls /mnt/idle",
    "sps ls /mnt/sps/active",
    "sps ls /mnt/sps/active/a.raw",
    "sps ls --status broken /mnt/sps",
    "sps show /root/a.raw",
    "sps show /mnt/sps/active/none",
    "sps set /mnt/sps/active/a.raw tags",
    "sps set /mnt/sps/active/a.raw colour=red",
    "sps set /mnt/sps/active/a.raw expected_sha256=00",
    "sps set /mnt/sps/active/a.raw tags=good protected=yes",
    "sps set /mnt/sps/active/a.raw min_disk=2G",
    "sps set /mnt/sps/active/a.raw visibility=shared",
    "sps set /mnt/sps/queued/empty expected_size=4M",
    "sps set /mnt/sps/active/a.raw name=.spsx",
    "sps push none.raw /mnt/sps",
    "sps push cut.qcow2 /mnt/sps",
    "sps push --name= a.raw /mnt/sps",
    "sps push --name .spsx a.raw /mnt/sps",
    "sps push a.raw /mnt/sps/active",
    "sps push - /mnt/sps",
    "sps push a.raw /mnt/idle",
    "sps push --name a/b a.raw /mnt/sps",
    "sps pull /mnt/sps/active/none copy",
    "sps pull /mnt/sps/queued/empty copy",
    "sps pull /mnt/sps/active/a.raw /mnt/nowhere/copy",
    "sps restore /mnt/sps/active/a.raw",
    "sps import /root/a.raw /mnt/sps",
    "sps verify /mnt/idle",
    "sps scrub /mnt/idle",
    "sps tasks /mnt/idle",
    "sps watch /mnt/idle",
    "sps backup --store /srv/none /srv/copy",
    "sps backup --store /srv/images /mnt/full",
    "sps fsck --store /srv/images",
    "sps fsck --store /srv/none",
    "sps fsck --rebuild --store /mnt/full",
    "sps doctor --stores /srv/images",
    "sps completions tcsh",
    "sps man /mnt/nowhere",
];

#[test]
fn what_is_wrong_is_said_as_it_is_kept() {
    let mut script = format!("{BEFORE}exec 2>&1; process='s/process [0-9]+/process PID/'\n");
    for command in WRONG {
        writeln!(script, "echo '$ {command}'; status=0; said=$({command} 2>&1) || status=$?")
            .expect("text");
        script += "sed -E \"$process\" <<< \"$said\"; echo \"exit status $status\"; echo\n";
    }
    let output = apart::run(&script, 120);
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("exit status 0") && !said.contains("panicked"), "{said}");
    golden("errors.txt", &said);
}
