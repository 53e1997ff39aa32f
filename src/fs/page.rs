//! The files that are generated: what is going on, for people and for programs.

use super::mount::Mount;
use super::tree::Page;
use crate::catalog::{Live, Usage, now};
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, Timestamp};
use crate::lifecycle::{Status, TaskStatus};
use crate::registry::Total;
use crate::store::Space;
use crate::task::{Task, TaskNumber};
use crate::text::plain_json;

mod json;
mod metrics;
mod text;

/// How many failures are told.
const FAILURES_MAX: u32 = 20;

/// How many tasks of a status are counted, before it is said that there are more.
const TASKS_MAX: u32 = 1000;

/// Renders a page as things are now.
pub(super) fn render(mount: &Mount, page: Page) -> Result<String> {
    match page {
        Page::Status => Ok(text::status(&Survey::of(mount)?)),
        Page::StatusJson => Ok(plain_json(&json::status(&Survey::of(mount)?)).into_owned()),
        Page::Events => Ok(plain_json(&json::events(&mount.catalog.transitions()?)).into_owned()),
        Page::Config => Ok(plain_json(&mount.settings.config).into_owned()),
        Page::Metrics => crate::metrics::render(&metrics::gauges(mount)?)
            .map_err(|std::fmt::Error| Error::Fault("metrics")),
    }
}

/// The file of a task.
pub(super) fn task(task: &Task) -> String {
    plain_json(&task.to_text()).into_owned()
}

/// All that the status screen tells.
struct Survey {
    at: Timestamp,
    space: Space,
    usage: Usage,
    totals: Vec<Total>,
    tasks: Vec<(TaskStatus, usize)>,
    flights: Vec<Flight>,
    failures: Vec<Failure>,
    /// Seconds until the next purge; none when nothing is to be purged.
    next_purge: Option<u64>,
}

/// What is on its way in.
struct Flight {
    /// `upload`, `staging` or `import`.
    kind: &'static str,
    name: String,
    id: ImageId,
    done_bytes: u64,
    /// How long it will be, where that is known.
    size_bytes: Option<u64>,
    started_at: Timestamp,
}

/// What failed, and why.
struct Failure {
    at: Timestamp,
    status: &'static str,
    name: String,
    reason: String,
}

impl Survey {
    fn of(mount: &Mount) -> Result<Self> {
        let catalog = &mount.catalog;
        let mut tasks = Vec::new();
        for status in TaskStatus::ALL {
            let page = catalog.task_page(status, TaskNumber::new(0), TASKS_MAX)?;
            tasks.push((status, page.len()));
        }
        Ok(Self {
            at: now(),
            space: catalog.space()?,
            usage: catalog.usage()?,
            totals: catalog.totals()?,
            tasks,
            flights: flights(mount)?,
            failures: failures(mount)?,
            next_purge: catalog.next_purge()?.map(|left| left.as_secs()),
        })
    }

    /// How many images have a status, and their size in bytes.
    fn total(&self, status: Status) -> (u64, u64) {
        let total = self.totals.iter().find(|total| total.status == status);
        total.map_or((0, 0), |total| (total.images, total.size_bytes))
    }
}

impl Flight {
    /// Bytes a second since it began.
    fn rate(&self, at: Timestamp) -> u64 {
        let taken = at.as_nanoseconds().saturating_sub(self.started_at.as_nanoseconds());
        let milliseconds = u64::try_from(taken / 1_000_000).unwrap_or(0).max(1);
        self.done_bytes.saturating_mul(1000) / milliseconds
    }

    /// The share that is done in percent, where its size is known.
    fn percent(&self) -> Option<u64> {
        let size_bytes = self.size_bytes?;
        self.done_bytes.saturating_mul(100).checked_div(size_bytes).map(|share| share.min(100))
    }

    /// Seconds left at the rate so far, where its size is known.
    fn seconds_left(&self, at: Timestamp) -> Option<u64> {
        self.size_bytes?.saturating_sub(self.done_bytes).checked_div(self.rate(at))
    }
}

fn flights(mount: &Mount) -> Result<Vec<Flight>> {
    let mut flights = Vec::new();
    let uploads: Vec<Live> =
        mount.catalog.uploads().into_iter().filter(|live| live.size_bytes > 0).collect();
    for live in uploads {
        let Some(image) = mount.catalog.by_id(live.id)? else { continue };
        flights.push(Flight {
            kind: if image.status.is_staging() { "staging" } else { "upload" },
            name: image.name.to_string(),
            id: image.id,
            done_bytes: live.size_bytes,
            size_bytes: image.expected.size,
            started_at: live.started_at,
        });
    }
    for (id, progress) in mount.catalog.imports() {
        let Some(image) = mount.catalog.by_id(id)? else { continue };
        flights.push(Flight {
            kind: "import",
            name: image.name.to_string(),
            id,
            done_bytes: progress.done_bytes,
            size_bytes: Some(progress.size_bytes),
            started_at: progress.started_at,
        });
    }
    Ok(flights)
}

/// The last failures: uploads that were killed, imports that came back to be tried again, images that are
/// withheld, tasks that could not go on.
fn failures(mount: &Mount) -> Result<Vec<Failure>> {
    let catalog = &mount.catalog;
    let mut failures = Vec::new();
    for status in [Status::Killed, Status::Queued, Status::Deactivated] {
        let images = catalog.latest_told(status, FAILURES_MAX)?;
        failures.extend(images.into_iter().filter_map(failure));
    }
    for task in catalog.latest_tasks(TaskStatus::Failure, FAILURES_MAX)? {
        failures.push(Failure {
            at: task.status_at,
            status: "task",
            name: task.name.listed_as(task.id.as_image_id()),
            reason: task.message.unwrap_or_default(),
        });
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.at));
    failures.truncate(FAILURES_MAX as usize);
    Ok(failures)
}

fn failure(image: Image) -> Option<Failure> {
    let name = image.name.listed_as(image.id);
    Some(Failure { at: image.status_at, status: image.status.name(), name, reason: image.message? })
}
