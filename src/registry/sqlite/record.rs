//! An image as a row, and back. What is read is checked: a row that makes no sense is an error.

use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{Connection, Row, named_params};

use super::texts;
use crate::image::{
    Checksums, Content, Digest, DiskFormat, Expected, Image, ImageId, ImageName, ImageNumber,
    Located, Ownership, Seal, StoreTime, Timestamp,
};
use crate::lifecycle::Status;
use crate::registry::Draft;

/// The columns that [`image_of`] reads by their place, of a table that is called `i`.
pub(super) const COLUMNS: &str = "i.number, i.id, i.version, i.name, i.status, i.content, i.digest,
    i.size_bytes, i.allocated_bytes, i.disk_format, i.uid, i.gid, i.mode, i.created_at,
    i.updated_at, i.status_at, i.modified_at, i.origin, i.bound_digest, i.message, i.entered_at,
    i.is_provisional, i.virtual_size, i.details, i.expected, i.checksums, i.location";

/// The places of the columns: looking them up by name costs more than reading them.
mod place {
    pub(super) const NUMBER: usize = 0;
    pub(super) const ID: usize = 1;
    pub(super) const VERSION: usize = 2;
    pub(super) const NAME: usize = 3;
    pub(super) const STATUS: usize = 4;
    pub(super) const CONTENT: usize = 5;
    pub(super) const DIGEST: usize = 6;
    pub(super) const SIZE_BYTES: usize = 7;
    pub(super) const ALLOCATED_BYTES: usize = 8;
    pub(super) const DISK_FORMAT: usize = 9;
    pub(super) const UID: usize = 10;
    pub(super) const GID: usize = 11;
    pub(super) const MODE: usize = 12;
    pub(super) const CREATED_AT: usize = 13;
    pub(super) const UPDATED_AT: usize = 14;
    pub(super) const STATUS_AT: usize = 15;
    pub(super) const MODIFIED_AT: usize = 16;
    pub(super) const ORIGIN: usize = 17;
    pub(super) const BOUND_DIGEST: usize = 18;
    pub(super) const MESSAGE: usize = 19;
    pub(super) const ENTERED_AT: usize = 20;
    pub(super) const IS_PROVISIONAL: usize = 21;
    pub(super) const VIRTUAL_SIZE: usize = 22;
    pub(super) const DETAILS: usize = 23;
    pub(super) const EXPECTED: usize = 24;
    pub(super) const CHECKSUMS: usize = 25;
    pub(super) const LOCATION: usize = 26;
}

/// Writes the first row of an image.
pub(super) fn insert(connection: &Connection, draft: &Draft) -> rusqlite::Result<Image> {
    connection
        .prepare_cached(
            "INSERT INTO images (id, version, name, unique_name, status, content, uid, gid, mode,
                 created_at, updated_at, status_at, modified_at, entered_at,
                 is_provisional, details)
             VALUES (:id, 1, :name, :unique, :status, :content, :uid, :gid, :mode,
                 :at, :at, :at, :at, :entered, :provisional, :details)",
        )?
        .execute(named_params! {
            ":id": draft.id.as_bytes(),
            ":name": draft.name.as_str(),
            ":unique": draft.status.has_unique_names().then(|| draft.name.as_str()),
            ":status": draft.status.name(),
            ":content": kind(&Content::Absent),
            ":uid": draft.ownership.uid,
            ":gid": draft.ownership.gid,
            ":mode": draft.ownership.mode,
            ":at": draft.created.at.as_nanoseconds(),
            ":entered": signed(draft.created.age.as_nanoseconds())?,
            ":provisional": draft.is_provisional,
            ":details": texts::details(&draft.details),
        })?;
    Ok(Image {
        id: draft.id,
        number: ImageNumber::new(unsigned(connection.last_insert_rowid())?),
        version: 1,
        name: draft.name.clone(),
        status: draft.status,
        content: Content::Absent,
        ownership: draft.ownership,
        created_at: draft.created.at,
        updated_at: draft.created.at,
        status_at: draft.created.at,
        entered_at: draft.created.age,
        modified_at: draft.created.at,
        origin: None,
        bound_digest: None,
        is_provisional: draft.is_provisional,
        expected: Expected::default(),
        checksums: Checksums::default(),
        details: draft.details.clone(),
        message: None,
    })
}

