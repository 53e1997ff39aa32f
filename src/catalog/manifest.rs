//! What is kept beside sealed data, so that the registry can be made again from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Shared;
use super::reserve::Claim;
use crate::error::Result;
use crate::image::{
    Algorithm, Checksum, Checksums, Content, Details, Digest, DiskFormat, Expected, Image, ImageId,
    ImageName, ImageNumber, Moment, Ownership, Seal, Timestamp,
};
use crate::lifecycle::Status;
use crate::registry::Key;

/// Manifests that are written again between two commits.
const BATCH: u32 = 64;

/// The manifest of an image as it is written. The domain's types know no JSON; this one does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The version of the record that it was made of: by that it is known from an older one.
    #[serde(default)]
    record: u64,
    id: String,
    name: String,
    blake3: String,
    size: u64,
    disk_format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    /// Manifests of version 1 have none: they are of images that were active once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    owner: u32,
    group: u32,
    mode: u32,
    created_at_ns: i64,
    modified_at_ns: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    checksums: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_disk: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min_ram: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Manifest {
    /// The manifest of a sealed image; none for others. One that is to be published is written as active.
    #[must_use]
    pub fn of(image: &Image) -> Option<Self> {
        let Content::Sealed(seal) = image.content else {
            return None;
        };
        let status =
            if image.status.publication().is_some() { Status::Active } else { image.status };
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let named = |(algorithm, hex): (Algorithm, &str)| owned((algorithm.name(), hex));
        Some(Self {
            version: 2,
            record: image.version,
            id: image.id.to_string(),
            name: image.name.to_string(),
            blake3: seal.digest.to_string(),
            size: seal.size_bytes,
            disk_format: seal.format.name().to_owned(),
            virtual_size: seal.virtual_size_bytes,
            status: Some(status.name().to_owned()),
            origin: image.origin.map(|origin| origin.name().to_owned()),
            owner: image.ownership.uid,
            group: image.ownership.gid,
            mode: image.ownership.mode,
            created_at_ns: image.created_at.as_nanoseconds(),
            modified_at_ns: image.modified_at.as_nanoseconds(),
            checksums: image.checksums.iter().map(named).collect(),
            tags: image.details.tags().to_vec(),
            properties: image.details.properties().map(owned).collect(),
            min_disk: image.details.min_disk,
            min_ram: image.details.min_ram,
            message: image.message.clone(),
        })
    }

    /// The text that is stored.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The manifest that a stored text says, if it can be read.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The digest that a stored text names, if it can be read.
    pub(super) fn digest_in(text: &str) -> Option<Digest> {
        Digest::parse(&Self::parse(text)?.blake3)
    }

    /// Whether it is of the same image and content, and was written when less was kept.
    pub(super) fn is_older_form_of(&self, other: &Self) -> bool {
        self.version < other.version && self.id == other.id && self.has_content_of(other)
    }

    /// Whether it names the same content.
    pub(super) fn has_content_of(&self, other: &Self) -> bool {
        (&self.blake3, self.size) == (&other.blake3, other.size)
    }

    /// The image that it is of.
    pub(super) fn id(&self) -> Option<ImageId> {
        ImageId::parse(&self.id)
    }

    /// Whether it was made of a later record of the image than this one.
    pub(super) const fn is_newer_than(&self, image: &Image) -> bool {
        self.record > image.version
    }

    /// Whether it says what another does.
    pub(super) fn agrees_with(&self, right: &Self) -> bool {
        Self { record: right.record, ..self.clone() } == *right
    }

    /// Whether the image was active then.
    pub(super) fn is_active(&self) -> bool {
        self.status.as_deref().is_none_or(|status| status == Status::Active.name())
    }

    /// When that was made.
    pub(super) const fn created_at(&self) -> i64 {
        self.created_at_ns
    }

    /// The record of the image as far as the manifest has it, made anew at `now`. None if it makes no sense.
    #[must_use]
    pub fn to_image(&self, now: Moment, allocated_bytes: u64) -> Option<Image> {
        let known = self.status.as_deref().map_or(Some(Status::Active), Status::from_name)?;
        let mut details = Details::default();
        details.set_tags(&self.tags.join(",")).ok()?;
        for (key, value) in &self.properties {
            details.set_property(key, value).ok()?;
        }
        (details.min_disk, details.min_ram) = (self.min_disk, self.min_ram);
        let mut checksums = Checksums::default();
        for (name, hex) in &self.checksums {
            checksums.put(Checksum::parse(Algorithm::from_name(name)?, hex)?);
        }
        let digest = Digest::parse(&self.blake3)?;
        Some(Image {
            id: self.id()?,
            number: ImageNumber::new(0),
            version: 1,
            name: ImageName::new(self.name.as_bytes()).ok()?,
            status: known,
            content: Content::Sealed(Seal {
                digest,
                size_bytes: self.size,
                allocated_bytes,
                format: DiskFormat::from_name(&self.disk_format)?,
                virtual_size_bytes: self.virtual_size,
            }),
            ownership: Ownership { uid: self.owner, gid: self.group, mode: self.mode },
            created_at: Timestamp::from_nanoseconds(self.created_at_ns),
            updated_at: now.at,
            status_at: now.at,
            entered_at: now.age,
            modified_at: Timestamp::from_nanoseconds(self.modified_at_ns),
            origin: self.origin.as_deref().and_then(Status::from_name),
            bound_digest: Some(digest),
            is_provisional: false,
            expected: Expected::default(),
            checksums,
            details,
            message: self.message.clone(),
        })
    }
}

