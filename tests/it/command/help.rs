//! Help, manual pages and completions, and what doctor finds.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Sandbox, eventually, names_in, run, signal, text};

const COMMANDS: [&str; 19] = [
    "mount",
    "umount",
    "ls",
    "show",
    "set",
    "push",
    "pull",
    "restore",
    "import",
    "verify",
    "scrub",
    "tasks",
    "watch",
    "backup",
    "fsck",
    "doctor",
    "completions",
    "man",
    "bench",
];

/// Compares with what is kept in the tree, or keeps it anew with `UPDATE_GOLDEN=1`.
pub(super) fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/command/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, found).expect("kept");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, kept, "{name}: keep it with UPDATE_GOLDEN=1 if it is meant");
}

#[test]
fn the_help_of_every_command_has_an_example_and_is_as_it_is_kept() {
    let sandbox = Sandbox::unmounted(&[]);
    let help = |words: &[&str]| {
        let output = run(sandbox.sps().args(words).env("COLUMNS", "100"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    golden("sps.txt", &help(&["--help"]));
    for command in COMMANDS {
        let said = help(&[command, "--help"]);
        assert!(command == "bench" || said.contains("Example:\n  sps "), "{said}");
        golden(&format!("{command}.txt"), &said);
    }
    for (wrong, right) in [("mout", "mount"), ("pussh", "push"), ("unmount", "umount")] {
        let output = run(sandbox.sps().arg(wrong));
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(right), "{}", text(&output));
    }
}

#[test]
fn manual_pages_and_completions_are_made_for_every_command() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.ok("mkdir $F/man; $SPS man $F/man; $SPS man | grep -q '^.TH sps 1'");
    let pages = names_in(&sandbox.file("man"));
    for command in COMMANDS {
        assert!(pages.contains(&format!("sps-{command}.1")), "{command}: {pages:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let said = sandbox.ok(&format!("$SPS completions {shell}"));
        assert!(COMMANDS.iter().all(|command| said.contains(command)), "{shell}");
    }
    sandbox.ok("$SPS completions bash > $F/c; bash -c 'source $F/c; complete -p sps'");
}

#[test]
fn doctor_finds_what_is_wrong_and_says_what_to_do() {
    let sandbox = Sandbox::unmounted(&[]);
    let doctor = |words: &[&str]| {
        let output =
            run(sandbox.sps().arg("doctor").args(words).arg("--store").arg(sandbox.store()));
        (text(&output), output.status.code())
    };
    let (said, status) = doctor(&["--json"]);
    // Mounts of others may be dead at this moment, and nothing else is wrong here.
    let read = |said: &str| -> Value {
        serde_json::from_str(said.split("\nsps: ").next().expect("JSON")).expect("JSON")
    };
    let found = read(&said);
    let bad = |finding: &&Value| finding["health"] == "bad" && finding["what"] != "mount";
    assert_eq!(found.as_array().expect("findings").iter().find(bad), None, "{status:?}: {said}");
    let of = |found: &Value, what: &str| {
        let all = found.as_array().expect("findings").clone();
        all.into_iter().find(|finding| finding["what"] == what).expect("a finding")
    };
    assert_eq!(of(&found, "/dev/fuse")["health"], "good");
    assert!(of(&found, "store")["found"].as_str().expect("text").contains("to be made"));
    sandbox.mount();
    // How wide the columns are depends on what else is found.
    let words: Vec<String> = doctor(&[]).0.split_whitespace().map(str::to_owned).collect();
    let own = sandbox.root().display().to_string();
    let store = sandbox.store().display().to_string();
    let row = ["good", "mount", store.as_str(), "on", own.as_str()];
    assert!(words.windows(5).any(|words| words == row), "{words:?}");
    // It dies while it is asked whether it lives.
    let pid = sandbox.daemon().expect("a daemon");
    signal(pid, "STOP");
    let mut asking = sandbox.sps();
    asking.args(["doctor", "--json", "--store"]).arg(sandbox.store());
    let asking = asking.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a doctor");
    let at = format!("/proc/{}/wchan", asking.id());
    eventually("it waits", || {
        std::fs::read_to_string(&at).is_ok_and(|at| at.contains("request_wait_answer"))
    });
    sandbox.kill_daemon();
    let output = asking.wait_with_output().expect("ended");
    let (said, status) = (text(&output), output.status.code());
    assert_eq!(status, Some(1), "{said}");
    let found = read(&said);
    let all = found.as_array().expect("findings");
    let dead = all
        .iter()
        .find(|finding| finding["found"].as_str().is_some_and(|found| found.contains(&own)));
    let advice = dead.expect("the mount")["advice"].as_str().expect("advice").to_owned();
    assert!(advice.contains("sps mount"), "{advice}");
    sandbox.ok("umount -l $M; rm $S/sps.db*; touch $S/manifests/x");
    let (said, status) = doctor(&[]);
    assert_eq!(status, Some(1));
    assert!(said.contains("bad") && said.contains("fsck"), "{said}");
}