/// Writes `image` over the row of the version that was read. Answers false when it has another.
pub(super) fn update(connection: &Connection, image: &Image) -> rusqlite::Result<bool> {
    let seal = image.content.seal();
    let digest = image.content.digest();
    let digest = digest.as_ref().map(Digest::as_bytes);
    let located = image.content.located();
    let size_bytes =
        seal.map(|seal| seal.size_bytes).or(located.map(|located| located.fingerprint.size_bytes));
    let held = match image.content {
        Content::Sealed(_) => digest,
        Content::Absent | Content::Staged | Content::Located(_) | Content::Gone(_) => None,
    };
    let entered = signed(image.entered_at.as_nanoseconds())?;
    let changed = connection
        .prepare_cached(
            "UPDATE images SET version = version + 1, name = :name, unique_name = :unique,
                 status = :status, content = :content, digest = :digest, held_digest = :held,
                 size_bytes = :size, allocated_bytes = :allocated, disk_format = :format,
                 uid = :uid, gid = :gid, mode = :mode, updated_at = :updated,
                 status_at = :status_at, modified_at = :modified, origin = :origin,
                 bound_digest = :bound, message = :message, entered_at = :entered,
                 due_from = :due, is_provisional = :provisional, virtual_size = :virtual,
                 details = :details, expected = :expected, checksums = :checksums,
                 location = :location
             WHERE id = :id AND version = :version",
        )?
        .execute(named_params! {
            ":id": image.id.as_bytes(),
            ":version": signed(image.version)?,
            ":name": image.name.as_str(),
            ":unique": image.status.has_unique_names().then(|| image.name.as_str()),
            ":status": image.status.name(),
            ":content": kind(&image.content),
            ":digest": digest,
            ":held": held,
            ":size": size_bytes.map(signed).transpose()?,
            ":allocated": seal.map(|seal| signed(seal.allocated_bytes)).transpose()?,
            ":format": image.content.format().map(DiskFormat::name),
            ":uid": image.ownership.uid,
            ":gid": image.ownership.gid,
            ":mode": image.ownership.mode,
            ":updated": image.updated_at.as_nanoseconds(),
            ":status_at": image.status_at.as_nanoseconds(),
            ":modified": image.modified_at.as_nanoseconds(),
            ":origin": image.origin.map(Status::name),
            ":bound": image.bound_digest.as_ref().map(Digest::as_bytes),
            ":message": image.message,
            ":entered": entered,
            ":due": image.status.expiry().filter(|_| !image.ownership.is_protected()).map(|_| entered),
            ":provisional": image.is_provisional,
            ":virtual": image.content.virtual_size_bytes().map(signed).transpose()?,
            ":location": located.map(texts::location),
            ":details": texts::details(&image.details),
            ":expected": texts::expected(&image.expected),
            ":checksums": texts::checksums(&image.checksums),
        })?;
    Ok(changed == 1)
}

/// Reads the columns of [`COLUMNS`].
pub(super) fn image_of(row: &Row<'_>) -> rusqlite::Result<Image> {
    let name = name_of(row, place::NAME)?;
    let origin = row.get::<_, Option<String>>(place::ORIGIN)?;
    let time = |column| row.get(column).map(Timestamp::from_nanoseconds);
    let text =
        |column| row.get_ref(column)?.as_str_or_null().map_err(|error| broken(&error.to_string()));
    Ok(Image {
        id: ImageId::from_bytes(row.get(place::ID)?),
        number: ImageNumber::new(unsigned(row.get(place::NUMBER)?)?),
        version: unsigned(row.get(place::VERSION)?)?,
        name,
        status: status_of(row.get_ref(place::STATUS)?)?,
        content: content_of(row)?,
        ownership: Ownership {
            uid: row.get(place::UID)?,
            gid: row.get(place::GID)?,
            mode: row.get(place::MODE)?,
        },
        created_at: time(place::CREATED_AT)?,
        updated_at: time(place::UPDATED_AT)?,
        status_at: time(place::STATUS_AT)?,
        modified_at: time(place::MODIFIED_AT)?,
        origin: origin.as_deref().map(status_named).transpose()?,
        bound_digest: row.get::<_, Option<[u8; 32]>>(place::BOUND_DIGEST)?.map(Digest::from_bytes),
        entered_at: StoreTime::from_nanoseconds(unsigned(row.get(place::ENTERED_AT)?)?),
        is_provisional: row.get(place::IS_PROVISIONAL)?,
        expected: texts::expected_of(text(place::EXPECTED)?)?,
        checksums: texts::checksums_of(text(place::CHECKSUMS)?)?,
        details: texts::details_of(text(place::DETAILS)?)?,
        message: row.get(place::MESSAGE)?,
    })
}

const fn kind(content: &Content) -> &'static str {
    match content {
        Content::Absent => "absent",
        Content::Staged => "staged",
        Content::Sealed(_) => "sealed",
        Content::Located(_) => "located",
        Content::Gone(_) => "gone",
    }
}

fn content_of(row: &Row<'_>) -> rusqlite::Result<Content> {
    let kind = row.get_ref(place::CONTENT)?.as_str().map_err(|error| broken(&error.to_string()))?;
    match kind {
        "absent" => Ok(Content::Absent),
        "staged" => Ok(Content::Staged),
        "sealed" => Ok(Content::Sealed(seal_of(row)?)),
        "located" => Ok(Content::Located(Box::new(located_of(row)?))),
        "gone" => Ok(Content::Gone(seal_of(row)?)),
        other => Err(broken(&format!("content {other:?}"))),
    }
}

