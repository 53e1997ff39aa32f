//! What is kept beside sealed data, so that the registry can be made again from it.

use serde::{Deserialize, Serialize};

use crate::image::{Content, Digest, Image};

/// The manifest of an image as it is written. The domain's types know no JSON; this one does.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    id: String,
    name: String,
    blake3: String,
    size: u64,
    disk_format: String,
    owner: u32,
    group: u32,
    mode: u32,
    created_at_ns: i64,
    modified_at_ns: i64,
}

impl Manifest {
    /// The manifest of a sealed image; none for others.
    pub(super) fn of(image: &Image) -> Option<Self> {
        let Content::Sealed(seal) = image.content else {
            return None;
        };
        Some(Self {
            version: 1,
            id: image.id.to_string(),
            name: image.name.to_string(),
            blake3: seal.digest.to_string(),
            size: seal.size_bytes,
            disk_format: seal.format.name().to_owned(),
            owner: image.ownership.uid,
            group: image.ownership.gid,
            mode: image.ownership.mode,
            created_at_ns: image.created_at.as_nanoseconds(),
            modified_at_ns: image.modified_at.as_nanoseconds(),
        })
    }

    /// The text that is stored.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The digest that a stored text names, if it can be read.
    pub(super) fn digest_in(text: &str) -> Option<Digest> {
        let manifest: Self = serde_json::from_str(text).ok()?;
        Digest::parse(&manifest.blake3)
    }
}
