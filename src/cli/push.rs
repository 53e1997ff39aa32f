//! `sps push`: files are copied in through `uploading/`, where a copy that broke off is gone on with, and are taken in
//! only if the digest at the other end is that of what was read here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, XattrFlags};
use serde::Serialize;

use super::arguments::PushArguments;
use super::each::each;
use super::mounts;
use super::transfer::Transfer;
use super::view::{PREFIX, View, attribute};
use crate::error::{Error, Result};
use crate::image::Digest;
use crate::lifecycle::Status;
use crate::sys;
use crate::text::{bytes, plain};

/// How often it is looked whether an image was taken in.
const PAUSE: Duration = Duration::from_millis(20);

/// What stands for standard input.
const STANDARD_INPUT: &str = "-";

/// What came of a file, as `--json` has it.
#[derive(Serialize)]
struct Pushed {
    id: String,
    name: String,
    status: String,
    size: u64,
    blake3: String,
    /// Bytes that were there already, from a copy that broke off.
    resumed: u64,
}

/// Runs the command. One file that fails does not keep the others.
///
/// # Errors
/// The first that failed.
pub(super) fn run(arguments: &PushArguments) -> Result<()> {
    let root = mounts::mounted_at(&arguments.mountpoint)?;
    if arguments.name.is_some() && arguments.files.len() > 1 {
        return Err(Error::Usage("--name is for one file".into()));
    }
    let work = |file: &Path| push(&root, file, &named(file, arguments.name.as_deref())?);
    each(&arguments.files, arguments.json, "files were not pushed", work, |pushed| {
        let path = root.join(&pushed.status).join(&pushed.name).display().to_string();
        format!("{}  {}  {}\n", plain(&path), bytes(pushed.size), pushed.blake3)
    })
}

fn named(file: &Path, name: Option<&str>) -> Result<String> {
    match (name, file.file_name()) {
        (Some(name), _) if name.contains('/') => {
            Err(Error::Usage(format!("{name}: a name has no slash")))
        }
        (Some(""), _) => Err(Error::Usage("--name is empty".into())),
        (Some(name), _) => Ok(name.to_owned()),
        (None, Some(_)) if file == Path::new(STANDARD_INPUT) => {
            Err(Error::Usage("standard input has no name: say one with --name".into()))
        }
        (None, Some(name)) => name.to_str().map(str::to_owned).ok_or_else(|| {
            Error::Usage(format!("{} is no UTF-8: say a name with --name", file.display()))
        }),
        (None, None) => Err(Error::Usage(format!("{} is not a file", file.display()))),
    }
}

fn push(root: &Path, file: &Path, name: &str) -> Result<Pushed> {
    let staged = root.join(Status::Uploading.name()).join(name);
    let (digest, size, resumed) = if file == Path::new(STANDARD_INPUT) {
        let mut target = open(&staged)?;
        target.set_len(0).map_err(|error| Error::io("write", &staged, error))?;
        let mut transfer = Transfer::begin(name, None);
        let size = transfer.stream(&mut std::io::stdin().lock(), &mut target)?;
        let digest = transfer.finish();
        close(target, &staged)?;
        (digest, size, 0)
    } else {
        copy(file, &staged, name)?
    };
    take_in(root, &staged, (name, digest, size, resumed))
}

/// Copies a file to where it is staged, from where an earlier copy of it ended.
fn copy(file: &Path, staged: &Path, name: &str) -> Result<(Digest, u64, u64)> {
    let failed = |error| Error::io("read", file, error);
    let source = File::open(file).map_err(failed)?;
    let about = source.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(Error::Usage(format!("{} is not a regular file", file.display())));
    }
    let target = open(staged)?;
    let there = target.metadata().map_err(|error| Error::io("stat", staged, error))?.len();
    let mut transfer = Transfer::begin(name, Some(about.len()));
    let mut start = 0;
    if there > 0 && there <= about.len() {
        start = transfer.compare(&source, &target, there)?;
    }
    if start < there {
        // It is a copy of something else.
        start = 0;
        transfer.begin_again();
        target.set_len(0).map_err(|error| Error::io("write", staged, error))?;
    }
    transfer.copy(&source, &target, start, about.len())?;
    let after = source.metadata().map_err(failed)?;
    if after.len() != about.len() || after.modified().ok() != about.modified().ok() {
        return Err(Error::SourceChanged(format!(
            "{} changed while it was copied",
            file.display()
        )));
    }
    close(target, staged)?;
    Ok((transfer.finish(), about.len(), start))
}

/// Opens what is staged, for this process alone: two that push one name would mix their bytes.
fn open(staged: &Path) -> Result<File> {
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(staged);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => Error::Usage(format!(
            "no image can be called {:?}: a name has no control characters, does not begin with .sps, and does not \
             end in ~ and eight hex digits",
            staged.file_name().unwrap_or_default().display().to_string()
        )),
        _ => Error::io("open", staged, error),
    })?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::Busy(format!("{} is being pushed by another process", staged.display())))
        }
        Err(error) => Err(Error::io("lock", staged, error)),
    }
}

fn close(file: File, staged: &Path) -> Result<()> {
    sys::close(file).map_err(|error| Error::io("close", staged, error))
}

/// Has what is staged taken in, if it is what was read, and waits for that.
fn take_in(
    root: &Path,
    staged: &Path,
    (name, digest, size, resumed): (&str, Digest, u64, u64),
) -> Result<Pushed> {
    let gone = || Error::Store(format!("{} was removed meanwhile", staged.display()));
    let image = View::of(staged).ok_or_else(gone)?;
    let blake3 = digest.to_string();
    let expected = format!("{PREFIX}expected_blake3");
    rustix::fs::setxattr(staged, expected.as_str(), blake3.as_bytes(), XattrFlags::empty())
        .map_err(|error| Error::io("set expected_blake3 of", staged, error))?;
    let to = root.join(Status::Active.name()).join(name);
    let asked = std::fs::rename(staged, &to).map_err(|error| Error::io("take in", staged, error));
    let link = root.join("by-id").join(&image.id);
    loop {
        let status = status_of(&link).ok_or_else(gone)?;
        if status == Status::Active.name() {
            let id = image.id;
            return Ok(Pushed { id, name: name.into(), status, size, blake3, resumed });
        }
        if status != Status::Importing.name() {
            // What is still where it was has nothing to say but why it may not go.
            let why = attribute(&link, "message").filter(|_| status != Status::Uploading.name());
            let why = match (why, asked) {
                (Some(why), _) => why,
                (None, Err(error)) => return Err(error),
                (None, Ok(())) => "it does not say why".into(),
            };
            let now = std::fs::read_link(&link).unwrap_or_default();
            let now = root.join("by-id").join(now).canonicalize().unwrap_or(link);
            return Err(Error::Rejected(format!("{} is not active: {why}", now.display())));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The status that a link in `by-id` names.
fn status_of(link: &Path) -> Option<String> {
    let target: PathBuf = std::fs::read_link(link).ok()?;
    Some(target.parent()?.file_name()?.to_str()?.to_owned())
}
