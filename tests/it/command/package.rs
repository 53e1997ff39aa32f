//! The Debian package: it is built, and installed, used, upgraded, removed and purged in a root of its own.

use std::process::Command;

use crate::command::apart;
use crate::support::{run, text};

#[test]
fn the_package_installs_upgrades_and_goes_and_leaves_nothing_but_the_store() {
    let built = tempfile::tempdir().expect("a directory");
    let mut package = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/package"));
    package.args(["--binary", env!("CARGO_BIN_EXE_sps"), "--out"]).arg(built.path());
    let output = run(&mut package);
    assert!(output.status.success(), "{}", text(&output));
    // The root is this machine's, with all that is written to it in memory.
    let script = format!(
        "set -x; T=/mnt/machine; mkdir -p $T; mount -t tmpfs -o mode=755 none $T; mkdir $T/upper $T/work $T/root
        mount -t overlay -o lowerdir=/,upperdir=$T/upper,workdir=$T/work none $T/root
        mount --rbind /dev $T/root/dev; mount -t proc none $T/root/proc
        cp {}/*.deb $T/root/sps.deb; head -c 100000 $SPS > $T/root/image.raw
        chroot $T/root env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ LC_ALL=C bash -exc \"$(cat <<'END'\n{INSIDE}\nEND\n)\"
        umount -R $T/root/proc $T/root/dev
        cd $T/upper; find . ! -type d ! -path './var/lib/dpkg/*' ! -path './run/*' ! -path './var/log/*' ! -path './var/cache/*' \
            ! -path './srv/images/*' ! -path './sps.deb' ! -path './image.raw' ! -path './etc/ld.so.cache' > /mnt/left
        find . -iname '*sps*' ! -path './srv/images/*' ! -path './sps.deb' ! -path './etc/ld.so.cache' >> /mnt/left
        cat /mnt/left; test ! -s /mnt/left; test -s srv/images/sps.db",
        built.path().display()
    );
    let output = apart::run(&script, 120);
    assert!(output.status.success(), "{}", text(&output));
}

/// What is done in that root.
const INSIDE: &str = r#"
    dpkg -i /sps.deb
    cd /; sps --version; test "$(readlink -f /sbin/mount.sps)" = /usr/bin/sps
    systemd-analyze verify --man=no /usr/lib/systemd/system/sps@images.service
    systemctl enable sps@images; test -L /etc/systemd/system/multi-user.target.wants/sps@images.service
    mkdir -p /mnt/sps
    mount -t sps -o _netdev,scrub_time=3d /srv/images /mnt/sps
    cp /image.raw /mnt/sps/active/; cmp /image.raw /mnt/sps/active/image.raw
    pid=$(sps show --json /mnt/sps/active/image.raw > /dev/null; cat /srv/images/lock)
    : it is upgraded under a running mount, which stays
    dpkg -i /sps.deb
    test "$(cat /srv/images/lock)" = "$pid"; cmp /image.raw /mnt/sps/active/image.raw; cp /image.raw /mnt/sps/active/second
    sps umount /mnt/sps; mount -t sps /srv/images /mnt/sps; cmp /image.raw /mnt/sps/active/second
    : while something is open it is not removed
    exec 9< /mnt/sps/active/image.raw
    dpkg -r sps && exit 1
    cmp /image.raw /mnt/sps/active/image.raw
    exec 9<&-
    : then it is, and takes its mount with it
    dpkg -r sps
    ! command -v sps; ! grep fuse.sps /proc/self/mountinfo
    test -e /etc/sps/images.conf.example; echo STORE=/srv/images > /etc/sps/images.conf
    dpkg -P sps
    ! test -e /etc/sps; ! dpkg-query -s sps
    rmdir /mnt/sps
"#;
