//! A day in the life: forty images come in by every way there is, some fail, some are replaced, withheld,
//! restored and scrubbed, through two restarts and one crash. In the end all is where it should be.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Sandbox, eventually};

/// What must be in a folder at the end of the day: the name, and the source it has the bytes of.
type Expected = BTreeMap<(&'static str, String), Option<String>>;

/// A source of its own for each name.
fn source(sandbox: &Sandbox, name: &str, size: usize) {
    sandbox.source(name, size);
}

fn morning(sandbox: &Sandbox, expected: &mut Expected) {
    for number in 0..30 {
        let name = format!("i{number}");
        source(sandbox, &name, 40_000 + number * 7919);
        let script = match number % 6 {
            0 => format!("cp $F/{name} $M/active/{name}"),
            1 => format!("rsync -a $F/{name} $M/active/{name}"),
            2 => format!("cp $F/{name} $F/m; mv $F/m $M/active/{name}"),
            3 => format!(
                "qemu-img convert -f raw -O raw $F/{name} $M/active/{name} && truncate -s %512 $F/{name}"
            ),
            4 => format!(
                "cp $F/{name} $M/uploading/{name} && mv $M/uploading/{name} $M/active/ && settled"
            ),
            _ => format!("dd if=$F/{name} of=$M/queued/{name} bs=8k status=none"),
        };
        sandbox.ok(&script);
        expected.insert(("active", name.clone()), Some(name));
    }
    // Six fail, each in its way.
    for number in 30..34 {
        let name = format!("i{number}");
        sandbox.bash(&format!("(echo part; kill -9 $BASHPID) > $M/active/{name}"));
        expected.insert(("killed", name), None);
    }
    for number in 34..36 {
        let name = format!("i{number}");
        sandbox.bash(&format!(
            "python3 -c '
import os
f = open(os.environ[\"M\"] + \"/active/{name}\", \"wb\"); f.write(b\"part\"); f.close()
raise SystemExit(7)'"
        ));
        fs::write(sandbox.file(&name), b"part").expect("a source");
        expected.insert(("deactivated", name.clone()), Some(name));
    }
    // Four wait.
    for number in 36..38 {
        let name = format!("i{number}");
        sandbox.ok(&format!("touch $M/queued/{name}"));
        expected.insert(("queued", name), None);
    }
    for number in 38..40 {
        let name = format!("i{number}");
        source(sandbox, &name, 90_000);
        sandbox.ok(&format!("cp $F/{name} $M/uploading/"));
        expected.insert(("uploading", name.clone()), Some(name));
    }
}

fn noon(sandbox: &Sandbox, expected: &mut Expected) {
    let mut moves = |script: &str, name: &str, from: &'static str, to: Option<&'static str>| {
        sandbox.ok(script);
        let bytes = expected.remove(&(from, name.to_owned())).expect("it was there");
        if let Some(to) = to {
            expected.insert((to, name.to_owned()), bytes);
        }
    };
    moves("mv $M/active/i0 $M/deactivated/", "i0", "active", Some("deactivated"));
    moves(
        "mv $M/active/i1 $M/deactivated/; mv $M/deactivated/i1 $M/active/",
        "i1",
        "active",
        Some("active"),
    );
    moves("rm $M/active/i2", "i2", "active", Some("pending_delete"));
    moves("rm $M/active/i3; mv $M/pending_delete/i3 $M/active/", "i3", "active", Some("active"));
    moves("rm $M/active/i4; rm $M/pending_delete/i4; rm $M/deleted/i4", "i4", "active", None);
    moves("mv $M/deactivated/i34 $M/active/", "i34", "deactivated", Some("active"));
    moves("rm $M/killed/i30; rm $M/deleted/i30", "i30", "killed", None);
    moves("mv $M/queued/i36 $M/deleted/", "i36", "queued", Some("deleted"));
    // Replaced: the old ones are in the trash under the same name.
    for (name, script) in [
        ("i5", "cp $F/new-i5 $M/active/i5"),
        ("i6", "install $F/new-i6 $M/active/i6"),
        ("i7", "rsync $F/new-i7 $M/active/i7"),
        ("i8", "cp $F/new-i8 $M/uploading/i8; mv -f $M/uploading/i8 $M/active/; settled"),
    ] {
        source(sandbox, &format!("new-{name}"), 70_001);
        sandbox.ok(script);
        let old = expected.insert(("active", name.into()), Some(format!("new-{name}")));
        expected.insert(("pending_delete", name.into()), old.expect("it was there"));
    }
    // And one that failed to be.
    sandbox.bash("(echo part; kill -9 $BASHPID) > $M/active/i9");
    expected.insert(("killed", "i9".into()), None);
}

fn check(sandbox: &Sandbox, expected: &Expected) {
    let mut tree: Vec<String> =
        expected.keys().map(|(folder, name)| format!("{folder}/{name}")).collect();
    tree.sort();
    assert_eq!(sandbox.tree(), tree);
    for ((folder, name), bytes) in expected {
        let path = format!("{folder}/{name}");
        assert_eq!(sandbox.attribute(&path, "status").as_deref(), Some(*folder));
        assert_eq!(sandbox.attribute(&path, "name").as_deref(), Some(name.as_str()));
        let Some(bytes) = bytes else { continue };
        let bytes = fs::read(sandbox.file(bytes)).expect("the source");
        if *folder != "uploading" {
            let digest = blake3::hash(&bytes).to_string();
            assert_eq!(sandbox.attribute(&path, "blake3"), Some(digest), "{path}");
        }
        if *folder != "pending_delete" && *folder != "deleted" {
            assert!(fs::read(sandbox.path(&path)).expect("readable") == bytes, "{path}");
        }
    }
}

// semantics: day-in-the-life
#[test]
fn a_day_in_the_life_ends_with_all_where_it_should_be() {
    let sandbox = Sandbox::new();
    let mut expected = Expected::new();
    morning(&sandbox, &mut expected);
    check(&sandbox, &expected);
    sandbox.remount();
    check(&sandbox, &expected);
    noon(&sandbox, &mut expected);
    check(&sandbox, &expected);
    // The daemon dies while one is written and another is imported.
    sandbox.ok("truncate -s 4G $M/uploading/big; truncate -s 4G $F/big");
    let mut writer = sandbox
        .bash_command("exec 3>$M/active/cut; cat $F/i1 >&3; exec sleep 60")
        .spawn()
        .expect("a writer");
    eventually("it is being written", || sandbox.names("saving") == ["cut"]);
    sandbox.ok("mv $M/uploading/big $M/active/");
    sandbox.kill_daemon();
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    sandbox.recover();
    expected.insert(("killed", "cut".into()), None);
    eventually("the import goes on", || sandbox.names("active").contains(&"big".to_owned()));
    sandbox.ok("test $(stat -c %s $M/active/big) = 4294967296; rm $M/active/big");
    sandbox.ok("rm $M/pending_delete/big; rm $M/deleted/big");
    // A task looks at everything, and finds it whole.
    sandbox.ok("echo '{\"type\": \"verify\"}' > $M/tasks/pending/all");
    eventually("it is verified", || sandbox.names("tasks/success").contains(&"all".to_owned()));
    let task = sandbox.ok("cat $M/tasks/success/all");
    assert!(task.contains("\"damaged\": 0"), "{task}");
    check(&sandbox, &expected);
    sandbox.remount();
    check(&sandbox, &expected);
    // The trash is emptied by hand.
    sandbox.ok("rm $M/pending_delete/*");
    let trash: Vec<String> = expected
        .keys()
        .filter(|(folder, _)| *folder == "pending_delete")
        .map(|(_, name)| name.clone())
        .collect();
    for name in trash {
        let bytes = expected.remove(&("pending_delete", name.clone())).expect("it is there");
        expected.insert(("deleted", name), bytes);
    }
    let deleted = expected.clone();
    check(&sandbox, &deleted);
    sandbox.umount();
    sandbox.audit();
}
