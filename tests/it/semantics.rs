//! Each rule of docs/semantics.md has a test that names it, and no test names a rule that is not there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
    for line in body.lines().skip(1) {
        let is_rule = line.starts_with("- **") || line.starts_with("  ");
        assert!(
            is_rule || line.is_empty() || line.starts_with("## "),
            "this sentence has no rule and so no test: {line}"
        );
    }
}
