//! Making images: where, how, and what they are before their first byte.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::support::{Sandbox, attribute, eventually, pattern};

// semantics: create-queues first-byte-saves
#[test]
fn a_new_file_is_queued_until_its_first_byte_and_then_saving() {
    let sandbox = Sandbox::new();
    for door in ["active", "queued"] {
        let mut file = File::create(sandbox.path(&format!("{door}/x"))).expect("a new image");
        assert_eq!(sandbox.tree(), ["queued/x"], "{door}");
        assert!(fs::metadata(sandbox.path("active/x")).is_err(), "not there yet");
        file.write_all(&[7; 5000]).expect("written");
        assert_eq!(sandbox.tree(), ["saving/x"], "{door}");
        assert_eq!(fs::metadata(sandbox.path("saving/x")).expect("listed").len(), 5000);
        file.write_all(&[8; 5000]).expect("written");
        assert_eq!(fs::metadata(sandbox.path("saving/x")).expect("listed").len(), 10_000);
        assert_eq!(sandbox.attribute("saving/x", "size").as_deref(), Some("10000"));
        drop(file);
        assert_eq!(sandbox.tree(), ["active/x"], "{door}");
        sandbox.ok("rm $M/active/x; rm $M/pending_delete/x; rm $M/deleted/x");
    }
}

// semantics: create-elsewhere
#[test]
fn a_file_made_elsewhere_is_refused() {
    let sandbox = Sandbox::new();
    let folders = ["saving", "importing", "deactivated", "killed", "pending_delete"];
    for folder in folders.into_iter().chain(["deleted", "tasks", "by-id", "."]) {
        let script = format!("cp /etc/hostname $M/{folder}/x");
        sandbox.fails(&script, "Operation not permitted");
    }
    assert_eq!(sandbox.tree(), Vec::<String>::new());
}

// semantics: no-other-files
#[test]
fn nothing_but_files_can_be_made() {
    let sandbox = Sandbox::new();
    sandbox.ok("cp /etc/hostname $M/active/a");
    let scripts = [
        "mkdir $M/active/d",
        "mkdir $M/d",
        "rmdir $M/active",
        "ln $M/active/a $M/active/b",
        "ln -s /etc/hostname $M/active/l",
        "mkfifo $M/active/p",
        "mknod $M/active/c c 1 3",
        "rm $M/STATUS",
        "mv $M/STATUS $M/active/s",
        "rm $M/by-id/*",
    ];
    for script in scripts {
        sandbox.fails(script, "not permitted");
    }
    assert_eq!(sandbox.tree(), ["active/a"]);
}

// semantics: touch-stays-queued
#[test]
fn touch_and_empty_copies_stay_queued_and_survive_a_kill() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/active/a; : > $M/active/b; cp /dev/null $M/active/c");
    sandbox.fails("mknod $M/queued/d p", "Operation not permitted");
    sandbox.ok("python3 -c 'import os; os.mknod(os.environ[\"M\"] + \"/queued/e\")'");
    let queued = ["queued/a", "queued/b", "queued/c", "queued/e"];
    assert_eq!(sandbox.tree(), queued);
    sandbox.kill_daemon();
    sandbox.recover();
    assert_eq!(sandbox.tree(), queued);
    sandbox.ok("cp /etc/hostname $M/queued/a && cmp /etc/hostname $M/active/a");
}

// semantics: explicit-empty
#[test]
fn a_size_set_to_zero_makes_an_active_image_of_no_bytes() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 0 $M/active/a");
    sandbox.ok("touch $M/queued/b; truncate -s 0 $M/queued/b");
    sandbox.ok("touch $M/queued/c; python3 -c 'import os; os.truncate(os.environ[\"M\"] + \"/queued/c\", 0)'");
    assert_eq!(sandbox.tree(), ["active/a", "active/b", "active/c"]);
    assert_eq!(fs::metadata(sandbox.path("active/a")).expect("there").len(), 0);
    let empty = blake3::hash(b"").to_string();
    assert_eq!(sandbox.attribute("active/a", "blake3"), Some(empty));
    // A process that fails has not decided anything.
    let failing = "python3 -c 'import os; f = os.open(os.environ[\"M\"] + \"/queued/d\", \
                   os.O_CREAT | os.O_WRONLY); os.ftruncate(f, 0); os._exit(3)'";
    assert!(!sandbox.bash(failing).status.success());
    assert_eq!(sandbox.names("queued"), ["d"]);
    // Nor one that sets it anew, and fails, after another has closed it well.
    let failing = "python3 -c 'import os
