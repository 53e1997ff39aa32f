//! Looking at the files of a store from outside: names and modes, whatever is in them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{BLOBS, DAMAGED, LocalStore, MANIFESTS, SEALED};
use crate::error::Result;
use crate::image::{Digest, ImageId};

impl LocalStore {
    pub(super) fn names_in(&self, directory: &Path) -> Result<Vec<String>> {
        let entries = self.entries(directory)?.into_iter();
        let names = entries.filter_map(|path| path.file_name().map(|name| name.to_owned()));
        Ok(names.map(|name| name.to_string_lossy().into_owned()).collect())
    }

    pub(super) fn tidy_files(&self, tell: &mut dyn FnMut(String, bool)) -> Result<()> {
        self.drop_drafts(&mut |name| tell(format!("{name} is half a manifest: removed"), true))?;
        let stranger = |name: String| format!("{name} is no file of sps: move it away");
        for path in self.entries(&self.root.join(MANIFESTS))? {
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(|name| name.strip_suffix(".json")).and_then(ImageId::parse);
            if id.is_none() {
                tell(stranger(self.name_of(&path)), false);
            }
        }
        for directory in self.entries(&self.root.join(BLOBS))? {
            if !directory.is_dir() {
                tell(stranger(self.name_of(&directory)), false);
                continue;
            }
            for path in self.entries(&directory)? {
                let digest =
                    path.file_name().and_then(|name| name.to_str()).and_then(Digest::parse);
                if digest.is_none_or(|digest| self.blob_path(&digest) != path) {
                    tell(stranger(self.name_of(&path)), false);
                } else if self.shield(&path)? {
                    tell(format!("{} could be written: read-only now", self.name_of(&path)), true);
                }
            }
        }
        Ok(())
    }

    /// Makes sealed data read-only. Answers whether it was not.
    fn shield(&self, path: &Path) -> Result<bool> {
        let found = std::fs::symlink_metadata(path).map_err(self.failed("stat", path))?;
        let mode = found.permissions().mode() & 0o777;
        if mode == SEALED || mode == DAMAGED {
            return Ok(false);
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SEALED))
            .map_err(self.failed("protect", path))?;
        Ok(true)
    }
}
