//! `sps ls`: images as a table.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::arguments::LsArguments;
use super::table::{quantities, render, words};
use super::view::View;
use super::{mounts, print, print_json};
use crate::catalog::now;
use crate::error::{Error, Result};
use crate::image::Timestamp;
use crate::lifecycle::Status;
use crate::text::{age, bytes, span};

/// What is on its way in, as `.sps/status.json` has it.
#[derive(Deserialize)]
struct Flights {
    in_flight: Vec<Flight>,
}

#[derive(Deserialize)]
struct Flight {
    id: String,
    bytes_a_second: u64,
    percent: Option<u64>,
    seconds_left: Option<u64>,
}

/// Runs the command.
pub(super) fn run(arguments: &LsArguments) -> Result<()> {
    let root = mounts::chosen(arguments.mountpoint.as_deref())?;
    let statuses = arguments.status.map_or_else(|| Status::ALL.to_vec(), |status| vec![status]);
    let mut images = Vec::new();
    for status in statuses {
        images.append(&mut listed(&root.join(status.name()))?);
    }
    if arguments.json {
        return print_json(&images);
    }
    let flights = flights(&root);
    let rows: Vec<_> = images.iter().map(|image| row(image, flights.get(&image.id))).collect();
    let columns = [
        words("STATUS"),
        quantities("SIZE"),
        quantities("VIRTUAL"),
        words("FORMAT"),
        quantities("AGE"),
        words("PROGRESS"),
        words("NAME"),
    ];
    print(&render(columns, &rows))
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

/// What is on its way in, by the id of its image. Where that can't be read, the rest is told all the same.
fn flights(root: &Path) -> HashMap<String, Flight> {
    let text = std::fs::read(root.join(".sps/status.json")).unwrap_or_default();
    let flights = serde_json::from_slice(&text).map_or(Vec::new(), |all: Flights| all.in_flight);
    flights.into_iter().map(|flight| (flight.id.clone(), flight)).collect()
}

fn row(image: &View, flight: Option<&Flight>) -> [String; 7] {
    let changed = image.status_at.as_deref().and_then(parse);
    let size = |size: Option<u64>| size.map_or_else(|| "-".into(), bytes);
    [
        image.status.clone(),
        size(image.size),
        size(image.virtual_size),
        image.disk_format.clone().unwrap_or_else(|| "-".into()),
        changed.map_or_else(|| "-".into(), |at| age(at, now())),
        flight.map_or_else(String::new, progress),
        image.listed.to_string_lossy().into_owned(),
    ]
}

fn progress(flight: &Flight) -> String {
    let share = flight.percent.map(|percent| format!("{percent}% "));
    let left = flight.seconds_left.map(|seconds| format!(", {} left", span(seconds)));
    let rate = bytes(flight.bytes_a_second);
    format!("{}{rate}/s{}", share.unwrap_or_default(), left.unwrap_or_default())
}

fn parse(time: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = time.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Timestamp::from_nanoseconds)
}
