//! `sps fsck`: looks a store through that nobody has mounted, and mends it.

use std::path::Path;

use super::arguments::FsckArguments;
use super::backup::finish;
use super::print;
use crate::catalog::{Checkup, Finding, Parts, SystemTimeSource, check};
use crate::error::{Error, Result};
use crate::location::Locations;
use crate::registry::SqliteRegistry;
use crate::store::{LocalStore, OpenOptions};
use crate::text::{plain, plain_json};

/// Findings that `--json` lists; all are counted.
const TOLD_MAX: usize = 100_000;

/// What SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["", "-wal", "-shm"];

/// Runs the command.
pub(super) fn run(arguments: &FsckArguments) -> Result<()> {
    let root: &Path = &arguments.store;
    let store = open(root, arguments.rebuild)?;
    let is_lost = !store.registry_path().is_file();
    let path = if is_lost { store.unfinished_registry_path() } else { store.registry_path() };
    let finished = store.registry_path();
    if is_lost {
        // What a rebuild left that did not come to its end.
        remove(&path)?;
    }
    let mut report = Report { is_json: arguments.json, ..Report::default() };
    let checkup = Checkup { rebuild: arguments.rebuild, quick: arguments.quick, is_lost };
    if let Err(error) = look_through(root, store, &path, checkup, &mut report) {
        if report.is_json && report.found > 0 {
            report.end()?;
        }
        return Err(with_hint(error, root));
    }
    if is_lost {
        put_in_place(root, &path, &finished)?;
    }
    report.end()?;
    match report.left {
        0 => Ok(()),
        left => Err(Error::Store(format!("{}: {left} faults remain", root.display()))),
    }
}

fn open(root: &Path, is_rebuilt: bool) -> Result<LocalStore> {
    if !root.is_dir() {
        return Err(Error::Store(format!("{} is not there: name a store", root.display())));
    }
    let has_data = ["manifests", "blobs"].iter().any(|part| root.join(part).is_dir());
    std::fs::read_dir(root).map_err(|error| Error::io("read", root, error))?;
    let is_store = root.join("sps.db").is_file() || (is_rebuilt && has_data);
    if !is_store {
        let shown = root.display();
        return Err(Error::Store(if has_data {
            format!("{shown} has no sps.db: if its registry was lost, run sps fsck --rebuild")
        } else {
            format!("{shown} is not a store: name one")
        }));
    }
    let options = OpenOptions { any_filesystem: true, is_rebuilt, ..OpenOptions::default() };
    LocalStore::open(root, options).map_err(|error| {
        let is_busy = matches!(error, Error::Busy(_));
        if is_busy { Error::Busy(format!("the store is mounted: {error}")) } else { error }
    })
}

fn look_through(
    root: &Path,
    store: LocalStore,
    registry: &Path,
    checkup: Checkup,
    report: &mut Report,
) -> Result<()> {
    // One that is made again is on the disk before it has its name.
    let registry = if checkup.is_lost {
        SqliteRegistry::open_bulk(registry)?
    } else {
        SqliteRegistry::open(registry)?
    };
    let parts = Parts {
        registry: Box::new(registry),
        store: Box::new(store),
        locations: Locations::new(Vec::new(), root.to_owned()),
        time: Box::new(SystemTimeSource),
    };
    check(parts, checkup, &mut |finding| report.take(finding))
}

/// A registry that can't be read is not the end of what it told of.
fn with_hint(error: Error, root: &Path) -> Error {
    let is_unusable =
        matches!(&error, Error::Store(what) if what.starts_with("sps.db can't be used"));
    if !is_unusable && !matches!(&error, Error::Registry { is_full: false, .. }) {
        return error;
    }
    let root = root.display();
    Error::Store(format!(
        "{error}: move {root}/sps.db, sps.db-wal and sps.db-shm away, and run sps fsck --rebuild --store {root}"
    ))
}

/// Removes a database that is not finished.
fn remove(path: &Path) -> Result<()> {
    for beside in BESIDE {
        let path = with_suffix(path, beside);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Gives a registry that was made again its name. What is left of the one before would be taken for its log.
fn put_in_place(root: &Path, unfinished: &Path, finished: &Path) -> Result<()> {
    let rename = |from: &Path, to: &Path| match std::fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("rename", from, error))
        }
        Ok(()) | Err(_) => Ok(()),
    };
    for beside in BESIDE.iter().filter(|beside| !beside.is_empty()) {
        let left = with_suffix(finished, beside);
        rename(&left, &with_suffix(&left, ".lost"))?;
    }
    finish(root, unfinished, finished)
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What was found so far. For people each thing is told at once, as looking takes long.
#[derive(Default)]
struct Report {
    is_json: bool,
    findings: Vec<serde_json::Value>,
    found: u64,
    left: u64,
    /// Why something could not be told.
    fault: Option<Error>,
}

impl Report {
    fn take(&mut self, finding: Finding) {
        self.found += 1;
        self.left += u64::from(!finding.is_mended);
        if !self.is_json {
            let how = if finding.is_mended { "mended" } else { "REMAINS" };
            if let Err(error) = print(&format!("{how}: {}\n", plain(&finding.what))) {
                self.fault.get_or_insert(error);
            }
        } else if self.findings.len() < TOLD_MAX {
            let value = serde_json::json!({"what": finding.what, "mended": finding.is_mended});
            self.findings.push(value);
        }
    }

    fn end(&mut self) -> Result<()> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.is_json {
            let findings = std::mem::take(&mut self.findings);
            let value = serde_json::json!({"findings": findings, "remaining": self.left});
            return print(&format!("{}\n", plain_json(&value.to_string())));
        }
        if self.found == 0 { print("the store is whole\n") } else { Ok(()) }
    }
}
