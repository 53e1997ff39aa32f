//! `sps backup`: a copy of a store that is itself one, made while the store is in use.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{BackupArguments, print};
use crate::catalog::{Backup, back_up};
use crate::error::{Error, Result};
use crate::image::Content;
use crate::registry::SqliteRegistry;
use crate::store::{LocalStore, OpenOptions};
use crate::text::bytes;

/// What the registry of a copy is called until all of its data is there: until then it is no store.
const UNFINISHED: &str = "sps.db.part";

/// Runs the command.
pub(super) fn run(arguments: &BackupArguments) -> Result<()> {
    let began = Instant::now();
    let (from, to) = (&arguments.store, &arguments.dest);
    let source = LocalStore::open_beside(from)?;
    check_empty(to)?;
    check_outside(from, to)?;
    let made = copy_all(&source, from, to);
    if made.is_err() {
        // It was empty, and what is half there is of no use.
        let _ = std::fs::remove_dir_all(to);
    }
    let backup = made?;
    let seconds = began.elapsed().as_secs_f64();
    let text = if arguments.json {
        let value = serde_json::json!({
            "images": backup.images,
            "contents": backup.contents,
            "size_bytes": backup.size_bytes,
            "damaged": backup.damaged,
            "seconds": seconds,
        });
        format!("{value}\n")
    } else {
        format!(
            "{} images, {} contents, {} in {seconds:.1} s\n",
            backup.images,
            backup.contents,
            bytes(backup.size_bytes)
        )
    };
    print(&text)?;
    match backup.damaged {
        0 => Ok(()),
        damaged => Err(Error::Store(format!(
            "the data of {damaged} images was not whole: they are withheld in the copy. Run sps fsck --store {}",
            from.display()
        ))),
    }
}

/// Copies the registry, the data and the settings.
fn copy_all(source: &LocalStore, from: &Path, to: &Path) -> Result<Backup> {
    let options = OpenOptions { any_filesystem: true, is_bulk: true, ..OpenOptions::default() };
    let copy = LocalStore::open(to, options)?;
    let unfinished = to.join(UNFINISHED);
    SqliteRegistry::snapshot(&source.registry_path(), &unfinished)?;
    let registry = SqliteRegistry::open_bulk(&unfinished)?;
    let was_purged = |id| {
        let image = SqliteRegistry::peek(&source.registry_path(), id)?;
        Ok(image.is_none_or(|image| !matches!(image.content, Content::Sealed(_))))
    };
    let backup = back_up(source, (&copy, &registry), &was_purged)?;
    // Closed, so that all of it is in the one file.
    drop(registry);
    copy_settings(from, to)?;
    sync_all(to)?;
    let finished = copy.registry_path();
    std::fs::rename(&unfinished, &finished)
        .map_err(|error| Error::io("rename", &unfinished, error))?;
    sync_all(to)?;
    Ok(backup)
}

/// A copy within the store would become part of it.
fn check_outside(from: &Path, to: &Path) -> Result<()> {
    let real = |path: &Path| path.canonicalize().map_err(|error| Error::io("find", path, error));
    let there = to.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    if real(there)?.starts_with(real(from)?) {
        return Err(Error::Store(format!(
            "{} is in the store: choose another place",
            to.display()
        )));
    }
    Ok(())
}

fn check_empty(path: &Path) -> Result<()> {
    let shown = path.display();
    match std::fs::read_dir(path) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::Store(format!("{shown} is not empty: choose a new directory"))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("list", path, error)),
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

/// Returns when all that was written is on the disk.
pub(super) fn sync_all(store: &Path) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("sync", store, error);
    let directory = std::fs::File::open(store).map_err(failed)?;
    rustix::fs::syncfs(&directory).map_err(|error| failed(error.into()))
}
