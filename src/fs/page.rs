//! The status screen `STATUS`: what a person asks first, as a page of text.

use std::fmt::Write;

use super::mount::Mount;
use crate::catalog::{Live, now};
use crate::error::Result;
use crate::image::{Image, Timestamp};
use crate::lifecycle::Status;
use crate::registry::Total;
use crate::text::{age, bytes};

/// How many failures are told.
const FAILURES_MAX: u32 = 20;

/// Renders the page as things are now.
pub(super) fn render(mount: &Mount) -> Result<String> {
    let catalog = &mount.catalog;
    let space = catalog.space()?;
    let totals = catalog.totals()?;
    let at = now();
    let mut page = format!(
        "sps {}, {at}\nfree: {} of {}\n\n",
        env!("CARGO_PKG_VERSION"),
        bytes(space.available_bytes),
        bytes(space.total_bytes)
    );
    images(&mut page, &totals);
    uploads(&mut page, mount, at)?;
    failures(&mut page, &catalog.latest(Status::Killed, FAILURES_MAX)?, at);
    trash(&mut page, &totals);
    Ok(page)
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(page, "{text}");
}

fn images(page: &mut String, totals: &[Total]) {
    line(page, format_args!("{:<16}{:>10}{:>12}", "IMAGES", "number", "size"));
    for status in Status::ALL {
        let total = totals.iter().find(|total| total.status == status);
        let (number, size) = total.map_or((0, 0), |total| (total.images, total.size_bytes));
        line(page, format_args!("  {:<14}{number:>10}{:>12}", status.name(), bytes(size)));
    }
}

fn uploads(page: &mut String, mount: &Mount, at: Timestamp) -> Result<()> {
    let uploads: Vec<Live> =
        mount.catalog.uploads().into_iter().filter(|live| live.size_bytes > 0).collect();
    line(page, format_args!("\nUPLOADS IN FLIGHT: {}", uploads.len()));
    for live in uploads {
        let Some(image) = mount.catalog.by_id(live.id)? else {
            continue;
        };
        let taken = at.as_nanoseconds().saturating_sub(live.started_at.as_nanoseconds());
        let milliseconds = u64::try_from(taken / 1_000_000).unwrap_or(0).max(1);
        let rate = live.size_bytes.saturating_mul(1000) / milliseconds;
        line(
            page,
            format_args!(
                "  {:>10}  {:>10}/s  for {:>4}  {}",
                bytes(live.size_bytes),
                bytes(rate),
                age(live.started_at, at),
                image.name
            ),
        );
    }
    Ok(())
}

fn failures(page: &mut String, killed: &[Image], at: Timestamp) {
    line(page, format_args!("\nLAST FAILURES: {}", killed.len()));
    for image in killed {
        let reason = image.message.as_deref().unwrap_or("no reason was kept");
        line(
            page,
            format_args!(
                "  {:>4} ago  {}  {reason}",
                age(image.status_at, at),
                image.name.listed_as(image.id)
            ),
        );
    }
}

fn trash(page: &mut String, totals: &[Total]) {
    let total = totals.iter().find(|total| total.status == Status::PendingDelete);
    let (number, size) = total.map_or((0, 0), |total| (total.images, total.size_bytes));
    line(page, format_args!("\nTRASH: {number} images, {}", bytes(size)));
}
