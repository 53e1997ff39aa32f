//! `sps restore`: a removed image comes back to where it was.

use std::path::Path;

use serde::Serialize;

use super::arguments::RestoreArguments;
use super::view::View;
use super::{mounts, print, print_json};
use crate::error::{Error, Result};
use crate::lifecycle::Status;

/// What came of it, as `--json` has it.
#[derive(Serialize)]
struct Restored {
    id: String,
    name: String,
    status: &'static str,
    /// Whether another image had the name until then; it is in the trash now.
    replaced: bool,
}

/// Runs the command.
pub(super) fn run(arguments: &RestoreArguments) -> Result<()> {
    let path = &arguments.path;
    std::fs::symlink_metadata(path).map_err(|error| Error::io("find", path, error))?;
    let root = mounts::mount_of(path)?;
    let image = View::of(path)
        .ok_or_else(|| Error::Usage(format!("{} is not an image", path.display())))?;
    if image.status != Status::PendingDelete.name() {
        let (path, status) = (path.display(), &image.status);
        return Err(Error::Usage(format!("{path} was not removed: it is {status}")));
    }
    let restored = Restored { id: image.id, name: image.name, status: "", replaced: false };
    // It may go where it came from, and nowhere else: what that was, the mount knows.
    let mut outcome = Err(Error::NotFound);
    for status in [Status::Active, Status::Deactivated] {
        let to = root.join(status.name()).join(&restored.name);
        let replaced = status == Status::Active && to.symlink_metadata().is_ok();
        match std::fs::rename(path, &to) {
            Ok(()) => {
                return tell(
                    arguments,
                    &to,
                    Restored { status: status.name(), replaced, ..restored },
                );
            }
            Err(error) => outcome = Err(Error::io("restore", path, error)),
        }
    }
    outcome
}

fn tell(arguments: &RestoreArguments, to: &Path, restored: Restored) -> Result<()> {
    if arguments.json {
        return print_json(&restored);
    }
    let also = if restored.replaced { ", and what was there is in pending_delete" } else { "" };
    print(&format!("{}{also}\n", to.display()))
}
