//! How long one image may be, and how much all of them together.
//!
//! What counts is decided in the commit that seals an upload: of several that are under way those have the room
//! that are closed first. Before that an upload is ended as soon as it can't fit any more.

use super::{Shared, UploadSession};
use crate::error::{Error, Result};
use crate::registry::{Quota, Total};

/// How far an upload grows between two looks at whether it still fits.
const STEP_BYTES: u64 = 8 << 20;

/// What may be, and what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What may be.
    pub quota: Quota,
    /// Bytes that all images hold.
    pub bytes: u64,
    /// Images that hold data, or will.
    pub images: u64,
}

impl Shared {
    /// Refuses an upload that is to be `end` bytes long, if no image may be.
    pub(super) fn check_size(&self, end: u64) -> Result<()> {
        match self.policy.image_size_cap {
            Some(cap) if end > cap => Err(Error::TooLarge(cap)),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses an image that would be over the quota if there were no other.
    pub(super) fn check_fits(&self, size_bytes: u64) -> Result<()> {
        match self.policy.quota.bytes {
            Some(most) if size_bytes > most => Err(Error::NeverFits(size_bytes)),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends an upload that does not fit any more, however it goes on. Looked at now and then, as it grows.
    fn check_room(&self, session: &UploadSession, size_bytes: u64) -> Result<()> {
        let Some(most) = self.policy.quota.bytes else { return Ok(()) };
        if !session.has_grown(size_bytes, STEP_BYTES) {
            return Ok(());
        }
        let held = self.usage()?.bytes;
        if held.saturating_add(size_bytes) > most {
            return Err(Error::OverQuota(format!(
                "the images hold {held} bytes, and {most} are allowed"
            )));
        }
        Ok(())
    }

    /// Both, before an upload becomes `size_bytes` long.
    pub(super) fn check_growth(&self, session: &UploadSession, size_bytes: u64) -> Result<()> {
        self.check_size(size_bytes)?;
        self.check_fits(size_bytes)?;
        self.check_room(session, size_bytes)
    }

    /// What is used of the quota.
    pub(super) fn usage(&self) -> Result<Usage> {
        let totals = self.registry.totals()?;
        Ok(Usage {
            quota: self.policy.quota,
            bytes: Total::held_bytes(&totals),
            images: Total::counted(&totals),
        })
    }
}
