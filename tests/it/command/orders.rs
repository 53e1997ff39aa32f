//! The commands that ask the daemon for something: set, restore, import, verify, scrub, tasks, watch.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Sandbox, eventually, run, text};

fn json(said: &str) -> Value {
    serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn set_sets_what_can_be_set_and_says_what_can_not() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 5000);
    sandbox.ok("cp $F/x $M/active/x; $SPS set $M/active/x tags=b,a min_ram=512 property.os=debian protected=true");
    assert_eq!(sandbox.attribute("active/x", "property.os").as_deref(), Some("debian"));
    assert_eq!(sandbox.attribute("active/x", "min_ram").as_deref(), Some("512"));
    sandbox.fails("rm -f $M/active/x", "not permitted");
    sandbox.ok("$SPS set $M/active/x property.os= protected=false visibility=private");
    assert_eq!(sandbox.attribute("active/x", "property.os"), None);
    let said = json(&sandbox.ok("$SPS set --json $M/active/x name=y"));
    assert_eq!(said["name"], "y", "it has another path now");
    assert_eq!(sandbox.names("active"), ["y"]);
    sandbox.fails("$SPS set $M/active/y blake3=1", "can't be set");
    sandbox.fails("$SPS set $M/active/y min_ram=much", "it takes a whole number of MiB");
    sandbox.fails("$SPS set $M/active/y nonsense", "KEY=VALUE");
    sandbox.fails("$SPS set $M/active property.a=b", "not an image");
    sandbox.fails("$SPS set $M/active/none property.a=b", "No such file");
}

#[test]
fn restore_brings_back_what_was_removed_to_where_it_was() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 5000);
    sandbox.source("y", 6000);
    sandbox.ok("cp $F/x $M/active/x; rm $M/active/x; $SPS restore $M/pending_delete/x; cmp $F/x $M/active/x
                mv $M/active/x $M/deactivated/; rm $M/deactivated/x; $SPS restore $M/pending_delete/x");
    assert_eq!(sandbox.tree(), ["deactivated/x"]);
    // Back to yesterday's.
    sandbox.ok("mv $M/deactivated/x $M/active/; cp $F/y $M/active/x");
    let said = json(&sandbox.ok("$SPS restore --json $M/pending_delete/x"));
    assert_eq!(said[0]["replaced"], true);
    sandbox.ok("cmp $F/x $M/active/x; test -e $M/pending_delete/x");
    sandbox.fails("$SPS restore $M/active/x", "was not removed");
    sandbox.fails("$SPS restore $M/pending_delete/none", "No such file");
    sandbox.fails("$SPS restore $F/x", "not in a mount");
    // Several, of which one that fails does not keep the others.
    sandbox.ok("cp $F/y $M/active/y; cp $F/y $M/active/z; rm $M/active/y $M/active/z");
    let several = "$SPS restore $M/pending_delete/y $M/pending_delete/none $M/pending_delete/z";
    sandbox.fails(several, "1 of 3 images were not restored");
    assert_eq!(sandbox.names("active"), ["x", "y", "z"]);
}

