//! The tables, their versions, and how an older database is brought up to date.

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::registry_error;
use crate::error::{Error, Result};
use crate::lifecycle::Status;

/// What marks a database as a registry of sps: the letters `sps1`.
const APPLICATION_ID: i32 = 0x7370_7331;

/// How each version of the schema is made from the one before it.
///
/// `unique_name` is set where the lifecycle lets only one image of a name have its status,
/// `held_digest` where the record holds sealed data (the index of it is the count of references), and
/// `due_from` where time ends the status.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE images (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        name TEXT NOT NULL,
        unique_name TEXT UNIQUE,
        status TEXT NOT NULL,
        content TEXT NOT NULL,
        digest BLOB,
        held_digest BLOB,
        size_bytes INTEGER,
        allocated_bytes INTEGER,
        disk_format TEXT,
        uid INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        mode INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        status_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL,
        origin TEXT,
        bound_digest BLOB,
        message TEXT
    ) STRICT;
    CREATE INDEX images_by_name ON images (status, name, status_at, number);
    CREATE INDEX images_by_number ON images (status, number);
    CREATE INDEX images_by_time ON images (status, status_at, number);
    CREATE INDEX images_by_held_digest ON images (held_digest) WHERE held_digest IS NOT NULL;

    CREATE TABLE reclaims (
        id BLOB NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (id, digest)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE totals (
        status TEXT PRIMARY KEY,
        images INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER totals_insert AFTER INSERT ON images BEGIN
        INSERT INTO totals VALUES (new.status, 1, iif(new.held_digest IS NULL, 0, new.size_bytes))
            ON CONFLICT (status) DO UPDATE SET
                images = images + 1, size_bytes = size_bytes + excluded.size_bytes;
    END;
    CREATE TRIGGER totals_delete AFTER DELETE ON images BEGIN
        UPDATE totals SET images = images - 1,
            size_bytes = size_bytes - iif(old.held_digest IS NULL, 0, old.size_bytes)
            WHERE status = old.status;
    END;
    CREATE TRIGGER totals_update AFTER UPDATE OF status, held_digest, size_bytes ON images BEGIN
        UPDATE totals SET images = images - 1,
            size_bytes = size_bytes - iif(old.held_digest IS NULL, 0, old.size_bytes)
            WHERE status = old.status;
        INSERT INTO totals VALUES (new.status, 1, iif(new.held_digest IS NULL, 0, new.size_bytes))
            ON CONFLICT (status) DO UPDATE SET
                images = images + 1, size_bytes = size_bytes + excluded.size_bytes;
    END;
",
    "
    ALTER TABLE images ADD COLUMN entered_at INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN due_from INTEGER;
    ALTER TABLE images ADD COLUMN is_provisional INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE images ADD COLUMN expected_size INTEGER;
    CREATE INDEX images_by_due ON images (status, due_from, number) WHERE due_from IS NOT NULL;

    CREATE TABLE tasks (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        name TEXT NOT NULL,
        status TEXT NOT NULL,
        uid INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        mode INTEGER NOT NULL,
        input TEXT NOT NULL,
        result TEXT,
        message TEXT,
        progress INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        status_at INTEGER NOT NULL,
        entered_at INTEGER NOT NULL,
        expires_at INTEGER
    ) STRICT;
    CREATE INDEX tasks_by_name ON tasks (status, name, status_at, number);
    CREATE INDEX tasks_by_number ON tasks (status, number);
    CREATE INDEX tasks_by_age ON tasks (status, entered_at);

    CREATE TABLE transitions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        id BLOB NOT NULL,
        name TEXT NOT NULL,
        from_status TEXT,
        to_status TEXT,
        cause TEXT NOT NULL,
        uid INTEGER
    ) STRICT;

    CREATE TABLE clock (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        lived INTEGER NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
",
    // Only those that something is told of are looked for by time.
    "
    DROP INDEX images_by_time;
    CREATE INDEX images_by_message ON images (status, status_at, number) WHERE message IS NOT NULL;
",
    "
    ALTER TABLE images ADD COLUMN virtual_size INTEGER;
    ALTER TABLE images ADD COLUMN details TEXT;
    ALTER TABLE images ADD COLUMN expected TEXT;
    ALTER TABLE images ADD COLUMN checksums TEXT;
    ALTER TABLE images ADD COLUMN location TEXT;
    CREATE INDEX images_unhashed ON images (number) WHERE location IS NOT NULL AND digest IS NULL;
    UPDATE images SET expected = json_object('size', expected_size) WHERE expected_size IS NOT NULL;
    ALTER TABLE images DROP COLUMN expected_size;
",
    "
    CREATE TABLE outdated (
        id BLOB PRIMARY KEY,
        version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
];

/// The version from which on records say from when on their time counts.
const VERSION_WITH_TIME: i64 = 2;

/// Makes the schema or brings it up to date, and sets the connection up.
pub(super) fn prepare(connection: &mut Connection) -> Result<()> {
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| not_a_registry(&error))?;
    let mark = pragma(connection, "application_id")?;
    if tables > 0 && mark != i64::from(APPLICATION_ID) {
        return Err(Error::Store("sps.db is a database, but not a registry of sps".into()));
    }
    let version = pragma(connection, "user_version")?;
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if version > newest {
        return Err(Error::Store(format!(
            "the registry has version {version} and this sps knows {newest}: use a newer sps"
        )));
    }
    connection.pragma_update(None, "journal_mode", "wal").map_err(registry_error)?;
    tune(connection)
        .and_then(|()| connection.pragma_update(None, "cache_size", WRITER_CACHE))
        .map_err(registry_error)?;
    let done = usize::try_from(version).unwrap_or(0);
    for (to, sql) in (1i64..).zip(MIGRATIONS).skip(done) {
        migrate(connection, sql, to).map_err(registry_error)?;
    }
    if version < VERSION_WITH_TIME {
        count_time_from_now(connection).map_err(registry_error)?;
    }
    Ok(())
}

/// What was removed before there was a store's own clock is kept for its time from now on.
fn count_time_from_now(connection: &Connection) -> rusqlite::Result<()> {
    for status in Status::ALL.into_iter().filter(|status| status.expiry().is_some()) {
        let sql = "UPDATE images SET due_from = entered_at WHERE status = ?1";
        connection.execute(sql, [status.name()])?;
    }
    Ok(())
}

/// What a connection keeps of the database in memory, in the unit of SQLite: KiB, negative. Each reader has
/// what leads to the rows of a million images; who writes touches many pages again and again.
const READER_CACHE: i64 = -3072;
const WRITER_CACHE: i64 = -16384;

/// Sets up a connection, whichever it is.
pub(super) fn tune(connection: &mut Connection) -> rusqlite::Result<()> {
    #[cfg(test)]
    super::plan::note(connection);
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(64);
    // A plan is made once: none depends on the values that are asked for.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // The writer leaves checkpoints to a thread of their own; see `writer`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", READER_CACHE)
}

fn migrate(connection: &mut Connection, sql: &str, to: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(sql)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", to)?;
    transaction.commit()
}

fn pragma(connection: &Connection, name: &str) -> Result<i64> {
    connection
        .pragma_query_value(None, name, |row| row.get(0))
        .map_err(|error| not_a_registry(&error))
}

fn not_a_registry(error: &rusqlite::Error) -> Error {
    Error::Store(format!("sps.db can't be used as a registry: {error}"))
}
