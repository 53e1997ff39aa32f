//! The registry in an SQLite database in WAL mode.
//!
//! One thread writes ([`writer`]); it takes all changes that wait and commits them together, so that
//! they share one disk flush. Any number of threads read, each with a connection of its own.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Change, ClockMark, Draft, Durability, Key, Listed, ListedName, ListedTask, Reclaim, Registry,
    TRANSITIONS_KEPT, TaskKey, TaskTotal, Total, Transition,
};
use crate::error::{Error, Result};
use crate::image::{
    Digest, IdPrefix, Image, ImageId, ImageName, ImageNumber, StoreTime, Timestamp,
};
use crate::lifecycle::{Status, TaskStatus};
use crate::task::{Task, TaskNumber};

mod ask;
mod beside;
mod change;
#[cfg(test)]
mod plan;
mod record;
mod renew;
mod schema;
mod task;
mod texts;
mod writer;

use ask::SHADOWED;
use record::{COLUMNS, image_of};
use task::task_of;
use writer::Writer;

/// Reading connections that are kept open; more are made when more threads read, and closed after.
const IDLE_READERS_MAX: usize = 16;

/// The registry of a store on one machine.
pub struct SqliteRegistry {
    path: PathBuf,
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
}

impl SqliteRegistry {
    /// Opens the database at `path`, making or upgrading its schema.
    ///
    /// # Errors
    /// It can't be opened, is not a registry, or was made by a newer sps.
    pub fn open(path: &Path) -> Result<Self> {
        Self::begin(path, false)
    }

    /// The same, for whoever makes a great many records: no commit waits for the disk, and he syncs it at
    /// the end.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_bulk(path: &Path) -> Result<Self> {
        Self::begin(path, true)
    }

    /// Copies the database at `path` to a new file, as it is at one moment, while others use it.
    ///
    /// # Errors
    /// It can't be read, or the copy can't be written.
    pub fn snapshot(path: &Path, copy: &Path) -> Result<()> {
        let connection = beside::open(path)?;
        let copy = copy.to_str().ok_or_else(|| Error::Usage("the path is no text".into()))?;
        connection.execute("VACUUM INTO ?1", [copy]).map(|_| ()).map_err(registry_error)
    }

    /// The record of an image in the database at `path`, while others use that.
    ///
    /// # Errors
    /// It can't be read.
    pub fn peek(path: &Path, id: ImageId) -> Result<Option<Image>> {
        let sql = format!("SELECT {COLUMNS} FROM images i WHERE i.id = ?1");
        let connection = beside::open(path)?;
        connection
            .query_row(&sql, params![id.as_bytes()], image_of)
            .optional()
            .map_err(registry_error)
    }

    fn begin(path: &Path, is_bulk: bool) -> Result<Self> {
        let mut connection = Connection::open(path).map_err(registry_error)?;
        schema::prepare(&mut connection)?;
        if !is_bulk {
            renew::sync_names(path)?;
        }
        let checkpointer = open_again(path)?;
        let writer = Writer::start(connection, checkpointer, is_bulk)?;
        Ok(Self { path: path.to_owned(), writer, readers: Mutex::new(Vec::new()) })
    }
}

impl Registry for SqliteRegistry {
    fn create(&self, draft: Draft) -> Result<Image> {
        self.writer
            .submit(Durability::Transient, move |connection| change::create(connection, &draft))
    }

    fn commit(&self, change: Change) -> Result<()> {
        self.writer.submit(change.durability, move |connection| change::commit(connection, &change))
    }

    fn flush(&self) -> Result<()> {
        self.writer.submit(Durability::Durable, |connection| {
            writer::touch(connection).map_err(registry_error)
        })
    }

    fn image(&self, key: Key) -> Result<Option<Image>> {
        match key {
            Key::Id(id) => self.one("i.id = ?1", params![id.as_bytes()]),
            Key::Number(number) => self.one("i.number = ?1", params![column(number.get())?]),
        }
    }

