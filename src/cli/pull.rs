//! `sps pull`: an image is copied out, and is what its digest says.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
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
    if image.size.is_none() {
        let (name, status) = (plain(&image.name), &image.status);
        return Err(Error::Store(format!("{name} is {status}, and has no data yet")));
    }
    let size = source.metadata().map_err(failed)?.len();
    let to = match arguments.file.to_str() {
        Some("-") => None,
        _ if arguments.file.is_dir() => Some(arguments.file.join(&image.name)),
        _ => Some(arguments.file.clone()),
    };
    let transfer = Transfer::begin(&image.name, Some(size));
    let digest = match &to {
        None => stream(&source, &mut std::io::stdout().lock(), transfer)?,
        Some(file) => pull_to(&source, file, size, transfer, &image)?,
    };
    if to.is_none() {
        check(&image, digest)?;
    }
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

fn stream(source: &File, target: &mut impl Write, mut transfer: Transfer) -> Result<Digest> {
    transfer.stream(&mut &*source, target)?;
    Ok(transfer.finish())
}

/// Copies an image to where a path leads, as cp(1) would: a device or a pipe is written to, a file is replaced as
/// soon as the copy is whole.
fn pull_to(
    source: &File,
    file: &Path,
    size: u64,
    transfer: Transfer,
    image: &View,
) -> Result<Digest> {
    let failed = |error| Error::io("make", file, error);
    let old = match file.metadata() {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound && !file.is_symlink() => None,
        Err(error) => return Err(failed(error)),
    };
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        let mut target = File::options().write(true).open(file).map_err(failed)?;
        let digest = stream(source, &mut target, transfer)?;
        // A pipe has nothing to be made durable.
        let _ = target.sync_all();
        return check(image, digest).map(|()| digest);
    }
    let file = match &old {
        Some(_) => &file.canonicalize().map_err(failed)?,
        None => file,
    };
    let part = part_of(file);
    pull(source, &part, (size, old.as_ref()), transfer)
        .and_then(|digest| check(image, digest).map(|()| digest))
        .and_then(|digest| {
            std::fs::rename(&part, file).map_err(|error| Error::io("make", file, error))?;
            Ok(digest)
        })
        .inspect_err(|_| {
            // Half a copy is of no use, and the other one is where it was.
            let _ = std::fs::remove_file(&part);
        })
}

/// Copies an image into a file beside the one that it is to replace, with the owner and the mode of that.
fn pull(
    source: &File,
    part: &Path,
    (size, old): (u64, Option<&Metadata>),
    mut transfer: Transfer,
) -> Result<Digest> {
    let failed = |error| Error::io("make", part, error);
    let mode = if old.is_some() { 0o600 } else { 0o666 };
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(mode);
    let target = options.open(part).map_err(failed)?;
    if let Some(old) = old {
        // Who may not give a file away has one of his own.
        let _ = fchown(&target, Some(old.uid()), Some(old.gid()));
        let mode = old.permissions().mode() & 0o777;
        target.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
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
