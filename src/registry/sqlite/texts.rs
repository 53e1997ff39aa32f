//! What of a record is kept as a text of JSON, as nobody looks for it: NULL where there is nothing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::record::broken;
use crate::image::{
    Algorithm, Checksum, Checksums, Details, Digest, DiskFormat, Expected, Fingerprint, Located,
    Timestamp, User,
};

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DetailsText {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_disk: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ram: Option<u32>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExpectedText {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    checksums: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocationText {
    path: String,
    uid: u32,
    gid: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<u32>,
    inode: u64,
    modified_at: i64,
    changed_at: i64,
}

/// Where data lies that is not the store's.
pub(super) fn location(located: &Located) -> Option<String> {
    text(&LocationText {
        path: located.path.clone(),
        uid: located.reader.uid,
        gid: located.reader.gid,
        groups: located.reader.groups.clone(),
        inode: located.fingerprint.inode,
        modified_at: located.fingerprint.modified_at.as_nanoseconds(),
        changed_at: located.fingerprint.changed_at.as_nanoseconds(),
    })
}

/// Reads where data lies: the path, who reads it, and by what a file of this length is known.
pub(super) fn location_of(
    text: &str,
    size_bytes: u64,
) -> rusqlite::Result<(String, User, Fingerprint)> {
    let kept: LocationText = parse(text)?;
    let fingerprint = Fingerprint {
        inode: kept.inode,
        size_bytes,
        modified_at: Timestamp::from_nanoseconds(kept.modified_at),
        changed_at: Timestamp::from_nanoseconds(kept.changed_at),
    };
    let reader = User { uid: kept.uid, gid: kept.gid, groups: kept.groups };
    Ok((kept.path, reader, fingerprint))
}

/// What is said of an image.
pub(super) fn details(details: &Details) -> Option<String> {
    if details.is_empty() {
        return None;
    }
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    text(&DetailsText {
        tags: details.tags().to_vec(),
        properties: details.properties().map(owned).collect(),
        min_disk: details.min_disk,
        min_ram: details.min_ram,
    })
}

/// Reads what is said of an image.
pub(super) fn details_of(text: Option<&str>) -> rusqlite::Result<Details> {
    let Some(text) = text else { return Ok(Details::default()) };
    let kept: DetailsText = parse(text)?;
    let fault = |_| broken("details");
    let mut details = Details::default();
    (details.min_disk, details.min_ram) = (kept.min_disk, kept.min_ram);
    details.set_tags(&kept.tags.join(",")).map_err(fault)?;
    for (key, value) in &kept.properties {
        details.set_property(key, value).map_err(fault)?;
    }
    Ok(details)
}

/// What was declared of an image.
pub(super) fn expected(expected: &Expected) -> Option<String> {
    if *expected == Expected::default() {
        return None;
    }
    text(&ExpectedText {
        size: expected.size,
        blake3: expected.blake3.map(|digest| digest.to_string()),
        checksums: by_name(&expected.checksums),
        format: expected.format.map(|format| format.name().to_owned()),
    })
}

/// Reads what was declared of an image.
pub(super) fn expected_of(text: Option<&str>) -> rusqlite::Result<Expected> {
    let Some(text) = text else { return Ok(Expected::default()) };
    let kept: ExpectedText = parse(text)?;
    let digest = |text: String| Digest::parse(&text).ok_or_else(|| broken("declared blake3"));
    let format =
        |name: String| DiskFormat::from_name(&name).ok_or_else(|| broken("declared format"));
    Ok(Expected {
        size: kept.size,
        blake3: kept.blake3.map(digest).transpose()?,
        checksums: of_names(&kept.checksums)?,
        format: kept.format.map(format).transpose()?,
    })
}

/// Digests beside the store's own.
pub(super) fn checksums(checksums: &Checksums) -> Option<String> {
    if checksums.is_empty() { None } else { text(&by_name(checksums)) }
}

/// Reads digests beside the store's own.
pub(super) fn checksums_of(text: Option<&str>) -> rusqlite::Result<Checksums> {
    text.map_or(Ok(Checksums::default()), |text| of_names(&parse(text)?))
}

fn by_name(checksums: &Checksums) -> BTreeMap<String, String> {
    let named = |(algorithm, hex): (Algorithm, &str)| (algorithm.name().to_owned(), hex.to_owned());
    checksums.iter().map(named).collect()
}

fn of_names(kept: &BTreeMap<String, String>) -> rusqlite::Result<Checksums> {
    let mut checksums = Checksums::default();
    for (name, hex) in kept {
        let checksum =
            Algorithm::from_name(name).and_then(|algorithm| Checksum::parse(algorithm, hex));
        checksums.put(checksum.ok_or_else(|| broken("checksum"))?);
    }
    Ok(checksums)
}

fn text(kept: &impl Serialize) -> Option<String> {
    serde_json::to_string(kept).ok()
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| broken(&error.to_string()))
}
