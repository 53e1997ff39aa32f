//! Names: which are taken, how images of one name are told apart, and renaming.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::Sandbox;

// semantics: names
#[test]
fn names_that_can_not_be_are_refused_and_others_are_taken() {
    let sandbox = Sandbox::new();
    let refused: [(Vec<u8>, i32); 6] = [
        (b"a\nb".to_vec(), libc::EINVAL),
        (b"\xff".to_vec(), libc::EINVAL),
        (b".spsx".to_vec(), libc::EINVAL),
        (b"x~0123abcd".to_vec(), libc::EINVAL),
        (vec![b'x'; 247], libc::ENAMETOOLONG),
        (vec![b'x'; 255], libc::ENAMETOOLONG),
    ];
    for (name, errno) in &refused {
        for folder in ["active", "queued"] {
            let path = sandbox.path(folder).join(OsStr::from_bytes(name));
            let error = File::create(&path).expect_err("refused");
            assert_eq!(error.raw_os_error(), Some(*errno), "{name:?} in {folder}");
        }
        sandbox.ok("touch $M/queued/n");
        let to = sandbox.path("queued").join(OsStr::from_bytes(name));
        // As the target of a rename, `n~ID8` means `n`.
        if !name.starts_with(b"x~") {
            let error = fs::rename(sandbox.path("queued/n"), to).expect_err("refused");
            assert_eq!(error.raw_os_error(), Some(*errno), "{name:?}");
        }
    }
    sandbox.ok("rm $M/queued/n; rm $M/deleted/n");
    let longest = "ü".repeat(123);
    for name in ["a b", "-rf", ".hidden", "x~1", "*", "日本", "a'\"$(x)", &longest] {
        fs::write(sandbox.path("active").join(name), name).expect("taken");
        assert_eq!(fs::read_to_string(sandbox.path("active").join(name)).expect("there"), name);
    }
}

// semantics: newest-bears-name always-by-id8
#[test]
fn the_newest_bears_the_name_and_each_is_found_by_its_id() {
    let sandbox = Sandbox::new();
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        sandbox.ok(&format!("echo {text} > $M/active/x"));
        ids.push(sandbox.attribute("active/x", "id").expect("an id"));
        let listed = format!("active/x~{}", &ids.last().expect("one")[..8]);
        assert_eq!(sandbox.attribute(&listed, "id").as_ref(), ids.last(), "also by NAME~ID8");
        sandbox.ok("rm $M/active/x");
    }
    let mut expected = vec!["x".to_owned()];
    expected.extend(ids[..2].iter().map(|id| format!("x~{}", &id[..8])));
    expected.sort();
    assert_eq!(sandbox.names("pending_delete"), expected);
    assert_eq!(sandbox.attribute("pending_delete/x", "id").as_ref(), ids.last());
    for id in &ids {
        let found = sandbox.attribute(&format!("pending_delete/x~{}", &id[..8]), "id");
        assert_eq!(found.as_ref(), Some(id));
    }
    // Removed by that name, it is that one which goes.
    sandbox.ok(&format!("rm $M/pending_delete/x~{}", &ids[0][..8]));
    assert_eq!(sandbox.attribute("deleted/x", "id").as_ref(), ids.first());
    assert!(fs::metadata(sandbox.path("active/x~00000000")).is_err());
}

// semantics: rename-renames rename-replaces
#[test]
fn a_rename_in_active_renames_and_replaces_in_one_step() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a; echo b > $M/active/b; mv $M/active/a $M/active/c");
    assert_eq!(sandbox.tree(), ["active/b", "active/c"]);
    sandbox.ok("mv $M/active/c $M/active/b");
    assert_eq!(sandbox.tree(), ["active/b", "pending_delete/b"]);
    assert_eq!(sandbox.ok("cat $M/active/b"), "a\n");
    sandbox.ok("mv $M/active/b $M/active/d~0123abcd; cat $M/active/d");
    sandbox.remount();
    assert_eq!(sandbox.tree(), ["active/d", "pending_delete/b"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: rename-both-live
#[test]
fn a_rename_onto_an_image_that_could_not_be_had_back_keeps_both() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/queued/a $M/queued/b; mv $M/queued/a $M/queued/b");
    assert_eq!(sandbox.names("queued").len(), 2);
    assert!(sandbox.names("queued").contains(&"b".to_owned()));
}

// semantics: rename-flags
#[test]
fn the_flags_of_a_rename_are_met_or_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a; echo b > $M/active/b; touch $M/queued/q $M/queued/r");
    let rename = |from: &str, to: &str, flags| {
        renameat_with(CWD, sandbox.path(from), CWD, sandbox.path(to), flags)
    };
    let taken = rename("active/a", "active/b", RenameFlags::NOREPLACE);
    assert_eq!(taken, Err(rustix::io::Errno::EXIST));
    let taken = rename("queued/q", "queued/r", RenameFlags::NOREPLACE);
    assert_eq!(taken, Err(rustix::io::Errno::EXIST));
    let exchanged = rename("active/a", "active/b", RenameFlags::EXCHANGE);
    assert_eq!(exchanged, Err(rustix::io::Errno::INVAL));
    assert_eq!(rename("active/a", "active/c", RenameFlags::NOREPLACE), Ok(()));
    assert_eq!(sandbox.tree(), ["active/b", "active/c", "queued/q", "queued/r"]);
}

// semantics: inodes-stable
#[test]
fn inode_numbers_stay_and_are_never_given_again() {
    let sandbox = Sandbox::new();
    let inode = |path: &str| fs::metadata(sandbox.path(path)).expect("there").ino();
    sandbox.ok("echo a > $M/active/a; echo b > $M/active/b");
    let before = [inode("active/a"), inode("active/b"), inode("active")];
    sandbox.remount();
    assert_eq!([inode("active/a"), inode("active/b"), inode("active")], before);
    sandbox.ok("rm $M/active/b; rm $M/pending_delete/b; rm $M/deleted/b");
    sandbox.remount();
    sandbox.ok("echo c > $M/active/c");
    assert!(!before.contains(&inode("active/c")));
}
