//! A [`Change`] made in an open transaction, whole or not at all.

use rusqlite::{Connection, Row, params};

use super::record::{self, broken, signed, status_named};
use super::{registry_error, task};
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, ImageName, Timestamp};
use crate::registry::{Change, Draft, Reclaim, TRANSITIONS_KEPT, TaskChange, Transition};

/// Transitions are struck out this many at a time.
const STRIKE: i64 = 256;

/// Records a new image, and that it came.
pub(super) fn create(connection: &Connection, draft: &Draft) -> Result<Image> {
    let image = record::insert(connection, draft).map_err(registry_error)?;
    let transition = Transition {
        at: draft.created.at,
        id: draft.id,
        name: draft.name.clone(),
        from: None,
        to: Some(draft.status),
        cause: "create".into(),
        uid: Some(draft.by),
    };
    note(connection, &transition).map_err(registry_error)?;
    Ok(image)
}

/// Makes `change`. What gives up a unique name comes first.
pub(super) fn commit(connection: &Connection, change: &Change) -> Result<()> {
    for image in &change.forgotten {
        must_hold(forget(connection, image))?;
    }
    for image in &change.updates {
        must_hold(record::update(connection, image))?;
    }
    for each in &change.tasks {
        match each {
            TaskChange::Create(draft) => task::insert(connection, draft).map_err(registry_error)?,
            TaskChange::Update(task) => must_hold(task::update(connection, task))?,
            TaskChange::Forget(task) => must_hold(task::delete(connection, task))?,
        }
    }
    for Reclaim { id, digest } in &change.reclaims {
        connection
            .prepare_cached("INSERT OR IGNORE INTO reclaims (id, digest) VALUES (?1, ?2)")
            .and_then(|mut sql| sql.execute(params![id.as_bytes(), digest.as_bytes()]))
            .map_err(registry_error)?;
    }
    for transition in &change.transitions {
        note(connection, transition).map_err(registry_error)?;
    }
    Ok(())
}

/// A version that is not the one that was read, or a unique name that another took, is a conflict.
fn must_hold(done: rusqlite::Result<bool>) -> Result<()> {
    match done {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Conflict),
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
        {
            Err(Error::Conflict)
        }
        Err(error) => Err(registry_error(error)),
    }
}

fn forget(connection: &Connection, image: &Image) -> rusqlite::Result<bool> {
    let mut sql = connection.prepare_cached("DELETE FROM images WHERE id = ?1 AND version = ?2")?;
    Ok(sql.execute(params![image.id.as_bytes(), signed(image.version)?])? == 1)
}

/// Keeps a transition, and strikes out the oldest ones now and then.
fn note(connection: &Connection, transition: &Transition) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO transitions (at, id, name, from_status, to_status, cause, uid)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            transition.at.as_nanoseconds(),
            transition.id.as_bytes(),
            transition.name.as_str(),
            transition.from.map(crate::lifecycle::Status::name),
            transition.to.map(crate::lifecycle::Status::name),
            transition.cause,
            transition.uid,
        ])?;
    let last = connection.last_insert_rowid();
    if last % STRIKE == 0 {
        connection
            .prepare_cached("DELETE FROM transitions WHERE number <= ?1")?
            .execute([last - i64::from(TRANSITIONS_KEPT)])?;
    }
    Ok(())
}

/// Reads a transition.
pub(super) fn transition_of(row: &Row<'_>) -> rusqlite::Result<Transition> {
    let name: String = row.get("name")?;
    let status = |column| {
        let name: Option<String> = row.get(column)?;
        name.as_deref().map(status_named).transpose()
    };
    Ok(Transition {
        at: Timestamp::from_nanoseconds(row.get("at")?),
        id: ImageId::from_bytes(row.get("id")?),
        name: ImageName::new(name.as_bytes()).map_err(|fault| broken(&fault.to_string()))?,
        from: status("from_status")?,
        to: status("to_status")?,
        cause: row.get("cause")?,
        uid: row.get("uid")?,
    })
}

/// Strikes out data that was given back.
pub(super) fn settle(connection: &Connection, reclaims: &[Reclaim]) -> rusqlite::Result<()> {
    let mut sql =
        connection.prepare_cached("DELETE FROM reclaims WHERE id = ?1 AND digest = ?2")?;
    for Reclaim { id, digest } in reclaims {
        sql.execute(params![id.as_bytes(), digest.as_bytes()])?;
    }
    Ok(())
}
