//! Images whose data lies elsewhere: adding a location, reading from it, taking it away.
//!
//! The file is looked at when its location is added, and each time it is opened: what has changed since is not
//! the image, and is not read as if it were. Its digest is computed in the background, once.

use std::path::Path;
use std::sync::Arc;

use super::{Actor, Catalog, Move, Newcomer, Shared};
use crate::error::{Error, Result};
use crate::image::{
    Algorithm, Checksums, Content, Details, Digest, Image, ImageId, ImageName, ImageNumber,
    Located, Ownership, Seal, User,
};
use crate::ingest::{Examined, Upload, Watch, sound};
use crate::lifecycle::{Event, Status};
use crate::registry::Durability;
use crate::store::StoreFile;

/// Images without a digest that are read from the registry at once.
const PAGE: u32 = 256;

impl Catalog {
    /// Registers an image whose data lies at `path`: it is active at once.
    ///
    /// # Errors
    /// The path may not be used, its author may not read it, it is not a sound image, or the name may not
    /// be taken. Nothing is left then.
    pub fn locate(&self, name: ImageName, path: &str, author: &User) -> Result<Image> {
        let (located, source) = self.shared.look_at(path, author)?;
        let actor = Actor { uid: author.uid };
        let mode = source.readable_by_no_more(author.gid);
        let ownership = Ownership { uid: author.uid, gid: author.gid, mode };
        let image = self.shared.queue(Newcomer {
            name,
            status: Status::Queued,
            ownership,
            details: Details::default(),
            in_place_by: Some(actor),
        })?;
        let added = self.shared.add_location(image.id, actor, located);
        if let Err(error) = added {
            self.shared.drop_unused(image.id)?;
            return Err(error);
        }
        self.shared.registry.flush()?;
        self.want_digest(image.id);
        self.shared.load(image.id)
    }

    /// Adds a location to a queued image: it is active at once. Where the id has been active before, or
    /// digests were declared, the data is read first.
    ///
    /// # Errors
    /// As [`locate`](Self::locate), or the data is not what it must be; the image stays queued then.
    pub fn add_location(&self, image: &Image, path: &str, reader: &User) -> Result<()> {
        let actor = Actor { uid: reader.uid };
        actor.must_govern(image)?;
        let (mut located, _) = self.shared.look_at(path, reader)?;
        let mut checksums = Checksums::default();
        let expected = &image.expected;
        if image.bound_digest.is_some()
            || expected.blake3.is_some()
            || !expected.checksums.is_empty()
        {
            let wanted = expected.checksums.algorithms().collect::<Vec<_>>();
            let examined = self.shared.hash_located(&located, &wanted, &|_| Ok(()))?;
            located.digest = Some(examined.seal.digest);
            checksums = examined.checksums;
        }
        let seal = seal_of(&located);
        if let Some(told) = expected.contradiction(&seal, &checksums) {
            return Err(Error::Rejected(told));
        }
        if image.bound_digest.is_some_and(|bound| bound != seal.digest) {
            return Err(Error::Rejected(format!(
                "image {} was active with other content: register this under a new image",
                image.id
            )));
        }
        self.shared.add_location(image.id, actor, located)?;
        self.shared.registry.flush()?;
        self.want_digest(image.id);
        Ok(())
    }

    /// Takes the location of an active image away: the image is queued, and whatever comes next under its id
    /// must be the same.
    ///
    /// # Errors
    /// The caller does not govern it, it is protected, its data is the store's own, or its digest is not
    /// known yet.
    pub fn drop_location(&self, image: &Image, actor: Actor) -> Result<()> {
        self.move_image(
            image.id,
            Move {
                seen: image.status,
                to: Status::Queued,
                event: Event::Unlocate,
                name: &image.name,
                no_replace: false,
                actor,
            },
        )
    }
}

impl Catalog {
    /// Checks after a reading that data that lies elsewhere is still what it was.
    ///
    /// # Errors
    /// It has changed.
    pub fn check_source(image: &Image, file: &StoreFile) -> Result<()> {
        image.content.located().map_or(Ok(()), |located| check_unchanged(file, located))
    }
}

/// What a file that is looked at is, as far as a declaration can be held against it.
fn seal_of(located: &Located) -> Seal {
    Seal {
        digest: located.digest.unwrap_or(Digest::from_bytes([0; 32])),
        size_bytes: located.fingerprint.size_bytes,
        allocated_bytes: 0,
        format: located.format,
        virtual_size_bytes: located.virtual_size_bytes,
    }
}

impl Shared {
    /// Looks at what is to be registered. Why it is refused stands in the log, as a tool shows a number only.
    fn look_at(&self, path: &str, reader: &User) -> Result<(Located, Ownership)> {
        self.look_closely(path, reader).inspect_err(|error| {
            log::warn!(
                "path={path:?} op=locate uid={} errno={}: {error}",
                reader.uid,
                error.errno()
            );
        })
    }

