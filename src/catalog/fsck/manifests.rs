//! Manifests held against records, and data that no record has.

use std::collections::BTreeSet;

use super::rebuild::knows;
use super::{Checkup, REBUILD, Tell, mended, remains};
use crate::catalog::Shared;
use crate::catalog::each::each_image;
use crate::catalog::manifest::Manifest;
use crate::error::Result;
use crate::image::{Content, Digest, ImageId};
use crate::registry::Key;

/// What the manifests say that no record bears out.
#[derive(Default)]
struct Loose {
    /// Contents that they name.
    named: BTreeSet<Digest>,
    /// Images whose manifest can't be read.
    unreadable: Vec<ImageId>,
}

impl Shared {
    /// Sees that each sealed image has its manifest, and that data and manifests that no record has are
    /// adopted, kept, or removed when they are nobody's. `refused` are images that could not be rebuilt.
    pub(super) fn check_files(
        &self,
        checkup: Checkup,
        refused: &[ImageId],
        tell: &mut Tell<'_>,
    ) -> Result<()> {
        let loose = self.check_strays(refused, tell)?;
        self.check_orphans(checkup, &loose, tell)?;
        self.check_manifests(refused, tell)
    }

    /// Manifests without a record that holds data.
    fn check_strays(&self, refused: &[ImageId], tell: &mut Tell<'_>) -> Result<Loose> {
        let mut loose = Loose::default();
        self.store.each_manifest(&mut |name, text| {
            let digest = Manifest::digest_in(text);
            let Some(id) = ImageId::parse(name) else {
                // It is no file of sps; what it names is kept all the same.
                loose.named.extend(digest);
                return Ok(());
            };
            let image = self.registry.image(Key::Id(id))?;
            if matches!(image.as_ref().map(|image| &image.content), Some(Content::Sealed(_))) {
                return Ok(());
            }
            let manifest = Manifest::parse(text).filter(|found| found.id() == Some(id));
            let is_known = image.is_some_and(|image| match &manifest {
                Some(manifest) => knows(&image, manifest),
                None => image.content.seal().is_some(),
            });
            if is_known {
                self.store.drop_manifest(id)?;
                mended(tell, format!("manifests/{id}.json is of an image without data: removed"));
            } else if manifest.is_none() {
                loose.named.extend(digest);
                loose.unreadable.push(id);
            } else {
                loose.named.extend(digest);
                if !refused.contains(&id) {
                    let what = format!("image {id} has a manifest and no record: {REBUILD}");
                    remains(tell, what);
                }
            }
            Ok(())
        })?;
        Ok(loose)
    }

    /// Data that no record has. What a manifest names is told of with that; what may have been named by one that
    /// can't be read, or whose record was lost, is kept.
    fn check_orphans(&self, checkup: Checkup, loose: &Loose, tell: &mut Tell<'_>) -> Result<()> {
        let mut orphans: BTreeSet<Digest> = BTreeSet::new();
        self.store.each_sealed(&mut |digest| {
            if !loose.named.contains(&digest) && !self.registry.is_referenced(&digest)? {
                orphans.insert(digest);
            }
            Ok(())
        })?;
        let may_be_somebodys = checkup.is_lost || !loose.unreadable.is_empty();
        let mut is_kept = false;
        for digest in orphans {
            if !may_be_somebodys {
                self.store.drop_sealed(&digest)?;
                mended(tell, format!("content {digest} belonged to no image: removed"));
            } else if checkup.rebuild {
                let image = self.adopt_nameless(&digest)?;
                let (name, status) = (&image.name, image.status);
                mended(tell, format!("content {digest} had no name: it is {status}/{name}"));
            } else {
                is_kept = true;
                let why = "belongs to no image, unless a manifest names it that can't be read";
                remains(tell, format!("content {digest} {why}: {REBUILD}"));
            }
        }
        for id in &loose.unreadable {
            if is_kept {
                remains(tell, format!("manifests/{id}.json can't be read: {REBUILD}"));
            } else {
                self.store.drop_manifest(*id)?;
                let what = format!("manifests/{id}.json could not be read, and names nothing");
                mended(tell, format!("{what}: removed"));
            }
        }
        Ok(())
    }

    /// Holds manifests against records: those that say something else are written again.
    fn check_manifests(&self, refused: &[ImageId], tell: &mut Tell<'_>) -> Result<()> {
        let mut outdated = 0_u64;
        each_image(self.registry.as_ref(), None, &mut |image| {
            let Some(right) = Manifest::of(&image) else { return Ok(()) };
            let text = self.store.manifest(image.id)?;
            let found = text.as_deref().map(Manifest::parse);
            let how = match &found {
                Some(Some(found)) if found.is_newer_than(&image) => {
                    if !refused.contains(&image.id) {
                        let (id, name) = (image.id, &image.name);
                        remains(
                            tell,
                            format!("image {id} ({name}) has a later manifest: {REBUILD}"),
                        );
                    }
                    return Ok(());
                }
                Some(Some(found)) if found.agrees_with(&right) => return Ok(()),
                Some(Some(found)) if found.is_older_form_of(&right) => {
                    outdated += 1;
                    self.store.put_manifest(image.id, &right.to_text())?;
                    return Ok(());
                }
                Some(Some(found)) if !found.has_content_of(&right) => "named other content",
                Some(Some(_)) => "said something else",
                Some(None) => "could not be read",
                None => "was not there",
            };
            self.store.put_manifest(image.id, &right.to_text())?;
            let name = &image.name;
            mended(tell, format!("the manifest of image {} ({name}) {how}: written", image.id));
            Ok(())
        })?;
        if outdated > 0 {
            mended(tell, format!("{outdated} manifests were of an older version: written"));
        }
        Ok(())
    }
}
