//! What people say: it forges no line of the log and of what others are shown, and does nothing to a terminal.

use std::fs;

use super::acts::{STRANGER, perform};
use crate::support::{Sandbox, eventually, run, text};

/// A line of the log that never was, and what clears a terminal.
const FORGED: &str = "x\\n[2026-01-01T00:00:00.000Z ERROR sps] FORGED\\u001b[2J\\u009b1m\\r\\u0007";

// semantics: no-forgery
#[test]
fn nothing_that_a_user_says_forges_a_line_or_reaches_a_terminal() {
    let sandbox = Sandbox::unmounted(&["publish=all", "log=debug"]);
    let root = sandbox.file("lib");
    fs::create_dir(&root).expect("a folder");
    let sandbox = sandbox.and(&format!("location_root={}", root.display()));
    sandbox.mount();
    let raw = FORGED.replace("\\n", "\n").replace("\\r", "\r");
    let raw =
        raw.replace("\\u001b", "\x1b").replace("\\u009b", "\u{9b}").replace("\\u0007", "\x07");
    let evil = root.join(&raw);
    fs::write(&evil, "an image with a bad path").expect("a source");
    let at = |path: &str| sandbox.path(path).display().to_string();
    let (path, gone) =
        (format!("{}/{FORGED}", root.display()), format!("{}/{FORGED}-", root.display()));
    let tasks = [
        format!(r#"{{"type": "{FORGED}"}}"#),
        format!(r#"{{"type": "verify", "input": {{"{FORGED}": 1}}}}"#),
        format!(r#"{{"type": "verify", "{FORGED}": {{}}}}"#),
        format!(r#"{{"type": "verify", "input": {{"image": "{FORGED}"}}}}"#),
        format!(
            r#"{{"type": "convert", "input": {{"image": "a", "to": "{FORGED}", "name": "{FORGED}"}}}}"#
        ),
        format!(
            r#"{{"type": "import", "input": {{"import_from": "{gone}", "image_properties": {{"name": "gone"}}}}}}"#
        ),
        format!(
            r#"{{"type": "import", "input": {{"import_from": "{path}", "image_properties": {{"name": "there", "disk_format": "iso"}}}}}}"#
        ),
        format!(
            r#"{{"type": "import", "input": {{"import_from": "{path}", "image_properties": {{"name": "x", "tags": ["{FORGED}"]}}}}}}"#
        ),
        format!(
            r#"{{"type": "import", "input": {{"import_from": "{path}", "image_properties": {{"name": "x", "properties": {{"{FORGED}": "x"}}}}}}}}"#
        ),
        format!(
            r#"{{"type": "import", "input": {{"import_from": "{path}", "image_properties": {{"name": "said", "properties": {{"os": "{FORGED}"}}}}}}}}"#
        ),
    ];
    let mut acts: Vec<String> = tasks
        .iter()
        .enumerate()
        .map(|(number, task)| format!("put\t{}\t{task}", at(&format!("tasks/pending/t-{number}"))))
        .collect();
    // A line of acts has no line feed: the actor undoes the escapes of these.
    let queued = at("queued/q");
    acts.push(format!("exclusive\t{queued}"));
    for key in [
        "tags",
        "property.os",
        "name",
        "disk_format",
        "expected_size",
        "expected_md5",
        "visibility",
        "min_disk",
        "locations",
    ] {
        acts.push(format!("set-escaped\t{queued}\t{key}\t{FORGED}"));
    }
    acts.push(format!("link-escaped\t{path}\t{}", at("active/linked")));
    acts.push(format!("link-escaped\t{gone}\t{}", at("active/never")));
    acts.push(format!("exclusive-escaped\t{}/{FORGED}", at("active")));
    acts.push(format!("set-escaped\t{queued}\t{FORGED}\tx"));
    perform(STRANGER, &acts);
    eventually("tasks have ended", || {
        sandbox.names("tasks/pending").is_empty() && sandbox.names("tasks/processing").is_empty()
    });
    sandbox.ok("cat $M/active/linked > /dev/null");
    fs::write(&evil, "another").expect("changed");
    sandbox.fails("cat $M/active/linked", "Stale");
    fs::write(sandbox.path("tasks/pending/all"), r#"{"type": "verify"}"#).expect("a task");
    eventually("it is withheld", || sandbox.names("deactivated").contains(&"linked".into()));
    // All that a person looks at.
    let mut shown = vec![("STATUS", fs::read_to_string(sandbox.path("STATUS")).expect("a page"))];
    for path in ["deactivated/linked", "active/said", "queued/there", "queued/q"] {
        if sandbox.path(path).exists() {
            let output = run(sandbox.sps().arg("show").arg(sandbox.path(path)));
            shown.push(("show", text(&output)));
        }
    }
    assert!(shown.len() > 3, "too little is shown");
    shown.push(("ls", text(&run(sandbox.sps().arg("ls").arg(sandbox.root())))));
    shown.push(("log", sandbox.log()));
    assert!(sandbox.log().contains("FORGED"), "it was told");
    for (what, text) in shown {
        for line in text.lines() {
            let is_plain = line.chars().all(|c| !c.is_control());
            assert!(is_plain, "{what}: {line:?}");
            assert!(!line.starts_with("[2026-01-01T00:00:00.000Z"), "{what}: {line:?}");
            assert!(what != "log" || line.starts_with("[2"), "{what}: {line:?}");
        }
    }
}
