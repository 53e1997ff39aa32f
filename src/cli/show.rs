//! `sps show`: all that is known of an image.

use super::view::View;
use super::{ShowArguments, print};
use crate::error::{Error, Result};
use crate::text::bytes;

/// Runs the command.
pub(super) fn run(arguments: &ShowArguments) -> Result<()> {
    let path = &arguments.path;
    std::fs::symlink_metadata(path).map_err(|error| Error::io("find", path, error))?;
    let view = View::of(path).ok_or_else(|| {
        Error::Usage(format!("{} is not an image in a mount of sps", path.display()))
    })?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&view)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        return print(&format!("{text}\n"));
    }
    let rows = [
        ("name", Some(view.name)),
        ("id", Some(view.id)),
        ("status", Some(view.status)),
        ("message", view.message),
        ("size", view.size.map(|size| format!("{} ({size} bytes)", bytes(size)))),
        ("disk_format", view.disk_format),
        ("blake3", view.blake3),
        ("owner", view.owner.map(|owner| owner.to_string())),
        ("visibility", view.visibility),
        ("protected", view.protected.map(|is| is.to_string())),
        ("created_at", view.created_at),
        ("updated_at", view.updated_at),
        ("status_at", view.status_at),
    ];
    let known = rows.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    print(&known.map(|(name, value)| format!("{name:<12} {value}\n")).collect::<String>())
}
