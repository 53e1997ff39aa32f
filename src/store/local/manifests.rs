//! The manifests: a small file for each sealed image, whole or not there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::{LocalStore, MANIFESTS};
use crate::error::Result;
use crate::failpoint::{Failpoint, hit};
use crate::image::ImageId;

/// How the name of a manifest ends that is not whole yet and is to take the place of another.
const DRAFT: &str = "json.new";

impl LocalStore {
    pub(super) fn write_manifest(&self, id: ImageId, text: &str) -> Result<()> {
        let path = self.manifest_path(id);
        // One that is cut short is written again with its record, which comes after it.
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        if let Ok(mut file) = made {
            hit(Failpoint::ManifestMade);
            file.write_all(text.as_bytes())
                .and_then(|()| if self.is_bulk { Ok(()) } else { file.sync_data() })
                .inspect_err(|_| {
                    let _ = std::fs::remove_file(&path);
                })
                .map_err(self.failed("write", &path))?;
            hit(Failpoint::ManifestWritten);
            return self.sync_directory(&self.root.join(MANIFESTS));
        }
        let draft = path.with_extension(DRAFT);
        File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                hit(Failpoint::ManifestMade);
                if self.is_bulk { Ok(()) } else { file.sync_data() }
            })
            .and_then(|()| {
                hit(Failpoint::ManifestWritten);
                std::fs::rename(&draft, &path)
            })
            .inspect_err(|_| {
                // What is half written is of no use; the next one overwrites it anyway.
                let _ = std::fs::remove_file(&draft);
            })
            .map_err(self.failed("write", &path))?;
        hit(Failpoint::ManifestRenamed);
        self.sync_directory(&self.root.join(MANIFESTS))
    }

    pub(super) fn read_manifests(
        &self,
        visit: &mut dyn FnMut(&str, &str) -> Result<()>,
    ) -> Result<()> {
        for path in self.entries(&self.root.join(MANIFESTS))? {
            let name = path.file_stem().and_then(|name| name.to_str());
            if let (Some(name), Some("json")) = (name, path.extension().and_then(OsStr::to_str)) {
                let bytes = std::fs::read(&path).map_err(self.failed("read", &path))?;
                visit(name, std::str::from_utf8(&bytes).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    pub(super) fn read_manifest(&self, id: ImageId) -> Result<Option<String>> {
        let path = self.manifest_path(id);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8(bytes).unwrap_or_default())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", &path)(error)),
        }
    }

    /// Drops what a crash left of manifests that were written; the ones that were there stand. Answers how
    /// many files that were, and tells of each.
    pub(super) fn drop_drafts(&self, tell: &mut dyn FnMut(String)) -> Result<u64> {
        let mut dropped = 0;
        for path in self.entries(&self.root.join(MANIFESTS))? {
            if path.to_str().is_some_and(|path| path.ends_with(&format!(".{DRAFT}"))) {
                self.remove(&path, Failpoint::ManifestDropped)?;
                tell(self.name_of(&path));
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}
