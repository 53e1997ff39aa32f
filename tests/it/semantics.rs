//! Each rule of docs/semantics.md has a test that names it, and no test names a rule that is not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sps::lifecycle::{Event, TABLE, TASK_TABLE};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rules() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("docs/semantics.md")).expect("the rules");
    let named = text.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("** "));
    let rules: Vec<String> = named.map(|(rule, _)| rule.to_owned()).collect();
    let distinct: BTreeSet<String> = rules.iter().cloned().collect();
    assert_eq!(distinct.len(), rules.len(), "a rule stands there twice");
    distinct
}

/// The rules that stand in a comment right above a test.
fn named_by_tests(folder: &Path, named: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            named_by_tests(&path, named);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut pending: Vec<String> = Vec::new();
        for line in text.lines() {
            if let Some(rules) = line.strip_prefix("// semantics: ") {
                pending.extend(rules.split(' ').map(str::to_owned));
            } else if line == "#[test]" {
                named.extend(pending.drain(..));
            } else {
                assert!(pending.is_empty(), "{}: rules without a test: {line}", path.display());
            }
        }
    }
}

#[test]
fn each_rule_has_a_test_and_each_test_names_rules_that_are_there() {
    let rules = rules();
    assert!(rules.len() > 40, "the rules were not found");
    let mut named = BTreeSet::new();
    named_by_tests(&root().join("tests/it"), &mut named);
    let untested: Vec<&String> = rules.difference(&named).collect();
    let unknown: Vec<&String> = named.difference(&rules).collect();
    assert!(untested.is_empty(), "rules that no test names: {untested:?}");
    assert!(unknown.is_empty(), "tests name rules that are not there: {unknown:?}");
}

#[test]
fn all_that_is_promised_stands_in_a_rule() {
    let text = std::fs::read_to_string(root().join("docs/semantics.md")).expect("the rules");
    let (_, body) = text.split_once("\n## ").expect("a first section");
    let (body, _) = body.split_once("\n## The transitions").expect("the tables");
    for line in body.lines().skip(1) {
        let is_rule = line.starts_with("- **") || line.starts_with("  ");
        assert!(
            is_rule || line.is_empty() || line.starts_with("## "),
            "this sentence has no rule and so no test: {line}"
        );
    }
}

/// The rows of a table of the document, each with its rules last.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/semantics.md")).expect("the rules");
    let (_, body) = text.split_once(&format!("\n## {heading}\n")).expect("the table");
    let body = body.split("\n## ").next().unwrap_or_default();
    let rows = body.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

fn must_name_rules(rows: &[Vec<String>]) {
    let rules = rules();
    for row in rows {
        let named = row.last().expect("a cell");
        assert!(!named.is_empty(), "{row:?} has no rule");
        for rule in named.split(' ') {
            assert!(rules.contains(rule), "{row:?} names {rule}, which is not there");
        }
    }
}

#[test]
fn each_row_of_the_transition_tables_has_its_rules() {
    let rows = table("The transitions");
    must_name_rules(&rows);
    let documented: Vec<[&str; 3]> =
        rows.iter().map(|row| [row[0].as_str(), row[1].as_str(), row[2].as_str()]).collect();
    let mut expected: Vec<[String; 3]> = vec![["".into(), "queued".into(), "create".into()]];
    for row in TABLE {
        // A delete that does the same with delayed delete off is one row.
        let is_same_delete = row.event == Event::DeleteNow
            && TABLE.iter().any(|other| {
                (other.from, other.event, other.to) == (row.from, Event::Delete, row.to)
            });
        if !is_same_delete {
            let to = if row.event == Event::Forget { "" } else { row.to.name() };
            expected.push([row.from.name().into(), to.into(), row.event.name().into()]);
        }
    }
    for (from, event, to) in TASK_TABLE {
        expected.push([format!("task {}", from.name()), to.name().into(), event.name().into()]);
    }
    for row in &expected {
        assert!(documented.iter().any(|found| found == row), "{row:?} is not documented");
    }
    assert_eq!(documented.len(), expected.len(), "rows that are no transitions");
}

/// The operations of which the mount says what they do: the rows of its table.
const OPERATIONS: [&str; 22] = [
    "create in queued/ or active/",
    "create in uploading/",
    "create elsewhere",
    "first byte",
    "truncate to zero",
    "last close",
    "open for reading",
    "open an active name with O_TRUNC",
    "create a name just unlinked by the same process",
    "open an active image without O_TRUNC",
    "rename within a folder",
    "rename into another folder",
    "how long an operation may take",
    "unlink",
    "unlink of an image that others have open",
    "symlink, user.sps.locations",
    "chmod, chown, utimens",
    "mkdir, rmdir, link, O_TMPFILE, mknod",
    "on a protected image",
    "SEEK_DATA, SEEK_HOLE, punch hole",
    "copy_file_range inside the mount",
    "statfs",
];

#[test]
fn each_operation_has_its_rules() {
    let rows = table("The operations");
    must_name_rules(&rows);
    let documented: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(documented, OPERATIONS);
}