impl Shared {
    /// A manifest that can't be written does not undo a publication: the registry has it all.
    /// Answers whether it was written.
    pub(super) fn write_manifest(&self, image: &Image) -> bool {
        let Some(manifest) = Manifest::of(image) else {
            return false;
        };
        let _claim = self.reservations.reserve(Claim::Manifest(image.id));
        let written = self.store.put_manifest(image.id, &manifest.to_text());
        written
            .inspect_err(|error| {
                log::error!("image={} op=manifest errno={}: {error}", image.id, error.errno());
            })
            .is_ok()
    }

    /// Writes the manifests again that are outdated, until `is_stopped`.
    pub(super) fn refresh_manifests(&self, is_stopped: impl Fn() -> bool) -> Result<()> {
        loop {
            let batch = self.registry.outdated(BATCH)?;
            let mut settled = Vec::new();
            if !batch.is_empty() {
                // A manifest is not to say what a loss of power may take back.
                self.registry.flush()?;
            }
            for (id, version) in &batch {
                if is_stopped() {
                    break;
                }
                match self.refresh_manifest(*id) {
                    Ok(()) => settled.push((*id, *version)),
                    Err(error) => {
                        log::error!("image={id} op=manifest errno={}: {error}", error.errno());
                    }
                }
            }
            if !settled.is_empty() {
                self.registry.settle_outdated(&settled)?;
            }
            if settled.len() < batch.len() || batch.is_empty() {
                return Ok(());
            }
        }
    }

    fn refresh_manifest(&self, id: ImageId) -> Result<()> {
        let _claim = self.reservations.reserve(Claim::Manifest(id));
        let Some(image) = self.registry.image(Key::Id(id))? else { return Ok(()) };
        // What an older registry does not know of yet is not to be overwritten by what it knows.
        let there = self.store.manifest(id)?.as_deref().and_then(Manifest::parse);
        if there.is_some_and(|there| there.is_newer_than(&image)) {
            return Ok(());
        }
        let manifest = Manifest::of(&image);
        manifest.map_or(Ok(()), |manifest| self.store.put_manifest(id, &manifest.to_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    fn manifest(version: u32, id: char, blake3: char) -> Manifest {
        let text = format!(
            r#"{{"version": {version}, "id": "{id}", "name": "x", "blake3": "{blake3}", "size": 1, "disk_format": "raw",
                "owner": 0, "group": 0, "mode": 420, "created_at_ns": 0, "modified_at_ns": 0}}"#
        );
        Manifest::parse(&text).expect("a manifest")
    }

    #[test]
    fn an_older_form_is_of_the_same_image_and_content_and_of_an_earlier_version() {
        let new = manifest(2, 'a', 'c');
        assert!(manifest(1, 'a', 'c').is_older_form_of(&new));
        for other in [
            manifest(2, 'a', 'c'),
            manifest(3, 'a', 'c'),
            manifest(1, 'b', 'c'),
            manifest(1, 'a', 'd'),
        ] {
            assert!(!other.is_older_form_of(&new), "{other:?}");
        }
    }
}