fn located_of(row: &Row<'_>) -> rusqlite::Result<Located> {
    let location = row.get_ref(place::LOCATION)?;
    let location = location.as_str().map_err(|error| broken(&error.to_string()))?;
    let size_bytes = unsigned(row.get(place::SIZE_BYTES)?)?;
    let (path, reader, fingerprint) = texts::location_of(location, size_bytes)?;
    Ok(Located {
        path,
        reader,
        fingerprint,
        format: format_of(row)?,
        virtual_size_bytes: virtual_size_of(row)?,
        digest: row.get::<_, Option<[u8; 32]>>(place::DIGEST)?.map(Digest::from_bytes),
    })
}

fn format_of(row: &Row<'_>) -> rusqlite::Result<DiskFormat> {
    let format = row.get_ref(place::DISK_FORMAT)?;
    let format = format.as_str().map_err(|error| broken(&error.to_string()))?;
    DiskFormat::from_name(format).ok_or_else(|| broken(&format!("disk_format {format:?}")))
}

fn virtual_size_of(row: &Row<'_>) -> rusqlite::Result<Option<u64>> {
    row.get::<_, Option<i64>>(place::VIRTUAL_SIZE)?.map(unsigned).transpose()
}

fn seal_of(row: &Row<'_>) -> rusqlite::Result<Seal> {
    Ok(Seal {
        digest: Digest::from_bytes(row.get(place::DIGEST)?),
        size_bytes: unsigned(row.get(place::SIZE_BYTES)?)?,
        allocated_bytes: unsigned(row.get(place::ALLOCATED_BYTES)?)?,
        format: format_of(row)?,
        virtual_size_bytes: virtual_size_of(row)?,
    })
}

/// The name in a column.
pub(super) fn name_of(row: &Row<'_>, column: usize) -> rusqlite::Result<ImageName> {
    let name = row.get_ref(column)?.as_bytes().map_err(|error| broken(&error.to_string()))?;
    ImageName::new(name).map_err(|fault| broken(&format!("name: {fault}")))
}

/// The status that a column names.
pub(super) fn status_of(value: ValueRef<'_>) -> rusqlite::Result<Status> {
    let name = value.as_str().map_err(|error| broken(&error.to_string()))?;
    status_named(name)
}

/// The status of that name.
pub(super) fn status_named(name: &str) -> rusqlite::Result<Status> {
    Status::from_name(name).ok_or_else(|| broken(&format!("status {name:?}")))
}

/// The moment by the store's own clock in the column `entered_at`.
pub(super) fn store_time(row: &Row<'_>) -> rusqlite::Result<StoreTime> {
    unsigned(row.get("entered_at")?).map(StoreTime::from_nanoseconds)
}

/// A number that is never negative.
pub(super) fn unsigned(value: i64) -> rusqlite::Result<u64> {
    u64::try_from(value).map_err(|_| broken(&format!("{value} is negative")))
}

/// A number as a column takes it.
pub(super) fn signed(value: u64) -> rusqlite::Result<i64> {
    i64::try_from(value).map_err(|_| broken(&format!("{value} is out of range")))
}

/// What makes a row that makes no sense an error.
pub(super) fn broken(what: &str) -> rusqlite::Error {
    let fault = FromSqlError::Other(what.into());
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, fault.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_read_from_its_place() {
        let listed: Vec<&str> = COLUMNS.split(',').map(|column| column.trim()).collect();
        let places = [
            (place::NUMBER, "i.number"),
            (place::ID, "i.id"),
            (place::VERSION, "i.version"),
            (place::NAME, "i.name"),
            (place::STATUS, "i.status"),
            (place::CONTENT, "i.content"),
            (place::DIGEST, "i.digest"),
            (place::SIZE_BYTES, "i.size_bytes"),
            (place::ALLOCATED_BYTES, "i.allocated_bytes"),
            (place::DISK_FORMAT, "i.disk_format"),
            (place::UID, "i.uid"),
            (place::GID, "i.gid"),
            (place::MODE, "i.mode"),
            (place::CREATED_AT, "i.created_at"),
            (place::UPDATED_AT, "i.updated_at"),
            (place::STATUS_AT, "i.status_at"),
            (place::MODIFIED_AT, "i.modified_at"),
            (place::ORIGIN, "i.origin"),
            (place::BOUND_DIGEST, "i.bound_digest"),
            (place::MESSAGE, "i.message"),
            (place::ENTERED_AT, "i.entered_at"),
            (place::IS_PROVISIONAL, "i.is_provisional"),
            (place::VIRTUAL_SIZE, "i.virtual_size"),
            (place::DETAILS, "i.details"),
            (place::EXPECTED, "i.expected"),
            (place::CHECKSUMS, "i.checksums"),
            (place::LOCATION, "i.location"),
        ];
        assert_eq!(listed.len(), places.len());
        for (place, column) in places {
            assert_eq!(listed.get(place), Some(&column));
        }
    }
}