f = os.open(os.environ[\"M\"] + \"/queued/d\", os.O_WRONLY)
os.ftruncate(f, 0)
told, tell = os.pipe()
child = os.fork()
if child == 0:
    os.read(told, 1)
    os.ftruncate(f, 0)
    os._exit(3)
os.close(f)
os.write(tell, b\".\")
assert os.waitpid(child, 0)[1] == 3 << 8'";
    sandbox.ok(failing);
    eventually("it is decided", || sandbox.tree().contains(&"queued/d".to_owned()));
    assert_eq!(sandbox.names("queued"), ["d"]);
    // Data that comes after the truncation counts.
    sandbox.ok("exec 3>$M/active/e; truncate -s 0 /dev/fd/3; echo data >&3; exec 3>&-");
    assert_eq!(fs::read(sandbox.path("active/e")).expect("readable"), b"data\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: order-does-not-matter
#[test]
fn data_written_in_any_order_is_hashed_as_it_ends() {
    let sandbox = Sandbox::new();
    let bytes = pattern("order", 700_000);
    let orders: [&[usize]; 4] = [
        &[0, 1, 2, 3, 4, 5, 6],
        &[6, 5, 4, 3, 2, 1, 0],
        &[3, 0, 6, 1, 1, 5, 2, 4],
        &[0, 2, 1, 0, 3, 6, 4, 5],
    ];
    for (index, order) in orders.into_iter().enumerate() {
        let name = format!("active/o{index}");
        let file = File::create(sandbox.path(&name)).expect("a new image");
        for part in order {
            let at = part * 100_000;
            // What is there first is not what is meant.
            file.write_all_at(&[1; 100_000], at as u64).expect("written");
            file.write_all_at(&bytes[at..at + 100_000], at as u64).expect("written");
        }
        drop(file);
        assert!(fs::read(sandbox.path(&name)).expect("readable") == bytes, "{order:?}");
        assert_eq!(sandbox.attribute(&name, "blake3"), Some(blake3::hash(&bytes).to_string()));
    }
    // Cut and grown again: the end is a hole.
    let file = File::create(sandbox.path("active/cut")).expect("a new image");
    file.write_all_at(&bytes, 0).expect("written");
    file.set_len(1000).expect("cut");
    file.set_len(5000).expect("grown");
    drop(file);
    let mut expected = bytes[..1000].to_vec();
    expected.resize(5000, 0);
    assert!(fs::read(sandbox.path("active/cut")).expect("readable") == expected);
    assert_eq!(
        sandbox.attribute("active/cut", "blake3"),
        Some(blake3::hash(&expected).to_string())
    );
    sandbox.umount();
    sandbox.audit();
}

// semantics: holes-stay
#[test]
fn holes_stay_holes_on_the_way_in_and_out() {
    let sandbox = Sandbox::new();
    sandbox.ok(
        "truncate -s 64M $F/s; echo middle | dd of=$F/s bs=1 seek=30M conv=notrunc status=none
         cp --sparse=always $F/s $M/active/s; cmp $F/s $M/active/s
         test $(stat -c %b $M/active/s) -lt 100 || exit 1
         cp --sparse=always $M/active/s $F/out; test $(stat -c %b $F/out) -lt 100",
    );
    let data = "python3 -c 'import os; f = os.open(os.environ[\"M\"] + \"/active/s\", 0); \
                d = os.lseek(f, 0, os.SEEK_DATA); h = os.lseek(f, d, os.SEEK_HOLE); \
                print(d // 4096 * 4096, h - d <= 65536)'";
    assert_eq!(sandbox.ok(data), format!("{} True\n", (30 << 20) / 4096 * 4096));
    // Punching a hole into what is being written, and allocating.
    sandbox.ok("python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
f = os.open(os.environ[\"M\"] + \"/active/p\", os.O_CREAT | os.O_RDWR)
os.write(f, os.urandom(1 << 20))
def fallocate(mode, offset, length):
    done = libc.fallocate64(f, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    assert done == 0, os.strerror(ctypes.get_errno())
fallocate(3, 256 << 10, 512 << 10)
fallocate(0, 0, 2 << 20)
assert os.pread(f, 10, 300 << 10) == bytes(10)
os.close(f)
'
         test $(stat -c %s $M/active/p) = 2097152
         cmp -n 524288 -i 262144:0 $M/active/p /dev/zero");
    let bytes = fs::read(sandbox.path("active/p")).expect("readable");
    assert_eq!(sandbox.attribute("active/p", "blake3"), Some(blake3::hash(&bytes).to_string()));
    sandbox.umount();
    sandbox.audit();
}

// semantics: same-content-once
#[test]
fn the_same_content_is_stored_once_and_lives_as_long_as_an_image_has_it() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 500_000);
    sandbox.ok("cp $F/x $M/active/a; cp $F/x $M/active/b; cp $M/active/a $M/active/c");
    sandbox.wait_for_reclaim(1);
    sandbox.ok("rm $M/active/a $M/active/b; rm $M/pending_delete/a $M/pending_delete/b");
    sandbox.ok("cmp $F/x $M/active/c");
    sandbox.wait_for_reclaim(1);
    sandbox.ok("rm $M/active/c; rm $M/pending_delete/c");
    sandbox.wait_for_reclaim(0);
    sandbox.umount();
    sandbox.audit();
}

// semantics: last-close-wins
#[test]
fn of_two_uploads_of_one_name_the_later_close_wins() {
    let sandbox = Sandbox::new();
    let mut first = File::create(sandbox.path("active/x")).expect("a new image");
    first.write_all(b"first").expect("written");
    let mut second = File::create(sandbox.path("active/x")).expect("another");
    second.write_all(b"second").expect("written");
    assert_eq!(sandbox.names("saving").len(), 2);
    drop(second);
    assert_eq!(fs::read(sandbox.path("active/x")).expect("readable"), b"second");
    drop(first);
    assert_eq!(fs::read(sandbox.path("active/x")).expect("readable"), b"first");
    assert_eq!(sandbox.tree(), ["active/x", "pending_delete/x"]);
}

// semantics: stall-not-seen
#[test]
fn a_producer_that_dies_before_the_pipe_is_not_seen() {
    let sandbox = Sandbox::new();
    sandbox.ok("(echo part; kill -9 $BASHPID) | cat > $M/active/x; true");
    eventually("it is active", || sandbox.tree() == ["active/x"]);
    assert!(attribute(&sandbox.path("active/x"), "message").is_none());
}
