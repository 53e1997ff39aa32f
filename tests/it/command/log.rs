//! docs/operations.md has a row for each line that the log can have, and none for one that it can't.

use std::collections::BTreeSet;
use std::path::Path;

/// The lines of the log that a source writes, as level and what tells the line from others.
fn lines(source: &str, found: &mut BTreeSet<(String, String)>) {
    for level in ["info", "warn", "error"] {
        let call = format!("log::{level}!(");
        for (at, _) in source.match_indices(&call) {
            let format = source[at + call.len()..].trim_start().strip_prefix('"');
            let format = format.unwrap_or_else(|| panic!("a line of the log without a format"));
            let end = format.match_indices('"').find(|(at, _)| !format[..*at].ends_with('\\'));
            found.insert((level.to_owned(), sign(&format[..end.expect("its end").0])));
        }
    }
}

/// What tells a line from others.
fn sign(format: &str) -> String {
    let word = |name: &str| {
        let (_, rest) = format.split_once(name)?;
        let word = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        (!word.is_empty()).then(|| format!("{name}{word}"))
    };
    let fixed = |text: &'static str| format.contains(text).then(|| text.to_owned());
    fixed("ended in a panic")
        .or_else(|| word("op="))
        .or_else(|| word("to="))
        .or_else(|| format.contains("from={from} to={to}").then(|| "from=… to=…".into()))
        .or_else(|| format.contains("op={").then(|| "op=…".into()))
        .unwrap_or_else(|| {
            let parts = format.split(['{', '}', ':']).map(str::trim);
            parts.max_by_key(|part| part.len()).unwrap_or_default().to_owned()
        })
}

fn collect(folder: &Path, found: &mut BTreeSet<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            lines(&std::fs::read_to_string(&path).expect("a source"), found);
        }
    }
}

#[test]
fn each_line_of_the_log_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut written = BTreeSet::new();
    collect(&root.join("src"), &mut written);
    assert!(written.len() > 30, "{written:?}");
    let text = std::fs::read_to_string(root.join("docs/operations.md")).expect("a document");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, level @ ("info" | "warn" | "error"), sign, says, _, _] = cells[..] else {
            return None;
        };
        assert!(!says.is_empty(), "{line}");
        Some((level.to_owned(), sign.trim_matches('`').to_owned()))
    });
    let explained: BTreeSet<_> = rows.collect();
    let missing: Vec<_> = written.difference(&explained).collect();
    let idle: Vec<_> = explained.difference(&written).collect();
    assert!(missing.is_empty() && idle.is_empty(), "not explained: {missing:?}; idle: {idle:?}");
}
