//! `sps ls`: images as a table.

use std::path::Path;

use super::view::View;
use super::{LsArguments, mounts, print, print_json};
use crate::catalog::now;
use crate::error::{Error, Result};
use crate::image::Timestamp;
use crate::lifecycle::Status;
use crate::text::{age, bytes, plain};

/// Runs the command.
pub(super) fn run(arguments: &LsArguments) -> Result<()> {
    let root = match &arguments.mountpoint {
        Some(path) => path.clone(),
        None => mounts::only_mount_point()?,
    };
    let statuses = arguments.status.map_or_else(|| Status::ALL.to_vec(), |status| vec![status]);
    let mut images = Vec::new();
    for status in statuses {
        images.append(&mut listed(&root.join(status.name()))?);
    }
    if arguments.json {
        return print_json(&images);
    }
    print(&table(&images))
}

fn listed(folder: &Path) -> Result<Vec<View>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("list", folder, error))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|error| Error::io("list", folder, error))?;
    paths.sort();
    // An image that goes on to another status meanwhile is no longer of this folder.
    Ok(paths.iter().filter_map(|path| View::of(path)).collect())
}

fn table(images: &[View]) -> String {
    let head = ["STATUS", "SIZE", "FORMAT", "AGE", "NAME"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(images.iter().map(row)).collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let [status, size, format, age, _] = widths;
    rows.iter()
        .map(|[a, b, c, d, e]| format!("{a:<status$}  {b:>size$}  {c:<format$}  {d:>age$}  {e}\n"))
        .collect()
}

fn row(image: &View) -> [String; 5] {
    let changed = image.status_at.as_deref().and_then(parse);
    [
        image.status.clone(),
        image.size.map_or_else(|| "-".into(), bytes),
        image.disk_format.clone().unwrap_or_else(|| "-".into()),
        changed.map_or_else(|| "-".into(), |at| age(at, now())),
        image.listed.to_string_lossy().into_owned(),
    ]
    // Other filesystems have attributes, too.
    .map(|cell| plain(&cell).into_owned())
}

fn parse(time: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = time.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanoseconds)
}
