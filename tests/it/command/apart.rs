//! A machine apart: a script sees the files of this one, and what it mounts, starts and leaves behind ends with it.

use std::process::{Command, Output, Stdio};

/// The script as a command. No store is mounted, `/mnt`, `/srv` and `/root` are empty folders in memory, `sps` and `mount.sps` are in the path,
/// and the processes have a namespace of their own: all of them end when the script does.
pub(super) fn script(text: &str, seconds: u32) -> Command {
    const BEFORE: &str = "set -eu
        # The mounts of other tests are none of its own.
        grep ' - fuse.sps ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r other; do umount -l $other || true; done
        for folder in /mnt /srv /root; do mkdir -p $folder; mount -t tmpfs -o mode=755 none $folder; done
        mkdir /mnt/.bin; ln -s \"$SPS\" /mnt/.bin/sps; export PATH=/mnt/.bin:$PATH
        unset XDG_DATA_HOME RUST_LOG; export HOME=/root; cd /root\n";
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string(), "unshare", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "bash", "-c", &format!("{BEFORE}{text}")]);
    command.env("SPS", env!("CARGO_BIN_EXE_sps")).env("LC_ALL", "C").env("TZ", "UTC");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// What it said and how it ended. What it left running has no hand on its output any more.
pub(super) fn run(text: &str, seconds: u32) -> Output {
    script(text, seconds).output().expect("unshare runs")
}
