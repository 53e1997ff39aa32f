//! Copying a store while it is in use: first the records, as they are at one moment, then the data they have.
//!
//! Data never changes, but may be purged while it is copied: then its image was, and its copy is told the same.

use std::sync::Arc;

use super::clock::now;
use super::manifest::Manifest;
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageId, ImageNumber, Moment, Seal, StoreTime};
use crate::ingest::Upload;
use crate::lifecycle::{Decision, Event, Status, decide};
use crate::registry::{Change, Registry};
use crate::store::{Store, StoreFile};

/// Records that are read at once.
const PAGE: u32 = 256;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backup {
    /// Images that have their data in the copy.
    pub images: u64,
    /// Contents that were copied.
    pub contents: u64,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// Images of which the data was damaged or missing: they are in the copy without it.
    pub damaged: u64,
}

/// Copies from `source` to `copy` the data of all images that `registry`, which is the copy's, has. `was_purged`
/// says whether an image whose data is not there has lost it since by right.
///
/// # Errors
/// One of the stores can't be read or written. Data that is damaged is told in what is answered.
pub fn back_up(
    source: &dyn Store,
    (copy, registry): (&dyn Store, &dyn Registry),
    was_purged: &dyn Fn(ImageId) -> Result<bool>,
) -> Result<Backup> {
    let mut backup = Backup::default();
    let mut after = ImageNumber::new(0);
    loop {
        let page = registry.page(None, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(backup) };
        after = last.image.number;
        for image in page.into_iter().map(|listed| listed.image) {
            let Content::Sealed(seal) = image.content else { continue };
            match copy_content(source, copy, (&image, &seal), &mut backup) {
                Ok(()) => {
                    backup.images += 1;
                    if let Some(manifest) = Manifest::of(&image) {
                        copy.put_manifest(image.id, &manifest.to_text())?;
                    }
                }
                Err(error) if error.tells_of_damage() => {
                    let was_purged = was_purged(image.id)?;
                    let_go(registry, &image, was_purged)?;
                    if !was_purged {
                        log::error!("image={} op=backup: {error}", image.id);
                        backup.damaged += 1;
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Copies a content that is not there yet, holes and all, and sees that it is what it was.
fn copy_content(
    source: &dyn Store,
    copy: &dyn Store,
    (image, seal): (&Image, &Seal),
    backup: &mut Backup,
) -> Result<()> {
    if copy.open(&seal.digest).is_ok() {
        return Ok(());
    }
    let file: Arc<StoreFile> = match source.open(&seal.digest) {
        Ok(file) => file,
        // What is sealed and not published yet has no other name.
        Err(_) => match source.staged(image.id)? {
            Some(file) => Arc::new(file),
            // It was given its name in between.
            None => source.open(&seal.digest)?,
        },
    };
    let mut upload = Upload::new(Arc::new(copy.stage(image.id)?));
    let taken = upload.take(&file, &|_| Ok(())).and_then(|()| upload.examine());
    let found = taken.inspect_err(|_| {
        // What is half there is of no use.
        let _ = copy.discard(image.id);
    })?;
    if (found.seal.digest, found.seal.size_bytes) != (seal.digest, seal.size_bytes) {
        copy.discard(image.id)?;
        return Err(Error::Damaged(format!("{} is not what was sealed", file.name())));
    }
    copy.seal(image.id, seal)?;
    backup.contents += 1;
    backup.size_bytes += seal.size_bytes;
    Ok(())
}

/// Has the copy say of an image that its data is not there: that it was purged, or that it is damaged.
fn let_go(registry: &dyn Registry, image: &Image, was_purged: bool) -> Result<()> {
    const WITHHELD: &str = "its data was not whole when the store was copied";
    let event = if was_purged { image.status.removal(false) } else { Event::Withhold };
    let moment = Moment { at: now(), age: StoreTime::from_nanoseconds(0) };
    let mut next = match decide(image.subject(), event) {
        Decision::Step(step) => image.stepped(step, moment),
        // From the trash it comes back withheld.
        Decision::Already | Decision::Denied(_) => {
            let origin = image.origin.map(|_| Status::Deactivated);
            Image { origin, ..image.clone() }
        }
    };
    if !was_purged {
        next.message = Some(WITHHELD.into());
    }
    registry.commit(Change::update(next))
}
