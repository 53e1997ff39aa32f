//! `sps fsck`: looks a store through that nobody has mounted, and mends it.

use std::path::Path;

use super::{FsckArguments, print};
use crate::catalog::{Checkup, Finding, Parts, SystemTimeSource, check};
use crate::error::{Error, Result};
use crate::location::Locations;
use crate::registry::SqliteRegistry;
use crate::store::{LocalStore, OpenOptions};

/// Runs the command.
pub(super) fn run(arguments: &FsckArguments) -> Result<()> {
    let root: &Path = &arguments.store;
    if !root.is_dir() {
        return Err(Error::Store(format!("{} is not there: name a store", root.display())));
    }
    let has_manifests = arguments.rebuild && root.join("manifests").is_dir();
    if !root.join("sps.db").is_file() && !has_manifests {
        return Err(Error::Store(format!(
            "{} has no sps.db: is it a store? If its registry was lost, run sps fsck --rebuild",
            root.display()
        )));
    }
    let options = OpenOptions {
        any_filesystem: true,
        is_rebuilt: arguments.rebuild,
        ..OpenOptions::default()
    };
    let store = LocalStore::open(root, options)?;
    let registry = SqliteRegistry::open(&store.registry_path())?;
    let parts = Parts {
        registry: Box::new(registry),
        store: Box::new(store),
        locations: Locations::new(Vec::new(), root.to_owned()),
        time: Box::new(SystemTimeSource),
    };
    let checkup = Checkup { rebuild: arguments.rebuild, quick: arguments.quick };
    let mut findings: Vec<Finding> = Vec::new();
    let checked = check(parts, checkup, &mut |finding| findings.push(finding));
    let left = findings.iter().filter(|finding| !finding.is_mended).count();
    if checked.is_ok() || !findings.is_empty() {
        print(&told(&findings, left, arguments.json))?;
    }
    checked?;
    match left {
        0 => Ok(()),
        left => Err(Error::Store(format!("{}: {left} faults remain", root.display()))),
    }
}

fn told(findings: &[Finding], left: usize, is_json: bool) -> String {
    if is_json {
        let all: Vec<_> = findings
            .iter()
            .map(|finding| serde_json::json!({"what": finding.what, "mended": finding.is_mended}))
            .collect();
        let value = serde_json::json!({"findings": all, "remaining": left});
        return format!("{value}\n");
    }
    let line = |finding: &Finding| {
        let how = if finding.is_mended { "mended" } else { "REMAINS" };
        format!("{how}: {}\n", finding.what)
    };
    let mut text: String = findings.iter().map(line).collect();
    if findings.is_empty() {
        text.push_str("the store is whole\n");
    }
    text
}
