//! What a file of a mount does and a file of a local filesystem does, held against each other call by call.
//!
//! The facts are those that pjdfstest checks of files: which calls there are, who may make them, what they answer, and
//! what stat shows afterwards. pjdfstest itself makes a folder for each of its cases, which a mount refuses. Each fact
//! runs on a file in memory and on one of the mount, and what differs is named, with the rule that says so:
//! `docs/conformance.md` is the list.

mod changing;
mod differences;
mod fact;
mod names;
mod opening;
mod sealed;
mod trial;

use std::collections::BTreeMap;
use std::path::Path;

use differences::{DIFFERENCES, Difference};
use fact::Fact;
use trial::{Place, trials};

/// How many facts show each difference.
type Shown = BTreeMap<Difference, usize>;

fn staged() -> Vec<Fact> {
    [opening::facts(), changing::facts(), names::facts()].concat()
}

/// Holds what the document says of a place against what its facts have shown.
fn must_be_documented(place: &str, facts: usize, shown: &Shown) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let rules = std::fs::read_to_string(path.with_file_name("semantics.md")).expect("the rules");
    let mut table = vec![format!("{facts} facts.")];
    if !shown.is_empty() {
        table.push("\n| here | rule | facts |\n| --- | --- | --- |".into());
    }
    for (difference, says, rule) in DIFFERENCES {
        assert!(rules.contains(&format!("- **{rule}** ")), "{rule} is no rule");
        if let Some(count) = shown.get(&difference) {
            table.push(format!("| {says} | {rule} | {count} |"));
        }
    }
    let table = table.join("\n");
    assert!(
        text.contains(&format!("\n## {place}\n\n{table}\n")),
        "docs/conformance.md has to say:\n## {place}\n\n{table}\n"
    );
}

#[test]
fn each_difference_has_a_row() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    let text = std::fs::read_to_string(path).expect("the list");
    for (_, says, rule) in DIFFERENCES {
        assert!(text.contains(&format!("| {says} | {rule} | ")), "no fact shows that {says}");
    }
}

// semantics: local-files
#[test]
fn what_is_staged_behaves_as_a_local_file_but_for_what_is_named() {
    let facts = staged();
    let shown = trials(Place::Staged, &facts);
    must_be_documented("Files in `uploading/`", facts.len(), &shown);
}

// semantics: local-files
#[test]
fn an_active_image_behaves_as_a_local_file_but_for_what_is_named() {
    let facts = sealed::facts();
    let shown = trials(Place::Sealed, &facts);
    must_be_documented("Images in `active/`", facts.len(), &shown);
}

#[test]
fn on_a_mount_that_is_read_only_each_change_is_refused_as_on_a_local_filesystem() {
    let facts = sealed::read_only();
    let shown = trials(Place::ReadOnly, &facts);
    must_be_documented("A mount with `-o ro`", facts.len(), &shown);
}
