//! The one thread that writes, and the one that moves what was written from the log to the table.
//!
//! Whoever commits hands over a [`Job`] and waits. The thread takes all jobs that wait, up to a bound,
//! applies each in a savepoint of one transaction, and commits once: durable if any of them asked for
//! it. A job that conflicts is rolled back alone.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use rusqlite::{Connection, params};

use super::{record, registry_error};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::registry::{Change, Draft, Durability, Reclaim};

/// Jobs that may wait; a thread that brings one more waits for room.
const QUEUE_MAX: usize = 1024;

/// Jobs that share a transaction at most.
const GROUP_MAX: usize = 256;

/// Groups between two checkpoints.
const GROUPS_A_CHECKPOINT: u64 = 256;

/// Where the answer to a job goes.
pub(super) type Reply<T> = SyncSender<Result<T>>;

/// What the writer is asked to do, and where the answer goes.
pub(super) enum Job {
    /// Record a new image.
    Create { draft: Draft, reply: Reply<Image> },
    /// Make a change.
    Commit { change: Change, reply: Reply<()> },
    /// Make all that went before durable.
    Flush { reply: Reply<()> },
    /// Strike out what was reclaimed.
    Settle { reclaims: Vec<Reclaim>, reply: Reply<()> },
}

/// A job that was applied, waiting for the commit of its group.
enum Applied {
    Created(Reply<Image>, Result<Image>),
    Done(Reply<()>, Result<()>),
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

    /// Hands a job over and waits for its answer.
    pub(super) fn submit<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T> {
        let stopped = || Error::Registry { what: "it has stopped".into(), is_full: false };
        let (reply, answer) = mpsc::sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job(reply)).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
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
    let durable = group.iter().any(Job::is_durable);
    let begun = begin(connection, durable).map_err(registry_error);
    let applied: Vec<Applied> =
        group.into_iter().map(|job| job.apply(connection, &begun)).collect();
    let committed = begun.and_then(|()| {
        // A full disk ends the whole transaction by itself.
        if connection.is_autocommit() {
            Err(full())
        } else {
            end(connection).map_err(registry_error)
        }
    });
    for job in applied {
        job.answer(&committed);
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

impl Job {
    fn is_durable(&self) -> bool {
        match self {
            Self::Commit { change, .. } => change.durability == Durability::Durable,
            Self::Flush { .. } => true,
            Self::Create { .. } | Self::Settle { .. } => false,
        }
    }

    fn apply(self, connection: &Connection, begun: &Result<()>) -> Applied {
        match self {
            Self::Create { draft, reply } => {
                let work = || record::insert(connection, &draft).map_err(registry_error);
                Applied::Created(reply, in_savepoint(connection, begun, work))
            }
            Self::Commit { change, reply } => Applied::Done(
                reply,
                in_savepoint(connection, begun, || commit(connection, &change)),
            ),
            Self::Flush { reply } => {
                // An empty transaction would flush nothing: the log must get a frame.
                let work = || touch(connection).map_err(registry_error);
                Applied::Done(reply, in_savepoint(connection, begun, work))
            }
            Self::Settle { reclaims, reply } => {
                let work = || settle(connection, &reclaims).map_err(registry_error);
                Applied::Done(reply, in_savepoint(connection, begun, work))
            }
        }
    }
}

impl Applied {
    fn answer(self, committed: &Result<()>) {
        // Whoever asked may be gone; then nobody wants the answer.
        match self {
            Self::Created(reply, made) => {
                let _ = reply.send(committed.clone().and(made));
            }
            Self::Done(reply, made) => {
                let _ = reply.send(committed.clone().and(made));
            }
        }
    }
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

fn commit(connection: &Connection, change: &Change) -> Result<()> {
    for image in &change.updates {
        match record::update(connection, image) {
            Ok(true) => {}
            Ok(false) => return Err(Error::Conflict),
            // Another image took the unique name in between.
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
            {
                return Err(Error::Conflict);
            }
            Err(error) => return Err(registry_error(error)),
        }
    }
    for image in &change.forgotten {
        let version = i64::try_from(image.version).unwrap_or(i64::MAX);
        let gone = connection
            .prepare_cached("DELETE FROM images WHERE id = ?1 AND version = ?2")
            .and_then(|mut sql| sql.execute(params![image.id.as_bytes(), version]))
            .map_err(registry_error)?;
        if gone != 1 {
            return Err(Error::Conflict);
        }
    }
    for Reclaim { id, digest } in &change.reclaims {
        connection
            .prepare_cached("INSERT OR IGNORE INTO reclaims (id, digest) VALUES (?1, ?2)")
            .and_then(|mut sql| sql.execute(params![id.as_bytes(), digest.as_bytes()]))
            .map_err(registry_error)?;
    }
    Ok(())
}

fn settle(connection: &Connection, reclaims: &[Reclaim]) -> rusqlite::Result<()> {
    let mut sql =
        connection.prepare_cached("DELETE FROM reclaims WHERE id = ?1 AND digest = ?2")?;
    for Reclaim { id, digest } in reclaims {
        sql.execute(params![id.as_bytes(), digest.as_bytes()])?;
    }
    Ok(())
}

fn touch(connection: &Connection) -> rusqlite::Result<()> {
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
