//! The unit and a line of fstab under a systemd of the test's own, which is process 1 of a machine apart.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::apart;
use crate::support::{run, text};

const UNIT: &str = include_str!("../../../packaging/systemd/sps@.service");

/// Puts the program where the unit has it, and gives systemd a machine on which it finds its own units and those of the
/// test alone, and can change nothing: all that it may write to is in memory.
const BOOT: &str = r#"
    mount --make-rprivate /
    over() { mkdir -p /mnt/over$1/new /mnt/over$1/work
        mount -t overlay -o lowerdir=$(readlink -f $1),upperdir=/mnt/over$1/new,workdir=/mnt/over$1/work none $(readlink -f $1); }
    over /etc; over /usr/bin; over /sbin
    cp "$SPS" /usr/bin/sps; ln -sf ../bin/sps /usr/sbin/mount.sps; rm /mnt/.bin/sps
    mkdir -p /mnt/units /mnt/sps /mnt/line /mnt/said /etc/sps; mount --bind "$SAID" /mnt/said
    printf '%s\n' "$UNIT" > /mnt/units/sps@.service
    cp /lib/systemd/system/{systemd-journald.service,systemd-journald.socket,exit.target,systemd-exit.service} /mnt/units
    for target in sysinit basic shutdown umount local-fs remote-fs nss-user-lookup sockets multi-user final; do
        printf '[Unit]\nDefaultDependencies=no\n' > /mnt/units/$target.target
    done
    printf 'STORE=/srv/images\nMOUNTPOINT=/mnt/sps\nOPTIONS=scrub_time=3d\n' > /etc/sps/images.conf
    echo '/srv/line /mnt/line sps noauto,_netdev,nofail,scrub_time=3d 0 0' > /etc/fstab
    printf '%s\n' "$CHECK" > /mnt/check.sh
    cat > /mnt/units/check.service <<'END'
[Unit]
Wants=systemd-journald.service
After=systemd-journald.service
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash -c 'bash -eux /mnt/check.sh > /mnt/said/check 2>&1; systemctl exit $$?'
END
    for folder in /run /tmp /var/log; do mount -t tmpfs none $folder; done
    mount -t tmpfs -o mode=755 none /mnt/over; mkdir /mnt/over/pts /mnt/over/shm
    for node in null zero full random urandom tty fuse; do cp -a /dev/$node /mnt/over; done
    ln -s /proc/self/fd /mnt/over/fd; mount --move /mnt/over /dev
    mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
    mount -o remount,bind,ro /
    for kind in $GROUPS; do mkdir $kind/$GROUP; echo $$ > $kind/$GROUP/cgroup.procs; done
    export container=apart SYSTEMD_UNIT_PATH=/mnt/units:/run/systemd/system:/run/systemd/generator
    exec unshare --cgroup --uts --ipc bash -ec '
        if grep -q name=systemd: /proc/self/cgroup; then
            mount -t tmpfs none /sys/fs/cgroup; mkdir /sys/fs/cgroup/systemd
            mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd
        else
            mount -t cgroup2 none /sys/fs/cgroup
        fi
        exec /lib/systemd/systemd --system --unit=check.service'
"#;