    fn look_closely(&self, path: &str, reader: &User) -> Result<(Located, Ownership)> {
        let file = self.locations.open(Path::new(path), reader)?;
        let fingerprint = file.fingerprint()?;
        self.check_size(fingerprint.size_bytes)?;
        let found = sound(&file)?;
        let located = Located {
            path: path.to_owned(),
            reader: reader.clone(),
            fingerprint,
            format: found.format,
            virtual_size_bytes: Some(found.virtual_size_bytes),
            digest: None,
        };
        Ok((located, file.ownership()?))
    }

    fn add_location(&self, id: ImageId, actor: Actor, located: Located) -> Result<()> {
        let choose = |image: &Image| match image.content {
            Content::Absent => Ok(Event::Locate),
            Content::Staged | Content::Sealed(_) | Content::Located(_) | Content::Gone(_) => {
                Err(Error::Forbidden("the image has data already"))
            }
        };
        let modified_at = located.fingerprint.modified_at;
        let content = Content::Located(Box::new(located));
        self.transition(id, Some(actor), choose, |next, _| {
            // The step before asked what it is bound to; what is known now counts.
            next.content = content.clone();
            next.bound_digest = next.bound_digest.or(content.digest());
            next.modified_at = modified_at;
            next.message = None;
            Ok(())
        })
        .map(|_| ())
    }

    /// Opens the data of an image that lies elsewhere, if it is still what it was.
    pub(super) fn open_located(&self, located: &Located) -> Result<StoreFile> {
        let opened = self.locations.open(Path::new(&located.path), &located.reader);
        let file = match opened {
            Err(Error::Invalid(told)) => return Err(Error::SourceChanged(told)),
            opened => opened?,
        };
        check_unchanged(&file, located)?;
        Ok(file)
    }

    /// Reads and hashes data that lies elsewhere.
    pub(super) fn hash_located(
        &self,
        located: &Located,
        wanted: &[Algorithm],
        watch: &Watch<'_>,
    ) -> Result<Examined> {
        let file = Arc::new(self.open_located(located)?);
        let mut data = Upload::resume(Arc::clone(&file))?;
        data.want(wanted.iter().copied());
        let examined = data.examine_watched(watch)?;
        check_unchanged(&file, located)?;
        Ok(examined)
    }

    /// Notes the digest of data that lies elsewhere, to which the id is bound from now on. What is not what it was
    /// bound to is withheld.
    pub(super) fn note_digest(
        &self,
        id: ImageId,
        before: &Located,
        examined: &Examined,
    ) -> Result<()> {
        let digest = examined.seal.digest;
        let known = self.load(id)?;
        let is_other = |known: Option<Digest>| known.is_some_and(|known| known != digest);
        if is_other(known.content.digest()) || is_other(known.bound_digest) {
            return self.condemn(id, &before.path);
        }
        self.amend(id, Durability::Durable, |mut image| {
            let Content::Located(now) = &mut image.content else { return Ok(None) };
            if now.fingerprint != before.fingerprint || now.path != before.path {
                return Ok(None);
            }
            now.digest = Some(digest);
            image.bound_digest = image.bound_digest.or(Some(digest));
            image.checksums.extend(examined.checksums.clone());
            Ok(Some(image))
        })
    }

    /// Withholds an image whose data is not what was registered, though it looks so from outside. It is not read
    /// again, whatever becomes of it.
    pub(super) fn condemn(&self, id: ImageId, path: &str) -> Result<()> {
        self.withhold_one(id, &format!("damaged: {path} is not what was registered"))?;
        self.amend(id, Durability::Durable, |mut image| {
            let Content::Located(now) = &mut image.content else { return Ok(None) };
            now.fingerprint.inode = 0;
            Ok(Some(image))
        })
    }

    /// All images that lie elsewhere and whose digest nobody has computed yet.
    pub(super) fn unhashed(&self) -> Result<Vec<ImageId>> {
        let mut all = Vec::new();
        let mut after = ImageNumber::new(0);
        loop {
            let page = self.registry.unhashed(after, PAGE)?;
            let Some(last) = page.last() else { return Ok(all) };
            after = last.number;
            all.extend(page.iter().map(|image| image.id));
        }
    }
}

/// Whether a file is what it was when its location was added.
fn check_unchanged(file: &StoreFile, located: &Located) -> Result<()> {
    if file.fingerprint()? == located.fingerprint {
        return Ok(());
    }
    Err(Error::SourceChanged(format!(
        "{} has changed since it was registered: remove the image, and register it again",
        located.path
    )))
}