    fn find(
        &self,
        status: Status,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Image>> {
        const NEWEST: &str =
            "i.status = ?1 AND i.name = ?2 ORDER BY i.status_at DESC, i.number DESC LIMIT 1";
        const BY_PREFIX: &str = "i.status = ?1 AND i.name = ?2 AND i.id BETWEEN ?3 AND ?4 LIMIT 1";
        match prefix {
            None => self.one(NEWEST, params![status.name(), name.as_str()]),
            Some(prefix) => {
                let (low, high) = prefix.range();
                self.one(
                    BY_PREFIX,
                    params![status.name(), name.as_str(), low.as_bytes(), high.as_bytes()],
                )
            }
        }
    }

    fn page(&self, status: Option<Status>, after: ImageNumber, limit: u32) -> Result<Vec<Listed>> {
        let columns = COLUMNS.matches(',').count() + 1;
        self.lines(COLUMNS, status, (after, limit), |row| {
            Ok(Listed { image: image_of(row)?, is_shadowed: row.get(columns)? })
        })
    }

    fn names(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<ListedName>> {
        self.lines("i.number, i.id, i.name", status, (after, limit), |row| {
            Ok(ListedName {
                number: ImageNumber::new(record::unsigned(row.get(0)?)?),
                id: ImageId::from_bytes(row.get(1)?),
                name: record::name_of(row, 2)?,
                is_shadowed: row.get(3)?,
            })
        })
    }

    fn is_shadowed(&self, image: &Image) -> Result<bool> {
        let number = column(image.number.get())?;
        self.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {SHADOWED} FROM images i WHERE i.number = ?1"))?
                .query_row(params![number], |row| row.get(0))
                .optional()
                .map(|found| found.unwrap_or(false))
        })
    }

    fn totals(&self) -> Result<Vec<Total>> {
        self.read(|connection| Ok(change::totals(connection)))?
    }

    fn latest_told(&self, status: Status, limit: u32) -> Result<Vec<Image>> {
        self.many(
            &format!(
                "SELECT {COLUMNS} FROM images i WHERE i.status = ?1 AND i.message IS NOT NULL
                 ORDER BY i.status_at DESC, i.number DESC LIMIT ?2"
            ),
            params![status.name(), limit],
            image_of,
        )
    }

    fn unhashed(&self, after: ImageNumber, limit: u32) -> Result<Vec<Image>> {
        self.many(
            &format!(
                "SELECT {COLUMNS} FROM images i WHERE i.location IS NOT NULL AND i.digest IS NULL
                 AND i.number > ?1 ORDER BY i.number LIMIT ?2"
            ),
            params![column(after.get())?, limit],
            image_of,
        )
    }

