//! What is fast must be right all the same: reading past the daemon, copies that copy nothing, and names that
//! the kernel keeps.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Sandbox, signal, text};

/// Ways in which the kernel reads a sealed image.
const WAYS: [&str; 2] = ["passthrough=yes", "passthrough=no"];

// semantics: active-reads-like-a-file
#[test]
fn an_active_image_is_mapped_read_directly_and_put_on_a_loop_device() {
    for way in WAYS {
        let sandbox = Sandbox::with(&[way]);
        sandbox.source("x", 8 << 20);
        sandbox.ok("cp $F/x $M/active/x");
        sandbox.ok("cmp $F/x $M/active/x");
        sandbox.ok("dd if=$M/active/x bs=1M iflag=direct status=none | cmp - $F/x");
        let mapped = "python3 -c '
import mmap, os
m, f = os.environ[\"M\"], os.environ[\"F\"]
with open(m + \"/active/x\", \"rb\") as a, open(f + \"/x\", \"rb\") as b:
    assert mmap.mmap(a.fileno(), 0, access=mmap.ACCESS_READ)[:] == b.read()
'";
        sandbox.ok(mapped);
        let looped = "
            loop=$(losetup --find --show --read-only $M/active/x) || exit 1
            cmp $F/x $loop; same=$?; losetup --detach $loop; exit $same";
        sandbox.ok(looped);
        // Several at once, by several handles, one of which is closed in between.
        sandbox.ok(
            "exec 3<$M/active/x 4<$M/active/x; exec 3<&-; cmp $F/x - <&4; cmp $F/x $M/active/x",
        );
        sandbox.umount();
        sandbox.audit();
    }
}

#[test]
fn a_sealed_image_is_read_by_the_kernel_itself() {
    let sandbox = Sandbox::with(&["passthrough=yes"]);
    sandbox.source("x", 8 << 20);
    sandbox.ok("cp $F/x $M/active/x");
    let daemon = sandbox.daemon().expect("a daemon");
    let reader = fs::File::open(sandbox.path("active/x")).expect("opened");
    signal(daemon, "STOP");
    // Nobody answers: what is read comes from the file below.
    let mut found = vec![0; 8 << 20];
    let read = std::os::unix::fs::FileExt::read_exact_at(&reader, &mut found, 0);
    signal(daemon, "CONT");
    read.expect("read while the daemon stood still");
    assert!(found == fs::read(sandbox.file("x")).expect("the source"));
}

#[test]
fn what_was_staged_is_read_right_when_it_is_active() {
    for way in WAYS {
        let sandbox = Sandbox::with(&[way]);
        sandbox.ok("head -c 100000 /dev/zero > $M/uploading/x; cat $M/uploading/x > /dev/null");
        // A reader of the staged file has it open on: the kernel reads it in that way until he closes it.
        let script =
            "exec 3<$M/uploading/x; echo patched | dd of=$M/uploading/x conv=notrunc status=none
            mv $M/uploading/x $M/active/x && settled && head -c 7 $M/active/x && head -c 7 <&3
            exec 3<&-; head -c 7 $M/active/x";
        assert_eq!(sandbox.ok(script).matches("patched").count(), 3, "{way}");
        sandbox.umount();
        sandbox.audit();
    }
}

// semantics: copy-refers
#[test]
fn a_copy_of_a_whole_image_copies_nothing_and_is_an_image_of_its_own() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 64 << 20);
    sandbox.ok("cp $F/x $M/active/x; sync -f $S");
    let taken = || sandbox.ok("du -sk $S | cut -f1").trim().parse::<u64>().expect("kibibytes");
    let before = taken();
    sandbox.ok("cp $M/active/x $M/active/y; cmp $F/x $M/active/y");
    // The registry's log may have grown.
    assert!(taken() < before + (8 << 10), "{before} KiB became {}", taken());
    let digest = |name: &str| sandbox.attribute(&format!("active/{name}"), "blake3");
    assert_eq!(digest("x"), digest("y"));
    assert_ne!(sandbox.attribute("active/x", "id"), sandbox.attribute("active/y", "id"));
    // The one stays when the other goes for good.
    sandbox.ok("rm $M/active/x; rm $M/pending_delete/x");
    sandbox.wait_for_reclaim(1);
    sandbox.ok("cmp $F/x $M/active/y");
    sandbox.umount();
    sandbox.audit();
}

// semantics: copy-refers
#[test]
fn a_copy_that_becomes_something_else_is_what_was_written() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 3_000_000);
    sandbox.source("y", 4_000_000);
    sandbox.ok("cp $F/x $F/y $M/active/");
    let script = "python3 -c '
