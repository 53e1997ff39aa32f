//! `sps push` and `sps pull`: what comes out is what went in, and a copy that broke off is gone on with.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Sandbox, eventually, pattern, run, signal, text};

fn json(said: &str) -> Value {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn what_is_pushed_is_active_and_what_is_pulled_is_the_same() {
    let sandbox = Sandbox::new();
    sandbox.source("a", 3_000_000);
    sandbox.source("b", 10);
    sandbox.ok("truncate -s 20M $F/holes; printf x | dd of=$F/holes bs=1 seek=9000000 conv=notrunc status=none; : > $F/empty");
    let said = json(&sandbox.ok("$SPS push --json $F/a $F/b $F/holes $F/empty $M"));
    assert_eq!(said.as_array().map(Vec::len), Some(4));
    assert_eq!(said[0]["name"], "a");
    assert_eq!(said[0]["status"], "active");
    assert_eq!(said[0]["blake3"], blake3::hash(&pattern("a", 3_000_000)).to_string());
    assert_eq!(said[0]["resumed"], 0);
    assert_eq!(sandbox.names("active"), ["a", "b", "empty", "holes"]);
    sandbox.ok("cmp $F/a $M/active/a; cmp $F/holes $M/active/holes
                test $(stat -c %b $M/active/holes) -lt 1000");
    assert_eq!(sandbox.names("uploading"), Vec::<String>::new());
    // Out again: to a file, into a folder, and to standard output.
    sandbox.ok("mkdir $F/out; $SPS pull $M/active/holes $F/out; cmp $F/holes $F/out/holes
                test $(stat -c %b $F/out/holes) -lt 1000; $SPS pull $M/active/a $F/a2; cmp $F/a $F/a2
                $SPS pull $M/active/a - | cmp $F/a; test -z \"$(ls $F/*.part 2>/dev/null)\"");
    let said = json(&sandbox.ok("$SPS pull --json $M/active/b $F/out"));
    assert_eq!(said["verified"], true);
    // By another name, and from a pipe.
    sandbox.ok("$SPS push --name c $F/b $M; cat $F/a | $SPS push --name d - $M; cmp $F/b $M/active/c; cmp $F/a $M/active/d");
}

#[test]
fn a_push_that_broke_off_is_gone_on_with_and_one_of_something_else_begins_anew() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 5_000_000);
    sandbox.ok("head -c 2000000 $F/x > $M/uploading/x");
    let said = json(&sandbox.ok("$SPS push --json $F/x $M"));
    assert_eq!(said[0]["resumed"], 2_000_000);
    sandbox.ok("cmp $F/x $M/active/x");
    // Other bytes, and more of them than there are to come.
    sandbox.source("y", 1_000_000);
    for there in ["head -c 2000 $F/x", "cat $F/y $F/y"] {
        sandbox.ok(&format!("{there} > $M/uploading/y"));
        let said = json(&sandbox.ok("$SPS push --json $F/y $M"));
        assert_eq!(said[0]["resumed"], 0, "{there}");
        sandbox.ok("cmp $F/y $M/active/y");
    }
}

#[test]
fn a_push_that_is_killed_leaves_what_the_next_one_goes_on_with() {
    let sandbox = Sandbox::new();
    sandbox.ok("head -c 200M /dev/urandom > $F/x");
    let mut push = sandbox.sps();
    push.arg("push").arg(sandbox.file("x")).arg(sandbox.root()).stderr(Stdio::null());
    let mut push = push.spawn().expect("a push");
    eventually("half of it is there", || {
        let there = fs::metadata(sandbox.path("uploading/x"));
        there.is_ok_and(|there| there.len() > 20 << 20)
            || push.try_wait().expect("a child").is_some()
    });
    signal(i32::try_from(push.id()).expect("a number"), "KILL");
    push.wait().expect("ended");
    if sandbox.names("active").is_empty() {
        let said = json(&sandbox.ok("$SPS push --json $F/x $M"));
        assert!(said[0]["resumed"].as_u64() > Some(0), "{said}");
    }
    sandbox.ok("cmp $F/x $M/active/x");
}