    fn is_referenced(&self, digest: &Digest) -> Result<bool> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM images WHERE held_digest = ?1)")?
                .query_row(params![digest.as_bytes()], |row| row.get(0))
        })
    }

    fn reclaims(&self, limit: u32) -> Result<Vec<Reclaim>> {
        self.many("SELECT id, digest FROM reclaims LIMIT ?1", params![limit], |row| {
            Ok(Reclaim {
                id: ImageId::from_bytes(row.get("id")?),
                digest: Digest::from_bytes(row.get("digest")?),
            })
        })
    }

    fn settle(&self, reclaims: &[Reclaim]) -> Result<()> {
        let reclaims = reclaims.to_vec();
        self.writer.submit(Durability::Transient, move |connection| {
            change::settle(connection, &reclaims).map_err(registry_error)
        })
    }

    fn holders(&self, digest: &Digest, limit: u32) -> Result<Vec<Image>> {
        self.many(
            &format!("SELECT {COLUMNS} FROM images i WHERE i.held_digest = ?1 LIMIT ?2"),
            params![digest.as_bytes(), limit],
            image_of,
        )
    }

    fn due(&self, status: Status, until: StoreTime, limit: u32) -> Result<Vec<Image>> {
        self.many(
            &format!(
                "SELECT {COLUMNS} FROM images i WHERE i.status = ?1 AND i.due_from <= ?2
                 ORDER BY i.due_from, i.number LIMIT ?3"
            ),
            params![status.name(), column(until.as_nanoseconds())?, limit],
            image_of,
        )
    }

    fn transitions(&self) -> Result<Vec<Transition>> {
        let mut last = self.many(
            "SELECT at, id, name, from_status, to_status, cause, uid FROM transitions
             ORDER BY number DESC LIMIT ?1",
            params![TRANSITIONS_KEPT],
            change::transition_of,
        )?;
        last.reverse();
        Ok(last)
    }

    fn task(&self, key: TaskKey) -> Result<Option<Task>> {
        match key {
            TaskKey::Id(id) => self.one_task("t.id = ?1", params![id.as_bytes()]),
            TaskKey::Number(number) => {
                self.one_task("t.number = ?1", params![column(number.get())?])
            }
        }
    }

    fn find_task(
        &self,
        status: TaskStatus,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Task>> {
        match prefix {
            None => self.one_task(
                "t.status = ?1 AND t.name = ?2 ORDER BY t.status_at DESC, t.number DESC LIMIT 1",
                params![status.name(), name.as_str()],
            ),
            Some(prefix) => {
                let (low, high) = prefix.range();
                self.one_task(
                    "t.status = ?1 AND t.name = ?2 AND t.id BETWEEN ?3 AND ?4 LIMIT 1",
                    params![status.name(), name.as_str(), low.as_bytes(), high.as_bytes()],
                )
            }
        }
    }

    fn task_page(
        &self,
        status: TaskStatus,
        after: TaskNumber,
        limit: u32,
    ) -> Result<Vec<ListedTask>> {
        self.many(
            &format!(
                "SELECT {}, EXISTS (SELECT 1 FROM tasks n WHERE n.status = t.status
                     AND n.name = t.name AND (n.status_at, n.number) > (t.status_at, t.number)
                 ) AS is_shadowed
                 FROM tasks t WHERE t.status = ?1 AND t.number > ?2 ORDER BY t.number LIMIT ?3",
                task::COLUMNS
            ),
            params![status.name(), column(after.get())?, limit],
            |row| Ok(ListedTask { task: task_of(row)?, is_shadowed: row.get("is_shadowed")? }),
        )
    }

    fn task_total(&self, status: TaskStatus) -> Result<TaskTotal> {
        self.read(|connection| task::total(connection, status))
    }

    fn latest_tasks(&self, status: TaskStatus, limit: u32) -> Result<Vec<Task>> {
        self.many(
            &task::select("WHERE t.status = ?1 ORDER BY t.entered_at DESC LIMIT ?2"),
            params![status.name(), limit],
            task_of,
        )
    }

    fn tasks_due(&self, status: TaskStatus, until: StoreTime, limit: u32) -> Result<Vec<Task>> {
        self.many(
            &task::select(
                "WHERE t.status = ?1 AND t.entered_at <= ?2 ORDER BY t.entered_at LIMIT ?3",
            ),
            params![status.name(), column(until.as_nanoseconds())?, limit],
            task_of,
        )
    }

    fn check(&self) -> Result<Vec<String>> {
        let told = self.many("PRAGMA integrity_check(20)", [], |row| row.get::<_, String>(0))?;
        Ok(told.into_iter().filter(|line| line != "ok").collect())
    }

    fn recount(&self) -> Result<bool> {
        self.writer.submit(Durability::Durable, change::recount)
    }

    fn outdated(&self, limit: u32) -> Result<Vec<(ImageId, u64)>> {
        self.many("SELECT id, version FROM outdated LIMIT ?1", params![limit], |row| {
            Ok((ImageId::from_bytes(row.get(0)?), record::unsigned(row.get(1)?)?))
        })
    }

    fn settle_outdated(&self, settled: &[(ImageId, u64)]) -> Result<()> {
        let settled = settled.to_vec();
        self.writer.submit(Durability::Transient, move |connection| {
            change::settle_outdated(connection, &settled).map_err(registry_error)
        })
    }

    fn adopt(&self, image: Image) -> Result<()> {
        self.writer.submit(Durability::Durable, move |connection| change::adopt(connection, &image))
    }

    fn clock(&self) -> Result<Option<ClockMark>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT lived, at FROM clock")?
                .query_row([], |row| {
                    Ok(ClockMark {
                        lived: StoreTime::from_nanoseconds(record::unsigned(row.get("lived")?)?),
                        at: Timestamp::from_nanoseconds(row.get("at")?),
                    })
                })
                .optional()
        })
    }

    fn set_clock(&self, mark: ClockMark) -> Result<()> {
        let lived = column(mark.lived.as_nanoseconds())?;
        self.writer.submit(Durability::Transient, move |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO clock (one, lived, at) VALUES (1, ?1, ?2)")
                .and_then(|mut sql| sql.execute(params![lived, mark.at.as_nanoseconds()]))
                .map_err(registry_error)
                .map(|_| ())
        })
    }
}

fn open_again(path: &Path) -> Result<Connection> {
    let mut connection = Connection::open(path).map_err(registry_error)?;
    schema::tune(&mut connection).map_err(registry_error)?;
    Ok(connection)
}

fn column(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::Invalid(format!("{value} is out of range")))
}

fn registry_error(error: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let code = error.sqlite_error_code();
    Error::Registry { what: error.to_string(), is_full: code == Some(ErrorCode::DiskFull) }
}
