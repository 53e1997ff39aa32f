//! Copying a store while it is in use: first the records, as they are at one moment, then the data they have.
//!
//! Data never changes, but may be purged while it is copied: then its image was, and its copy is told the same.
//! What is worked on in `uploading/` is copied as it is found. An upload that is under way is not copied; it has
//! failed when the copy is mounted.

use std::sync::Arc;

use super::clock::now;
use super::each::each_image;
use super::manifest::Manifest;
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageId, Moment, Seal, StoreTime};
use crate::ingest::Upload;
use crate::lifecycle::{Decision, Event, Status, Subject, decide};
use crate::registry::{Change, Registry};
use crate::store::{Store, StoreFile};

/// How often data is looked for that moves between staging and its name meanwhile.
const LOOKS_MAX: u32 = 8;

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
    /// Images that were purged while the others were copied.
    pub purged: u64,
}

/// From where to where a store is copied.
pub struct Copying<'a> {
    /// The store that is in use.
    pub source: &'a dyn Store,
    /// The copy.
    pub copy: &'a dyn Store,
    /// The registry of the copy.
    pub registry: &'a dyn Registry,
    /// Whether an image whose data is not there has lost it since by right.
    pub was_purged: &'a dyn Fn(ImageId) -> Result<bool>,
    /// Who is told of each image whose data is not whole.
    pub tell: &'a dyn Fn(&Image, &Error),
}

