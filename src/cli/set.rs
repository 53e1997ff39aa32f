//! `sps set`: attributes by `KEY=VALUE`.

use std::path::Path;

use rustix::fs::XattrFlags;

use super::arguments::SetArguments;
use super::view::{PREFIX, View};
use super::{mounts, print_json};
use crate::error::{Error, Result};
use crate::fs::xattr::is_known;

/// Runs the command. All is set up to the first that is refused.
pub(super) fn run(arguments: &SetArguments) -> Result<()> {
    let path = &arguments.path;
    std::fs::symlink_metadata(path).map_err(|error| Error::io("find", path, error))?;
    if View::of(path).is_none() {
        let path = path.display();
        return Err(Error::Usage(format!("{path} is not an image in a mount of sps")));
    }
    let settings = arguments.settings.iter().map(|setting| {
        setting.split_once('=').ok_or_else(|| {
            Error::Usage(format!("{setting}: say KEY=VALUE, or KEY= to take it away"))
        })
    });
    let settings = settings.collect::<Result<Vec<_>>>()?;
    // By its id it is found under its new name, too.
    let id = View::of(path).map(|image| image.id).unwrap_or_default();
    let link = mounts::mount_of(path)?.join("by-id").join(id);
    for (done, (key, value)) in settings.iter().enumerate() {
        set(&link, key, value).map_err(|error| match settings.get(..done).unwrap_or_default() {
            [] => error,
            before => {
                let keys: Vec<&str> = before.iter().map(|(key, _)| *key).collect();
                Error::Store(format!("{error} ({} before it: set)", keys.join(", ")))
            }
        })?;
    }
    if arguments.json { print_json(&View::of(&link)) } else { Ok(()) }
}

/// What an attribute takes.
fn takes(key: &str) -> &'static str {
    match key {
        "protected" => "true or false",
        "visibility" => "public or private",
        "min_disk" => "a whole number of GiB",
        "min_ram" => "a whole number of MiB",
        "expected_size" => "a whole number of bytes",
        "disk_format" => "raw, qcow2, vmdk, vhd, vhdx, vdi, iso",
        "name" => "a name that no control characters are in, not .sps… or …~ and eight hex digits",
        _ if key.starts_with("expected_") => "a digest in hex digits",
        _ => "another value",
    }
}

fn set(path: &Path, key: &str, value: &str) -> Result<()> {
    let name = format!("{PREFIX}{key}");
    let done = if value.is_empty() {
        match rustix::fs::removexattr(path, name.as_str()) {
            // It is not there, which is what was asked for.
            Err(rustix::io::Errno::NODATA) => Ok(()),
            done => done,
        }
    } else {
        rustix::fs::setxattr(path, name.as_str(), value.as_bytes(), XattrFlags::empty())
    };
    done.map_err(|error| {
        let hint = match error {
            rustix::io::Errno::PERM if !is_known(key) => {
                ": there is no such attribute; one of your own is property.NAME"
            }
            rustix::io::Errno::PERM if key == "disk_format" || key.starts_with("expected_") => {
                ": that is said before the data has come"
            }
            rustix::io::Errno::PERM => ": it can't be set so, or only by the image's owner",
            rustix::io::Errno::INVAL => &format!(": it takes {}", takes(key)),
            _ => "",
        };
        Error::Store(format!("set {key}: {error}{hint}"))
    })
}
