//! `sps restore`: removed images come back to where they were.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::RestoreArguments;
use super::each::each;
use super::mounts;
use super::view::View;
use crate::error::{Error, Result};
use crate::lifecycle::Status;
use crate::text::plain;

/// What came of it, as `--json` has it.
#[derive(Serialize)]
struct Restored {
    id: String,
    name: String,
    status: &'static str,
    /// Whether another image had the name until then; it is in the trash now.
    replaced: bool,
    #[serde(skip)]
    path: PathBuf,
}

/// Runs the command. One image that fails does not keep the others.
pub(super) fn run(arguments: &RestoreArguments) -> Result<()> {
    each(&arguments.paths, arguments.json, "images were not restored", restore, |restored| {
        let also = if restored.replaced { ", and what was there is in pending_delete" } else { "" };
        format!("{}{also}\n", plain(&restored.path.display().to_string()))
    })
}

fn restore(path: &Path) -> Result<Restored> {
    std::fs::symlink_metadata(path).map_err(|error| Error::io("find", path, error))?;
    let root = mounts::mount_of(path)?;
    let image = View::of(path)
        .ok_or_else(|| Error::Usage(format!("{} is not an image", path.display())))?;
    if image.status != Status::PendingDelete.name() {
        let (path, status) = (path.display(), &image.status);
        return Err(Error::Usage(format!("{path} was not removed: it is {status}")));
    }
    // It may go where it came from, and nowhere else: what that was, the mount knows.
    let mut outcome = Err(Error::NotFound);
    for status in [Status::Active, Status::Deactivated] {
        let to = root.join(status.name()).join(&image.name);
        let replaced = status == Status::Active && to.symlink_metadata().is_ok();
        match std::fs::rename(path, &to) {
            Ok(()) => {
                let (id, name, status) = (image.id, image.name, status.name());
                return Ok(Restored { id, name, status, replaced, path: to });
            }
            Err(error) => outcome = Err(Error::io("restore", path, error)),
        }
    }
    outcome
}
