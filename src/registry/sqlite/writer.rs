//! The one thread that writes, and the one that moves what was written from the log to the table.
//!
//! Whoever changes something hands over a [`Job`] and waits. The thread takes all jobs that wait, up to a
//! bound, applies each in a savepoint of one transaction, and commits once: durable if any of them asked
//! for it. A job that conflicts is rolled back alone.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::registry_error;
use crate::error::{Error, Result};
use crate::registry::Durability;

/// Jobs that may wait; a thread that brings one more waits for room.
const QUEUE_MAX: usize = 1024;

/// Jobs that share a transaction at most.
const GROUP_MAX: usize = 256;

/// Groups between two checkpoints.
const GROUPS_A_CHECKPOINT: u64 = 256;

/// What is done with the outcome of a group: the answer to one job of it.
type Answer = Box<dyn FnOnce(&Result<()>) + Send>;

/// The work of a job in an open transaction, if that could be opened.
type Work = Box<dyn FnOnce(&Connection, &Result<()>) -> Answer + Send>;

/// What the writer is asked to do.
struct Job {
    durability: Durability,
    work: Work,
}

/// The handle to the writing thread. Dropping it ends the thread when all jobs are done.
pub(super) struct Writer {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts the two threads.
    pub(super) fn start(connection: Connection, checkpointer: Connection) -> Result<Self> {
        let (jobs, inbox) = mpsc::sync_channel(QUEUE_MAX);
        let (ticks, alarm) = mpsc::sync_channel(1);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(work)
                .map_err(|error| Error::io("start thread", name, error))
        };
        let threads = vec![
            spawn("registry", Box::new(move || write_groups(connection, &inbox, &ticks)))?,
            spawn("checkpoint", Box::new(move || checkpoint(&checkpointer, &alarm)))?,
        ];
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Hands work over and waits until it is committed.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stopped = || Error::Registry { what: "it has stopped".into(), is_full: false };
        let (reply, outcome) = mpsc::sync_channel(1);
        let work: Work = Box::new(move |connection, begun| {
            let made = in_savepoint(connection, begun, || work(connection));
            Box::new(move |committed| {
                // Whoever asked may be gone; then nobody wants the answer.
                let _ = reply.send(committed.clone().and(made));
            })
        });
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(Job { durability, work }).map_err(|_| stopped())?;
        outcome.recv().map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the registry ended in a panic");
            }
        }
    }
}

fn write_groups(connection: Connection, inbox: &Receiver<Job>, ticks: &SyncSender<()>) {
    let mut groups: u64 = 0;
    while let Ok(first) = inbox.recv() {
        let group: Vec<Job> =
            std::iter::once(first).chain(inbox.try_iter().take(GROUP_MAX - 1)).collect();
        write_group(&connection, group);
        groups += 1;
        if groups.is_multiple_of(GROUPS_A_CHECKPOINT) {
            // A checkpoint that is under way is enough.
            let _ = ticks.try_send(());
        }
    }
    if let Err((_, error)) = connection.close() {
        log::warn!("closing the registry: {error}");
    }
}

fn write_group(connection: &Connection, group: Vec<Job>) {
    let durable = group.iter().any(|job| job.durability == Durability::Durable);
    let begun = begin(connection, durable).map_err(registry_error);
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
    for answer in answers {
        answer(&committed);
    }
}

fn full() -> Error {
    Error::Registry { what: "the disk is full".into(), is_full: true }
}

fn begin(connection: &Connection, durable: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
    connection.execute_batch("BEGIN IMMEDIATE")
}

fn end(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("COMMIT").inspect_err(|_| {
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
    connection.execute_batch("SAVEPOINT job").map_err(registry_error)?;
    let made = work();
    let end = if made.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" };
    // A full disk ends the whole transaction by itself; then there is no savepoint to end.
    if !connection.is_autocommit() {
        connection.execute_batch(end).map_err(registry_error)?;
    }
    made
}

/// Gives the log a frame: an empty transaction would flush nothing.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    connection.pragma_update(None, "user_version", version)
}

fn checkpoint(connection: &Connection, alarm: &Receiver<()>) {
    while alarm.recv().is_ok() {
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            log::warn!("checkpoint of the registry: {error}");
        }
    }
}
