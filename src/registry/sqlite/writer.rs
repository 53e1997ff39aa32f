//! Who writes, and the thread that moves what was written from the log to the table. That thread never quite
//! catches up with who writes, so the last of it is moved by him: only then the log begins anew.
//!
//! Whoever changes something puts down a [`Job`]. Who finds nobody writing takes all jobs that wait, up to a
//! bound, applies each in a savepoint of one transaction, and commits once: durable if any of them asked
//! for it. The others wait until theirs is done, or it is their turn to write. A job that conflicts is rolled
//! back alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle, Thread};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::registry_error;
use super::renew::renew_log;
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::metrics;
use crate::registry::Durability;

/// Jobs that share a transaction at most.
const GROUP_MAX: usize = 256;

/// Groups between two checkpoints.
const GROUPS_A_CHECKPOINT: u64 = 256;

/// How often a checkpoint is asked for in vain before whoever writes waits for it.
const SKIPPED_MAX: u32 = 4;

/// How long the log becomes, in pages, before whoever writes is held up for its end to be moved: that waits for
/// the disk, as long as other work keeps that busy.
const LOG_FRAMES_MAX: i64 = 8192;

/// What is done with the outcome of a group: the answer to one job of it.
type Answer = Box<dyn FnOnce(&Result<()>) + Send>;

/// The work of a job in an open transaction, if that could be opened.
type Work = Box<dyn FnOnce(&Connection, &Result<()>) -> Answer + Send>;

/// What is to be written, and who waits for it.
struct Job {
    durability: Durability,
    work: Work,
    waiting: Thread,
}

/// Wakes who waits for a job when that is answered, or dropped undone.
struct Bell(Thread);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// The connection that writes, and what it is set to.
struct Pen {
    connection: Connection,
    is_durable: bool,
    /// Nothing waits for the disk.
    is_bulk: bool,
    /// The disk has refused something since the log was last known to be on it.
    is_in_doubt: Arc<AtomicBool>,
    groups: u64,
    /// How often a checkpoint was asked for while others were under way.
    skipped: u32,
}

#[derive(Default)]
struct Desk {
    jobs: VecDeque<Job>,
    /// None while somebody writes.
    pen: Option<Pen>,
}

/// All that wants to be written.
pub(super) struct Writer {
    desk: Mutex<Desk>,
    ticks: Option<SyncSender<()>>,
    /// Most of the log is in the table: whoever writes is to move the rest.
    is_nearly_moved: Arc<AtomicBool>,
    checkpoints: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread of the checkpoints.
    pub(super) fn start(
        connection: Connection,
        checkpointer: Connection,
        is_bulk: bool,
    ) -> Result<Self> {
        let (ticks, alarm) = mpsc::sync_channel(1);
        if is_bulk {
            for connection in [&connection, &checkpointer] {
                connection.pragma_update(None, "synchronous", "OFF").map_err(registry_error)?;
            }
        } else {
            begin_durably(&connection, false).map_err(registry_error)?;
        }
        let is_nearly_moved: Arc<AtomicBool> = Arc::default();
        let moved = Arc::clone(&is_nearly_moved);
        let is_in_doubt: Arc<AtomicBool> = Arc::default();
        let doubt = Arc::clone(&is_in_doubt);
        let name = "checkpoint";
        let checkpoints = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                while alarm.recv().is_ok() {
                    let pages = checkpoint(&checkpointer, &doubt);
                    moved.store(pages > LOG_FRAMES_MAX, Ordering::Release);
                }
            })
            .map_err(|error| Error::io("start thread", name, error))?;
        let pen =
            Pen { connection, is_durable: false, is_bulk, is_in_doubt, groups: 0, skipped: 0 };
        Ok(Self {
            desk: Mutex::new(Desk { jobs: VecDeque::new(), pen: Some(pen) }),
            ticks: Some(ticks),
            is_nearly_moved,
            checkpoints: Some(checkpoints),
        })
    }

    /// Has work done, and waits until it is committed.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outcome: Arc<Mutex<Option<Result<T>>>> = Arc::default();
        let answered = Arc::clone(&outcome);
        let bell = Bell(thread::current());
        let work: Work = Box::new(move |connection, begun| {
            let made = in_savepoint(connection, begun, || work(connection));
            Box::new(move |committed| {
                *answered.lock() = Some(committed.clone().and(made));
                drop(answered);
                drop(bell);
            })
        });
        let mut desk = self.desk.lock();
        desk.jobs.push_back(Job { durability, work, waiting: thread::current() });
        loop {
            // Dropped undone, when whoever did it ended in a panic, it has no outcome.
            let is_over = Arc::strong_count(&outcome) == 1;
            if let Some(outcome) = outcome.lock().take() {
                return outcome;
            }
            if is_over {
                return Err(Error::Fault("registry"));
            }
            let Some(pen) = desk.pen.take() else {
                drop(desk);
                thread::park();
                desk = self.desk.lock();
                continue;
            };
            let mut pen = Taken { writer: self, pen: Some(pen) };
            let count = desk.jobs.len().min(GROUP_MAX);
            let group: Vec<Job> = desk.jobs.drain(..count).collect();
            drop(desk);
            if let Some(pen) = &mut pen.pen {
                pen.write(group);
                if self.is_nearly_moved.swap(false, Ordering::AcqRel) {
                    checkpoint(&pen.connection, &pen.is_in_doubt);
                }
                if pen.groups.is_multiple_of(GROUPS_A_CHECKPOINT) {
                    self.ask_for_checkpoint(pen);
                }
            }
            drop(pen);
            desk = self.desk.lock();
        }
    }
}

