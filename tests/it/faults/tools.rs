//! What the tools, and what goes on in the background, make of a disk that fails.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{base, close, eventually, is, put, rename, there};
use crate::disk::machine::{Door, Machine, content};
use crate::disk::{Op, State, When};
use crate::support::{attribute, names_in, run, text};

fn sps(machine: &Machine, words: &[&str]) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sps"));
    let output = run(command.args(words).arg("--store").arg(machine.store()));
    (text(&output), output.status.success())
}

// semantics: rebuild-damage
#[test]
fn data_that_can_t_be_opened_for_now_is_no_damage_when_the_registry_is_made_again() {
    let mut machine = Machine::with(base(), &[]);
    for file in ["sps.db", "sps.db-wal", "sps.db-shm"] {
        // It is not there after a clean end.
        let _ = std::fs::remove_file(machine.store().join(file));
    }
    machine.disk.fail(Op::Open, "/blobs/", When::Always, libc::EACCES);
    let (said, is_whole) = sps(&machine, &["fsck", "--rebuild", "--quick"]);
    assert!(!is_whole && said.contains("has a manifest and no record"), "{said}");
    assert!(machine.disk.heal() > 0, "it was not met");
    let (said, is_whole) = sps(&machine, &["fsck", "--rebuild"]);
    assert!(is_whole, "{said}");
    machine.start().expect("it starts");
    is(&machine, "active/kept", &[Some("kept")]);
    machine.stop();
    machine.audit();
}

// semantics: verify-damage
#[test]
fn data_that_can_t_be_opened_for_now_is_no_damage_to_verify() {
    let mut machine = Machine::boot(base(), &[]);
    machine.disk.fail(Op::Open, "/blobs/", When::Always, libc::EACCES);
    let verify = |machine: &Machine| {
        run(Command::new(env!("CARGO_BIN_EXE_sps")).arg("verify").arg(machine.root()))
    };
    let output = verify(&machine);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(machine.disk.heal() > 0, "it was not met");
    assert!(verify(&machine).status.success());
    is(&machine, "active/kept", &[Some("kept")]);
    machine.stop();
    machine.audit();
}

// semantics: backup-in-flight
#[test]
fn what_is_staged_and_can_t_be_read_does_not_keep_a_copy_from_being_made() {
    let mut machine = Machine::boot(base(), &[]);
    put(&machine.path("uploading/x"), "staged", Door::New, 50_000).expect("staged");
    machine.stop();
    machine.disk.forget_pages("/staging/");
    machine.disk.fail(Op::Read, "/staging/", When::Always, libc::EIO);
    let copy = tempfile::tempdir().expect("a directory");
    let to = copy.path().join("copy");
    let (said, is_done) = sps(&machine, &["backup", to.to_str().expect("text")]);
    assert!(machine.disk.heal() > 0, "it was not met");
    assert!(is_done && said.contains("1 images"), "{said}");
    machine.start().expect("it starts");
    is(&machine, "uploading/x", &[Some("staged")]);
    machine.stop();
}

// semantics: staging-full
#[test]
fn staged_data_of_which_a_sync_failed_is_not_taken_in_until_it_is_written_anew() {
    let mut machine = Machine::boot(State::default(), &[]);
    let root = machine.root();
    put(&root.join("uploading/x"), "staged", Door::New, 50_000).expect("staged");
    machine.disk.fail(Op::Fsync, "/staging/", When::Always, libc::EIO);
    rename(&root.join("uploading/x"), &root.join("active/x")).expect_err("not on the disk");
    assert!(machine.disk.heal() > 0, "it was not met");
    let again = rename(&root.join("uploading/x"), &root.join("active/x"));
    assert_eq!(again.expect_err("it may be torn").raw_os_error(), Some(libc::EIO));
    let told = attribute(&root.join("uploading/x"), "message").expect("a reason");
    assert!(told.starts_with("a write failed"), "{told}");
    put(&root.join("uploading/x"), "new", Door::Replace, 50_000).expect("written anew");
    rename(&root.join("uploading/x"), &root.join("active/x")).expect("taken in");
    machine.settle();
    is(&machine, "active/x", &[Some("new")]);
    machine.stop();
    machine.audit();
}

// semantics: never-stuck
#[test]
fn an_upload_that_can_t_be_published_at_its_last_close_is_published_later() {
    let mut machine = Machine::boot(State::default(), &[]);
    let root = machine.root();
    there(&root, "active/kept", "kept");
    let mut file = File::create(root.join("active/x")).expect("created");
    file.write_all(&content("new")).expect("written");
    // Another one holds it, so that it is sealed and not published yet.
    let mut holder = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(file.try_clone().expect("a copy"))
        .spawn()
        .expect("cat");
    close(file).expect("sealed");
    machine.disk.fail(Op::Write, "sps.db-wal", When::Always, libc::EIO);
    holder.wait().expect("ended");
    eventually("it is met", || machine.disk.hits() > 0);
    eventually("it can't be published", || machine.log().contains("trying again"));
    assert_eq!(names_in(&root.join("active")), ["kept"]);
    machine.disk.heal();
    eventually("it is published", || root.join("active/x").exists());
    is(&machine, "active/x", &[Some("new")]);
    machine.stop();
    machine.audit();
}
