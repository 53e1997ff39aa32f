//! What users write is shown as what it is: it forges no line of a log, and commands no terminal.

use std::fs;
use std::process::Output;

use crate::support::{Sandbox, eventually, run, text};

/// The beginning of a line that nobody but a forger writes.
const FORGED: &str = "[2001-01-01T00:00:00.000Z ERROR sps] image=forged";

/// Everything that a terminal or a reader of lines would take for something else.
fn hostile() -> String {
    format!("x\n{FORGED}\r\t\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}2J\u{85}{}", unseen())
}

/// The part of it that a name may have.
fn unseen() -> String {
    "\u{202a}\u{202e}gpj\u{2066}\u{2069}\u{2028}\u{2029}\u{200b}\u{200f}\u{feff}".to_owned()
}

/// Asserts that a text of lines has nothing in it that is not seen.
fn assert_plain(what: &str, text: &str) {
    for line in text.lines() {
        assert_eq!(sps::text::plain(line), line, "{what} shows what is not to be seen");
        assert!(!line.starts_with(FORGED), "{what} has a forged line");
    }
}

/// Asserts that each line of the log is one that sps wrote, and answers the log.
fn plain_log(sandbox: &Sandbox) -> String {
    let log = sandbox.log();
    assert_plain("the log", &log);
    for line in log.lines() {
        let is_record = line.starts_with("[20") && line.contains("Z ") && line.contains("] ");
        assert!(is_record, "a line of its own: {line:?}");
    }
    log
}

/// Runs a script with `$H` as what is hostile and `$N` as what of it a name may have.
fn bash(sandbox: &Sandbox, script: &str) -> Output {
    run(sandbox.bash_command(script).env("H", hostile()).env("N", unseen()))
}

fn ok(sandbox: &Sandbox, script: &str) -> String {
    let output = bash(sandbox, script);
    assert!(output.status.success(), "{script}: {}", text(&output));
    text(&output)
}

/// All that `sps` says of an image or a mount, on both streams.
fn said(sandbox: &Sandbox, words: &[&str]) -> String {
    let said = text(&run(sandbox.sps().args(words)));
    assert_plain(&words.join(" "), &said);
    said
}