impl Writer {
    /// A checkpoint that is under way is enough, unless the disk is so slow that the log grows much meanwhile:
    /// then whoever writes waits for it.
    fn ask_for_checkpoint(&self, pen: &mut Pen) {
        let Some(ticks) = &self.ticks else { return };
        if pen.skipped >= SKIPPED_MAX {
            pen.skipped = 0;
            // The thread is there as long as this is.
            let _ = ticks.send(());
        } else if ticks.try_send(()).is_err() {
            pen.skipped += 1;
        } else {
            pen.skipped = 0;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(pen) = self.desk.lock().pen.take()
            && let Err((_, error)) = pen.connection.close()
        {
            log::warn!("closing the registry: {error}");
        }
        drop(self.ticks.take());
        if self.checkpoints.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("a thread of the registry ended in a panic");
        }
    }
}

/// The pen in somebody's hand; he lays it back, whatever happens to him.
struct Taken<'a> {
    writer: &'a Writer,
    pen: Option<Pen>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(pen) = &self.pen
            && !pen.connection.is_autocommit()
            && let Err(error) = pen.connection.execute_batch("ROLLBACK")
        {
            log::error!("rolling the registry back: {error}");
        }
        let mut desk = self.writer.desk.lock();
        desk.pen = self.pen.take();
        // Who has waited longest writes next, unless somebody comes first.
        if let Some(next) = desk.jobs.front() {
            next.waiting.unpark();
        }
    }
}

impl Pen {
    /// Applies a group and answers each job of it.
    fn write(&mut self, group: Vec<Job>) {
        let durable = group.iter().any(|job| job.durability == Durability::Durable);
        let begun = self.begin(durable);
        let (connection, changes) = (&self.connection, group.len());
        let answers: Vec<Answer> =
            group.into_iter().map(|job| (job.work)(connection, &begun)).collect();
        let committed = begun.and_then(|()| {
            // A full disk ends the whole transaction by itself.
            if connection.is_autocommit() {
                Err(full())
            } else {
                end(connection).map_err(registry_error)
            }
        });
        metrics::committed(changes, committed.is_ok());
        if committed.is_ok() {
            hit(Failpoint::RegistryCommitted);
        } else {
            self.is_in_doubt.store(true, Ordering::Release);
        }
        self.groups += 1;
        for answer in answers {
            answer(&committed);
        }
    }

    fn begin(&mut self, durable: bool) -> Result<()> {
        let durable = durable && !self.is_bulk;
        if durable && self.is_in_doubt.swap(false, Ordering::AcqRel) {
            // What comes after it in the log is worth nothing without it.
            renew_log(&self.connection)
                .inspect_err(|_| self.is_in_doubt.store(true, Ordering::Release))?;
            log::warn!("op=renew: the log of the registry is on the disk again");
        }
        if self.is_durable != durable {
            begin_durably(&self.connection, durable).map_err(registry_error)?;
            self.is_durable = durable;
        }
        run(&self.connection, "BEGIN IMMEDIATE").map_err(registry_error)
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

/// Sets whether commits wait for the disk.
fn begin_durably(connection: &Connection, durable: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })
}

fn full() -> Error {
    Error::Registry { what: "the disk is full".into(), is_full: true }
}

fn end(connection: &Connection) -> rusqlite::Result<()> {
    run(connection, "COMMIT").inspect_err(|_| {
        // A COMMIT that failed can leave the transaction open.
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            log::error!("rolling the registry back: {error}");
        }
    })
}

fn in_savepoint<T>(
    connection: &Connection,
    begun: &Result<()>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    begun.clone()?;
    if connection.is_autocommit() {
        return Err(full());
    }
    run(connection, "SAVEPOINT job").map_err(registry_error)?;
    let made = work();
    // A full disk ends the whole transaction by itself; then there is no savepoint to end.
    if !connection.is_autocommit() {
        let undone = if made.is_ok() { Ok(()) } else { run(connection, "ROLLBACK TO job") };
        undone.and_then(|()| run(connection, "RELEASE job")).map_err(registry_error)?;
    }
    made
}

/// Gives the log a frame: an empty transaction would flush nothing.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}

/// Moves what is in the log to the table, as far as nobody reads what it would overwrite. Answers how many pages
/// the log has: it begins anew when nothing was added meanwhile.
fn checkpoint(connection: &Connection, is_in_doubt: &AtomicBool) -> i64 {
    let moved = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1));
    moved.unwrap_or_else(|error| {
        log::warn!("checkpoint of the registry: {error}");
        // It may have been the log that could not be synced.
        is_in_doubt.store(true, Ordering::Release);
        0
    })
}
