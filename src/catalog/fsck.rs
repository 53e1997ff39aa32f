//! Looking a whole store through that nobody has mounted: what is wrong, and mending it.
//!
//! What is mended loses nothing: data that a manifest names is adopted, not dropped, and data that is damaged is
//! withheld, not removed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::manifest::Manifest;
use super::{Parts, Policy, Shared};
use crate::error::{Error, Result};
use crate::image::{Content, Digest, Image, ImageId, ImageNumber, Seal};
use crate::lifecycle::Status;
use crate::registry::{Change, Key};

/// Records that are read at once.
const PAGE: u32 = 256;

/// How a store is to be looked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checkup {
    /// Records that are missing are made again from the manifests.
    pub rebuild: bool,
    /// Data is not read, only looked at from outside.
    pub quick: bool,
}

/// Something that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, on which image or file, and what was done about it.
    pub what: String,
    /// Whether all is well again.
    pub is_mended: bool,
}

type Tell<'a> = dyn FnMut(Finding) + 'a;

fn mended(tell: &mut Tell<'_>, what: String) {
    tell(Finding { what, is_mended: true });
}

fn remains(tell: &mut Tell<'_>, what: String) {
    tell(Finding { what, is_mended: false });
}

/// Looks a store through and mends what can be mended. Each thing that was wrong is told.
///
/// # Errors
/// The registry or the store can't be read or written.
pub fn check(parts: Parts, checkup: Checkup, tell: &mut Tell<'_>) -> Result<()> {
    let faults = parts.registry.check()?;
    let is_sound = faults.is_empty();
    for fault in faults {
        let hint = "move sps.db away and run sps fsck --rebuild";
        remains(tell, format!("sps.db: {fault}: {hint}"));
    }
    if !is_sound {
        return Ok(());
    }
    if parts.registry.recount()? {
        mended(tell, "sps.db: the counts of images were wrong: counted again".into());
    }
    half_done(&parts, tell)?;
    let shared = Shared::settled(parts, Policy::default())?;
    if checkup.rebuild {
        shared.rebuild(tell)?;
    }
    shared.check_orphans(tell)?;
    shared.check_manifests(tell)?;
    shared.check_data(checkup.quick, tell)?;
    while shared.reclaim()? {}
    shared.registry.set_clock(shared.clock.mark())?;
    shared.registry.flush()
}

/// Tells what a daemon that stopped left on its way; it is settled when the catalog is opened.
fn half_done(parts: &Parts, tell: &mut Tell<'_>) -> Result<()> {
    for status in Status::ALL.into_iter().filter(|status| status.failure(false).is_some()) {
        for listed in parts.registry.page(Some(status), ImageNumber::new(0), PAGE)? {
            let image = listed.image;
            mended(tell, format!("image {} ({}) was {status}: settled", image.id, image.name));
        }
    }
    Ok(())
}