#[test]
fn import_verify_scrub_and_tasks_do_and_tell_what_tasks_do() {
    let sandbox = Sandbox::unmounted(&["scrub_time=0"]);
    let sandbox = {
        let root = sandbox.file("").display().to_string();
        sandbox.and(&format!("location_root={root}"))
    };
    sandbox.mount();
    sandbox.source("x", 50_000);
    let said = sandbox.ok("$SPS import $F/x $M");
    assert_eq!(said.trim(), sandbox.path("active/x").display().to_string());
    sandbox.ok("cmp $F/x $M/active/x; cd $F; $SPS import --name y --disk-format raw x $M; cmp $F/x $M/active/y");
    sandbox.fails("$SPS import /etc/passwd $M", "below no root");
    sandbox.fails("$SPS import --disk-format qcow2 --name q $F/x $M", "qcow2");
    assert!(sandbox.ok("$SPS verify $M/active/x").contains("0 damaged"));
    assert_eq!(json(&sandbox.ok("$SPS verify --json $M"))["damaged"], 0);
    sandbox.ok("rm $M/active/y");
    sandbox.ok("$SPS scrub $M | grep -q purged");
    let tasks = json(&sandbox.ok("$SPS tasks --json $M"));
    let kinds: Vec<&str> =
        tasks.as_array().expect("tasks").iter().filter_map(|task| task["type"].as_str()).collect();
    for kind in ["import", "verify", "scrub"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert!(sandbox.ok("$SPS tasks $M").contains("success"));
    let of = |status: &str| {
        let only = json(&sandbox.ok(&format!("$SPS tasks --json --status {status} $M")));
        let only = only.as_array().expect("tasks").clone();
        assert!(!only.is_empty() && only.iter().all(|task| task["status"] == status), "{only:?}");
        only.len()
    };
    assert_eq!(of("success") + of("failure"), kinds.len());
    sandbox.fails("$SPS tasks --status over $M", "pending, processing, success, failure");
    let blob =
        sandbox.ok("echo $S/blobs/*/$(getfattr --only-values -n user.sps.blake3 $M/active/x)");
    sandbox.ok(&format!("printf z | dd of={} bs=1 seek=7 conv=notrunc status=none", blob.trim()));
    sandbox.fails("$SPS verify $M/active/x", "withheld");
    sandbox.fails("$SPS verify $M/active", "neither");
    sandbox.fails("$SPS scrub $F", "no store is mounted");
}

#[test]
fn watch_tells_what_happens_as_it_happens() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 5000);
    sandbox.ok("cp $F/x $M/active/before");
    for words in [&["watch", "--count", "3"][..], &["watch", "--count", "3", "--json"]] {
        let mut watch = sandbox.sps();
        watch.args(words).arg(sandbox.root()).stdout(Stdio::piped());
        let watch = watch.spawn().expect("a watcher");
        let path = format!("/proc/{}/stat", watch.id());
        // It has begun when it sleeps for the first time.
        eventually("it watches", || {
            std::fs::read_to_string(&path).is_ok_and(|stat| stat.contains(") S "))
                && std::fs::read_to_string(format!("/proc/{}/wchan", watch.id()))
                    .is_ok_and(|at| at.contains("nanosleep"))
        });
        sandbox.ok("cp $F/x $M/active/x");
        let output = watch.wait_with_output().expect("it ends");
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.contains("active") && !said.contains("before"), "{said}");
        sandbox.ok("rm $M/active/x; rm $M/pending_delete/x");
    }
    assert_eq!(run(sandbox.sps().arg("watch").arg(sandbox.file(""))).status.code(), Some(2));
}

#[test]
fn ls_tells_how_far_an_upload_is_and_colours_for_a_terminal_alone() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 1_000_000);
    sandbox.ok("cp $F/x $M/active/x; touch $M/queued/y; setfattr -n user.sps.expected_size -v 4000000 $M/queued/y");
    let mut writer = sandbox
        .bash_command("exec 3> $M/queued/y; cat $F/x >&3; exec sleep 60")
        .spawn()
        .expect("a writer");
    eventually("a quarter is there", || {
        let said = sandbox.ok("$SPS ls $M");
        let line = said.lines().find(|line| line.ends_with("  y")).unwrap_or_default().to_owned();
        line.starts_with("saving")
            && line.contains("25% ")
            && line.contains("/s")
            && line.contains(" left")
    });
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    assert!(!sandbox.ok("$SPS ls $M").contains('\x1b'));
    let colours = |variables: &str| {
        sandbox
            .ok(&format!("{variables} TERM=xterm script -qec \"$SPS ls $M\" /dev/null"))
            .contains("\x1b[32mactive\x1b[0m")
    };
    assert!(colours("env -u NO_COLOR"));
    assert!(!colours("NO_COLOR=1"));
}
