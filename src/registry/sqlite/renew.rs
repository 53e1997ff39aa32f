//! Making the log durable after the disk refused to: a sync that fails leaves the kernel with pages that it takes for
//! clean, so the next one answers well and writes nothing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::error::{Error, Result};

/// How much is written again at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Writes the log of a connection again as it reads, and returns when it is on the disk. Nobody else may write to it
/// meanwhile; whoever reads it finds the same bytes.
pub(super) fn renew_log(connection: &Connection) -> Result<()> {
    let Some(path) = connection.path().map(|path| PathBuf::from(format!("{path}-wal"))) else {
        return Ok(());
    };
    match write_again(&path) {
        // What is not there has nothing to lose.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|error| failed(&path, &error)),
    }
}

fn write_again(path: &Path) -> std::io::Result<()> {
    let log = File::options().read(true).write(true).open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let count = log.read_at(&mut chunk, at)?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        log.write_all_at(bytes, at)?;
        at += count as u64;
    }
    log.sync_data()
}

/// Makes the names of the database and its log durable: SQLite does not tell when that fails.
pub(super) fn sync_names(path: &Path) -> Result<()> {
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed(directory, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    let what = format!("sync {}: {error}", path.display());
    Error::Registry { what, is_full: error.kind() == std::io::ErrorKind::StorageFull }
}
