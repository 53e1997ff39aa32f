//! Reading: who may, what is read, and that it goes on.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use crate::support::{ALICE, Sandbox, text};

// semantics: active-reads others-unreadable queued-reads-empty
#[test]
fn each_status_reads_as_it_promises() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo data > $M/active/a; touch $M/queued/q; echo x > $M/active/p; rm $M/active/p");
    sandbox.ok("echo x > $M/active/d; rm $M/active/d; rm $M/pending_delete/d");
    sandbox.bash("sh -c 'echo part; kill -9 $$' > $M/active/k");
    assert_eq!(sandbox.ok("cat $M/active/a"), "data\n");
    assert_eq!(sandbox.ok("cat $M/queued/q"), "");
    for path in ["pending_delete/p", "deleted/d", "killed/k"] {
        sandbox.fails(&format!("cat $M/{path}"), "Permission denied");
    }
    let saving = "exec 3>$M/active/s; echo part >&3; cat $M/saving/s";
    sandbox.fails(saving, "Permission denied");
    sandbox.ok("chmod 600 $M/active/a");
    let output = sandbox.bash_as(ALICE, "cat $M/active/a");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    sandbox.ok("chmod 644 $M/active/a");
    assert!(sandbox.bash_as(ALICE, "cat $M/active/a").status.success());
}

// semantics: active-reads
#[test]
fn of_data_that_is_gone_from_below_the_reader_is_told_and_the_log_says_of_which_image() {
    let sandbox = Sandbox::new();
    // Whoever looks waits until it is published.
    sandbox.ok("echo a > $M/active/a; ls $M/active/a; rm $S/blobs/*/*");
    let id = sandbox.attribute("active/a", "id").expect("an id");
    sandbox.fails("cat $M/active/a", "Input/output error");
    let told = format!("data of image {id}");
    crate::support::eventually("the log says it", || sandbox.log().contains(&told));
}

// semantics: active-immutable
#[test]
fn an_active_image_can_not_be_opened_for_writing() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo data > $M/active/a");
    let reopened = "exec 3<>$M/active/a";
    for script in ["echo x >> $M/active/a", reopened, "truncate -s 1 $M/active/a"] {
        sandbox.fails(script, "Permission denied");
    }
    let by_path = "python3 -c 'import os; os.truncate(os.environ[\"M\"] + \"/active/a\", 0)'";
    sandbox.fails(by_path, "Permission denied");
    assert_eq!(sandbox.ok("cat $M/active/a"), "data\n");
    assert_eq!(sandbox.tree(), ["active/a"]);
}

// semantics: readers-read-on
#[test]
fn a_reader_reads_on_whatever_becomes_of_the_image() {
    let sandbox = Sandbox::new();
    let source = sandbox.source("x", 3_000_000);
    sandbox.ok("cp $F/x $M/active/x");
    let expected = fs::read(source).expect("the source");
    let mut reader = File::open(sandbox.path("active/x")).expect("readable");
    for script in ["rm $M/active/x", "rm $M/pending_delete/x", "rm $M/deleted/x"] {
        sandbox.ok(script);
        let mut found = Vec::new();
        reader.seek(SeekFrom::Start(0)).expect("sought");
        reader.read_to_end(&mut found).expect("still readable");
        assert!(found == expected, "after {script}");
        assert_eq!(reader.metadata().expect("fstat").len(), expected.len() as u64);
    }
    sandbox.wait_for_reclaim(0);
    drop(reader);
    sandbox.umount();
    sandbox.audit();
}
