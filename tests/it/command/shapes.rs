//! docs/command-line.md says what `--json` prints: each command is run, and its keys and types are those.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::Sandbox;

/// Objects whose keys depend on what they are about.
const FREE: [&str; 3] = ["input", "result", "properties"];

/// What the document shows of each command.
fn shown() -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let text = std::fs::read_to_string(path).expect("a document");
    let parts = text.split("\n### `sps ").skip(1).map(|part| {
        let command = part.split(' ').next().expect("a command").to_owned();
        let example = part.split("```json\n").nth(1).expect("an example");
        let example = example.split("```").next().expect("its end");
        (command, serde_json::from_str(example).expect("JSON"))
    });
    parts.collect()
}

/// Fails unless both have the same keys, and types of values where both are known.
fn compare(shown: &Value, found: &Value, at: &str) {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            let keys = |object: &serde_json::Map<String, Value>| {
                object.keys().cloned().collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(keys(shown), keys(found), "{at}");
            for (key, value) in shown {
                if !FREE.contains(&key.as_str()) {
                    compare(value, &found[key], &format!("{at}.{key}"));
                }
            }
        }
        (Value::Array(shown), Value::Array(found)) => {
            let Some(shown) = shown.first() else { return };
            assert!(!found.is_empty(), "{at} is empty");
            found.iter().for_each(|found| compare(shown, found, at));
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (shown, found) => {
            let alike = std::mem::discriminant(shown) == std::mem::discriminant(found);
            assert!(alike, "{at}: {shown} and {found}");
        }
    }
}

#[test]
fn what_programs_are_told_has_the_keys_and_types_that_the_document_shows() {
    let sandbox = Sandbox::unmounted(&[]);
    let root = format!("location_root={}", sandbox.file("").display());
    let sandbox = sandbox.and(&root);
    sandbox.mount();
    sandbox.source("x", 300_000);
    let shown = shown();
    let mut asked = 0;
    let mut ask = |command: &str, script: &str| {
        let said = sandbox.ok(&script.replace("sps ", "$SPS "));
        let found =
            serde_json::from_str(&said).unwrap_or_else(|e| panic!("{command}: {e}: {said}"));
        compare(&shown[command], &found, command);
        asked += 1;
    };
    ask("push", "sps push --json $F/x $M");
    ask("set", "sps set --json $M/active/x tags=lts");
    ask("ls", "sps ls --json $M");
    ask("show", "sps show --json $M/active/x");
    ask("pull", "sps pull --json $M/active/x $F/copy");
    ask("import", "sps import --json --name y $F/x $M");
    ask("restore", "rm $M/active/x; sps restore --json $M/pending_delete/x");
    ask("verify", "sps verify --json $M");
    ask("scrub", "sps scrub --json $M");
    ask("tasks", "sps tasks --json $M");
    let told = "(until test -e $F/told; do touch $M/queued/$RANDOM; sleep 0.1; done) & \
                sps watch --json --count 1 $M; touch $F/told; wait";
    ask("watch", told);
    // What doctor finds wrong with this machine is not asked here.
    ask("doctor", "sps doctor --json --store $S 2> $F/said || true");
    ask("backup", "sps backup --json --store $S $F/backup");
    ask("fsck", "sps umount $M; sps fsck --json --store $S");
    assert_eq!(asked, shown.len(), "{:?}", shown.keys());
}
