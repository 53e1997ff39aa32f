//! A [`Change`] made in an open transaction, whole or not at all.

use rusqlite::{Connection, Row, params};

use super::record::{self, broken, signed, status_named};
use super::{registry_error, task};
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, ImageName, Moment, Timestamp};
use crate::registry::{Change, Draft, Reclaim, TRANSITIONS_KEPT, TaskChange, Total, Transition};

/// Transitions are struck out this many at a time.
const STRIKE: i64 = 256;

/// Records a new image, and that it came.
pub(super) fn create(connection: &Connection, draft: &Draft) -> Result<Image> {
    let image = record::insert(connection, draft).map_err(registry_error)?;
    if let Some(most) = draft.quota_images
        && Total::counted(&totals(connection)?) > most
    {
        return Err(Error::OverQuota(format!("there are {most} images, as many as there may be")));
    }
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
    for id in &change.outdated {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO outdated SELECT id, version FROM images WHERE id = ?1",
            )
            .and_then(|mut sql| sql.execute([id.as_bytes()]))
            .map_err(registry_error)?;
    }
    let Some(most) = change.quota_bytes else { return Ok(()) };
    let held = Total::held_bytes(&totals(connection)?);
    if held > most {
        return Err(Error::OverQuota(format!(
            "with it the images would hold {held} bytes, and {most} are allowed"
        )));
    }
    Ok(())
}

/// Records an image with all it has but its number.
pub(super) fn adopt(connection: &Connection, image: &Image) -> Result<()> {
    let draft = Draft {
        id: image.id,
        name: image.name.clone(),
        status: image.status,
        ownership: image.ownership,
        details: image.details.clone(),
        is_provisional: false,
        by: image.ownership.uid,
        quota_images: None,
        created: Moment { at: image.created_at, age: image.entered_at },
    };
    let made = record::insert(connection, &draft).map(|made| made.version);
    let version = must_be_unique(made)?;
    must_hold(record::update(connection, &Image { version, ..image.clone() }))?;
    let transition = Transition {
        at: image.status_at,
        id: image.id,
        name: image.name.clone(),
        from: None,
        to: Some(image.status),
        cause: "adopted from its manifest".into(),
        uid: None,
    };
    note(connection, &transition).map_err(registry_error)
}

/// Counts the images of each status anew; answers whether that was wrong.
pub(super) fn recount(connection: &Connection) -> Result<bool> {
    let before = totals(connection)?.into_iter().filter(|total| total.images > 0);
    let before: Vec<Total> = before.collect();
    connection
        .execute_batch(
            "DELETE FROM totals;
             INSERT INTO totals SELECT status, count(*),
                 sum(iif(held_digest IS NULL, 0, size_bytes)) FROM images GROUP BY status;",
        )
        .map_err(registry_error)?;
    let after = totals(connection)?;
    Ok(before.len() != after.len() || !after.iter().all(|total| before.contains(total)))
}

/// Counts and sizes of each status.
pub(super) fn totals(connection: &Connection) -> Result<Vec<Total>> {
    let total = |row: &Row<'_>| {
        Ok(Total {
            status: record::status_of(row.get_ref(0)?)?,
            images: record::unsigned(row.get(1)?)?,
            size_bytes: record::unsigned(row.get(2)?)?,
        })
    };
    connection
        .prepare_cached("SELECT status, images, size_bytes FROM totals")
        .and_then(|mut sql| sql.query_map([], total)?.collect())
        .map_err(registry_error)
}

/// A version that is not the one that was read, or a unique name that another took, is a conflict.
fn must_hold(done: rusqlite::Result<bool>) -> Result<()> {
    if must_be_unique(done)? { Ok(()) } else { Err(Error::Conflict) }
}

fn must_be_unique<T>(done: rusqlite::Result<T>) -> Result<T> {
    match done {
        Ok(done) => Ok(done),
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

/// Strikes out manifests that were written again.
pub(super) fn settle_outdated(
    connection: &Connection,
    settled: &[(ImageId, u64)],
) -> rusqlite::Result<()> {
    let mut sql =
        connection.prepare_cached("DELETE FROM outdated WHERE id = ?1 AND version = ?2")?;
    for (id, version) in settled {
        sql.execute(params![id.as_bytes(), signed(*version)?])?;
    }
    Ok(())
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
