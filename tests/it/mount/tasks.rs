//! Tasks: ordered by a file, done by themselves, and shown by their folder.

use std::fs;
use std::process::Stdio;

use crate::support::{ALICE, BOB, Sandbox, SmallDisk, eventually, signal, text};

/// The record of a task, wherever it is.
fn record(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    let statuses = ["pending", "processing", "success", "failure"];
    let read = |status| fs::read_to_string(sandbox.path(&format!("tasks/{status}/{name}"))).ok();
    let text = statuses.into_iter().find_map(read).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Waits until a task has ended, and answers its record.
fn ended(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    eventually("the task ends", || {
        let status = record(sandbox, name)["status"].clone();
        status == "success" || status == "failure"
    });
    record(sandbox, name)
}

/// Orders a task.
fn order(sandbox: &Sandbox, name: &str, text: &str) {
    sandbox.ok(&format!("cat > $M/tasks/pending/{name} <<'END'\n{text}\nEND"));
}

// semantics: task-order task-record verify-image
#[test]
fn a_file_in_pending_is_a_task_that_moves_by_itself_and_shows_its_record() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 300_000);
    sandbox.ok("cp $F/x $M/active/x");
    let id = sandbox.attribute("active/x", "id").expect("an id");
    order(&sandbox, "by-name", r#"{"type": "verify", "input": {"image": "x"}}"#);
    order(&sandbox, "by-id", &format!(r#"{{"type": "verify", "input": {{"image": "{id}"}}}}"#));
    sandbox.ok("echo '{\"type\": \"scrub\"}' > $F/s.json; cp $F/s.json $M/tasks/pending/copied");
    for name in ["by-name", "by-id", "copied"] {
        let task = ended(&sandbox, name);
        assert_eq!(task["status"], "success", "{name}: {task}");
        assert_eq!((&task["progress"], &task["attempts"]), (&100.into(), &1.into()), "{task}");
        assert_eq!(task["owner"], 0);
        for field in ["id", "created_at", "updated_at", "expires_at"] {
            assert!(task[field].is_string(), "{field}: {task}");
        }
    }
    let task = record(&sandbox, "by-name");
    assert_eq!(task["input"]["image"], id.as_str());
    assert_eq!(
        task["result"],
        serde_json::json!({"contents": 1, "size_bytes": 300_000, "damaged": 0})
    );
    assert_eq!(sandbox.names("tasks/success"), ["by-id", "by-name", "copied"]);
    let stat = sandbox.ok("stat -c '%a %s' $M/tasks/success/by-id");
    let length = sandbox.ok("wc -c < $M/tasks/success/by-id");
    assert_eq!(stat, format!("444 {length}"));
    sandbox.fails("echo x > $M/tasks/success/by-id", "Permission denied");
    sandbox.remount();
    assert_eq!(record(&sandbox, "by-name"), task, "it survives a restart");
}

// semantics: task-malformed create-elsewhere
#[test]
fn what_is_no_task_fails_at_close_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    for (text, word) in [
        ("nonsense", "Invalid argument"),
        ("", "Invalid argument"),
        (r#"{"type": "destroy"}"#, "Invalid argument"),
        (r#"{"type": "import", "input": {}}"#, "Invalid argument"),
        (r#"{"type": "verify", "input": {"image": "none"}}"#, "No such file"),
    ] {
        fs::write(sandbox.file("t"), text).expect("a source");
        sandbox.fails("cp $F/t $M/tasks/pending/t", word);
        assert_eq!(record(&sandbox, "t"), serde_json::Value::Null, "{text}");
    }
    // The log says what was wrong with it.
    assert!(sandbox.log().contains("missing field `import_from`"), "{}", sandbox.log());
    sandbox.fails("head -c 100000 /dev/zero > $M/tasks/pending/t", "too long");
    sandbox.fails("touch $M/tasks/pending/t", "Invalid argument");
    sandbox.bash("(printf '{\"type\": \"scrub\"}'; kill -9 $BASHPID) > $M/tasks/pending/t");
    for folder in ["processing", "success", "failure"] {
        sandbox.fails(&format!("cp $F/t $M/tasks/{folder}/t"), "not permitted");
    }
    for folder in ["pending", "processing", "success", "failure"] {
        assert_eq!(sandbox.names(&format!("tasks/{folder}")), Vec::<String>::new());
    }
    // In pieces, through a subshell, it is one task.
    sandbox.ok("(printf '{\"type\":'; printf '\"scrub\"}') > $M/tasks/pending/pieces");
    assert_eq!(ended(&sandbox, "pieces")["status"], "success");
    sandbox.fails("mv $M/tasks/success/pieces $M/tasks/pending/", "not permitted");
}

/// Flips a byte of the only sealed data there is.
fn damage(sandbox: &Sandbox) {
    sandbox.ok("for f in $S/blobs/*/*; do chmod 600 $f
        printf z | dd of=$f bs=1 seek=1000 conv=notrunc status=none; chmod 400 $f; done");
}

// semantics: verify-damage
#[test]
fn damage_is_found_and_withheld_from_all_who_have_it_and_a_new_copy_mends_it() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 200_000);
    sandbox.ok("cp $F/x $M/active/a; cp $F/x $M/active/b; chmod +t $M/active/b");
    sandbox.ok("cp $F/x $M/active/t; rm $M/active/t");
    damage(&sandbox);
    order(&sandbox, "all", r#"{"type": "verify"}"#);
    let task = ended(&sandbox, "all");
    assert_eq!(task["status"], "success", "{task}");
    assert_eq!(task["result"]["damaged"], 1, "{task}");
    assert_eq!(sandbox.tree(), ["deactivated/a", "deactivated/b", "pending_delete/t"]);
    let message = sandbox.attribute("deactivated/a", "message").expect("a reason");
    assert_eq!(message, "damaged: its data is not what was sealed");
    // What was in the trash comes back withheld.
    sandbox.fails("mv $M/pending_delete/t $M/active/", "not permitted");
    sandbox.ok("mv $M/pending_delete/t $M/deactivated/");
    // The same content comes again, whole: it takes the place of what is damaged.
    sandbox.ok("cp $F/x $M/active/new; cmp $F/x $M/active/new");
    order(&sandbox, "again", r#"{"type": "verify"}"#);
    assert_eq!(ended(&sandbox, "again")["result"]["damaged"], 0);
    sandbox.ok("mv $M/deactivated/a $M/active/; cmp $F/x $M/active/a");
    // Data that is cut short, and data that is gone altogether.
    sandbox.ok("for f in $S/blobs/*/*; do chmod 600 $f; truncate -s 1000 $f; chmod 400 $f; done");
    order(&sandbox, "short", r#"{"type": "verify", "input": {"image": "a"}}"#);
    assert_eq!(ended(&sandbox, "short")["result"]["damaged"], 1);
    let message = sandbox.attribute("deactivated/a", "message").expect("a reason");
    assert_eq!(message, "damaged: its data has 1000 bytes and had 200000");
    sandbox.ok("cp $F/x $M/active/newer; mv $M/deactivated/a $M/active/a; cmp $F/x $M/active/a");
    sandbox.ok("rm $S/blobs/*/*");
    order(&sandbox, "gone", r#"{"type": "verify", "input": {"image": "a"}}"#);
    assert_eq!(ended(&sandbox, "gone")["result"]["damaged"], 1);
    assert_eq!(sandbox.names("active"), Vec::<String>::new());
}

// semantics: import-path import-path-refused
#[test]
fn a_file_below_an_allowed_root_is_imported() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.ok("mkdir $F/root $F/other; chmod 755 $F $F/root");
    let root = sandbox.file("root");
    let option = format!("location_root={}", root.display());
    let mut mount = sandbox.sps();
    mount.args(["mount", "-o", "publish=all", "-o", &option, "--store"]);
    mount.arg(sandbox.store()).arg(sandbox.root());
    assert!(crate::support::run(&mut mount).status.success());
    sandbox.source("x", 3_000_000);
    sandbox.ok("cp $F/x $F/root/x; cp $F/x $F/root/secret; chmod 600 $F/root/secret
        ln -s $F/x $F/root/out; ln -s x $F/root/in; mkfifo $F/root/pipe; mkdir $F/root/closed
        cp $F/x $F/root/closed/x; chmod 700 $F/root/closed; cp $F/x $F/other/x");
    let import = |name: &str, path: &str, more: &str| {
        let from = sandbox.file(path);
        let text = format!(
            r#"{{"type": "import", "input": {{"import_from": "{}"{more}}}}}"#,
            from.display()
        );
        fs::write(sandbox.file("t"), text).expect("a source");
        sandbox.ok("chmod 644 $F/t");
        let output = sandbox.bash_as(ALICE, &format!("cp $F/t $M/tasks/pending/{name}"));
        assert!(output.status.success(), "{}", text_of(&output));
        ended(&sandbox, name)
    };
    fn text_of(output: &std::process::Output) -> String {
        text(output)
    }
    let task = import("plain", "root/x", "");
    assert_eq!(task["status"], "success", "{task}");
    sandbox.ok("cmp $F/x $M/active/x");
    assert_eq!(
        task["result"]["image"],
        sandbox.attribute("active/x", "id").expect("an id").as_str()
    );
    assert_eq!(sandbox.ok("stat -c %u $M/active/x"), format!("{ALICE}\n"));
    let named = r#", "image_properties": {"name": "named", "disk_format": "raw",
        "tags": ["lts", "gold"], "min_ram": 512, "properties": {"os": "debian"}}"#;
    assert_eq!(import("named", "root/in", named)["status"], "success");
    sandbox.ok("cmp $F/x $M/active/named");
    for (name, value) in [("tags", "lts,gold"), ("min_ram", "512"), ("property.os", "debian")] {
        assert_eq!(sandbox.attribute("active/named", name).as_deref(), Some(value));
    }
    for (path, word) in [
        ("other/x", "no root"),
        ("root/../x", "leads out"),
        ("root/out", "leads out"),
        ("root/none", "is not there"),
        ("root/secret", "may not read"),
        ("root/closed/x", "may not read"),
        ("root/pipe", "not a regular file"),
        ("root", "not a regular file"),
    ] {
        let task = import("refused", path, r#", "image_properties": {"name": "r"}"#);
        assert_eq!(task["status"], "failure", "{path}: {task}");
        let message = task["message"].as_str().expect("a reason");
        assert!(message.contains(word), "{path}: {message}");
        sandbox.ok("rm $M/tasks/failure/refused");
    }
    assert_eq!(sandbox.tree(), ["active/named", "active/x"]);
    let wrong = r#", "image_properties": {"name": "w", "disk_format": "qcow2"}"#;
    let task = import("wrong", "root/x", wrong);
    assert!(task["message"].as_str().expect("a reason").contains("declared as qcow2"), "{task}");
    assert_eq!(sandbox.tree(), ["active/named", "active/x", "queued/w"]);
    sandbox.umount();
    sandbox.audit();
}

// semantics: task-who
#[test]
fn who_may_order_and_remove_what() {
    let sandbox = Sandbox::with(&["publish=all"]);
    assert!(sandbox.bash_as(ALICE, "echo a > $M/active/a").status.success());
    let say = |user: u32, text: &str| {
        sandbox.bash_as(user, &format!("echo '{text}' > $F/t$$; cp $F/t$$ $M/tasks/pending/t"))
    };
    sandbox.ok("chmod 777 $F");
    let own = r#"{"type": "verify", "input": {"image": "a"}}"#;
    for (user, task, allowed) in [
        (ALICE, own, true),
        (BOB, own, false),
        (ALICE, r#"{"type": "verify"}"#, false),
        (ALICE, r#"{"type": "scrub"}"#, false),
    ] {
        let output = say(user, task);
        assert_eq!(output.status.success(), allowed, "{user} {task}: {}", text(&output));
    }
    assert_eq!(ended(&sandbox, "t")["owner"], ALICE);
    assert!(sandbox.bash_as(BOB, "cat $M/tasks/success/t").status.success());
    assert!(!sandbox.bash_as(BOB, "rm -f $M/tasks/success/t").status.success());
    assert!(sandbox.bash_as(ALICE, "rm -f $M/tasks/success/t").status.success());
    assert_eq!(sandbox.names("tasks/success"), Vec::<String>::new());
}

// semantics: task-remove task-transitions
#[test]
fn a_pending_task_is_cancelled_by_rm_and_a_running_one_is_busy() {
    let sandbox = Sandbox::new();
    // As many long imports as there are executors, and one that waits for them.
    for number in 0..5 {
        sandbox.ok(&format!(
            "truncate -s 20G $M/uploading/i{number}; mv $M/uploading/i{number} $M/active/"
        ));
    }
    eventually("four are running", || sandbox.names("tasks/processing").len() == 4);
    assert_eq!(sandbox.names("tasks/pending"), ["i4"]);
    sandbox.fails("rm $M/tasks/processing/i0", "Device or resource busy");
    sandbox.ok("rm $M/tasks/pending/i4");
    assert_eq!(sandbox.names("tasks/failure"), ["i4"]);
    assert!(record(&sandbox, "i4")["message"].as_str().expect("a reason").contains("cancelled"));
    let message = sandbox.attribute("queued/i4", "message").expect("a reason");
    assert!(message.contains("cancelled"), "{message}");
    sandbox.ok("rm $M/tasks/failure/i4; rm $M/importing/*");
    eventually("the others end", || sandbox.names("tasks/processing").is_empty());
    assert_eq!(sandbox.names("tasks/pending"), Vec::<String>::new());
    sandbox.umount();
    sandbox.audit();
}

// semantics: task-survives task-retries
#[test]
fn a_task_whose_executor_dies_is_tried_three_times_and_then_fails() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.mount();
    sandbox.source("x", 100_000);
    sandbox.ok("cp $F/x $M/uploading/u; cp $F/x $M/uploading/v");
    sandbox.umount();
    // Each attempt kills its daemon, just before it is sealed.
    assert!(sandbox.mount_failing_at("import.sealed"));
    sandbox.bash("timeout 5 mv $M/uploading/u $M/active/ 2>/dev/null");
    sandbox.wait_for_daemons_end();
    // What is sealed is published at the next mount, and the task finds it done.
    sandbox.bash("umount -l $M");
    sandbox.recover();
    sandbox.ok("cmp $F/x $M/active/u");
    assert_eq!(ended(&sandbox, "u")["status"], "success");
    sandbox.umount();
    // One that never gets so far is given up, and can be tried again.
    sandbox.mount();
    sandbox.ok("truncate -s 30G $M/uploading/v; mv $M/uploading/v $M/active/");
    for attempt in 1..=3 {
        eventually("it is begun", || record(&sandbox, "v")["attempts"] == attempt);
        sandbox.kill_daemon();
        sandbox.recover();
    }
    assert_eq!(sandbox.names("tasks/failure"), ["v"]);
    assert!(record(&sandbox, "v")["message"].as_str().expect("a reason").contains("3 times"));
    assert_eq!(sandbox.tree(), ["active/u", "queued/v"]);
    sandbox.ok("cp $F/x $M/queued/v; cmp $F/x $M/active/v");
    sandbox.umount();
    sandbox.audit();
}

// semantics: task-drains
#[test]
fn an_orderly_end_interrupts_no_task_for_good() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 6G $M/uploading/u; mv $M/uploading/u $M/active/");
    signal(sandbox.daemon().expect("a daemon"), "TERM");
    sandbox.wait_for_daemons_end();
    sandbox.mount();
    eventually("it is active", || sandbox.names("active") == ["u"]);
    assert_eq!(record(&sandbox, "u")["attempts"], 1, "an end that was asked for is no attempt");
    sandbox.umount();
    let mut nothing = sandbox.bash_command("true").stdin(Stdio::null()).spawn().expect("spawned");
    nothing.wait().expect("ended");
    sandbox.audit();
}

// semantics: verify-damage
#[test]
fn damaged_data_is_not_given_out_again_and_a_full_disk_damages_nothing() {
    let disk = SmallDisk::new(48, &[]);
    let sandbox = &disk.0;
    sandbox.source("x", 9_000_000);
    sandbox.ok("cp $F/x $M/active/x");
    disk.fill();
    // The record of the task finds no room perhaps; the data is as good as before.
    sandbox.bash("echo '{\"type\": \"verify\"}' > $M/tasks/pending/full");
    disk.free();
    order(sandbox, "free", r#"{"type": "verify"}"#);
    assert_eq!(ended(sandbox, "free")["result"]["damaged"], 0);
    eventually("no task is stuck", || sandbox.names("tasks/processing").is_empty());
    damage(sandbox);
    order(sandbox, "damaged", r#"{"type": "verify"}"#);
    assert_eq!(ended(sandbox, "damaged")["result"]["damaged"], 1);
    let moved = fs::rename(sandbox.path("deactivated/x"), sandbox.path("active/x"));
    assert_eq!(moved.expect_err("damaged").raw_os_error(), Some(libc::EIO));
    assert!(sandbox.attribute("deactivated/x", "message").is_some());
    // Put right below, and found whole, it may go.
    sandbox.ok("for f in $S/blobs/*/*; do cat $F/x > $F/y; chmod 700 $f; cat $F/x > $f; chmod 500 $f; done");
    order(sandbox, "whole", r#"{"type": "verify"}"#);
    assert_eq!(ended(sandbox, "whole")["result"]["damaged"], 0);
    sandbox.ok("mv $M/deactivated/x $M/active/; cmp $F/x $M/active/x");
    sandbox.umount();
    sandbox.audit();
}

// semantics: import-fails
#[test]
fn an_import_whose_source_goes_away_leaves_nothing_importing() {
    let sandbox = Sandbox::unmounted(&[]);
    let option = format!("location_root={}", sandbox.file("").display());
    let mount = || {
        sandbox.bash("umount -l $M 2>/dev/null");
        let mut mount = sandbox.sps();
        mount.args(["mount", "-o", option.trim_end_matches('/'), "--store"]);
        mount.arg(sandbox.store()).arg(sandbox.root());
        let output = crate::support::run(&mut mount);
        assert!(output.status.success(), "{}", text(&output));
    };
    mount();
    sandbox.ok("truncate -s 30G $F/big; echo end >> $F/big");
    let from = sandbox.file("big");
    let text = format!(r#"{{"type": "import", "input": {{"import_from": "{}"}}}}"#, from.display());
    order(&sandbox, "t", &text);
    eventually("it is begun", || sandbox.names("importing") == ["big"]);
    sandbox.kill_daemon();
    sandbox.ok("rm $F/big");
    mount();
    assert_eq!(ended(&sandbox, "t")["status"], "failure");
    assert_eq!(sandbox.tree(), ["queued/big"]);
    sandbox.umount();
    sandbox.audit();
}
