//! How the registry is asked: by a connection for each who asks, and statements that are kept.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::record::{COLUMNS, image_of};
use super::task::{self, task_of};
use super::{IDLE_READERS_MAX, SqliteRegistry, column, open_again, registry_error};
use crate::error::Result;
use crate::image::{Image, ImageNumber};
use crate::lifecycle::Status;
use crate::task::Task;

/// Whether a newer image of the same status and name than `i` is there.
pub(super) const SHADOWED: &str = "EXISTS (SELECT 1 FROM images n WHERE n.status = i.status
    AND n.name = i.name AND (n.status_at, n.number) > (i.status_at, i.number))";

impl SqliteRegistry {
    pub(super) fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let idle = self.readers.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let connection = open_again(&self.path)?;
                connection.pragma_update(None, "query_only", true).map_err(registry_error)?;
                connection
            }
        };
        let answer = ask(&connection).map_err(registry_error);
        let mut readers = self.readers.lock();
        if readers.len() < IDLE_READERS_MAX {
            readers.push(connection);
        }
        answer
    }

    pub(super) fn one(&self, condition: &str, values: impl Params) -> Result<Option<Image>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM images i WHERE {condition}");
            connection.prepare_cached(&sql)?.query_row(values, image_of).optional()
        })
    }

    pub(super) fn one_task(&self, condition: &str, values: impl Params) -> Result<Option<Task>> {
        self.read(|connection| {
            let sql = format!("SELECT {} FROM tasks t WHERE {condition}", task::COLUMNS);
            connection.prepare_cached(&sql)?.query_row(values, task_of).optional()
        })
    }

    /// Some columns of the images of a status, or of all, and after them whether the image is shadowed.
    pub(super) fn lines<T>(
        &self,
        columns: &str,
        status: Option<Status>,
        (after, limit): (ImageNumber, u32),
        take: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let after = column(after.get())?;
        let Some(status) = status else {
            let sql = format!(
                "SELECT {columns}, 0 FROM images i WHERE i.number > ?1 ORDER BY i.number LIMIT ?2"
            );
            return self.many(&sql, params![after, limit], take);
        };
        // Where only one image of a name has the status there is nothing to look for.
        let shadowed = if status.has_unique_names() { "0" } else { SHADOWED };
        let sql = format!(
            "SELECT {columns}, {shadowed} FROM images i
             WHERE i.status = ?1 AND i.number > ?2 ORDER BY i.number LIMIT ?3"
        );
        self.many(&sql, params![status.name(), after, limit], take)
    }

    pub(super) fn many<T>(
        &self,
        sql: &str,
        values: impl Params,
        take: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.read(|connection| connection.prepare_cached(sql)?.query_map(values, take)?.collect())
    }
}
