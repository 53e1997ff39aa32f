//! The house is in order: floors, lengths, and what may stand where.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules by floor, the lowest first. A module imports from lower floors only.
const FLOORS: [&[&str]; 10] = [
    &["lifecycle"],
    &["image", "failpoint", "sys", "mountinfo"],
    &["task", "error", "inspect", "text"],
    &["registry", "store"],
    &["ingest", "location"],
    &["catalog"],
    &["tasks"],
    &["fs"],
    &["config"],
    &["cli", "main", "lib"],
];

/// A source file has at most this many lines before its tests.
const LINES_MAX: usize = 400;

fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    collect(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 20, "the sources were not found");
    found
}

fn shipping(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests").map_or(text, |(before, _)| before)
}

fn module(path: &Path) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = path.strip_prefix(root).expect("a source");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(module: &str) -> usize {
    let found = FLOORS.iter().position(|floor| floor.contains(&module));
    found.unwrap_or_else(|| panic!("{module} is on no floor: put it on one in tests/it/tidy.rs"))
}

#[test]
fn imports_go_down_only() {
    for (path, text) in sources() {
        let own = module(&path);
        if own == "lib" || own == "main" {
            continue;
        }
        for (at, _) in shipping(&text).match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let other = &rest[..end];
            let is_own = other == own;
            assert!(
                is_own || floor(other) < floor(&own),
                "{}: {own} imports {other}, which is not below it",
                path.display()
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
        let lines = shipping(&text).lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: split it", path.display());
        assert!(!path.ends_with("mod.rs") && !path.ends_with("util.rs"), "{}", path.display());
    }
}

#[test]
fn each_thing_stands_where_it_belongs() {
    for (path, text) in sources() {
        let own = module(&path);
        let code: String = shipping(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        let shown = path.display();
        assert!(own == "fs" || !code.contains("fuser::"), "{shown} names fuser");
        assert!(own == "error" || !code.contains("libc::E"), "{shown} names an error number");
        assert!(own == "sys" || !code.contains("unsafe "), "{shown} has unsafe code");
        for (at, _) in code.match_indices("matches!(") {
            let line = code[at..].lines().next().unwrap_or_default();
            assert!(own == "lifecycle" || !line.contains("Status::"), "{shown}: {line}");
        }
    }
}
