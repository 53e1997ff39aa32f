//! From staging to the name of its digest, and back.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{LocalStore, SEALED, STAGED};
use crate::error::Result;
use crate::failpoint::{Failpoint, hit};
use crate::image::{Digest, ImageId, Seal};
use crate::store::StoreFile;

impl LocalStore {
    pub(super) fn name(&self, id: ImageId, seal: &Seal) -> Result<()> {
        let staged = self.staging_path(id);
        let blob = self.blob_path(&seal.digest);
        let is_there = self.is_whole(&blob, seal.size_bytes)?;
        let directory = self.blob_directory(&seal.digest);
        if is_there {
            // Who named it may have died before that was durable.
            self.sync_directory(&directory)?;
            return self.remove(&staged, Failpoint::StoreDiscarded);
        }
        std::fs::set_permissions(&staged, Permissions::from_mode(SEALED))
            .map_err(self.failed("seal", &staged))?;
        hit(Failpoint::StoreMarked);
        match std::fs::hard_link(&staged, &blob) {
            // A loss of power may keep that a name is gone from one directory, and not that it is in the other. So
            // the data has both names until the new one is on the disk.
            Ok(()) => {
                hit(Failpoint::StoreNamed);
                let synced = self.sync_directory(&directory);
                let moved = synced.and_then(|()| self.remove(&staged, Failpoint::StoreDiscarded));
                moved.inspect_err(|_| {
                    // It goes on being staged.
                    let _ = std::fs::remove_file(&blob);
                })
            }
            Err(error) if may_be_renamed(&error) => {
                std::fs::rename(&staged, &blob).map_err(self.failed("seal", &staged))?;
                hit(Failpoint::StoreNamed);
                self.sync_directory(&directory)
            }
            Err(error) => Err(self.failed("seal", &staged)(error)),
        }
    }

    pub(super) fn unname(&self, id: ImageId, digest: &Digest, staged: &StoreFile) -> Result<bool> {
        let blob = self.blob_path(digest);
        match std::fs::symlink_metadata(&blob) {
            Ok(found) if found.ino() == staged.fingerprint()?.inode => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.failed("stat", &blob)(error)),
        }
        let path = self.staging_path(id);
        std::fs::rename(&blob, &path).map_err(self.failed("unseal", &blob))?;
        hit(Failpoint::StoreTakenBack);
        std::fs::set_permissions(&path, Permissions::from_mode(STAGED))
            .map_err(self.failed("unseal", &path))?;
        hit(Failpoint::StoreMarked);
        Ok(true)
    }
}

/// Whether a second name is not to be had here: what has the name is damaged and to be replaced, or the filesystem has
/// no second names.
fn may_be_renamed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists
            | ErrorKind::PermissionDenied
            | ErrorKind::Unsupported
            | ErrorKind::TooManyLinks
    )
}
