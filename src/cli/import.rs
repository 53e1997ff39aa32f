//! `sps import`: the daemon takes in a file that it can reach itself.

use serde_json::json;

use super::arguments::ImportArguments;
use super::view::View;
use super::{order, print, print_json};
use crate::error::{Error, Result};

/// Runs the command.
pub(super) fn run(arguments: &ImportArguments) -> Result<()> {
    let path = &arguments.path;
    let name =
        match &arguments.name {
            Some(name) => name.clone(),
            None => path.file_name().map(|name| name.to_string_lossy().into_owned()).ok_or_else(
                || Error::Usage(format!("{} has no name: say one with --name", path.display())),
            )?,
        };
    let from = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
    let mut properties = json!({ "name": name });
    if let (Some(format), Some(known)) = (&arguments.disk_format, properties.as_object_mut()) {
        known.insert("disk_format".into(), json!(format));
    }
    let input = json!({ "import_from": from, "image_properties": properties });
    let done = order::carry_out(&arguments.mountpoint, "import", &input)?;
    if arguments.json {
        return print_json(&done.result);
    }
    let id = done.result.as_ref().and_then(|result| result.get("image")?.as_str()).unwrap_or("");
    let image = View::of(&arguments.mountpoint.join("by-id").join(id));
    let status = image.map_or_else(|| "active".into(), |image| image.status);
    print(&format!("{}\n", arguments.mountpoint.join(status).join(name).display()))
}