impl Shared {
    fn each_image(&self, visit: &mut dyn FnMut(Image) -> Result<()>) -> Result<()> {
        let mut after = ImageNumber::new(0);
        loop {
            let page = self.registry.page(None, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.image.number;
            page.into_iter().try_for_each(|listed| visit(listed.image))?;
        }
    }

    /// Makes the records again that manifests have, and the registry has not, or older ones. What leaves
    /// `active` comes first, then what is known and has changed, then what is not known, the newest first: of
    /// several with one name that one has it, and the others are in the trash.
    fn rebuild(&self, tell: &mut Tell<'_>) -> Result<()> {
        let mut missing: BTreeMap<(u8, Reverse<i64>, ImageId), Manifest> = BTreeMap::new();
        self.store.each_manifest(&mut |_, text| {
            let Some(manifest) = Manifest::parse(text) else { return Ok(()) };
            let Some(id) = manifest.id() else { return Ok(()) };
            let record = self.registry.image(Key::Id(id))?;
            let is_known = record.as_ref().is_some_and(|image| {
                let has_come = !matches!(image.content, Content::Absent | Content::Staged);
                has_come && !manifest.is_newer_than(image)
            });
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
        for ((.., id), manifest) in missing {
            match self.adopt(id, &manifest) {
                Ok(image) => mended(
                    tell,
                    format!(
                        "image {id} ({}) had no such record: it is {}",
                        image.name, image.status
                    ),
                ),
                Err(error) => remains(tell, format!("image {id} has a manifest: {error}")),
            }
        }
        Ok(())
    }

    fn adopt(&self, id: ImageId, manifest: &Manifest) -> Result<Image> {
        let senseless = || Error::Damaged("the manifest makes no sense".into());
        let now = self.clock.moment();
        let mut image = manifest.to_image(now, 0).ok_or_else(senseless)?;
        let seal = *image.content.seal().ok_or_else(senseless)?;
        let file = self.store.open(&seal.digest)?;
        if file.size_bytes()? != seal.size_bytes {
            return Err(Error::Damaged(format!("{} has another length", file.name())));
        }
        let allocated_bytes = file.allocated_bytes()?;
        image.content = Content::Sealed(Seal { allocated_bytes, ..seal });
        let holder = self.registry.find(image.status, &image.name, None)?;
        let is_taken =
            image.status.has_unique_names() && holder.is_some_and(|holder| holder.id != id);
        if is_taken {
            image.origin = Some(image.status);
            image.status = Status::PendingDelete;
        }
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

    fn check_orphans(&self, tell: &mut Tell<'_>) -> Result<()> {
        let mut orphans: BTreeSet<Digest> = BTreeSet::new();
        self.store.each_sealed(&mut |digest| {
            if !self.registry.is_referenced(&digest)? {
                orphans.insert(digest);
            }
            Ok(())
        })?;
        let mut named = BTreeSet::new();
        self.store.each_manifest(&mut |_, text| {
            named.extend(Manifest::digest_in(text).filter(|digest| orphans.contains(digest)));
            Ok(())
        })?;
        // What a manifest names is told of with that.
        for digest in orphans.difference(&named) {
            self.store.drop_sealed(digest)?;
            mended(tell, format!("content {digest} belonged to no image: removed"));
        }
        Ok(())
    }

    /// Holds manifests against records: those that say something else are written again.
    fn check_manifests(&self, tell: &mut Tell<'_>) -> Result<()> {
        let mut known = BTreeMap::new();
        let mut unreadable = Vec::new();
        self.store.each_manifest(&mut |name, text| {
            match (Manifest::parse(text), ImageId::parse(name)) {
                (Some(manifest), Some(id)) if manifest.id() == Some(id) => {
                    known.insert(id, manifest);
                }
                (_, Some(id)) => unreadable.push(id),
                (_, None) => remains(tell, format!("manifests/{name}.json is not a file of sps")),
            }
            Ok(())
        })?;
        self.each_image(&mut |image| {
            let Some(right) = Manifest::of(&image) else { return Ok(()) };
            let found = known.remove(&image.id);
            let is_unreadable = unreadable.contains(&image.id);
            unreadable.retain(|id| *id != image.id);
            if found.as_ref().is_some_and(|found| found.is_newer_than(&image)) {
                let (name, hint) = (&image.name, "run sps fsck --rebuild");
                remains(tell, format!("image {} ({name}) has a later manifest: {hint}", image.id));
                return Ok(());
            }
            if !found.as_ref().is_some_and(|found| found.agrees_with(&right)) {
                self.store.put_manifest(image.id, &right.to_text())?;
                let how = match found {
                    Some(_) => "said something else",
                    None if is_unreadable => "could not be read",
                    None => "was not there",
                };
                let name = &image.name;
                mended(tell, format!("the manifest of image {} ({name}) {how}: written", image.id));
            }
            Ok(())
        })?;
        for (id, manifest) in known {
            let digest = Manifest::digest_in(&manifest.to_text());
            let record = self.registry.image(Key::Id(id))?;
            let was_purged = record.is_some_and(|image| !manifest.is_newer_than(&image));
            if !was_purged && digest.is_some_and(|digest| self.store.open(&digest).is_ok()) {
                let hint = "run sps fsck --rebuild";
                remains(tell, format!("image {id} has data and a manifest, and no record: {hint}"));
            } else {
                self.store.drop_manifest(id)?;
                mended(tell, format!("the manifest of image {id}, whose data is gone: removed"));
            }
        }
        for id in unreadable {
            self.store.drop_manifest(id)?;
            mended(tell, format!("the manifest of image {id}, which can't be read: removed"));
        }
        Ok(())
    }

    /// Looks at the data of every image, and reads it.
    fn check_data(&self, is_quick: bool, tell: &mut Tell<'_>) -> Result<()> {
        if !is_quick {
            self.verify_all(&|_| Ok(()))?;
        }
        self.each_image(&mut |image| {
            let Content::Sealed(seal) = image.content else { return Ok(()) };
            let length = self.store.open(&seal.digest).and_then(|file| file.size_bytes());
            let fault = match length {
                Err(error) => format!("damaged: {error}"),
                Ok(length) if length != seal.size_bytes => {
                    format!("damaged: its data has {length} bytes and had {}", seal.size_bytes)
                }
                Ok(_) if self.store.is_damaged(&seal.digest)? => {
                    image.message.clone().unwrap_or_else(|| "damaged".into())
                }
                Ok(_) => return Ok(()),
            };
            let name = &image.name;
            self.withhold_one(image.id, &fault)?;
            let hint = "upload a whole copy of it, or remove it";
            remains(tell, format!("image {} ({name}): {fault}: withheld: {hint}", image.id));
            Ok(())
        })
    }
}