/// What is done there.
const CHECK: &str = r#"
    cd /root; head -c 300000 /dev/urandom > x; unit=sps@images
    main() { systemctl show -P MainPID $unit; }
    again() { for _ in {1..300}; do
        test "$(systemctl show -P NRestarts $unit)" = $1 && systemctl is-active $unit && return; sleep 0.1; done; return 1; }

    # It is started when the mount is there, and may what it needs, and no more.
    systemctl start $unit
    grep ' /mnt/sps .* fuse.sps ' /proc/1/mountinfo; cp x /mnt/sps/active/x
    setpriv --reuid 1000 --regid 1000 --clear-groups cmp x /mnt/sps/active/x 2>&1 || cmp x /mnt/sps/active/x
    systemctl show -P StatusText $unit | grep 'mounted at /mnt/sps'
    grep 'NoNewPrivs:.1' /proc/$(main)/status; grep 'Seccomp:.2' /proc/$(main)/status
    grep 'CapBnd:.000000000[01]28000f' /proc/$(main)/status
    grep '"scrub_time_seconds": 259200' /mnt/sps/.sps/config.json
    bash -c 'cat x; exit 3' > /mnt/sps/active/y || true; (echo half; kill -9 $BASHPID) > /mnt/sps/active/z || true
    ls /mnt/sps/killed | grep ^z

    # The journal has its lines in their levels.
    touch /mnt/sps/queued/w; setfattr -n user.sps.expected_size -v 5 /mnt/sps/queued/w
    cat x > /mnt/sps/queued/w && exit 1
    for _ in {1..100}; do journalctl -u $unit -p warning -o cat | grep 'op=vote' && break; sleep 0.1; done
    journalctl -u $unit -p warning -o cat | grep 'op=vote'
    journalctl -u $unit -p info -o cat | grep 'op="upload succeeded"'
    journalctl -u $unit -p warning -o cat | grep 'op="upload succeeded"' && exit 1
    journalctl -u $unit -o cat | grep '<[0-9]>' && exit 1

    # After a crash it comes back by itself.
    kill -9 $(main); again 1
    cmp x /mnt/sps/active/x; ls /mnt/sps/killed | grep ^z

    # So it does when it gives no sign of life.
    mkdir -p /run/systemd/system/$unit.service.d
    printf '[Service]\nWatchdogSec=5\nTimeoutAbortSec=1\n' > /run/systemd/system/$unit.service.d/soon.conf
    systemctl daemon-reload; systemctl restart $unit
    kill -STOP $(main); again 1
    systemctl show -P Result $unit; cmp x /mnt/sps/active/x
    sleep 7; test "$(systemctl show -P NRestarts $unit)" = 1

    # A stop waits for who has an image open, and is clean.
    exec 3< /mnt/sps/active/x; systemctl stop --no-block $unit; sleep 1
    systemctl is-active $unit && exit 1
    test "$(systemctl show -P ActiveState $unit)" = deactivating; cmp x - <&3; exec 3<&-
    for _ in {1..100}; do test "$(systemctl show -P ActiveState $unit)" = inactive && break; sleep 0.1; done
    test "$(systemctl show -P ActiveState $unit) $(systemctl show -P Result $unit)" = 'inactive success'
    grep ' /mnt/sps ' /proc/1/mountinfo && exit 1

    # What can't be mounted fails, and says why.
    echo 'OPTIONS=nonsense' >> /etc/sps/images.conf; systemctl start $unit && exit 1
    journalctl -u $unit -o cat | grep 'there is no option nonsense'; systemctl stop $unit

    # A line of fstab is a unit, too.
    systemctl start mnt-line.mount; cp x /mnt/line/active/x; cmp x /mnt/line/active/x
    grep '"scrub_time_seconds": 259200' /mnt/line/.sps/config.json
    systemctl stop mnt-line.mount; grep ' /mnt/line ' /proc/1/mountinfo && exit 1
    systemctl start mnt-line.mount; cmp x /mnt/line/active/x; systemctl stop mnt-line.mount
    exit 0
"#;

/// The groups in which systemd keeps its services, each by the folder that it is in.
fn groups() -> Vec<&'static Path> {
    let all = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    all.into_iter().filter(|folder| folder.join("cgroup.procs").exists()).collect()
}

#[test]
fn systemd_starts_the_unit_restarts_it_when_it_fails_and_stops_it_cleanly() {
    let said = tempfile::tempdir().expect("a directory");
    let group = format!("sps-it-{}", std::process::id());
    let kinds: Vec<String> = groups().iter().map(|folder| folder.display().to_string()).collect();
    let mut machine = apart::script(&BOOT.replace("$GROUPS", &kinds.join(" ")), 240);
    machine.env("UNIT", UNIT).env("CHECK", CHECK).env("SAID", said.path()).env("GROUP", &group);
    let output = machine.output().expect("unshare runs");
    for folder in groups() {
        let tidied = run(Command::new("find")
            .arg(folder.join(&group))
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]));
        assert!(!folder.join(&group).exists(), "{}", text(&tidied));
    }
    let told = fs::read_to_string(said.path().join("check")).unwrap_or_default();
    assert!(output.status.success(), "{}{told}", text(&output));
}

#[test]
fn the_unit_makes_no_mount_namespace() {
    // Each of these gives a service a mount namespace, or takes /dev/fuse away: see systemd.exec(5).
    let lines = UNIT.lines().filter(|line| !line.starts_with('#'));
    for (name, value) in lines.filter_map(|line| line.split_once('=')) {
        let is_apart = name.starts_with("Private") || name.starts_with("Protect");
        let is_rebuilt =
            name.ends_with("Paths") || name.starts_with("Bind") || name.starts_with("Root");
        let takes_away = name == "MountFlags" || name == "DevicePolicy" || name == "DynamicUser";
        assert!(!is_apart && !is_rebuilt && !takes_away, "{name}={value}");
    }
}
