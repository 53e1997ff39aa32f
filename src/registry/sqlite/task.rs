//! A task as a row, and back. What is read is checked: a row that makes no sense is an error.

use rusqlite::{Connection, Row, named_params};

use super::record::{broken, signed, store_time, unsigned};
use crate::image::{ImageName, Ownership, Timestamp};
use crate::lifecycle::TaskStatus;
use crate::registry::TaskTotal;
use crate::task::{Task, TaskDraft, TaskId, TaskNumber};

/// The columns that [`task_of`] reads, of a table that is called `t`.
pub(super) const COLUMNS: &str =
    "t.number, t.id, t.version, t.name, t.status, t.uid, t.gid, t.mode,
    t.input, t.result, t.message, t.progress, t.attempts, t.created_at, t.updated_at, t.status_at,
    t.entered_at, t.expires_at";

/// Asks for what [`task_of`] reads, of the tasks that `which` says.
pub(super) fn select(which: &str) -> String {
    format!("SELECT {COLUMNS} FROM tasks t {which}")
}

/// Counts the tasks of a status. The index by name has all that it takes.
pub(super) fn total(connection: &Connection, status: TaskStatus) -> rusqlite::Result<TaskTotal> {
    const SQL: &str =
        "SELECT COUNT(*) AS tasks, MIN(t.status_at) AS oldest FROM tasks t WHERE t.status = ?1";
    let total = |row: &Row<'_>| {
        let oldest: Option<i64> = row.get("oldest")?;
        let oldest_at = oldest.map(Timestamp::from_nanoseconds);
        Ok(TaskTotal { tasks: unsigned(row.get("tasks")?)?, oldest_at })
    };
    connection.prepare_cached(SQL)?.query_row([status.name()], total)
}

fn status_of(row: &Row<'_>) -> rusqlite::Result<TaskStatus> {
    let status: String = row.get("status")?;
    TaskStatus::from_name(&status).ok_or_else(|| broken(&format!("task status {status:?}")))
}

/// Writes the first row of a task.
pub(super) fn insert(connection: &Connection, draft: &TaskDraft) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO tasks (id, version, name, status, uid, gid, mode, input, progress, attempts,
                 created_at, updated_at, status_at, entered_at)
             VALUES (:id, 1, :name, :status, :uid, :gid, :mode, :input, 0, 0, :at, :at, :at, :entered)",
        )?
        .execute(named_params! {
            ":id": draft.id.as_bytes(),
            ":name": draft.name.as_str(),
            ":status": TaskStatus::Pending.name(),
            ":uid": draft.ownership.uid,
            ":gid": draft.ownership.gid,
            ":mode": draft.ownership.mode,
            ":input": Task::input_text(&draft.input),
            ":at": draft.created.at.as_nanoseconds(),
            ":entered": signed(draft.created.age.as_nanoseconds())?,
        })?;
    Ok(())
}

/// Writes `task` over the row of the version that was read. Answers false when it has another.
pub(super) fn update(connection: &Connection, task: &Task) -> rusqlite::Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE tasks SET version = version + 1, status = :status, input = :input,
                 result = :result, message = :message, progress = :progress, attempts = :attempts,
                 updated_at = :updated, status_at = :status_at, entered_at = :entered,
                 expires_at = :expires
             WHERE id = :id AND version = :version",
        )?
        .execute(named_params! {
            ":id": task.id.as_bytes(),
            ":version": signed(task.version)?,
            ":status": task.status.name(),
            ":input": Task::input_text(&task.input),
            ":result": task.result.as_ref().map(Task::result_text),
            ":message": task.message,
            ":progress": task.progress,
            ":attempts": task.attempts,
            ":updated": task.updated_at.as_nanoseconds(),
            ":status_at": task.status_at.as_nanoseconds(),
            ":entered": signed(task.entered_at.as_nanoseconds())?,
            ":expires": task.expires_at.map(Timestamp::as_nanoseconds),
        })?;
    Ok(changed == 1)
}

/// Drops the row of the version that was read. Answers false when it has another.
pub(super) fn delete(connection: &Connection, task: &Task) -> rusqlite::Result<bool> {
    let mut sql = connection.prepare_cached("DELETE FROM tasks WHERE id = ?1 AND version = ?2")?;
    Ok(sql.execute((task.id.as_bytes(), signed(task.version)?))? == 1)
}

/// Reads the columns of [`COLUMNS`].
pub(super) fn task_of(row: &Row<'_>) -> rusqlite::Result<Task> {
    let name: String = row.get("name")?;
    let input: String = row.get("input")?;
    let result: Option<String> = row.get("result")?;
    let time = |column| row.get(column).map(Timestamp::from_nanoseconds);
    Ok(Task {
        id: TaskId::from_bytes(row.get("id")?),
        number: TaskNumber::new(unsigned(row.get("number")?)?),
        version: unsigned(row.get("version")?)?,
        name: ImageName::new(name.as_bytes()).map_err(|fault| broken(&fault.to_string()))?,
        ownership: Ownership { uid: row.get("uid")?, gid: row.get("gid")?, mode: row.get("mode")? },
        status: status_of(row)?,
        input: Task::parse_input(&input).ok_or_else(|| broken(&format!("task input {input:?}")))?,
        result: result
            .map(|text| {
                Task::parse_result(&text).ok_or_else(|| broken(&format!("task result {text:?}")))
            })
            .transpose()?,
        message: row.get("message")?,
        progress: row.get("progress")?,
        attempts: row.get("attempts")?,
        created_at: time("created_at")?,
        updated_at: time("updated_at")?,
        status_at: time("status_at")?,
        entered_at: store_time(row)?,
        expires_at: row.get::<_, Option<i64>>("expires_at")?.map(Timestamp::from_nanoseconds),
    })
}
