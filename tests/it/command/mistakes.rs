//! Ten mistakes: what one sees of them is what docs/mistakes.md says.

use std::path::Path;
use std::process::Command;

use crate::support::{run, text};

#[test]
fn ten_mistakes_look_as_the_documents_show_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut record = Command::new("timeout");
    record.args(["--kill-after=5", "120"]).arg(root.join("scripts/picture")).arg("--mistakes");
    let output = run(record.env("SPS", env!("CARGO_BIN_EXE_sps")));
    assert!(output.status.success(), "{}", text(&output));
    let seen = String::from_utf8_lossy(&output.stdout);
    let shown = std::fs::read_to_string(root.join("docs/mistakes.md")).expect("a document");
    for (seen, shown) in seen.lines().zip(shown.lines()) {
        assert_eq!(words(seen), words(shown), "run scripts/picture if what is seen now is right");
    }
    assert_eq!(seen.lines().count(), shown.lines().count());
    assert_eq!(shown.lines().filter(|line| line.starts_with("## ")).count(), 10);
}

// How wide a column is depends on what a machine has in the rows that are not shown.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