impl Copying<'_> {
    /// Copies the data of all images that the registry of the copy has.
    ///
    /// # Errors
    /// One of the stores can't be read or written. Data that is damaged is told in what is answered.
    pub fn run(&self) -> Result<Backup> {
        let mut backup = Backup::default();
        each_image(self.registry, None, &mut |image| match image.content {
            Content::Sealed(seal) => self.copy_image(&image, &seal, &mut backup),
            Content::Absent | Content::Staged if image.status.keeps_staged_data() => {
                self.copy_staged(&image)
            }
            Content::Absent | Content::Staged | Content::Located(_) | Content::Gone(_) => Ok(()),
        })?;
        Ok(backup)
    }

    fn copy_image(&self, image: &Image, seal: &Seal, backup: &mut Backup) -> Result<()> {
        match self.copy_content(image, seal, backup) {
            Ok(()) => {
                backup.images += 1;
                self.describe(image)
            }
            // It was written to again, or failed: whoever mounts the copy finds its upload cut off.
            Err(error) if tells_of_source(&error) && image.status.publication().is_some() => Ok(()),
            Err(error) if tells_of_source(&error) => {
                if (self.was_purged)(image.id)? {
                    backup.purged += 1;
                    return self.registry.commit(Change::update(purged(image, self.moment()?)));
                }
                (self.tell)(image, &error);
                backup.damaged += 1;
                let told = format!("damaged when the store was copied: {error}");
                let withheld = withheld(image, &told, self.moment()?);
                self.describe(&withheld)?;
                self.registry.commit(Change::update(withheld))
            }
            Err(error) => Err(error),
        }
    }

    /// Copies a content that is not there yet, holes and all, and sees that it is what it was.
    fn copy_content(&self, image: &Image, seal: &Seal, backup: &mut Backup) -> Result<()> {
        if self.copy.open(&seal.digest).is_ok() {
            return Ok(());
        }
        let file = self.find(image, seal)?;
        let found = self.take(image.id, &file)?;
        if (found.digest, found.size_bytes) != (seal.digest, seal.size_bytes) {
            self.copy.discard(image.id)?;
            return Err(Error::Damaged(format!("{} is not what was sealed", file.name())));
        }
        self.copy.seal(image.id, seal)?;
        backup.contents += 1;
        backup.size_bytes += seal.size_bytes;
        Ok(())
    }

    /// Copies a file into the staging of the copy, without moving data where the filesystem can do that.
    fn take(&self, id: ImageId, file: &StoreFile) -> Result<Seal> {
        let staged = Arc::new(self.copy.stage(id)?);
        let taken = if staged.share(file) {
            Upload::resume(staged).and_then(|mut upload| upload.examine())
        } else {
            let mut upload = Upload::new(staged);
            upload.take(file, &|_| Ok(())).and_then(|()| upload.examine())
        };
        let taken = taken.inspect_err(|_| {
            // What is half there is of no use.
            let _ = self.copy.discard(id);
        });
        taken.map(|examined| examined.seal)
    }

    /// Opens the content of an image. What is sealed and not published yet may have no name but its image's.
    fn find(&self, image: &Image, seal: &Seal) -> Result<Arc<StoreFile>> {
        let mut looks = 0;
        loop {
            looks += 1;
            match self.source.open(&seal.digest) {
                Err(error) if tells_of_source(&error) && image.status.publication().is_some() => {
                    match self.source.staged(image.id)? {
                        Some(file) => return Ok(Arc::new(file)),
                        None if looks >= LOOKS_MAX => return Err(error),
                        None => {}
                    }
                }
                other => return other,
            }
        }
    }

    /// Copies what is worked on, as it is. What changes too much meanwhile is not there.
    fn copy_staged(&self, image: &Image) -> Result<()> {
        let Some(file) = self.source.staged(image.id)? else { return Ok(()) };
        match self.take(image.id, &file) {
            Ok(_) => Ok(()),
            Err(error) if tells_of_source(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn describe(&self, image: &Image) -> Result<()> {
        let manifest = Manifest::of(image);
        manifest.map_or(Ok(()), |manifest| self.copy.put_manifest(image.id, &manifest.to_text()))
    }

    fn moment(&self) -> Result<Moment> {
        let lived = self.registry.clock()?.map_or(StoreTime::default(), |mark| mark.lived);
        Ok(Moment { at: now(), age: lived })
    }
}

/// Whether it is the data that is not whole, and not the copy that can't be written.
fn tells_of_source(error: &Error) -> bool {
    const WRITING: [&str; 6] = ["write", "truncate", "create", "seal", "sync", "remove"];
    let is_writing = matches!(error, Error::Io { op, .. } if WRITING.contains(op));
    error.tells_of_damage() && !is_writing
}

/// The record of an image that was purged since it was read. It may have been protected until shortly before.
fn purged(image: &Image, moment: Moment) -> Image {
    let subject = Subject { protected: false, ..image.subject() };
    match decide(subject, image.status.removal(false)) {
        Decision::Step(step) => image.stepped(step, moment),
        Decision::Already | Decision::Denied(_) => image.clone(),
    }
}

/// The record of an image whose data is not whole: withheld, now or when it is restored.
fn withheld(image: &Image, told: &str, moment: Moment) -> Image {
    let mut next = match decide(image.subject(), Event::Withhold) {
        Decision::Step(step) => image.stepped(step, moment),
        Decision::Already | Decision::Denied(_) => image.clone(),
    };
    next.origin = next.origin.map(|_| Status::Deactivated);
    next.message = Some(told.to_owned());
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Timestamp;

    const NOW: Moment =
        Moment { at: Timestamp::from_nanoseconds(9), age: StoreTime::from_nanoseconds(9) };

    /// A protected image with data.
    fn image(status: &str, origin: &str) -> Image {
        let (id, digest) = (ImageId::random(), blake3::hash(b"x"));
        let text = format!(
            r#"{{"version": 2, "id": "{id}", "name": "x", "blake3": "{digest}", "size": 1,
                "disk_format": "raw", "status": "{status}"{origin}, "owner": 1, "group": 1,
                "mode": 932, "created_at_ns": 1, "modified_at_ns": 1}}"#
        );
        let manifest = Manifest::parse(&text).expect("a manifest");
        manifest.to_image(NOW, 0).expect("an image")
    }

    #[test]
    fn what_was_purged_holds_no_data_though_it_was_protected_before() {
        for (status, origin) in
            [("active", ""), ("deactivated", ""), ("pending_delete", r#", "origin": "active""#)]
        {
            let image = image(status, origin);
            assert!(image.ownership.is_protected());
            let purged = purged(&image, NOW);
            assert_eq!(purged.status, Status::Deleted, "{status}");
            assert!(matches!(purged.content, Content::Gone(_)), "{status}");
        }
    }

    #[test]
    fn what_is_damaged_is_withheld_now_or_when_it_is_restored() {
        let cases = [
            ("active", "", Status::Deactivated, None),
            ("deactivated", "", Status::Deactivated, None),
            (
                "pending_delete",
                r#", "origin": "active""#,
                Status::PendingDelete,
                Some(Status::Deactivated),
            ),
        ];
        for (status, origin, to, back_to) in cases {
            let withheld = withheld(&image(status, origin), "why", NOW);
            assert_eq!((withheld.status, withheld.origin), (to, back_to), "{status}");
            assert_eq!(withheld.message.as_deref(), Some("why"));
        }
    }

    #[test]
    fn a_copy_that_can_t_be_written_is_no_damage_of_its_source() {
        use rustix::io::Errno;
        for (op, source, is_damage) in [
            ("read", Errno::IO, true),
            ("open", Errno::NOENT, true),
            ("write", Errno::IO, false),
            ("write", Errno::NOSPC, false),
            ("open", Errno::ACCESS, false),
        ] {
            let error = Error::Io { op, what: "x".into(), source };
            assert_eq!(tells_of_source(&error), is_damage, "{error}");
        }
    }
}
