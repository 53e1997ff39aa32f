//! `sps pull`: an image is copied out, and is what its digest says.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::PullArguments;
use super::transfer::Transfer;
use super::view::View;
use super::{print, print_json};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::text::{bytes, plain};

/// What came of it, as `--json` has it.
#[derive(Serialize)]
struct Pulled {
    id: String,
    name: String,
    file: Option<PathBuf>,
    size: u64,
    blake3: String,
    /// Whether the digest was known before: that of data that lies elsewhere is computed in the background.
    verified: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &PullArguments) -> Result<()> {
    let path = &arguments.path;
    let failed = |error| Error::io("read", path, error);
    let source = File::open(path).map_err(failed)?;
    let image = View::of(path).ok_or_else(|| {
        Error::Usage(format!("{} is not an image in a mount of sps", path.display()))
    })?;
    let size = source.metadata().map_err(failed)?.len();
    let mut transfer = Transfer::begin(&image.name, Some(size));
    let to = match arguments.file.to_str() {
        Some("-") => None,
        _ if arguments.file.is_dir() => Some(arguments.file.join(&image.name)),
        _ => Some(arguments.file.clone()),
    };
    let digest = match &to {
        None => {
            transfer.stream(&mut &source, &mut std::io::stdout().lock())?;
            let digest = transfer.finish();
            check(&image, digest)?;
            digest
        }
        Some(file) => {
            let part = part_of(file);
            pull(&source, &part, size, transfer)
                .and_then(|digest| check(&image, digest).map(|()| digest))
                .and_then(|digest| {
                    std::fs::rename(&part, file).map_err(|error| Error::io("make", file, error))?;
                    Ok(digest)
                })
                .inspect_err(|_| {
                    // Half a copy is of no use, and the other one is where it was.
                    let _ = std::fs::remove_file(&part);
                })?
        }
    };
    let verified = image.blake3.is_some();
    if !verified {
        eprintln!(
            "sps: the digest of {} is not known yet: it was not compared",
            plain(&image.name)
        );
    }
    let blake3 = digest.to_string();
    match (arguments.json, &to) {
        // Standard output has the data.
        (_, None) => Ok(()),
        (true, Some(_)) => {
            print_json(&Pulled { id: image.id, name: image.name, file: to, size, blake3, verified })
        }
        (false, Some(file)) => {
            let file = file.display().to_string();
            print(&format!("{}  {}  {blake3}\n", plain(&file), bytes(size)))
        }
    }
}

fn pull(source: &File, part: &Path, size: u64, mut transfer: Transfer) -> Result<Digest> {
    let target = File::create(part).map_err(|error| Error::io("make", part, error))?;
    transfer.copy(source, &target, 0, size)?;
    target.sync_all().map_err(|error| Error::io("write", part, error))?;
    Ok(transfer.finish())
}

fn check(image: &View, digest: Digest) -> Result<()> {
    match &image.blake3 {
        Some(known) if *known != digest.to_string() => Err(Error::Damaged(format!(
            "what was read of {} has the digest {digest}, and not {known}: see `sps verify`",
            image.name
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What a file is called until it is whole.
fn part_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    file.with_file_name(name)
}
