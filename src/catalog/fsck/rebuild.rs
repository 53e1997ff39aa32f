//! Records that are missing are made again from the manifests, and from data that nobody names.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Tell, draft_of_found, mended, remains};
use crate::catalog::Shared;
use crate::catalog::manifest::Manifest;
use crate::error::{Error, Result};
use crate::image::{Content, Digest, Image, ImageId, Seal, Timestamp};
use crate::ingest::Upload;
use crate::lifecycle::Status;
use crate::registry::{Change, Key};

impl Shared {
    /// Makes the records again that manifests have, and the registry has not, or older ones. What leaves
    /// `active` comes first, then what is known and has changed, then what is not known, the newest first: of
    /// several with one name that one has it, and the others are in the trash. Answers those that can't be.
    pub(super) fn rebuild(&self, tell: &mut Tell<'_>) -> Result<Vec<ImageId>> {
        let mut missing: BTreeMap<(u8, Reverse<i64>, ImageId), Manifest> = BTreeMap::new();
        self.store.each_manifest(&mut |name, text| {
            let Some(manifest) = Manifest::parse(text) else { return Ok(()) };
            let Some(id) = manifest.id().filter(|id| ImageId::parse(name) == Some(*id)) else {
                return Ok(());
            };
            let record = self.registry.image(Key::Id(id))?;
            let is_known = record.as_ref().is_some_and(|image| knows(image, &manifest));
            let rank = match record {
                Some(_) if !manifest.is_active() => 0,
                Some(_) => 1,
                None => 2,
            };
            if !is_known {
                missing.insert((rank, Reverse(manifest.created_at()), id), manifest);
            }
            Ok(())
        })?;
        let mut refused = Vec::new();
        let began = self.clock.moment().at.as_nanoseconds();
        for (place, ((.., id), manifest)) in (0_i64..).zip(missing) {
            // Of those that share a folder and a name the newest is seen by it.
            let status_at = Timestamp::from_nanoseconds(began.saturating_sub(place));
            match self.adopt(id, &manifest, status_at) {
                Ok(image) => {
                    let (name, status) = (&image.name, image.status);
                    mended(tell, format!("image {id} ({name}) had no such record: it is {status}"));
                }
                Err(error) => {
                    remains(tell, format!("image {id} has a manifest and no record: {error}"));
                    refused.push(id);
                }
            }
        }
        Ok(refused)
    }

    /// The record that an image will have.
    fn restored(&self, id: ImageId, manifest: &Manifest) -> Result<Image> {
        let senseless = || Error::Damaged("the manifest makes no sense".into());
        let mut image = manifest.to_image(self.clock.moment(), 0).ok_or_else(senseless)?;
        let seal = *image.content.seal().ok_or_else(senseless)?;
        let is_lasting = image.status.is_recoverable() || image.status.restore_event().is_some();
        if !is_lasting {
            return Err(senseless());
        }
        let old = self.registry.image(Key::Id(id))?;
        if old.and_then(|old| old.bound_digest).is_some_and(|bound| bound != seal.digest) {
            return Err(Error::Rejected("the id was active with other content".into()));
        }
        if image.status.is_recoverable() {
            image.origin.get_or_insert(Status::Active);
        }
        match self.store.open(&seal.digest).and_then(|file| file.allocated_bytes()) {
            Ok(allocated_bytes) => {
                image.content = Content::Sealed(Seal { allocated_bytes, ..seal });
            }
            Err(error) if error.tells_of_damage() => {
                image.message = Some(format!("damaged: {error}"));
                image.origin = image.origin.map(|_| Status::Deactivated);
                if image.status.has_unique_names() {
                    image.status = Status::Deactivated;
                }
            }
            Err(error) => return Err(error),
        }
        let holder = self.registry.find(image.status, &image.name, None)?;
        if image.status.has_unique_names() && holder.is_some_and(|holder| holder.id != id) {
            image.origin = Some(image.status);
            image.status = Status::PendingDelete;
        }
        Ok(image)
    }

    fn adopt(&self, id: ImageId, manifest: &Manifest, status_at: Timestamp) -> Result<Image> {
        let mut image = self.restored(id, manifest)?;
        image.status_at = status_at;
        // What is left of it in an older registry is not what it became.
        if let Some(old) = self.registry.image(Key::Id(id))? {
            self.registry.commit(Change { forgotten: vec![old], ..Change::default() })?;
        }
        self.registry.adopt(image)?;
        let image = self.load(id)?;
        if let Some(manifest) = Manifest::of(&image) {
            self.store.put_manifest(id, &manifest.to_text())?;
        }
        Ok(image)
    }

    /// Makes a record of data of which nobody knows whose it is: it is withheld until somebody has looked.
    pub(super) fn adopt_nameless(&self, digest: &Digest) -> Result<Image> {
        let examined = Upload::resume(self.store.open(digest)?)?.examine()?;
        let draft = draft_of_found(ImageId::random(), Status::Deactivated, self.clock.moment())?;
        let mut image = self.registry.create(draft)?;
        image.content = Content::Sealed(Seal { digest: *digest, ..examined.seal });
        image.bound_digest = Some(*digest);
        image.message = Some("found by fsck: no manifest names it".into());
        self.registry.commit(Change::update(image.clone()))?;
        if let Some(manifest) = Manifest::of(&image) {
            self.store.put_manifest(image.id, &manifest.to_text())?;
        }
        Ok(image)
    }
}

/// Whether the record of an image tells what became of its data: a manifest has nothing to add.
pub(super) fn knows(image: &Image, manifest: &Manifest) -> bool {
    let has_come = match image.content {
        Content::Sealed(_) | Content::Gone(_) | Content::Located(_) => true,
        Content::Absent | Content::Staged => false,
    };
    has_come && !manifest.is_newer_than(image)
}