#[test]
fn what_can_not_be_pushed_or_pulled_is_said_and_keeps_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 5000);
    sandbox.fails("$SPS push $F/none $F/x $M", "1 of 2 files were not pushed");
    sandbox.ok("cmp $F/x $M/active/x");
    sandbox.fails("$SPS push - $M < $F/x", "--name");
    sandbox.fails("$SPS push $F $M", "not a regular file");
    sandbox.fails("$SPS push $F/x $F", "no store is mounted");
    sandbox.fails("$SPS push --name a/b $F/x $M", "a/b");
    sandbox.fails("$SPS pull $F/x $F/y", "not an image");
    sandbox.fails("$SPS pull $M/active/none $F/y", "No such file");
    // Two that push one name at once would mix their bytes.
    sandbox.ok("cp $F/x $M/uploading/z; exec 3<> $M/uploading/z; flock -x 3; cp $F/x $F/z
                $SPS push $F/z $M 2> $F/said && exit 1; grep -q 'another process' $F/said; exec 3>&-; $SPS push $F/z $M");
    // A damaged copy is not left for a whole one.
    let blob =
        sandbox.ok("echo $S/blobs/*/$(getfattr --only-values -n user.sps.blake3 $M/active/x)");
    sandbox.ok(&format!("printf z | dd of={} bs=1 seek=7 conv=notrunc status=none", blob.trim()));
    sandbox.ok("echo 3 > /proc/sys/vm/drop_caches");
    sandbox.fails("$SPS pull $M/active/x $F/copy", "damaged");
    assert!(!sandbox.file("copy").exists() && !sandbox.file("copy.part").exists());
    let output = run(sandbox.sps().args(["push", "a"]));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn what_is_pulled_goes_where_a_path_leads() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 300_000);
    sandbox.ok("cp $F/x $M/active/x");
    // A device and a pipe are written to, and stay what they are.
    sandbox.ok("mknod $F/null c 1 3; $SPS pull $M/active/x $F/null; test -c $F/null
                mkfifo $F/pipe; cat $F/pipe > $F/got & $SPS pull $M/active/x $F/pipe; wait; cmp $F/got $F/x; test -p $F/pipe");
    // So does a block device, holes and all.
    sandbox.ok("truncate -s 1M $F/disk; tr '\\0' z < /dev/zero | head -c 1M > $F/disk; device=$(losetup -f --show $F/disk)
                truncate -s 200k $F/holes; printf end >> $F/holes; cp $F/holes $M/active/
                $SPS pull $M/active/holes $device; status=$?; losetup -d $device; test $status = 0; test ! -e $device.part
                cmp -n $(stat -c %s $F/holes) $F/disk $F/holes; test $(stat -c %s $F/disk) = 1048576");
    // A link leads to what is replaced, which keeps its owner and its mode.
    sandbox.ok("echo old > $F/target; chown 1000:1000 $F/target; chmod 640 $F/target; ln -s target $F/link
                $SPS pull $M/active/x $F/link; test -L $F/link; cmp $F/target $F/x
                test \"$(stat -c '%u %g %a' $F/target)\" = '1000 1000 640'
                ln -s nowhere $F/dangling; ! $SPS pull $M/active/x $F/dangling; test -L $F/dangling; test ! -e $F/nowhere");
}

#[test]
fn attributes_are_set_in_one_go_whatever_the_name_becomes() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo x > $M/active/a");
    let said = json(&sandbox.ok("$SPS set --json $M/active/a name=b tags=q min_disk="));
    assert_eq!(said["name"], "b");
    assert_eq!(sandbox.attribute("active/b", "tags").as_deref(), Some("q"));
}
