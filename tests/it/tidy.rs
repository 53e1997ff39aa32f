//! The house is in order: floors, lengths, and what may stand where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The modules by floor, the lowest first. A module imports from lower floors only.
const FLOORS: [&[&str]; 10] = [
    &["lifecycle"],
    &["image", "failpoint", "sys", "mountinfo", "metrics"],
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

/// What may be linked into a program under Apache-2.0.
const LICENCES: [&str; 11] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

#[test]
fn every_dependency_is_from_the_registry_and_its_licence_fits() {
    let text = |command: &mut Command| {
        let output = command.output().expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let about = text(Command::new("rustc").arg("-vV"));
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let found = text(
        Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", host])
            .current_dir(env!("CARGO_MANIFEST_DIR")),
    );
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    let packages = found["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{} packages", packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let source = package["source"].as_str().unwrap_or_default();
        assert!(name == "sps" || source.starts_with("registry+"), "{name} is from {source:?}");
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let fits = |all: &str| {
            let mut all = all.trim().trim_matches(['(', ')']).split(" AND ");
            all.all(|one| LICENCES.contains(&one.trim().trim_matches(['(', ')'])))
        };
        assert!(licence.split(" OR ").any(fits), "{name} is under {licence:?}");
    }
}
