//! What a daemon that stopped left behind is settled before anybody may ask.
//!
//! A sealed upload whose data is whole becomes active; every other upload has failed. Then staging is
//! emptied of what no upload has, and the data of deleted records is given back.

use super::{Actor, Shared};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Content, Image, ImageNumber, Seal};
use crate::ingest::Upload;
use crate::lifecycle::Status;
use crate::registry::Key;

/// Records that are read at once.
const PAGE: u32 = 256;

impl Shared {
    /// Settles all that is not settled. Doing it twice does no more than doing it once.
    pub(super) fn recover(&self) -> Result<()> {
        hit(Failpoint::RecoverBegun);
        for status in Status::ALL.into_iter().filter(|status| status.publication().is_some()) {
            let mut after = ImageNumber::new(0);
            loop {
                let page = self.registry.page(Some(status), after, PAGE)?;
                let Some(last) = page.last() else { break };
                after = last.image.number;
                for listed in page {
                    self.recover_upload(&listed.image)?;
                }
            }
        }
        hit(Failpoint::RecoverSettled);
        let strays = self.store.discard_strays(&|id| {
            // What can't be read now is kept.
            self.registry
                .image(Key::Id(id))
                .is_ok_and(|image| image.is_some_and(|image| image.status.keeps_staged_data()))
        })?;
        if strays > 0 {
            log::info!("op=recover: {strays} stray files in staging were removed");
        }
        while self.reclaim()? {}
        Ok(())
    }

    fn recover_upload(&self, image: &Image) -> Result<()> {
        let stopped = "daemon stopped during upload";
        match image.content {
            Content::Sealed(seal) => match self.is_whole(image, &seal) {
                Ok(true) => {
                    // At an upload's vote it was asked whether its writer may have the name, with all his groups.
                    let by = (!image.status.keeps_staged_data()).then_some(Actor::VOTED);
                    self.publish_or_kill(image.id, false, by)
                }
                Ok(false) => self.kill(image.id, &Error::WriterFailed(stopped.into())),
                // One image that can't be read does not keep the others.
                Err(error) => self.kill(image.id, &error),
            },
            // Its task goes on with it.
            Content::Staged | Content::Absent if image.status.keeps_staged_data() => Ok(()),
            Content::Absent if image.is_provisional => self.drop_unused(image.id),
            Content::Staged => self.kill(image.id, &Error::WriterFailed(stopped.into())),
            // A queued image without data stays what it is; a saving one had its first byte on the way.
            Content::Absent | Content::Located(_) | Content::Gone(_)
                if image.status.failure(false).is_none() =>
            {
                Ok(())
            }
            Content::Absent | Content::Located(_) | Content::Gone(_) => {
                self.kill(image.id, &Error::WriterFailed(stopped.into()))
            }
        }
    }

    /// Whether the data of a sealed upload is what was sealed. Data that bears its digest was
    /// durable before it got that name; staged data may have been written to since, and is read.
    fn is_whole(&self, image: &Image, seal: &Seal) -> Result<bool> {
        if let Some(staged) = self.store.staged(image.id)? {
            let found = Upload::resume(staged.into())?.examine()?.seal;
            return Ok((found.digest, found.size_bytes) == (seal.digest, seal.size_bytes));
        }
        match self.store.open(&seal.digest) {
            Ok(_) if self.store.is_damaged(&seal.digest)? => Ok(false),
            Ok(file) => Ok(file.size_bytes()? == seal.size_bytes),
            Err(_) => Ok(false),
        }
    }
}
