//! The status screen `STATUS`: what a person asks first, as a page of text.

use std::fmt::Write;

use super::{Flight, Survey};
use crate::catalog::Usage;
use crate::lifecycle::Status;
use crate::text::{age, bytes, plain, span};

/// Renders the page.
pub(super) fn status(survey: &Survey) -> String {
    let mut page = format!(
        "sps {}, {}\nfree: {} of {}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        survey.at,
        bytes(survey.space.available_bytes),
        bytes(survey.space.total_bytes),
        quota(&survey.usage)
    );
    images(&mut page, survey);
    flights(&mut page, survey);
    failures(&mut page, survey);
    trash(&mut page, survey);
    page
}

/// A line for the quota, where there is one.
fn quota(usage: &Usage) -> String {
    let size = usage.quota.bytes.map(|most| format!("{} of {}", bytes(usage.bytes), bytes(most)));
    let number = usage.quota.images.map(|most| format!("{} of {most} images", usage.images));
    let told: Vec<String> = size.into_iter().chain(number).collect();
    if told.is_empty() { String::new() } else { format!("quota: {}\n", told.join(", ")) }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(page, "{text}");
}

fn images(page: &mut String, survey: &Survey) {
    line(page, format_args!("{:<16}{:>10}{:>12}", "IMAGES", "number", "size"));
    for status in Status::ALL {
        let (number, size) = survey.total(status);
        line(page, format_args!("  {:<14}{number:>10}{:>12}", status.name(), bytes(size)));
    }
    line(page, format_args!("TASKS"));
    for (status, number) in &survey.tasks {
        line(page, format_args!("  {:<14}{number:>10}", status.name()));
    }
}

fn flights(page: &mut String, survey: &Survey) {
    line(page, format_args!("\nUPLOADS IN FLIGHT: {}", survey.flights.len()));
    for flight in &survey.flights {
        line(
            page,
            format_args!(
                "  {:<7}  {:>10}  {:>10}/s  for {:>4}{}  {}",
                flight.kind,
                bytes(flight.done_bytes),
                bytes(flight.rate(survey.at)),
                age(flight.started_at, survey.at),
                share(flight, survey),
                plain(&flight.name)
            ),
        );
    }
}

fn share(flight: &Flight, survey: &Survey) -> String {
    let Some(percent) = flight.percent() else { return String::new() };
    match flight.seconds_left(survey.at) {
        Some(left) => format!("  {percent:>3} %, {} left", span(left)),
        None => format!("  {percent:>3} %"),
    }
}

fn failures(page: &mut String, survey: &Survey) {
    line(page, format_args!("\nLAST FAILURES: {}", survey.failures.len()));
    for failure in &survey.failures {
        line(
            page,
            format_args!(
                "  {:>4} ago  {:<11}  {}  {}",
                age(failure.at, survey.at),
                failure.status,
                plain(&failure.name),
                plain(&failure.reason)
            ),
        );
    }
}

fn trash(page: &mut String, survey: &Survey) {
    let (number, size) = survey.total(Status::PendingDelete);
    let next = survey.next_purge.map_or_else(
        || "nothing to purge".to_owned(),
        |left| format!("next purge in {}", span(left)),
    );
    line(page, format_args!("\nTRASH: {number} images, {}, {next}", bytes(size)));
}
