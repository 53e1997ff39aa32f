//! Readers: one that never reads, a folder that is held open, and a guest that outlives the daemon.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::DirEntryExt;

use super::{Puppet, memory};
use crate::support::{Sandbox, eventually};

/// Changes of a folder that somebody is listing; the soak does more.
const CHANGES: usize = 20_000;

/// Images that stay there meanwhile.
const STAYING: usize = 1_500;

/// How much more memory the daemon may have after that, in KiB.
const GROWTH: u64 = 48 << 10;

fn soak_factor() -> usize {
    std::env::var("SOAK_FACTOR").map_or(1, |factor| factor.parse().expect("a number"))
}

// semantics: readers-read-on
#[test]
fn a_reader_that_never_reads_holds_up_nobody_and_reads_at_last() {
    let sandbox = Sandbox::new();
    sandbox.source("a", 5_000_000);
    sandbox.ok("cp $F/a $M/active/a");
    let mut reader = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/active/a', os.O_RDONLY)
say('open')
wait()
found = b''
while True:
    piece = os.read(file, 1 << 20)
    if not piece: break
    found += piece
say(str(found == open(F + '/a', 'rb').read()))
wait()
",
    );
    assert_eq!(reader.hear(), "open");
    sandbox.ok("rm $M/active/a; rm $M/pending_delete/a; rm $M/deleted/a; cp /etc/hostname $M/active/a; rm $M/active/a");
    sandbox.ok("rm $M/pending_delete/a");
    sandbox.wait_for_reclaim(0);
    reader.go_on();
    assert_eq!(reader.hear(), "True");
    reader.go_on();
    reader.end();
    sandbox.umount();
    sandbox.audit();
}

// semantics: listing-consistent
#[test]
fn a_folder_that_is_held_open_lists_what_stays_once_through_thousands_of_changes() {
    let sandbox = Sandbox::new();
    // Some before, some among, and some behind the images that come and go.
    sandbox.ok(&format!(
        "mkdir $F/stay; cd $F/stay; seq -f stay-%g {STAYING} | xargs touch
         seq -f $M/queued/come-%g 200 | xargs -n 50 -P 8 touch; seq -f $M/queued/stay-%g {STAYING} | xargs -n 50 -P 8 touch"
    ));
    let before = memory(&sandbox);
    let changes = CHANGES * soak_factor();
    let mut changer = Puppet::new(
        &sandbox,
        &format!(
            "
done, folder = 0, M + '/queued/'
for n in range({changes} // 100):
    for k in range(48):
        path = folder + 'come-%d' % (k + 1)
        os.chmod(path, 0o600 + n % 64)
        os.utime(path, (n, n))
    old, new = folder + 'come-%d' % (n % 200 + 1), folder + 'gone-%d' % n
    os.rename(old, new)
    os.rename(new, old)
    os.setxattr(old, 'user.sps.tags', b'%d' % n)
    os.removexattr(old, 'user.sps.tags')
    if n % 10 == 0:
        os.close(os.open(folder + 'new-%d' % n, os.O_WRONLY | os.O_CREAT))
    if n % 20 == 10: os.unlink(folder + 'new-%d' % (n - 10))
    if n % 4 == 0: say('step')
say('done')
wait()
"
        ),
    );
    let mut listing = fs::read_dir(sandbox.path("queued")).expect("a folder");
    let mut seen = Vec::new();
    let mut numbers = HashSet::new();
    let mut steps = 0;
    loop {
        let line = changer.hear();
        assert!(["step", "done"].contains(&line.as_str()), "{line:?}");
        steps += 1;
        // A piece at each step, and the rest at the end.
        let piece = if line == "done" { usize::MAX } else { 25 };
        for entry in listing.by_ref().take(piece) {
            let entry = entry.expect("an entry");
            assert!(numbers.insert(entry.ino()), "{} twice", entry.path().display());
            seen.push(entry.file_name().to_string_lossy().into_owned());
        }
        if line == "done" {
            break;
        }
    }
    assert!(steps > 40, "{steps} steps");
    let staying = seen.iter().filter(|name| name.starts_with("stay-")).count();
    assert_eq!(staying, STAYING, "each that stays is seen once");
    let now = memory(&sandbox);
    assert!(now < before + GROWTH, "from {before} to {now} KiB");
    drop(listing);
    changer.go_on();
    changer.end();
    let listed = sandbox.names("queued").into_iter().filter(|name| name.starts_with("stay-"));
    assert_eq!(listed.count(), STAYING);
    sandbox.umount();
    sandbox.audit();
}

/// A guest that has an image open, reads and maps it, and says what came of it each time it is told to.
const GUEST: &str = "
source = open(F + '/a', 'rb').read()
file = os.open(M + '/active/a', os.O_RDONLY)
memory = mmap.mmap(file, len(source), prot=mmap.PROT_READ) if MAPS else None
say('open')
while True:
    wait()
    try:
        at = 0
        while at < len(source):
            piece = os.pread(file, 1 << 20, at)
            assert piece and piece == source[at:at + len(piece)]
            at += len(piece)
        if MAPS: assert memory[:] == source
        say('whole')
    except OSError as error: say(str(error.errno))
";

// semantics: guest-survives
#[test]
fn a_guest_goes_on_reading_when_the_daemon_is_killed_and_mounted_again() {
    let sandbox = Sandbox::with(&["passthrough=yes"]);
    sandbox.source("a", 8_000_000);
    sandbox.ok("cp $F/a $M/active/a");
    let mut guest = Puppet::new(&sandbox, &format!("MAPS = True\n{GUEST}"));
    assert_eq!(guest.hear(), "open");
    sandbox.kill_daemon();
    for _ in 0..2 {
        guest.go_on();
        assert_eq!(guest.hear(), "whole", "without a daemon");
    }
    sandbox.recover();
    guest.go_on();
    assert_eq!(guest.hear(), "whole", "with another daemon");
    // The image is there for others, and may go without taking the guest along.
    sandbox.ok("cmp $F/a $M/active/a; rm $M/active/a; rm $M/pending_delete/a");
    sandbox.wait_for_reclaim(0);
    guest.go_on();
    assert_eq!(guest.hear(), "whole", "of a purged image");
    drop(guest);
    sandbox.umount();
    sandbox.audit();
}

/// Without passthrough the daemon reads: its end is an error, and never a wait.
// semantics: guest-survives
#[test]
fn a_guest_without_passthrough_gets_an_error_when_the_daemon_is_killed() {
    let sandbox = Sandbox::with(&["passthrough=no"]);
    sandbox.source("a", 8_000_000);
    sandbox.ok("cp $F/a $M/active/a");
    // What the kernel has read it may keep: nothing is read before.
    let mut guest = Puppet::new(&sandbox, &format!("MAPS = False\n{GUEST}"));
    assert_eq!(guest.hear(), "open");
    sandbox.kill_daemon();
    guest.go_on();
    let answer = guest.hear();
    assert!(["107", "103", "5"].contains(&answer.as_str()), "errno {answer}");
    sandbox.recover();
    guest.go_on();
    let answer = guest.hear();
    assert!(["107", "103", "5"].contains(&answer.as_str()), "errno {answer}");
    eventually("it is there for others", || sandbox.bash("cmp $F/a $M/active/a").status.success());
    drop(guest);
    sandbox.umount();
    sandbox.audit();
}
