//! `sps backup`: a copy of a store that is itself one, made while the store is in use.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::arguments::BackupArguments;
use super::print;
use crate::catalog::{Backup, Copying};
use crate::error::{Error, Result};
use crate::image::{Content, Image};
use crate::registry::SqliteRegistry;
use crate::store::{LocalStore, OpenOptions};
use crate::text::{bytes, plain, plain_json};

/// Images that are told of one by one in `--json`; all are told of on standard error.
const TOLD_MAX: usize = 10_000;

/// Runs the command.
pub(super) fn run(arguments: &BackupArguments) -> Result<()> {
    let began = Instant::now();
    let (from, to) = (&arguments.store, &arguments.dest);
    let source = LocalStore::open_beside(from)?;
    check_destination(from, to)?;
    let damaged: RefCell<Vec<serde_json::Value>> = RefCell::default();
    let tell = |image: &Image, error: &Error| {
        let (id, name) = (image.id.to_string(), image.name.as_str());
        let told = format!("image {id} ({name}): {error}");
        eprintln!("sps: {}", plain(&told));
        let mut damaged = damaged.borrow_mut();
        if damaged.len() < TOLD_MAX {
            let value = serde_json::json!({"id": id, "name": name, "what": error.to_string()});
            damaged.push(value);
        }
    };
    let options = OpenOptions { any_filesystem: true, is_bulk: true, ..OpenOptions::default() };
    let copy = LocalStore::open(to, options)?;
    let made = copy_all(&source, &copy, (from, to), &tell);
    if made.is_err() {
        // It was empty, it is ours alone, and what is half there is of no use.
        let _ = std::fs::remove_dir_all(to);
    }
    let backup = made?;
    let seconds = began.elapsed().as_secs_f64();
    print(&told(&backup, seconds, arguments.json.then(|| damaged.take())))?;
    match backup.damaged {
        0 => Ok(()),
        damaged => Err(Error::Store(format!(
            "the data of {damaged} images was not whole: they are withheld in the copy, and all else is \
             there. Unmount, and run sps fsck --store {}",
            from.display()
        ))),
    }
}

/// Copies the registry, the data and the settings.
fn copy_all(
    source: &LocalStore,
    copy: &LocalStore,
    (from, to): (&Path, &Path),
    tell: &dyn Fn(&Image, &Error),
) -> Result<Backup> {
    let unfinished = copy.unfinished_registry_path();
    SqliteRegistry::snapshot(&source.registry_path(), &unfinished)?;
    let registry = SqliteRegistry::open_bulk(&unfinished)?;
    let was_purged = |id| {
        let image = SqliteRegistry::peek(&source.registry_path(), id)?;
        Ok(image.is_none_or(|image| !matches!(image.content, Content::Sealed(_))))
    };
    let copying = Copying { source, copy, registry: &registry, was_purged: &was_purged, tell };
    let backup = copying.run()?;
    // Closed, so that all of it is in the one file.
    drop(registry);
    copy_settings(from, to)?;
    give_to_owner(from, to)?;
    finish(to, &unfinished, &copy.registry_path())?;
    Ok(backup)
}

fn told(backup: &Backup, seconds: f64, damaged: Option<Vec<serde_json::Value>>) -> String {
    let Backup { images, contents, size_bytes, .. } = *backup;
    let Some(faults) = damaged else {
        let size = bytes(size_bytes);
        return format!("{images} images, {contents} contents, {size} in {seconds:.1} s\n");
    };
    let value = serde_json::json!({
        "images": images,
        "contents": contents,
        "size_bytes": size_bytes,
        "purged": backup.purged,
        "damaged": backup.damaged,
        "faults": faults,
        "seconds": seconds,
    });
    format!("{}\n", plain_json(&value.to_string()))
}

fn check_destination(from: &Path, to: &Path) -> Result<()> {
    let shown = to.display();
    let real = |path: &Path| path.canonicalize().map_err(|error| Error::io("find", path, error));
    let absolute = std::path::absolute(to).map_err(|error| Error::io("find", to, error))?;
    // A copy within the store would become part of it.
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if real(there)?.starts_with(real(from)?) {
        return Err(Error::Store(format!("{shown} is in the store itself: choose another place")));
    }
    match std::fs::read_dir(to) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::Store(format!("{shown} is not empty: choose a new directory"))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::Store(format!("{shown}: {error}: choose a new directory"))),
    }
}

fn copy_settings(from: &Path, to: &Path) -> Result<()> {
    let name = "config.toml";
    let (from, to): (PathBuf, PathBuf) = (from.join(name), to.join(name));
    match std::fs::copy(&from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("copy", from, error))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A copy that root makes of another user's store is that user's.
fn give_to_owner(from: &Path, to: &Path) -> Result<()> {
    let found = std::fs::metadata(from).map_err(|error| Error::io("stat", from, error))?;
    let own = rustix::process::geteuid().as_raw();
    if own != 0 || found.uid() == own {
        return Ok(());
    }
    let mut left = vec![to.to_owned()];
    while let Some(path) = left.pop() {
        let failed = |error: std::io::Error| Error::io("give to its owner", &path, error);
        std::os::unix::fs::lchown(&path, Some(found.uid()), Some(found.gid())).map_err(failed)?;
        let is_directory = std::fs::symlink_metadata(&path).map_err(failed)?.is_dir();
        if is_directory {
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                left.push(entry.map_err(failed)?.path());
            }
        }
    }
    Ok(())
}

/// Gives the registry of a store its name, when all else is on the disk: from then on it is a store.
pub(super) fn finish(root: &Path, unfinished: &Path, finished: &Path) -> Result<()> {
    // A registry that was closed well has all in its one file.
    if unfinished.with_extension("part-wal").exists() {
        return Err(Error::Fault("closing the registry"));
    }
    sync_all(root)?;
    std::fs::rename(unfinished, finished)
        .map_err(|error| Error::io("rename", unfinished, error))?;
    sync_all(root)
}

/// Returns when all that was written is on the disk.
pub(super) fn sync_all(store: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("sync", store, error);
    let directory = std::fs::File::open(store).map_err(failed)?;
    rustix::fs::syncfs(&directory).map_err(|error| failed(error.into()))
}