import os
m, f = os.environ[\"M\"], os.environ[\"F\"]
data = open(f + \"/x\", \"rb\").read()
other = open(f + \"/y\", \"rb\").read()
def make(name, work):
    a = os.open(m + \"/active/x\", os.O_RDONLY)
    b = os.open(m + \"/active/\" + name, os.O_RDWR | os.O_CREAT, 0o644)
    expected = work(a, b)
    os.close(a)
    os.close(b)
    assert open(m + \"/active/\" + name, \"rb\").read() == expected, name
def whole(a, b):
    assert os.copy_file_range(a, b, len(data), 0, 0) == len(data)
    assert os.pread(b, 100, 1000) == data[1000:1100]
    assert os.listdir(os.environ[\"S\"] + \"/staging\") == [], \"nothing was copied\"
def patched(a, b):
    whole(a, b)
    os.pwrite(b, b\"patched\", 100)
    return data[:100] + b\"patched\" + data[107:]
def longer(a, b):
    whole(a, b)
    os.pwrite(b, b\"more\", len(data))
    return data + b\"more\"
def shorter(a, b):
    whole(a, b)
    os.ftruncate(b, 1000)
    return data[:1000]
def part(a, b):
    assert os.copy_file_range(a, b, 5000, 70000, 0) == 5000
    return data[70000:75000]
def pieces(a, b):
    os.copy_file_range(a, b, 1000000, 0, 0)
    os.copy_file_range(a, b, len(data), 1000000, 1000000)
    return data
def moved(a, b):
    os.pwrite(b, b\"z\" * 4096, 0)
    os.copy_file_range(a, b, 4096, 0, 2048)
    return b\"z\" * 2048 + data[:4096]
def shifted(a, b):
    os.copy_file_range(a, b, len(data), 0, 4096)
    return bytes(4096) + data
def under(a, b):
    os.pwrite(b, b\"z\" * 10, len(data) + 5)
    os.copy_file_range(a, b, len(data), 0, 0)
    return data + bytes(5) + b\"z\" * 10
def joined(a, b):
    whole(a, b)
    c = os.open(m + \"/active/y\", os.O_RDONLY)
    os.copy_file_range(c, b, 1000000, len(data), len(data))
    os.close(c)
    return data + other[len(data):]
def removed(a, b):
    whole(a, b)
    os.unlink(m + \"/active/x\")
    os.unlink(m + \"/pending_delete/x\")
    return data
for work in (patched, longer, shorter, part, pieces, moved, shifted, under, joined, removed):
    make(work.__name__, work)
'";
    sandbox.ok(script);
    assert!(sandbox.tree().iter().all(|path| !path.starts_with("killed/")), "{:?}", sandbox.tree());
    sandbox.umount();
    sandbox.audit();
}

// semantics: copy-refers
#[test]
fn a_copy_of_the_first_part_of_a_large_image_is_that_part() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 4200M $F/large; printf begin | dd of=$F/large conv=notrunc status=none
                printf end >> $F/large; cp --sparse=always $F/large $M/active/large");
    let length: u64 = (4 << 30) - (64 << 10);
    let script = format!(
        "python3 -c 'import os
m = os.environ[\"M\"]
a, b = os.open(m + \"/active/large\", os.O_RDONLY), os.open(m + \"/active/part\", os.O_WRONLY | os.O_CREAT)
print(os.copy_file_range(a, b, {length}, 0, 0))
os.close(b)'"
    );
    let copied: u64 = sandbox.ok(&script).trim().parse().expect("a number");
    assert_eq!(fs::metadata(sandbox.path("active/part")).expect("active").len(), copied);
    sandbox.ok("test $(head -c 5 $M/active/part) = begin");
}

// semantics: names-fresh
#[test]
fn what_the_kernel_keeps_of_names_is_never_older_than_the_last_change() {
    let sandbox = Sandbox::new();
    sandbox.ok("for i in $(seq 200); do echo $i > $M/active/other$i; done");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let output = sandbox.bash("ls -l $M/active $M/deactivated $M/pending_delete");
                    assert!(output.status.success() || text(&output).contains("No such file"));
                }
            });
        }
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 0..40 {
                sandbox.ok(&format!("echo {turn} > $M/active/x"));
                assert_eq!(sandbox.ok("cat $M/active/x"), format!("{turn}\n"));
                sandbox.ok("mv $M/active/x $M/deactivated/x");
                assert!(!sandbox.path("active/x").exists());
                assert!(sandbox.path("deactivated/x").exists());
                sandbox.ok("mv $M/deactivated/x $M/active/x");
                assert!(!sandbox.path("deactivated/x").exists());
                let visibility = if turn % 2 == 0 { "private" } else { "public" };
                let set = format!("setfattr -n user.sps.visibility -v {visibility} $M/active/x");
                sandbox.ok(&set);
                let mode = fs::metadata(sandbox.path("active/x")).expect("there").mode() & 0o004;
                assert_eq!(mode == 0, turn % 2 == 0, "{mode:o}");
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        checked.expect("all was seen as it was");
    });
    // Whoever stands in a folder stays there.
    let script =
        "cd $M/active; for i in 1 2 3; do echo $i > y; ls -l y > /dev/null; /bin/pwd; done";
    assert_eq!(sandbox.ok(script).lines().count(), 3);
}
