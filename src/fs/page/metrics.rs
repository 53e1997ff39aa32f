//! What the metrics tell of what is there, asked when they are read.

use crate::catalog::now;
use crate::error::Result;
use crate::fs::mount::Mount;
use crate::image::Timestamp;
use crate::lifecycle::{Status, TaskStatus};
use crate::metrics::{Amount, Gauges, Tasks};
use crate::registry::Total;
use crate::text::plain;

/// What is on its way in, in the words of [`Flight`](super::Flight).
const KINDS: [&str; 3] = ["upload", "staging", "import"];

/// Asks for all that is there.
pub(super) fn gauges(mount: &Mount) -> Result<Gauges> {
    let catalog = &mount.catalog;
    let (totals, usage, space) = (catalog.totals()?, catalog.usage()?, catalog.space()?);
    let (flights, at) = (super::flights(mount)?, now());
    let tasks = TaskStatus::ALL.into_iter().map(|status| of_tasks(mount, status, at));
    let next_purge = catalog.next_purge()?;
    let in_flight = |kind: &'static str| {
        let of_kind = || flights.iter().filter(|flight| flight.kind == kind);
        let bytes = of_kind().map(|flight| flight.done_bytes).sum();
        (kind, Amount { number: of_kind().count() as u64, bytes })
    };
    let mount_point = mount.identity.get().map(|identity| identity.path().to_string_lossy());
    Ok(Gauges {
        mount_point: plain(&mount_point.unwrap_or_default()).into_owned(),
        started_seconds: seconds_between(Timestamp::from_nanoseconds(0), mount.started_at),
        images: Status::ALL.map(|status| (status.name(), amount(&totals, status))).to_vec(),
        tasks: tasks.collect::<Result<_>>()?,
        in_flight: KINDS.map(in_flight).to_vec(),
        size_bytes: space.total_bytes,
        free_bytes: space.free_bytes,
        used: Amount { number: usage.images, bytes: usage.bytes },
        quota_bytes: usage.quota.bytes,
        quota_images: usage.quota.images,
        trash: amount(&totals, Status::PendingDelete),
        next_purge_seconds: next_purge.map(|left| left.as_secs_f64()),
    })
}

fn amount(totals: &[Total], status: Status) -> Amount {
    let total = totals.iter().find(|total| total.status == status);
    total.map_or_else(Amount::default, |total| Amount {
        number: total.images,
        bytes: total.size_bytes,
    })
}

/// How many tasks have a status and, where somebody waits for them, how long.
fn of_tasks(mount: &Mount, status: TaskStatus, at: Timestamp) -> Result<Tasks> {
    let total = mount.catalog.task_total(status)?;
    let is_waited_for = match status {
        TaskStatus::Pending | TaskStatus::Processing => true,
        TaskStatus::Success | TaskStatus::Failure => false,
    };
    let age = total.oldest_at.map_or(0.0, |oldest| seconds_between(oldest, at));
    let oldest_seconds = is_waited_for.then_some(age);
    Ok(Tasks { status: status.name(), number: total.tasks, oldest_seconds })
}

/// Seconds from one moment to a later one; none where the clock was set back.
fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    let between = to.as_nanoseconds().saturating_sub(from.as_nanoseconds());
    std::time::Duration::from_nanos(u64::try_from(between).unwrap_or(0)).as_secs_f64()
}
