//! `sps watch`: events as they happen.

use std::time::Duration;

use serde::Deserialize;

use super::arguments::WatchArguments;
use super::{mounts, print};
use crate::error::{Error, Result};
use crate::text::{plain, plain_json};

/// How often it is looked whether something happened.
const PAUSE: Duration = Duration::from_millis(200);

/// One line of `.sps/events.jsonl`.
#[derive(Deserialize)]
struct Event {
    time: String,
    id: String,
    name: String,
    from: Option<String>,
    to: Option<String>,
    cause: String,
    uid: Option<u32>,
}

/// Runs the command, until it is interrupted, the mount ends, or so many events were told.
pub(super) fn run(arguments: &WatchArguments) -> Result<()> {
    let root = mounts::chosen(arguments.mountpoint.as_deref())?;
    let page = root.join(".sps/events.jsonl");
    let read = || std::fs::read_to_string(&page).map_err(|error| Error::io("read", &page, error));
    let mut last = read()?.lines().next_back().map(str::to_owned);
    let mut told = 0;
    loop {
        let text = read()?;
        let lines: Vec<&str> = text.lines().collect();
        // The page has the latest events; the one that was told last may be gone from it.
        let since = lines.iter().rposition(|line| Some(*line) == last.as_deref());
        for line in lines.iter().skip(since.map_or(0, |at| at + 1)) {
            if arguments.count.is_some_and(|count| told >= count) {
                return Ok(());
            }
            told += 1;
            print(&if arguments.json { format!("{}\n", plain_json(line)) } else { told_of(line) })?;
        }
        if arguments.count.is_some_and(|count| told >= count) {
            return Ok(());
        }
        last = lines.last().map(|line| (*line).to_owned()).or(last);
        std::thread::sleep(PAUSE);
    }
}

fn told_of(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Event>(line) else {
        return format!("{}\n", plain(line));
    };
    let name = plain(&event.name);
    let short = event.id.get(..8).unwrap_or(&event.id);
    let status = |status: Option<String>| status.unwrap_or_else(|| "none".into());
    let (from, to) = (status(event.from), status(event.to));
    let by = event.uid.map_or_else(String::new, |uid| format!(" by user {uid}"));
    format!("{} {name} ({short}): {from} -> {to}, {}{by}\n", event.time, plain(&event.cause))
}
