//! The status screen and what happened, for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Survey;
use crate::lifecycle::Status;
use crate::registry::Transition;

/// The status screen as JSON: sizes in bytes, times in UTC as RFC 3339 has them, spans in seconds.
#[derive(Serialize)]
struct StatusPage<'a> {
    version: &'static str,
    at: String,
    free_bytes: u64,
    total_bytes: u64,
    quota: Used,
    images: BTreeMap<&'static str, Count>,
    tasks: BTreeMap<&'static str, usize>,
    in_flight: Vec<InFlight<'a>>,
    failures: Vec<Failed<'a>>,
    trash: Trash,
}

/// What is used of the quota; where there is none, that is null.
#[derive(Serialize)]
struct Used {
    bytes: Option<u64>,
    used_bytes: u64,
    images: Option<u64>,
    used_images: u64,
}

#[derive(Serialize)]
struct Count {
    number: u64,
    size_bytes: u64,
}

#[derive(Serialize)]
struct InFlight<'a> {
    kind: &'static str,
    id: String,
    name: &'a str,
    done_bytes: u64,
    size_bytes: Option<u64>,
    bytes_a_second: u64,
    percent: Option<u64>,
    seconds_left: Option<u64>,
    started_at: String,
}

#[derive(Serialize)]
struct Failed<'a> {
    at: String,
    status: &'static str,
    name: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct Trash {
    number: u64,
    size_bytes: u64,
    next_purge_seconds: Option<u64>,
}

/// One line of `events.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: String,
    name: &'a str,
    from: Option<&'static str>,
    to: Option<&'static str>,
    cause: &'a str,
    uid: Option<u32>,
}

/// Renders the status screen.
pub(super) fn status(survey: &Survey) -> String {
    let count = |status| {
        let (number, size_bytes) = survey.total(status);
        Count { number, size_bytes }
    };
    let trash = count(Status::PendingDelete);
    let page = StatusPage {
        version: env!("CARGO_PKG_VERSION"),
        at: survey.at.to_string(),
        free_bytes: survey.space.available_bytes,
        total_bytes: survey.space.total_bytes,
        quota: Used {
            bytes: survey.usage.quota.bytes,
            used_bytes: survey.usage.bytes,
            images: survey.usage.quota.images,
            used_images: survey.usage.images,
        },
        images: Status::ALL.into_iter().map(|status| (status.name(), count(status))).collect(),
        tasks: survey.tasks.iter().map(|(status, number)| (status.name(), *number)).collect(),
        in_flight: survey
            .flights
            .iter()
            .map(|flight| InFlight {
                kind: flight.kind,
                id: flight.id.to_string(),
                name: &flight.name,
                done_bytes: flight.done_bytes,
                size_bytes: flight.size_bytes,
                bytes_a_second: flight.rate(survey.at),
                percent: flight.percent(),
                seconds_left: flight.seconds_left(survey.at),
                started_at: flight.started_at.to_string(),
            })
            .collect(),
        failures: survey
            .failures
            .iter()
            .map(|failure| Failed {
                at: failure.at.to_string(),
                status: failure.status,
                name: &failure.name,
                reason: &failure.reason,
            })
            .collect(),
        trash: Trash {
            number: trash.number,
            size_bytes: trash.size_bytes,
            next_purge_seconds: survey.next_purge,
        },
    };
    let mut text = serde_json::to_string_pretty(&page).unwrap_or_default();
    text.push('\n');
    text
}

/// Renders what happened, a line a transition, the earliest first.
pub(super) fn events(transitions: &[Transition]) -> String {
    transitions
        .iter()
        .map(|transition| {
            let line = Line {
                time: transition.at.precise(),
                id: transition.id.to_string(),
                name: transition.name.as_str(),
                from: transition.from.map(Status::name),
                to: transition.to.map(Status::name),
                cause: &transition.cause,
                uid: transition.uid,
            };
            serde_json::to_string(&line).unwrap_or_default() + "\n"
        })
        .collect()
}
