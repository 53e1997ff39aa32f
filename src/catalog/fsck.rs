//! Looking a whole store through that nobody has mounted: what is wrong, and mending it.
//!
//! What is mended loses nothing: data that a manifest names is adopted, not dropped, data that a manifest may
//! have named which can't be read is kept, and data that is damaged is withheld, not removed.

use super::each::each_image;
use super::{Parts, Policy, Shared};
use crate::error::Result;
use crate::image::{Content, Details, ImageId, ImageName, Moment, Ownership, StoreTime};
use crate::lifecycle::Status;
use crate::registry::{Draft, Key};

mod manifests;
mod rebuild;

/// What to do about a record that is missing.
const REBUILD: &str = "run sps fsck --rebuild";

/// How a store is to be looked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checkup {
    /// Records that are missing are made again from the manifests.
    pub rebuild: bool,
    /// Data is not read, only looked at from outside.
    pub quick: bool,
    /// The registry was lost, and all of it is made again.
    pub is_lost: bool,
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
        let hint = "move sps.db, sps.db-wal and sps.db-shm away, and run sps fsck --rebuild";
        remains(tell, format!("sps.db: {fault}: {hint}"));
    }
    if !is_sound {
        return Ok(());
    }
    if parts.registry.recount()? {
        mended(tell, "sps.db: the counts of images were wrong: counted again".into());
    }
    parts.store.tidy(&mut |what, is_mended| tell(Finding { what, is_mended }))?;
    let half_done = half_done(&parts)?;
    check_staging(&parts, checkup, tell)?;
    let shared = Shared::settled(parts, Policy::default())?;
    shared.tell_settled(half_done, tell)?;
    let refused = if checkup.rebuild { shared.rebuild(tell)? } else { Vec::new() };
    shared.check_files(checkup, &refused, tell)?;
    shared.check_data(checkup.quick, tell)?;
    while shared.reclaim()? {}
    shared.registry.set_clock(shared.clock.mark())?;
    shared.registry.flush()
}

/// What a daemon that stopped left on its way; it is settled when the catalog is opened.
fn half_done(parts: &Parts) -> Result<Vec<(ImageId, Status)>> {
    let mut found = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| status.failure(false).is_some()) {
        each_image(parts.registry.as_ref(), Some(status), &mut |image| {
            found.push((image.id, status));
            Ok(())
        })?;
    }
    Ok(found)
}

/// Tells of what is in staging and belongs to nobody: it goes when the catalog is opened. Where the registry was
/// lost, nobody knows whose it is, and it is kept as something to work on.
fn check_staging(parts: &Parts, checkup: Checkup, tell: &mut Tell<'_>) -> Result<()> {
    for name in parts.store.staged_names()? {
        let id = ImageId::parse(&name);
        let image = id.map(|id| parts.registry.image(Key::Id(id))).transpose()?.flatten();
        let is_owned = image.is_some_and(|image| {
            image.status.keeps_staged_data() || image.status.publication().is_some()
        });
        match id {
            Some(id) if checkup.is_lost && !is_owned => {
                let draft = found_draft(parts, id, Status::Uploading)?;
                let found = parts.registry.create(draft)?.name;
                mended(tell, format!("staging/{name} had no record: it is uploading/{found}"));
            }
            _ if is_owned => {}
            _ => mended(tell, format!("staging/{name} belonged to no image: removed")),
        }
    }
    Ok(())
}

/// The record of an image of which nothing is known but its data: it belongs to whoever looks.
fn found_draft(parts: &Parts, id: ImageId, status: Status) -> Result<Draft> {
    let age = parts.registry.clock()?.map_or(StoreTime::default(), |mark| mark.lived);
    draft_of_found(id, status, Moment { at: parts.time.wall(), age })
}

fn draft_of_found(id: ImageId, status: Status, created: Moment) -> Result<Draft> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    Ok(Draft {
        id,
        name: ImageName::new(format!("recovered-{}", id.prefix()).as_bytes())?,
        status,
        ownership: Ownership { uid, gid, mode: 0o600 },
        details: Details::default(),
        is_provisional: false,
        by: uid,
        quota_images: None,
        created,
    })
}

impl Shared {
    /// Tells what became of what was on its way. An import that goes on when the store is mounted is none.
    fn tell_settled(&self, half_done: Vec<(ImageId, Status)>, tell: &mut Tell<'_>) -> Result<()> {
        for (id, was) in half_done {
            match self.registry.image(Key::Id(id))? {
                Some(image) if image.status == was => {}
                Some(image) => {
                    let (name, is) = (&image.name, image.status);
                    mended(tell, format!("image {id} ({name}) was {was}: it is {is}"));
                }
                None => mended(tell, format!("image {id} was {was} and had no data: forgotten")),
            }
        }
        Ok(())
    }

    /// Looks at the data of every image, and reads it.
    fn check_data(&self, is_quick: bool, tell: &mut Tell<'_>) -> Result<()> {
        if !is_quick {
            self.verify_all(&|_| Ok(()))?;
        }
        each_image(self.registry.as_ref(), None, &mut |image| {
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
