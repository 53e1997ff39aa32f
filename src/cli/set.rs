//! `sps set`: attributes by `KEY=VALUE`.

use std::path::Path;

use rustix::fs::XattrFlags;

use super::arguments::SetArguments;
use super::print_json;
use super::view::{PREFIX, View};
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
    for (key, value) in settings {
        set(path, key, value)?;
    }
    if arguments.json { print_json(&View::of(path)) } else { Ok(()) }
}

fn set(path: &Path, key: &str, value: &str) -> Result<()> {
    let name = format!("{PREFIX}{key}");
    let done = if value.is_empty() {
        rustix::fs::removexattr(path, name.as_str())
    } else {
        rustix::fs::setxattr(path, name.as_str(), value.as_bytes(), XattrFlags::empty())
    };
    done.map_err(|error| {
        let hint = match error {
            rustix::io::Errno::PERM if !is_known(key) => {
                ": there is no such attribute; one of your own is property.NAME"
            }
            rustix::io::Errno::PERM => ": it can't be set, or only by the image's owner",
            rustix::io::Errno::INVAL => ": that is no value for it, or there is no such key",
            rustix::io::Errno::NODATA => ": it is not set",
            _ => "",
        };
        Error::Store(format!("set {key} of {}: {error}{hint}", path.display()))
    })
}
