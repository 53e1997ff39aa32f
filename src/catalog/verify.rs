//! Reading sealed data again: what is damaged is withheld from all who have it.

use std::cell::RefCell;
use std::sync::Arc;

use super::each::each_image;
use super::{Catalog, Shared};
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageId, Seal};
use crate::ingest::{Upload, Watch};
use crate::lifecycle::{Event, Status};
use crate::registry::{Durability, Total};

/// What came of verifying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Contents that were read.
    pub contents: u64,
    /// Their size in bytes.
    pub size_bytes: u64,
    /// How many of them were damaged.
    pub damaged: u64,
}

impl Catalog {
    /// Reads the content of one image again, and hashes it.
    ///
    /// # Errors
    /// There is no such image, it has no content, or what `watch` says.
    pub fn verify_image(&self, id: ImageId, watch: &dyn Fn(u8) -> Result<()>) -> Result<Verified> {
        let image = self.by_id(id)?.ok_or(Error::NotFound)?;
        let mut verified = Verified::default();
        if image.content.located().is_some() {
            self.shared.verify_located(&image, watch, &mut verified)?;
            self.keeper.wake();
            return Ok(verified);
        }
        if is_in_motion(&image) {
            return Err(Error::Busy("the image is on its way in".into()));
        }
        let Content::Sealed(seal) = image.content else { return Err(Error::NotFound) };
        let told = |done: u64| watch(percent(done, seal.size_bytes));
        self.shared.verify(&seal, &told, &mut verified)?;
        self.keeper.wake();
        Ok(verified)
    }

    /// Reads every content again, each once, and hashes it.
    ///
    /// # Errors
    /// The registry can't be read, or what `watch` says.
    pub fn verify_all(&self, watch: &dyn Fn(u8) -> Result<()>) -> Result<Verified> {
        let verified = self.shared.verify_all(watch);
        self.keeper.wake();
        verified
    }
}

/// Data of an image that is on its way in is settled by those who bring it.
fn is_in_motion(image: &Image) -> bool {
    image.status.publication().is_some()
}

fn percent(done: u64, all: u64) -> u8 {
    let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

impl Shared {
    pub(super) fn verify_all(&self, watch: &dyn Fn(u8) -> Result<()>) -> Result<Verified> {
        let all = Total::held_bytes(&self.registry.totals()?);
        let mut verified = Verified::default();
        each_image(self.registry.as_ref(), None, &mut |image| {
            if image.content.located().is_some() {
                return self.verify_located(&image, watch, &mut verified);
            }
            let Content::Sealed(seal) = image.content else { return Ok(()) };
            // Of images with the same content the first one stands for all.
            let first = self.registry.holders(&seal.digest, 1)?.pop();
            if first.is_none_or(|first| first.id != image.id) || is_in_motion(&image) {
                return Ok(());
            }
            let before = verified.size_bytes;
            let told = |done: u64| watch(percent(before + done, all));
            self.verify(&seal, &told, &mut verified)
        })?;
        Ok(verified)
    }

    fn verify(&self, seal: &Seal, watch: &Watch<'_>, verified: &mut Verified) -> Result<()> {
        let stopped = RefCell::new(None);
        let told =
            |done| watch(done).inspect_err(|error| *stopped.borrow_mut() = Some(error.clone()));
        let examined = self.examine_sealed(seal, &told);
        if let Some(error) = stopped.take() {
            return Err(error);
        }
        let fault = match examined {
            Ok(found) if (found.digest, found.size_bytes) == (seal.digest, seal.size_bytes) => None,
            Ok(found) if found.size_bytes != seal.size_bytes => Some(format!(
                "damaged: its data has {} bytes and had {}",
                found.size_bytes, seal.size_bytes
            )),
            Ok(_) => Some("damaged: its data is not what was sealed".to_owned()),
            Err(error) if error.tells_of_damage() => Some(format!("damaged: {error}")),
            Err(error) => return Err(error),
        };
        // It may have been purged while it was read.
        let is_held = self.registry.is_referenced(&seal.digest)?;
        match fault.filter(|_| is_held) {
            Some(fault) => {
                log::error!("op=verify digest={}: {fault}", seal.digest);
                self.withhold(seal, &fault)?;
                self.store.mark_damaged(&seal.digest, true)?;
                verified.damaged += 1;
            }
            None => self.store.mark_damaged(&seal.digest, false)?,
        }
        verified.contents += 1;
        verified.size_bytes += seal.size_bytes;
        Ok(())
    }

    /// Reads data again that lies elsewhere. What has changed is withheld.
    fn verify_located(
        &self,
        image: &Image,
        watch: &dyn Fn(u8) -> Result<()>,
        verified: &mut Verified,
    ) -> Result<()> {
        let Some(located) = image.content.located() else { return Ok(()) };
        let size_bytes = located.fingerprint.size_bytes;
        let told = |done| watch(percent(done, size_bytes));
        let fault = match self.hash_located(located, &[], &told) {
            Ok(examined) if located.digest.is_some_and(|known| known != examined.seal.digest) => {
                log::error!(
                    "image={} op=verify: {} is not what was registered",
                    image.id,
                    located.path
                );
                self.condemn(image.id, &located.path)?;
                verified.damaged += 1;
                None
            }
            Ok(examined) => {
                self.note_digest(image.id, located, &examined)?;
                None
            }
            Err(Error::SourceChanged(told)) => Some(format!("damaged: {told}")),
            Err(error) if error.tells_of_damage() => Some(format!("damaged: {error}")),
            Err(error @ (Error::Interrupted | Error::Cancelled)) => return Err(error),
            // It can't be looked at from here, which says nothing of it.
            Err(error) => {
                log::warn!("image={} op=verify errno={}: {error}", image.id, error.errno());
                return Ok(());
            }
        };
        if let Some(fault) = fault {
            log::error!("image={} op=verify: {fault}", image.id);
            self.withhold_one(image.id, &fault)?;
            verified.damaged += 1;
        }
        verified.contents += 1;
        verified.size_bytes += size_bytes;
        Ok(())
    }

    fn examine_sealed(&self, seal: &Seal, watch: &Watch<'_>) -> Result<Seal> {
        let file = self.store.open(&seal.digest)?;
        Upload::resume(Arc::clone(&file))?.examine_watched(watch).map(|examined| examined.seal)
    }

    /// Withholds every image that has the content. What is in the trash is restored to `deactivated`.
    fn withhold(&self, seal: &Seal, fault: &str) -> Result<()> {
        for image in self.registry.holders(&seal.digest, u32::MAX)? {
            self.withhold_one(image.id, fault)?;
        }
        Ok(())
    }

    pub(super) fn withhold_one(&self, id: ImageId, fault: &str) -> Result<()> {
        let choose = |image: &Image| match image.status.has_unique_names() {
            true => Ok(Event::Withhold),
            false => Err(Error::NotFound),
        };
        let withheld = self.transition(id, None, choose, |next, _| {
            next.message = Some(fault.to_owned());
            Ok(())
        });
        match withheld {
            Ok(_) => Ok(()),
            Err(Error::NotFound) => self.amend(id, Durability::Transient, |mut image| {
                image.message = Some(fault.to_owned());
                image.origin = image.origin.map(|_| Status::Deactivated);
                Ok(Some(image))
            }),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_share_is_between_none_and_all() {
        let shares = [(0, 7), (1, 3), (2, 3), (7, 7), (9, 7), (0, 0), (u64::MAX, u64::MAX)];
        assert_eq!(shares.map(|(done, all)| percent(done, all)), [0, 33, 66, 100, 100, 100, 1]);
    }
}