// semantics: shown-as-is
#[test]
fn names_and_attributes_forge_no_line_and_command_no_terminal() {
    let sandbox = Sandbox::with(&["log=debug"]);
    let hostile = hostile();
    ok(
        &sandbox,
        r#"! echo 1 > "$M/active/$H"; echo 1 > "$M/active/n$N"; mv "$M/active/n$N" "$M/active/m$N"
        (echo part; kill -9 $BASHPID) > "$M/active/killed$N"
        touch $M/queued/q
        ! setfattr -n user.sps.tags -v "a,$H" $M/queued/q
        setfattr -n user.sps.tags -v "a,b$N" $M/queued/q
        setfattr -n user.sps.property.told -v "$H" $M/queued/q
        setfattr -n "user.sps.property.k$N" -v v $M/queued/q
        for name in size sha256 sha512 md5 blake3; do
            ! setfattr -n user.sps.expected_$name -v "$H" $M/queued/q || exit 1
        done
        for name in disk_format min_disk min_ram visibility protected name locations id "x$H"; do
            ! setfattr -n "user.sps.$name" -v "$H" $M/queued/q || exit 1
        done"#,
    );
    let log = plain_log(&sandbox);
    assert!(log.contains(r"name=\u{202a}") || log.contains(r"\u{202a}\u{202e}gpj"), "{log}");
    let status = fs::read_to_string(sandbox.path("STATUS")).expect("a page");
    assert_plain("STATUS", &status);
    assert!(status.contains(r"killed\u{202a}\u{202e}gpj"), "{status}");
    for page in ["status.json", "events.jsonl", "config.json", "metrics"] {
        let text = fs::read_to_string(sandbox.path(&format!(".sps/{page}"))).expect("a page");
        assert_plain(page, &text);
    }
    let root = sandbox.root();
    let root = root.to_str().expect("text");
    let listed = said(&sandbox, &["ls", root]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    let images: serde_json::Value =
        serde_json::from_str(&said(&sandbox, &["ls", "--json", root])).expect("JSON");
    let names = images.as_array().expect("a list").iter().map(|image| image["name"].as_str());
    assert!(names.flatten().any(|name| name == format!("m{}", unseen())), "{images}");
    let queued = format!("{root}/queued/q");
    let shown = said(&sandbox, &["show", &queued]);
    assert!(shown.contains(r"property.told x\n[2001-01-01"), "{shown}");
    let shown: serde_json::Value =
        serde_json::from_str(&said(&sandbox, &["show", "--json", &queued])).expect("JSON");
    assert_eq!(shown["properties"]["told"], hostile.as_str(), "the value itself is as it was");
    assert_eq!(sandbox.attribute("queued/q", "property.told"), Some(hostile.clone()));
    // What is typed is told back, too.
    said(&sandbox, &["show", &format!("{root}/{hostile}")]);
    said(&sandbox, &["umount", &format!("{root}/{hostile}")]);
    said(&sandbox, &["mount", "-o", &hostile, root]);
    said(&sandbox, &["ls", "--status", &hostile]);
    said(&sandbox, &["show", "a", &hostile]);
    said(&sandbox, &[&hostile]);
    sandbox.umount();
    let store = sandbox.store();
    let store = store.to_str().expect("text");
    said(&sandbox, &["fsck", "--store", store]);
    said(&sandbox, &["fsck", "--store", &format!("{store}/{hostile}")]);
    plain_log(&sandbox);
}

// semantics: shown-as-is
#[test]
fn a_task_and_a_location_forge_no_line_and_command_no_terminal() {
    let sandbox = Sandbox::unmounted(&["log=debug"]);
    let option = format!("location_root={}", sandbox.file("lib").display());
    let sandbox = sandbox.and(&option);
    fs::create_dir(sandbox.file("lib")).expect("a folder");
    sandbox.mount();
    fs::write(sandbox.file("lib").join(hostile()), b"data").expect("a source");
    let order = |name: &str, task: serde_json::Value| {
        fs::write(sandbox.file("task"), task.to_string()).expect("a file");
        bash(&sandbox, &format!(r#"cat $F/task > "$M/tasks/pending/{name}$N""#))
    };
    let hostile = hostile();
    let refused = [
        serde_json::json!({"type": hostile}),
        serde_json::json!({"type": "verify", "input": {hostile.clone(): 1}}),
        serde_json::json!({"type": "import", "input": {"import_from": hostile}}),
        serde_json::json!({"type": "convert", "input": {"image": "x", "to": hostile, "name": "y"}}),
        serde_json::json!({"type": "import", "input": {"import_from": format!("/{hostile}")}}),
    ];
    for task in refused {
        assert!(!order("refused", task.clone()).status.success(), "{task}");
    }
    let outside = format!("/etc/{hostile}/x");
    let within = sandbox.file("lib").join(&hostile).display().to_string();
    order("verify", serde_json::json!({"type": "verify", "input": {"image": hostile}}));
    for (name, from) in [("outside", &outside), ("missing", &format!("{within}/x"))] {
        let input =
            serde_json::json!({"import_from": from, "image_properties": {"name": "imported"}});
        order(name, serde_json::json!({"type": "import", "input": input}));
    }
    eventually("the tasks end", || {
        sandbox.names("tasks/pending").is_empty() && sandbox.names("tasks/processing").is_empty()
    });
    for name in sandbox.names("tasks/failure") {
        let path = sandbox.path("tasks/failure").join(&name);
        let shown = fs::read_to_string(&path).expect("a task");
        assert_plain(&name, &shown);
        serde_json::from_str::<serde_json::Value>(&shown).expect("JSON");
        let size = fs::metadata(&path).expect("a task").len();
        assert_eq!(size, shown.len() as u64, "its size is that of what is shown");
    }
    // A link whose target is no line, to what is not there, to what is not allowed, and to a file.
    ok(
        &sandbox,
        r#"! ln -s "$F/lib/absent$H" $M/active/absent; ! ln -s "/etc/$H" $M/active/outside
        ln -s "$F/lib/$H" $M/active/located
        until getfattr -n user.sps.blake3 $M/active/located; do sleep 0.02; done
        echo more >> "$F/lib/$H"; ! cat $M/active/located"#,
    );
    assert_eq!(sandbox.attribute("active/located", "locations"), Some(within));
    let root = sandbox.root();
    let located = format!("{}/active/located", root.display());
    let shown = said(&sandbox, &["show", &located]);
    assert!(shown.contains(r"lib/x\n[2001-01-01"), "{shown}");
    if let Some(message) = sandbox.attribute("active/located", "message") {
        assert_plain("the message", &message);
    }
    assert_plain("STATUS", &fs::read_to_string(sandbox.path("STATUS")).expect("a page"));
    let log = plain_log(&sandbox);
    assert!(log.contains(r"x\n[2001-01-01"), "{log}");
}
