//! `sps tasks`: tasks as a table.

use std::path::Path;

use serde::Serialize;

use super::arguments::TasksArguments;
use super::order::Record;
use super::table::{quantities, render, words};
use super::{mounts, print, print_json};
use crate::error::{Error, Result};
use crate::lifecycle::TaskStatus;

/// A task and what its file is called.
#[derive(Serialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    task: Record,
}

/// Runs the command.
pub(super) fn run(arguments: &TasksArguments) -> Result<()> {
    let root = mounts::chosen(arguments.mountpoint.as_deref())?;
    let statuses = arguments.status.map_or_else(|| TaskStatus::ALL.to_vec(), |status| vec![status]);
    let mut tasks = Vec::new();
    for status in statuses {
        tasks.append(&mut listed(&root.join("tasks").join(status.name()))?);
    }
    if arguments.json {
        return print_json(&tasks);
    }
    let rows: Vec<_> = tasks.iter().map(row).collect();
    let columns = [
        words("STATUS"),
        words("TYPE"),
        quantities("PROGRESS"),
        words("SINCE"),
        words("NAME"),
        words("RESULT"),
    ];
    print(&render(columns, &rows))
}

fn listed(folder: &Path) -> Result<Vec<Named>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("list", folder, error))?;
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|error| Error::io("list", folder, error))?;
    names.sort();
    // A task that goes on to another status meanwhile is no longer of this folder.
    let task = |name: &std::ffi::OsString| {
        let task = Record::read(&folder.join(name))?;
        Some(Named { name: name.to_string_lossy().into_owned(), task })
    };
    Ok(names.iter().filter_map(task).collect())
}

fn row(named: &Named) -> [String; 6] {
    let task = &named.task;
    let progress = task.progress.as_u64().map_or_else(String::new, |share| format!("{share}%"));
    let result = task.result.as_ref().map(ToString::to_string);
    [
        task.status.clone(),
        task.kind.clone(),
        progress,
        task.updated_at.clone(),
        named.name.clone(),
        task.message.clone().or(result).unwrap_or_default(),
    ]
}
