//! `sps show`: all that is known of an image.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::arguments::ShowArguments;
use super::view::{View, attribute, attribute_names};
use super::{print, print_json};
use crate::error::{Error, Result};
use crate::text::{bytes, plain};

/// What a list of images does not show.
#[derive(Debug, Serialize)]
struct Details {
    tags: Vec<String>,
    min_disk: Option<u32>,
    min_ram: Option<u32>,
    locations: Option<String>,
    properties: BTreeMap<String, String>,
}

impl Details {
    fn of(path: &Path) -> Self {
        let read = |name| attribute(path, name);
        let tags = read("tags").unwrap_or_default();
        let keys = attribute_names(path);
        let keys = keys.iter().filter_map(|name| name.strip_prefix("property."));
        let property = |key: &str| {
            attribute(path, &format!("property.{key}")).map(|value| (key.to_owned(), value))
        };
        Self {
            tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            min_disk: read("min_disk").and_then(|least| least.parse().ok()),
            min_ram: read("min_ram").and_then(|least| least.parse().ok()),
            locations: read("locations"),
            properties: keys.filter_map(property).collect(),
        }
    }
}

/// All that is known, as `--json` has it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    view: View,
    #[serde(flatten)]
    details: Details,
}

/// Runs the command.
pub(super) fn run(arguments: &ShowArguments) -> Result<()> {
    let path = &arguments.path;
    std::fs::symlink_metadata(path).map_err(|error| Error::io("find", path, error))?;
    let view = View::of(path).ok_or_else(|| {
        Error::Usage(format!("{} is not an image in a mount of sps", path.display()))
    })?;
    let shown = Shown { view, details: Details::of(path) };
    if arguments.json {
        return print_json(&shown);
    }
    let Shown { view, details } = shown;
    let length = |size: u64| format!("{} ({size} bytes)", bytes(size));
    let rows = [
        ("name", Some(view.name)),
        ("id", Some(view.id)),
        ("status", Some(view.status)),
        ("message", view.message),
        ("size", view.size.map(length)),
        ("virtual_size", view.virtual_size.map(length)),
        ("disk_format", view.disk_format),
        ("blake3", view.blake3),
        ("owner", view.owner.map(|owner| owner.to_string())),
        ("visibility", view.visibility),
        ("protected", view.protected.map(|is| is.to_string())),
        ("created_at", view.created_at),
        ("updated_at", view.updated_at),
        ("status_at", view.status_at),
        ("tags", Some(details.tags.join(",")).filter(|tags| !tags.is_empty())),
        ("min_disk", details.min_disk.map(|least| format!("{least} GiB"))),
        ("min_ram", details.min_ram.map(|least| format!("{least} MiB"))),
        ("locations", details.locations),
    ];
    let known = rows.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let said = details.properties.into_iter();
    let known = known.chain(said.map(|(key, value)| (format!("property.{key}"), value)));
    // Anybody may have written what stands in it.
    let line =
        |(name, value): (String, String)| format!("{:<12} {}\n", plain(&name), plain(&value));
    print(&known.map(line).collect::<String>())
}
