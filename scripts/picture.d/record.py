#!/usr/bin/env python3
"""Records sessions on a machine apart: see scripts/picture, which starts it in namespaces of its own."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import terminal  # noqa: E402

PREPARE = r"""
grep ' - fuse.sps ' /proc/self/mountinfo | cut -d' ' -f5 | while read -r other; do umount -l "$other" || true; done
for folder in /mnt /srv /root; do mkdir -p $folder; mount -t tmpfs -o mode=755 none $folder; done
mkdir /mnt/.bin; ln -s "$SPS" /mnt/.bin/sps; cd /root
truncate -s 64M blank.raw
yes 'all work and no play' | head -c 9000000 | dd of=blank.raw bs=1M seek=20 conv=notrunc status=none
qemu-img convert -O qcow2 blank.raw debian-12.qcow2
cp debian-12.qcow2 ubuntu-24.04.qcow2; printf x | dd of=ubuntu-24.04.qcow2 bs=1 seek=3000000 conv=notrunc status=none
rm blank.raw
"""

SESSION = [
    "mkdir -p /mnt/sps",
    "sps mount --store /srv/images /mnt/sps",
    "cp debian-12.qcow2 /mnt/sps/active/",
    "sps push ubuntu-24.04.qcow2 /mnt/sps",
    "head -c 100000 debian-12.qcow2 > /mnt/sps/active/broken.qcow2",
    "sps ls",
    "sps show /mnt/sps/killed/broken.qcow2 | grep message",
    "rm /mnt/sps/active/debian-12.qcow2",
    "ls /mnt/sps/pending_delete",
    "sps restore /mnt/sps/pending_delete/debian-12.qcow2",
    "sps umount /mnt/sps",
]

# Title, what is done out of sight before, the commands (what follows on the next line is a wait, and not shown), what to
# do about it.
MISTAKES = [
    ("Wrong mount point", "mkdir -p /mnt/sps",
     ["sps mount --store /srv/images /mnt/spss",
      "sps mount --store /srv/images /root"],
     "Make the directory that is named, or name the one that you meant. It must be empty: what is in it would be hidden."),
    ("Full disk",
     "mkdir -p /mnt/small /srv/small; mount -t tmpfs -o size=20m none /srv/small; sps mount --store /srv/small /mnt/small",
     ["cp debian-12.qcow2 /mnt/small/active/first.qcow2",
      "cp ubuntu-24.04.qcow2 /mnt/small/active/",
      "sps ls --status killed /mnt/small",
      "sps show /mnt/small/killed/ubuntu-24.04.qcow2 | grep message"],
     "Free space (`rm` in `pending_delete/`, then elsewhere on that disk) and copy again. What was there is untouched, and what was "
     "copied in part has given its space back."),
    ("Killed copy", "sps umount /mnt/small; sps mount --store /srv/images /mnt/sps",
     ["timeout -s KILL 1 tail -c +1 -f debian-12.qcow2 > /mnt/sps/active/debian-12.qcow2\n"
      "until test -e /mnt/sps/killed/debian-12.qcow2; do sleep 0.1; done",
      "ls /mnt/sps/active /mnt/sps/killed",
      "sps show /mnt/sps/killed/debian-12.qcow2 | grep message"],
     "Copy it again; `rm` the failed one whenever you like. `sps push` goes on where it was broken off."),
    ("Wrong checksum", "touch /mnt/sps/queued/checked.qcow2",
     ["sps set /mnt/sps/queued/checked.qcow2 expected_sha256=" + 64 * "0",
      "cp debian-12.qcow2 /mnt/sps/queued/checked.qcow2",
      "sps show /mnt/sps/killed/checked.qcow2 | grep message"],
     "The file is not what its publisher says: get it again, or the right checksum."),
    ("Protected image", "cp debian-12.qcow2 /mnt/sps/active/; chmod +t /mnt/sps/active/debian-12.qcow2",
     ["rm -f /mnt/sps/active/debian-12.qcow2",
      "sps show /mnt/sps/active/debian-12.qcow2 | grep protected"],
     "It is so on purpose. Its owner takes the protection off: `chmod -t` (`ls -l` shows it as a `T` or `t`)."),
    ("Illegal mv", "chmod -t /mnt/sps/active/debian-12.qcow2",
     ["mv /mnt/sps/active/debian-12.qcow2 /mnt/sps/saving/",
      "ls /mnt/sps/active"],
     "The lifecycle has no such step: nothing but an upload is in `saving/`. [The picture](image_status_transition.svg) has all there "
     "are. Nothing has changed."),
    ("Dead daemon", "",
     ["kill -9 $(cat /srv/images/lock)\nwhile ls /mnt/sps/active; do sleep 0.1; done > /srv/nothing 2>&1",
      "ls /mnt/sps/active",
      "sps ls /mnt/sps",
      "sps doctor --store /srv/images | grep mnt/sps",
      "sps mount --store /srv/images /mnt/sps",
      "ls /mnt/sps/active"],
     "Mount again: that clears what is left. The service does it by itself."),
    ("Locked store", "mkdir -p /mnt/other",
     ["sps mount --store /srv/images /mnt/other",
      "sps fsck --store /srv/images"],
     "One daemon has the store, and that is enough: use its mount, or unmount it first."),
    ("Missing FUSE", "sps umount /mnt/sps; mkdir /mnt/dev; mount --move /dev /mnt/dev; mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3",
     ["sps mount --store /srv/images /mnt/sps",
      "sps doctor --store /srv/images | grep fuse"],
     "Load the kernel's module (`modprobe fuse`), or give the container `--device /dev/fuse`."),
    ("Unreadable image",
     "umount -l /dev; mount --move /mnt/dev /dev; sps mount --store /srv/images /mnt/sps; "
     "head -c 100000 debian-12.qcow2 > half.qcow2; cp ubuntu-24.04.qcow2 /mnt/sps/active/rotten.qcow2; "
     "printf rot | dd of=$(find /srv/images/blobs -type f -newer /root/half.qcow2) bs=1 seek=1000000 conv=notrunc status=none",
     ["cp half.qcow2 /mnt/sps/active/",
      "sps show /mnt/sps/killed/half.qcow2 | grep message",
      "sps verify /mnt/sps",
      "sps ls --status deactivated /mnt/sps"],
     "The first was cut short before it came here: get it again. The second was damaged on the disk: restore it from a backup, and look after "
     "the disk. Nobody but root reads it meanwhile."),
]

SHIFTING = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b(pid|process) \d+", r"\1 PID"),
    (r"(\w) \(\d+\)", r"\1 (PID)"),
    (r" +\d+s  ", "  AGE  "),
    (r"bash: (line \d+:)? +\d+ Killed +", "bash: PID Killed  "),
]


def shell(commands):
    """Runs commands out of sight. What they start in the background keeps no hand on the output."""
    done = subprocess.run(["bash", "-c", "set -eu\n" + commands], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{commands}: {done.stdout}{done.stderr}")


def steady(text):
    for pattern, name in SHIFTING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def mistakes():
    told = ["# Ten mistakes, and what one sees", "",
            "Written by `scripts/picture` from real runs; a test runs them again and compares. UUID, DIGEST, PID and AGE stand for what is",
            "different each time."]
    for number, (title, before, commands, advice) in enumerate(MISTAKES, 1):
        shell(before)
        told += ["", f"## {number}. {title}", "", "```console"]
        for command in commands:
            done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=60)
            shown = steady(done.stdout).strip("\n")
            told += [f"$ {command.splitlines()[0]}"] + ([shown] if shown else [])
        told += ["```", "", advice]
    return "\n".join(told) + "\n"


def main():
    shell(PREPARE)
    os.environ.update(PATH="/mnt/.bin:" + os.environ["PATH"], HOME="/root", LC_ALL="C", TZ="UTC", TERM="xterm-256color")
    for name in ("XDG_DATA_HOME", "RUST_LOG", "NO_COLOR"):
        os.environ.pop(name, None)
    here = os.getcwd()
    os.chdir("/root")
    if sys.argv[1:] == ["--mistakes"]:
        sys.stdout.write(mistakes())
        return
    picture = terminal.svg(terminal.session(SESSION))
    shell("rm -rf /srv/images")
    text = mistakes()
    for name, content in (("session.svg", picture), ("mistakes.md", text)):
        with open(os.path.join(here, "docs", name), "w") as file:
            file.write(content)


main()
