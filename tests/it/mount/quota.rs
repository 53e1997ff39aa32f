//! How long an image may be, and how much all of them together.

use std::fs;
use std::process::Child;

use crate::support::{ALICE, Sandbox, eventually};

// semantics: size-cap
#[test]
fn an_image_longer_than_the_cap_is_killed_whatever_way_it_grows() {
    let sandbox = Sandbox::with(&["image_size_cap=1M"]);
    sandbox.source("fits", 1 << 20);
    sandbox.source("large", (1 << 20) + 1);
    sandbox.ok("cp $F/fits $M/active/fits; cmp $F/fits $M/active/fits");
    for grow in [
        "cp $F/large $M/active/x",
        "dd if=/dev/zero of=$M/active/x bs=512K count=3 status=none",
        "dd if=/dev/zero of=$M/active/x bs=4K seek=256 count=1 status=none",
        "touch $M/queued/x; truncate -s 1048577 $M/queued/x",
        "touch $M/queued/x; fallocate -l 1048577 $M/queued/x",
        "python3 -c '
import ctypes, os
f = os.open(os.environ[\"M\"] + \"/active/x\", os.O_CREAT | os.O_WRONLY); os.write(f, b\"x\")
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate(f, 0x10, ctypes.c_long(0), ctypes.c_long(1048577)); print(os.strerror(ctypes.get_errno()))
os.close(f)'",
    ] {
        sandbox.fails(grow, "File too large");
        eventually("it is killed", || sandbox.names("killed") == ["x"]);
        let message = sandbox.attribute("killed/x", "message").expect("a reason");
        assert!(message.contains("1048576 bytes"), "{grow}: {message}");
        sandbox.ok("rm $M/killed/x");
    }
    assert_eq!(sandbox.names("active"), ["fits"]);
    sandbox.fails("cp $F/large $M/uploading/u", "File too large");
    // A part of one that is copied far into another counts by where it ends.
    sandbox.ok("python3 -c '
import os
a = os.open(os.environ[\"M\"] + \"/active/fits\", os.O_RDONLY)
b = os.open(os.environ[\"M\"] + \"/active/part\", os.O_WRONLY | os.O_CREAT)
assert os.copy_file_range(a, b, 5000, 0, 900000) == 5000
os.close(b)'");
    assert_eq!(fs::metadata(sandbox.path("active/part")).expect("active").len(), 905_000);
}

// semantics: quota-exact
#[test]
fn of_sixteen_writers_with_room_for_ten_ten_images_are_active_and_six_killed() {
    const SIZE: usize = 3_000_000;
    let quota = format!("quota_bytes={}", 10 * SIZE + SIZE / 2);
    let sandbox = Sandbox::with(&[&quota]);
    for round in 0..3 {
        for writer in 0..16 {
            sandbox.source(&format!("s{round}-{writer}"), SIZE);
        }
        let writers: Vec<Child> = (0..16)
            .map(|writer| {
                // Half of them at once, half bit by bit.
                let how = if writer % 2 == 0 {
                    "cp $F/N $M/active/N"
                } else {
                    "dd if=$F/N of=$M/active/N bs=50K"
                };
                let script = how.replace('N', &format!("s{round}-{writer}"));
                sandbox.bash_command(&script).spawn().expect("started")
            })
            .collect();
        let done = writers.into_iter().map(|mut writer| writer.wait().expect("ended").success());
        assert_eq!(done.filter(|done| *done).count(), 10, "round {round}");
        assert_eq!((sandbox.names("active").len(), sandbox.names("killed").len()), (10, 6));
        let killed = sandbox.names("killed").pop().expect("one");
        let message = sandbox.attribute(&format!("killed/{killed}"), "message").expect("a reason");
        assert!(message.contains("over quota"), "{message}");
        assert_eq!(fs::read_dir(sandbox.store().join("staging")).expect("there").count(), 0);
        // What is in the trash still has its data, and counts.
        sandbox.ok("rm $M/killed/*; rm $M/active/*");
        sandbox.fails(&format!("cp $F/s{round}-0 $M/active/more"), "Disk quota exceeded");
        sandbox.ok("rm $M/pending_delete/*; rm $M/killed/*");
    }
}

// semantics: quota-images
#[test]
fn no_more_images_are_made_than_there_may_be() {
    let sandbox = Sandbox::with(&["quota_images=3", "publish=all"]);
    sandbox.ok("echo a > $M/active/a; echo b > $M/active/b; touch $M/queued/c");
    for more in ["echo d > $M/active/d", "touch $M/queued/d", "echo d > $M/uploading/d"] {
        sandbox.fails(more, "Disk quota exceeded");
    }
    assert!(!sandbox.bash_as(ALICE, "touch $M/queued/e").status.success());
    sandbox.ok("rm $M/queued/c; echo d > $M/active/d");
    sandbox.fails("echo e > $M/active/a", "Disk quota exceeded");
    assert_eq!(sandbox.ok("cat $M/active/a"), "a\n", "what it would have replaced stays");
    sandbox.ok("rm $M/active/d; rm $M/pending_delete/d; echo e > $M/active/a; cat $M/active/a");
}

// semantics: quota-shown
#[test]
fn the_quota_is_what_df_and_status_show() {
    let sandbox = Sandbox::with(&["quota_bytes=10M", "quota_images=40"]);
    sandbox.source("x", 4 << 20);
    sandbox.ok("cp $F/x $M/active/x; cp $M/active/x $M/active/copy");
    assert_eq!(sandbox.ok("df -B1 --output=size,avail $M | tail -1 | xargs"), "10485760 2097152\n");
    let status = fs::read_to_string(sandbox.path("STATUS")).expect("a page");
    assert!(status.contains("quota: 8.0 MiB of 10.0 MiB, 2 of 40 images"), "{status}");
    let page = fs::read_to_string(sandbox.path(".sps/status.json")).expect("a page");
    let page: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    assert_eq!(page["quota"]["used_bytes"], 8 << 20);
    // A copy is full length, though it takes no space: what is read out must fit elsewhere too.
    sandbox.fails("cp $M/active/x $M/active/third", "Disk quota exceeded");
}

// semantics: quota-scrub
#[test]
fn the_oldest_of_the_trash_makes_room_in_the_quota() {
    let sandbox = Sandbox::with(&["quota_bytes=10M", "scrub_when_full=yes"]);
    for name in ["a", "b", "c"] {
        sandbox.source(name, 4 << 20);
    }
    sandbox.ok("cp $F/a $M/active/a; cp $F/b $M/active/b; rm $M/active/a; cp $F/c $M/active/c");
    assert_eq!(sandbox.names("active"), ["b", "c"]);
    assert_eq!(sandbox.names("deleted"), ["a"]);
}

#[test]
fn an_upload_that_does_not_fit_any_more_ends_before_all_of_it_is_written() {
    let sandbox = Sandbox::with(&["quota_bytes=64M"]);
    sandbox.ok("head -c 40M /dev/urandom > $M/active/there");
    // It would fit alone; a little more is taken than there is room for.
    let mut file = std::fs::File::create(sandbox.path("active/x")).expect("new");
    let piece = vec![1; 1 << 20];
    let wrote =
        (0..50).take_while(|_| std::io::Write::write_all(&mut file, &piece).is_ok()).count();
    assert!((20..40).contains(&wrote), "{wrote} MiB");
    let error = std::io::Write::write_all(&mut file, &piece).expect_err("it has failed");
    assert_eq!(error.raw_os_error(), Some(libc::EDQUOT));
    drop(file);
    eventually("it is killed", || sandbox.tree() == ["active/there", "killed/x"]);
    // One that fits nowhere is refused at once.
    sandbox.fails("truncate -s 65M $M/active/y", "quota exceeded");
}

#[test]
fn an_image_that_never_fits_ends_at_the_write_that_says_so_and_one_that_just_fits_is_taken() {
    let sandbox = Sandbox::with(&["quota_bytes=1M"]);
    let mut file = std::fs::File::create(sandbox.path("active/x")).expect("new");
    let error =
        std::io::Write::write_all(&mut file, &vec![1; (1 << 20) + 1]).expect_err("too long");
    assert_eq!(error.raw_os_error(), Some(libc::EDQUOT));
    drop(file);
    sandbox.ok("truncate -s 1M $M/active/z; test -e $M/active/z; rm $M/active/z $M/pending_delete/z $M/deleted/z");
    sandbox.ok("head -c 600K /dev/urandom > $M/active/y");
    // One that would fit alone is told at the first write that does not.
    let mut file = std::fs::File::create(sandbox.path("active/late")).expect("new");
    let error = std::io::Write::write_all(&mut file, &vec![1; 600 << 10]).expect_err("no room");
    assert_eq!(error.raw_os_error(), Some(libc::EDQUOT));
    drop(file);
    sandbox.ok("head -c 424K /dev/urandom > $M/active/z");
    eventually("all are decided", || {
        sandbox.tree() == ["active/y", "active/z", "killed/late", "killed/x"]
    });
}
