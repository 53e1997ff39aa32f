//! The disk itself: what a sync keeps, what each cut loses, and that it never keeps anybody waiting.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use super::{Cut, Disk, Op, When};

#[test]
fn a_sync_of_a_file_keeps_its_data_and_one_of_its_directory_its_name() {
    let disk = Disk::new();
    let path = disk.path().to_owned();
    let write = |name: &str| {
        let mut file = File::create(path.join(name)).expect("created");
        file.write_all(b"data").expect("written");
        file
    };
    write("nothing");
    write("data").sync_all().expect("synced");
    write("both").sync_all().expect("synced");
    let data = write("later");
    File::open(&path).and_then(|root| root.sync_all()).expect("synced");
    fs::rename(path.join("both"), path.join("renamed")).expect("renamed");
    drop(data);
    let left = disk.left(Cut::Lose, 0);
    assert_eq!(left.bytes("both").as_deref(), Some(&b"data"[..]));
    assert_eq!(left.bytes("renamed"), None);
    assert_eq!(left.bytes("later").as_deref(), Some(&b""[..]));
    let kept = disk.left(Cut::Keep, 0);
    assert_eq!(kept.bytes("renamed").as_deref(), Some(&b"data"[..]));
    assert_eq!(kept.bytes("both"), None);
    // And it is a disk again.
    drop(disk);
    let again = Disk::of(left);
    assert_eq!(fs::read(again.path().join("data")).expect("there"), b"data");
    assert_eq!(fs::read_dir(again.path()).expect("listed").count(), 4);
}

#[test]
fn an_unsynced_file_in_a_synced_directory_has_no_name_before_that() {
    let disk = Disk::new();
    fs::create_dir(disk.path().join("d")).expect("made");
    fs::write(disk.path().join("d/x"), "data").expect("written");
    File::open(disk.path().join("d/x")).and_then(|file| file.sync_all()).expect("synced");
    File::open(disk.path().join("d")).and_then(|file| file.sync_all()).expect("synced");
    assert!(disk.left(Cut::Lose, 0).find("d").is_none(), "its directory has no name");
    File::open(disk.path()).and_then(|file| file.sync_all()).expect("synced");
    assert_eq!(disk.left(Cut::Lose, 0).bytes("d/x").as_deref(), Some(&b"data"[..]));
}

#[test]
fn an_ordered_cut_keeps_a_beginning_and_a_scattered_one_any_part() {
    let disk = Disk::new();
    let file = File::create(disk.path().join("x")).expect("created");
    File::open(disk.path()).and_then(|root| root.sync_all()).expect("synced");
    for at in 0..8u8 {
        file.write_all_at(&[at + 1; 8192], u64::from(at) * 8192).expect("written");
    }
    let mut sizes = std::collections::BTreeSet::new();
    let (mut later, mut torn) = (false, false);
    for seed in 0..64 {
        let ordered = disk.left(Cut::Ordered, seed).bytes("x").expect("there");
        assert!(ordered.iter().all(|byte| *byte != 0), "a hole in what came in order");
        sizes.insert(ordered.len());
        let scattered = disk.left(Cut::Scattered, seed).bytes("x").expect("there");
        let kept = |at: usize| {
            let piece = scattered.get(at * 8192..(at + 1) * 8192).unwrap_or_default();
            piece.iter().filter(|byte| **byte != 0).count()
        };
        later |= kept(0) == 0 && kept(7) == 8192;
        torn |= (0..8).any(|at| kept(at) % 8192 != 0);
    }
    assert!(sizes.len() > 4 && later && torn, "{sizes:?} {later} {torn}");
    let renamed = disk.path().join("y");
    fs::create_dir(disk.path().join("d")).expect("made");
    fs::rename(disk.path().join("x"), disk.path().join("d/x")).expect("moved");
    let lost = (0..64).any(|seed| {
        let left = disk.left(Cut::Scattered, seed);
        left.find("x").is_none() && left.find("d/x").is_none()
    });
    assert!(lost, "a move between directories is two steps");
    assert!(!renamed.exists());
}

#[test]
fn a_sync_that_failed_does_not_keep_what_it_was_for_at_the_next_one() {
    let disk = Disk::new();
    let file = File::create(disk.path().join("x")).expect("created");
    File::open(disk.path()).and_then(|root| root.sync_all()).expect("synced");
    file.write_all_at(b"first", 0).expect("written");
    disk.fail(Op::Fsync, "x", When::Nth(1), libc::EIO);
    assert_eq!(file.sync_all().expect_err("failed").raw_os_error(), Some(libc::EIO));
    file.write_all_at(b" last", 5).expect("written");
    file.sync_all().expect("synced");
    assert_eq!(disk.heal(), 1);
    assert_eq!(fs::read(disk.path().join("x")).expect("there"), b"first last");
    let left = disk.left(Cut::Lose, 0).bytes("x");
    assert_eq!(left.as_deref(), Some(&b"\0\0\0\0\0 last"[..]));
}

#[test]
fn it_fails_fills_up_and_is_read_only_as_it_is_told_to() {
    let disk = Disk::new();
    let x = disk.path().join("x");
    let errno = |done: std::io::Result<()>| done.expect_err("refused").raw_os_error();
    disk.fail(Op::Create, "x", When::Always, libc::EIO);
    assert_eq!(errno(fs::write(&x, "data")), Some(libc::EIO));
    fs::write(disk.path().join("y"), "data").expect("another one");
    disk.heal();
    disk.leave_room(8192);
    assert_eq!(errno(fs::write(&x, [1; 12_288])), Some(libc::ENOSPC));
    disk.leave_room(1 << 20);
    fs::write(&x, [1; 12_288]).expect("room again");
    let holes = File::create(disk.path().join("z")).expect("created");
    holes.set_len(1 << 30).expect("a hole takes no room");
    assert_eq!(holes.metadata().expect("there").blocks(), 0);
    disk.set_read_only(true);
    assert_eq!(errno(fs::write(&x, "data")), Some(libc::EROFS));
    disk.set_read_only(false);
    // The kernel tries a read again, a page at a time.
    disk.fail(Op::Read, "x", When::Always, libc::EIO);
    assert_eq!(errno(fs::read(&x).map(|_| ())), Some(libc::EIO));
    disk.heal();
    assert_eq!(fs::read(&x).expect("read").len(), 12_288);
    disk.fail(Op::Unlink, "x", When::Nth(2), libc::EIO);
    fs::remove_file(&x).expect("the first one");
    // The power is cut before the second change from here.
    disk.cut_after(1);
    fs::write(&x, "").expect("the first one");
    assert_eq!(errno(fs::write(&x, "data")), Some(libc::EIO));
    assert!(disk.is_off());
}

#[test]
fn whoever_waits_for_a_frozen_disk_goes_on_when_it_thaws_or_ends() {
    for ends in [false, true] {
        let disk = Disk::new();
        disk.freeze();
        let path = disk.path().join("x");
        let writer = std::thread::spawn(move || fs::write(path, "data"));
        let began = Instant::now();
        crate::support::eventually("it waits", || began.elapsed() > Duration::from_millis(50));
        assert!(!writer.is_finished());
        if ends {
            drop(disk);
            assert!(writer.join().expect("no panic").is_err());
        } else {
            disk.thaw();
            writer.join().expect("no panic").expect("written");
        }
    }
}
