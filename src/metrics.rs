//! What is counted and measured: names, units, and the recorders that requests are noted in.
//!
//! Recorders are one set for the process, as are its requests. What can be asked at any time (how many images there
//! are, how much room) is not recorded: it comes as [`Gauges`] when the text is made. Why something is counted is known to
//! whoever counts it. docs/metrics.md says what each means.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// What each name begins with.
const PREFIX: &str = "sps";

/// Upper ends of the buckets of durations, in seconds.
const SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Upper ends of the buckets of the changes that are committed together.
const CHANGES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Op {
    op: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failure {
    op: &'static str,
    errno: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct About {
    version: &'static str,
    mount_point: String,
}

type Durations = Family<Op, Histogram, fn() -> Histogram>;

/// What is noted as it happens.
struct Recorders {
    operations: Family<Op, Counter>,
    errors: Family<Failure, Counter>,
    durations: Durations,
    read: Counter,
    written: Counter,
    copied: Counter,
    late_answers: Counter,
    epochs: Counter,
    commits: Histogram,
    failed_commits: Counter,
}

static RECORDERS: LazyLock<Recorders> = LazyLock::new(|| Recorders {
    operations: Family::default(),
    errors: Family::default(),
    durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
    read: Counter::default(),
    written: Counter::default(),
    copied: Counter::default(),
    late_answers: Counter::default(),
    epochs: Counter::default(),
    commits: Histogram::new(CHANGES),
    failed_commits: Counter::default(),
});

/// A request that is worked on. It is counted when this is made, and its time noted when this is dropped.
pub(crate) struct Operation {
    op: Op,
    since: Instant,
}

impl Operation {
    /// Counts a request.
    pub(crate) fn begin(op: &'static str) -> Self {
        let op = Op { op };
        RECORDERS.operations.get_or_create(&op).inc();
        Self { op, since: Instant::now() }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let seconds = self.since.elapsed().as_secs_f64();
        RECORDERS.durations.get_or_create(&self.op).observe(seconds);
    }
}

/// Counts a request that is answered with an error number, by the name of that.
pub(crate) fn failed(op: &'static str, errno: &'static str) {
    RECORDERS.errors.get_or_create(&Failure { op, errno }).inc();
}

/// Counts bytes that a request has read.
pub(crate) fn read(bytes: u64) {
    RECORDERS.read.inc_by(bytes);
}

/// Counts bytes that a request has written.
pub(crate) fn written(bytes: u64) {
    RECORDERS.written.inc_by(bytes);
}

/// Counts bytes that were copied from one file of the mount to another.
pub(crate) fn copied(bytes: u64) {
    RECORDERS.copied.inc_by(bytes);
}

/// Counts a request that was answered in the place of a thread that waits for the disk.
pub(crate) fn answered_late() {
    RECORDERS.late_answers.inc();
}

/// Counts an epoch that has ended: the kernel looks all names up again.
pub(crate) fn epoch_ended() {
    RECORDERS.epochs.inc();
}

/// Counts a commit of the registry, by how many changes it made together; one that failed made none.
pub(crate) fn committed(changes: usize, is_done: bool) {
    if is_done {
        RECORDERS.commits.observe(f64::from(u32::try_from(changes).unwrap_or(u32::MAX)));
    } else {
        RECORDERS.failed_commits.inc();
    }
}

/// A number of something, and the bytes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

/// The tasks of a status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tasks {
    pub(crate) status: &'static str,
    pub(crate) number: u64,
    /// For how long the oldest has had the status; none where that is of no interest.
    pub(crate) oldest_seconds: Option<f64>,
}

/// What is there at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Gauges {
    pub(crate) mount_point: String,
    /// Since 1970.
    pub(crate) started_seconds: f64,
    pub(crate) images: Vec<(&'static str, Amount)>,
    pub(crate) tasks: Vec<Tasks>,
    /// What is on its way in, by its kind.
    pub(crate) in_flight: Vec<(&'static str, Amount)>,
    /// The filesystem below the store.
    pub(crate) size_bytes: u64,
    pub(crate) free_bytes: u64,
    /// What counts towards the quota, and what may be, where there is one.
    pub(crate) used: Amount,
    pub(crate) quota_bytes: Option<u64>,
    pub(crate) quota_images: Option<u64>,
    pub(crate) trash: Amount,
    /// None: there is nothing to purge.
    pub(crate) next_purge_seconds: Option<f64>,
}

type Count = Gauge<u64, AtomicU64>;
type Seconds = Gauge<f64, AtomicU64>;

/// The OpenMetrics text of all that was recorded, and of what is there.
///
/// # Errors
/// It can't be written: the encoder does not fail on a string.
pub(crate) fn render(gauges: &Gauges) -> Result<String, std::fmt::Error> {
    let mut page = Registry::with_prefix(PREFIX);
    register_recorders(&mut page);
    register_images(&mut page, gauges);
    register_store(&mut page, gauges);
    let mut shown = String::new();
    text::encode(&mut shown, &page)?;
    Ok(shown)
}

fn register_recorders(page: &mut Registry) {
    let all = &*RECORDERS;
    page.register("operations", "Requests of the kernel that have come", all.operations.clone());
    page.register("errors", "Requests answered with an error number", all.errors.clone());
    let help = "Time until the daemon was done with a request";
    page.register_with_unit("operation_duration", help, Unit::Seconds, all.durations.clone());
    let help = "Bytes read by requests; not those that the kernel reads by itself";
    page.register_with_unit("read", help, Unit::Bytes, all.read.clone());
    let help = "Bytes written by requests";
    page.register_with_unit("written", help, Unit::Bytes, all.written.clone());
    let help = "Bytes copied from one file of the mount to another";
    page.register_with_unit("copied", help, Unit::Bytes, all.copied.clone());
    let help = "Requests answered EIO as the disk did not answer in time";
    page.register("late_answers", help, all.late_answers.clone());
    let help = "Epochs that have ended: the kernel looks all names up again";
    page.register("epochs", help, all.epochs.clone());
    let help = "Changes of the registry that were committed together";
    page.register("registry_commit_changes", help, all.commits.clone());
    let help = "Commits of the registry that failed";
    page.register("registry_failed_commits", help, all.failed_commits.clone());
}

fn register_images(page: &mut Registry, gauges: &Gauges) {
    let (number, bytes) = (Family::<Of, Count>::default(), Family::<Of, Count>::default());
    for (status, amount) in &gauges.images {
        let of = Of { status };
        number.get_or_create(&of).set(amount.number);
        bytes.get_or_create(&of).set(amount.bytes);
    }
    page.register("images", "Images of a status", number);
    page.register_with_unit("image", "Bytes that images of a status hold", Unit::Bytes, bytes);
    let (number, bytes) = (Family::<Kind, Count>::default(), Family::<Kind, Count>::default());
    for (kind, amount) in &gauges.in_flight {
        let kind = Kind { kind };
        number.get_or_create(&kind).set(amount.number);
        bytes.get_or_create(&kind).set(amount.bytes);
    }
    page.register("in_flight", "Images whose data is on its way in", number);
    let help = "Bytes that have come of images whose data is on its way in";
    page.register_with_unit("in_flight_received", help, Unit::Bytes, bytes);
    let (number, ages) = (Family::<Of, Count>::default(), Family::<Of, Seconds>::default());
    for tasks in &gauges.tasks {
        let of = Of { status: tasks.status };
        number.get_or_create(&of).set(tasks.number);
        if let Some(seconds) = tasks.oldest_seconds {
            ages.get_or_create(&of).set(seconds);
        }
    }
    page.register("tasks", "Tasks of a status", number);
    let help = "For how long the oldest task of a status has had it";
    page.register_with_unit("task_oldest_age", help, Unit::Seconds, ages);
    let Amount { number, bytes } = gauges.trash;
    page.register("trash_images", "Removed images that can be brought back", count(number));
    let help = "Bytes that removed images hold";
    page.register_with_unit("trash", help, Unit::Bytes, count(bytes));
    if let Some(left) = gauges.next_purge_seconds {
        let help = "Seconds until the next removed image is purged";
        page.register_with_unit("trash_next_purge", help, Unit::Seconds, seconds(left));
    }
}

fn register_store(page: &mut Registry, gauges: &Gauges) {
    let about = Family::<About, Count>::default();
    let version = env!("CARGO_PKG_VERSION");
    about.get_or_create(&About { version, mount_point: gauges.mount_point.clone() }).set(1);
    // A gauge, and no info: readers of the older text format know none, and take all the rest of the page.
    page.register("mount_info", "What is mounted where", about);
    let help = "When the daemon was started, in seconds since 1970";
    page.register_with_unit("start_time", help, Unit::Seconds, seconds(gauges.started_seconds));
    let help = "Size of the filesystem below the store";
    page.register_with_unit("store_size", help, Unit::Bytes, count(gauges.size_bytes));
    let help = "Free bytes of the filesystem below the store";
    page.register_with_unit("store_free", help, Unit::Bytes, count(gauges.free_bytes));
    let help = "Bytes that images hold, each counted with its whole length";
    page.register_with_unit("store_used", help, Unit::Bytes, count(gauges.used.bytes));
    let help = "Images that hold data, or will";
    page.register("store_used_images", help, count(gauges.used.number));
    if let Some(most) = gauges.quota_bytes {
        let help = "Bytes that images may hold";
        page.register_with_unit("quota", help, Unit::Bytes, count(most));
    }
    if let Some(most) = gauges.quota_images {
        page.register("quota_images", "Images that may hold data", count(most));
    }
}

fn count(number: u64) -> Count {
    let gauge = Count::default();
    gauge.set(number);
    gauge
}

fn seconds(number: f64) -> Seconds {
    let gauge = Seconds::default();
    gauge.set(number);
    gauge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noting_a_request_takes_no_time_to_speak_of() {
        // The best of some rounds, and far more than it takes: it tells a lock that is waited for, and not a slow machine.
        const ROUNDS: u32 = 1000;
        let round = || {
            let since = Instant::now();
            for _ in 0..ROUNDS {
                drop(Operation::begin("test"));
            }
            since.elapsed() / ROUNDS
        };
        let best = (0..20).map(|_| round()).min().unwrap_or_default();
        println!("{best:?} a request");
        assert!(best < std::time::Duration::from_micros(20), "{best:?}");
    }
}
