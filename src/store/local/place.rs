//! Whether a directory can be a store: what it holds, and what filesystem it is on.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use super::{BLOBS, LocalStore, MANIFESTS, REGISTRY, RESERVE, STAGING, UNFINISHED};
use crate::error::{Error, Result};

/// What a directory may hold that is to become a store.
const HARMLESS: [&str; 6] =
    ["config.toml", "lock", "sps.log", "lost+found", "sps.log.old", RESERVE];

/// How the names end of what SQLite keeps beside a database while it writes.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Makes the name of a new store durable, and the names of whatever directories were made for it: a loss of power could
/// take all of it otherwise.
pub(super) fn sync_parents(root: &Path) -> Result<()> {
    let root = std::path::absolute(root).map_err(|error| Error::io("find", root, error))?;
    for parent in root.ancestors().skip(1) {
        match std::fs::File::open(parent).and_then(|directory| directory.sync_all()) {
            Ok(()) => {}
            // What he may not read he did not make.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied
                        | ErrorKind::InvalidInput
                        | ErrorKind::Unsupported
                        | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                break;
            }
            Err(error) => return Err(Error::io("sync", parent, error)),
        }
    }
    Ok(())
}

/// Whether a name is of what a first start left that was cut short before its database had a name.
fn is_leftover(name: &OsString) -> bool {
    let ending = name.to_str().and_then(|name| name.strip_prefix(REGISTRY));
    let ending = ending.map(|ending| ending.strip_prefix(".part").unwrap_or(ending));
    ending.is_some_and(|ending| BESIDE.contains(&ending))
}

impl LocalStore {
    /// What a directory is: a store, or something that can become one. Nothing of it is changed.
    ///
    /// # Errors
    /// It is neither, or on a filesystem that can't be trusted.
    pub fn inspect(root: &Path) -> Result<&'static str> {
        refuse_foreign_filesystem(root)?;
        refuse_what_is_no_store(root, false)?;
        Ok(if root.join(REGISTRY).is_file() { "a store" } else { "can become one" })
    }
}

/// A directory that has other things in it is somebody's, and a store that lost its registry would be
/// taken for an empty one.
pub(super) fn refuse_what_is_no_store(root: &Path, is_rebuilt: bool) -> Result<()> {
    let entries = std::fs::read_dir(root).and_then(|all| {
        all.map(|entry| entry.map(|entry| entry.file_name())).collect::<std::io::Result<Vec<_>>>()
    });
    let names = entries.map_err(|error| {
        Error::Store(format!("store {}: {error}: run as its owner", root.display()))
    })?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(REGISTRY) {
        return Ok(());
    }
    if has(UNFINISHED) && !is_rebuilt {
        let root = root.display();
        return Err(Error::Store(format!(
            "{root} is half a store: a backup or a rebuild did not come to its end. Make the backup again, or \
             run sps fsck --rebuild --store {root} for what is there"
        )));
    }
    let parts = [BLOBS, STAGING, MANIFESTS];
    // What is left of a registry that is lost.
    let is_left = |name: &OsString| {
        is_rebuilt && name.to_str().is_some_and(|name| name.starts_with(REGISTRY))
    };
    let is_known = |name: &OsString| {
        is_left(name)
            || is_leftover(name)
            || HARMLESS.iter().chain(&parts).any(|known| *name == *known)
    };
    let foreign = names.iter().find(|name| !is_known(name));
    if let Some(name) = foreign {
        return Err(Error::Store(format!(
            "{} is not a store: it has no sps.db, but {}. Choose an empty directory with --store",
            root.display(),
            name.display(),
        )));
    }
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let has_entries = |path: &Path| entries(path).next().is_some();
    let has_data = has_entries(&root.join(MANIFESTS))
        || entries(&root.join(BLOBS)).any(|folder| has_entries(&folder.path()));
    if has_data && !is_rebuilt {
        return Err(Error::Store(format!(
            "{} has images but no sps.db: put sps.db back from a copy, or make it again with \
             sps fsck --rebuild --store DIR",
            root.display()
        )));
    }
    Ok(())
}

/// Refuses a filesystem on which locks and durability are another machine's or process's word.
pub(super) fn refuse_foreign_filesystem(root: &Path) -> Result<()> {
    /// Filesystems on which locks and durability are another machine's or process's word: from
    /// `linux/magic.h`, and CIFS and 9P from their own headers.
    const FOREIGN: [(u64, &str); 8] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "CIFS"),
        (0xfe53_4d42, "SMB2"),
        (0x6573_5546, "FUSE"),
        (0x0102_1997, "9P"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
    ];
    let found = rustix::fs::statfs(root).map_err(|error| Error::io("statfs", root, error))?;
    let magic = u64::try_from(found.f_type).unwrap_or(0) & 0xffff_ffff;
    match FOREIGN.iter().find(|(known, _)| *known == magic) {
        Some((_, name)) => Err(Error::Store(format!(
            "store {} is on a {name} filesystem, where a lock or a flush can't be trusted: choose a \
             local disk, or mount with -o any_filesystem",
            root.display()
        ))),
        None => Ok(()),
    }
}
