//! The store in a local directory.
//!
//! ```text
//! STORE/
//!   sps.db (+ -wal, -shm)      the registry, which this module only names
//!   blobs/ab/<blake3>          sealed data, mode 0400
//!   staging/<image id>         data being written
//!   manifests/<image id>.json  what is known of each sealed image
//!   config.toml  lock  sps.log  reserve
//! ```

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Space, Store, StoreFile};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Digest, ImageId, Seal};

mod lock;
mod manifests;
mod place;
mod reserve;
mod sealing;
mod survey;

use lock::Lock;
use place::{refuse_foreign_filesystem, refuse_what_is_no_store, sync_parents};

const BLOBS: &str = "blobs";
const STAGING: &str = "staging";
const MANIFESTS: &str = "manifests";
const REGISTRY: &str = "sps.db";

/// What the registry is called until all is there that it tells of: until then there is no store.
const UNFINISHED: &str = "sps.db.part";

/// A file that only takes room, to be given up when there is no other.
const RESERVE: &str = "reserve";

/// The mode of data that is being written.
const STAGED: u32 = 0o600;

/// The mode of sealed data, and of what is known to be damaged of it.
const SEALED: u32 = 0o400;
const DAMAGED: u32 = 0o500;

/// How a store is to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Take a network or FUSE filesystem too, where locks and durability are in doubt.
    pub any_filesystem: bool,
    /// Wait for no disk: whoever fills the store syncs it at the end.
    pub is_bulk: bool,
    /// Take data without a registry, which is to be made again from it.
    pub is_rebuilt: bool,
}

/// A store on the disk of this machine, locked against a second daemon.
pub struct LocalStore {
    root: PathBuf,
    /// Whether all of the reserve is kept.
    is_reserved: AtomicBool,
    is_bulk: bool,
    /// None of who only reads beside the daemon that has the store.
    lock: Option<Lock>,
}

impl LocalStore {
    /// Opens the store at `root`, making it where there is none.
    ///
    /// # Errors
    /// The directory is something else, can't be written, is on a filesystem that can't be trusted, or
    /// another daemon has it.
    pub fn open(root: &Path, options: OpenOptions) -> Result<Self> {
        make_directory(root)?;
        if !root.join(REGISTRY).exists() {
            sync_parents(root)?;
        }
        if !options.any_filesystem {
            refuse_foreign_filesystem(root)?;
        }
        refuse_what_is_no_store(root, options.is_rebuilt)?;
        let lock = Lock::take(&root.join("lock"))?;
        for part in [BLOBS, STAGING, MANIFESTS] {
            make_directory(&root.join(part))?;
        }
        let blobs = root.join(BLOBS);
        for first in 0..=u8::MAX {
            make_directory(&blobs.join(format!("{first:02x}")))?;
        }
        sync_directory(&blobs)?;
        sync_directory(root)?;
        Ok(Self {
            root: root.to_owned(),
            is_reserved: AtomicBool::new(false),
            is_bulk: options.is_bulk,
            lock: Some(lock),
        })
    }

    /// Opens the store at `root` to read sealed and staged data, beside whoever has it.
    ///
    /// # Errors
    /// There is no store.
    pub fn open_beside(root: &Path) -> Result<Self> {
        let registry = root.join(REGISTRY);
        match registry.metadata() {
            Ok(found) if found.is_file() => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Error::io("read", registry, error));
            }
            Ok(_) | Err(_) => {
                let shown = root.display();
                return Err(Error::Store(format!("{shown} is not a store: name one with --store")));
            }
        }
        Ok(Self {
            root: root.to_owned(),
            is_reserved: AtomicBool::new(true),
            is_bulk: false,
            lock: None,
        })
    }

    /// Where the registry of this store is.
    #[must_use]
    pub fn registry_path(&self) -> PathBuf {
        self.root.join(REGISTRY)
    }

    /// Where a registry is made that is not to be found before it is finished.
    #[must_use]
    pub fn unfinished_registry_path(&self) -> PathBuf {
        self.root.join(UNFINISHED)
    }

    fn staging_path(&self, id: ImageId) -> PathBuf {
        self.root.join(STAGING).join(id.to_string())
    }

    fn blob_directory(&self, digest: &Digest) -> PathBuf {
        let [first, ..] = digest.as_bytes();
        self.root.join(BLOBS).join(format!("{first:02x}"))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_directory(digest).join(digest.to_string())
    }

    fn manifest_path(&self, id: ImageId) -> PathBuf {
        self.root.join(MANIFESTS).join(format!("{id}.json"))
    }

    fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    fn failed<'a>(&'a self, op: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> Error {
        move |error| Error::io(op, self.name_of(path), error)
    }

    /// Whether sealed data of that length is there and not known to be damaged.
    fn is_whole(&self, path: &Path, size_bytes: u64) -> Result<bool> {
        match std::fs::symlink_metadata(path) {
            Ok(found) => {
                let mode = found.permissions().mode() & 0o777;
                Ok(found.len() == size_bytes && mode != DAMAGED)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("stat", path)(error)),
        }
    }

    fn remove(&self, path: &Path, done: Failpoint) -> Result<()> {
        match std::fs::remove_file(path) {
            Ok(()) => {
                hit(done);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed("remove", path)(error)),
        }
    }

    fn sync_directory(&self, path: &Path) -> Result<()> {
        if self.is_bulk { Ok(()) } else { sync_directory(path) }
    }

    fn entries(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        std::fs::read_dir(directory)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(self.failed("list", directory))
    }
}

impl Store for LocalStore {
    fn stage(&self, id: ImageId) -> Result<StoreFile> {
        let path = self.staging_path(id);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(STAGED)
            .open(&path)
            .map_err(self.failed("create", &path))?;
        hit(Failpoint::StoreStaged);
        Ok(StoreFile::new(file, self.name_of(&path)))
    }

    fn stage_again(&self, id: ImageId) -> Result<StoreFile> {
        let path = self.staging_path(id);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(STAGED)
            .open(&path)
            .map_err(self.failed("open", &path))?;
        hit(Failpoint::StoreStaged);
        Ok(StoreFile::new(file, self.name_of(&path)))
    }

    fn staged(&self, id: ImageId) -> Result<Option<StoreFile>> {
        let path = self.staging_path(id);
        match File::open(&path) {
            Ok(file) => Ok(Some(StoreFile::new(file, self.name_of(&path)))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("open", &path)(error)),
        }
    }

    fn sync(&self, staged: &StoreFile) -> Result<()> {
        if self.is_bulk {
            return Ok(());
        }
        staged.sync()?;
        sync_directory(&self.root.join(STAGING))
    }

    fn sync_data(&self, staged: &StoreFile) -> Result<()> {
        if self.is_bulk { Ok(()) } else { staged.sync() }
    }

    fn take_back(&self, id: ImageId, digest: &Digest, staged: &StoreFile) -> Result<bool> {
        self.unname(id, digest, staged)
    }

    fn seal(&self, id: ImageId, seal: &Seal) -> Result<()> {
        self.name(id, seal)
    }

    fn discard(&self, id: ImageId) -> Result<()> {
        self.remove(&self.staging_path(id), Failpoint::StoreDiscarded)
    }

    fn discard_strays(&self, keep: &dyn Fn(ImageId) -> bool) -> Result<u64> {
        let mut dropped = self.drop_drafts(&mut |_| ())?;
        for path in self.entries(&self.root.join(STAGING))? {
            let id = path.file_name().and_then(|name| name.to_str()).and_then(ImageId::parse);
            if !id.is_some_and(keep) {
                self.remove(&path, Failpoint::StoreDiscarded)?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    fn open(&self, digest: &Digest) -> Result<Arc<StoreFile>> {
        let path = self.blob_path(digest);
        let file = File::open(&path).map_err(self.failed("open", &path))?;
        Ok(Arc::new(StoreFile::new(file, self.name_of(&path))))
    }

    fn mark_damaged(&self, digest: &Digest, is_damaged: bool) -> Result<()> {
        if self.is_damaged(digest)? == is_damaged {
            return Ok(());
        }
        let path = self.blob_path(digest);
        let mode = if is_damaged { DAMAGED } else { SEALED };
        match std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(self.failed("mark", &path)(error))
            }
            Ok(()) | Err(_) => {
                hit(Failpoint::StoreMarked);
                Ok(())
            }
        }
    }

    fn is_damaged(&self, digest: &Digest) -> Result<bool> {
        let path = self.blob_path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(found) => Ok(found.permissions().mode() & 0o777 == DAMAGED),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(self.failed("stat", &path)(error)),
        }
    }

    fn drop_sealed(&self, digest: &Digest) -> Result<()> {
        self.remove(&self.blob_path(digest), Failpoint::StoreDropped)
    }

    fn sync_removals(&self, digests: &[Digest]) -> Result<()> {
        sync_directory(&self.root.join(MANIFESTS))?;
        let directories: BTreeSet<PathBuf> =
            digests.iter().map(|digest| self.blob_directory(digest)).collect();
        let mut kept = directories.iter().filter(|path| path.exists());
        kept.try_for_each(|path| sync_directory(path))?;
        hit(Failpoint::StoreForgotten);
        Ok(())
    }

    fn each_sealed(&self, visit: &mut dyn FnMut(Digest) -> Result<()>) -> Result<()> {
        let directories = self.entries(&self.root.join(BLOBS))?.into_iter();
        for directory in directories.filter(|path| path.is_dir()) {
            for path in self.entries(&directory)? {
                let name = path.file_name().and_then(|name| name.to_str());
                match name.and_then(Digest::parse) {
                    Some(digest) => visit(digest)?,
                    None => log::warn!("{} is not a file of sps", self.name_of(&path)),
                }
            }
        }
        Ok(())
    }

    fn put_manifest(&self, id: ImageId, text: &str) -> Result<()> {
        self.write_manifest(id, text)
    }

    fn drop_manifest(&self, id: ImageId) -> Result<()> {
        self.remove(&self.manifest_path(id), Failpoint::ManifestDropped)
    }

    fn each_manifest(&self, visit: &mut dyn FnMut(&str, &str) -> Result<()>) -> Result<()> {
        self.read_manifests(visit)
    }

    fn manifest(&self, id: ImageId) -> Result<Option<String>> {
        self.read_manifest(id)
    }

    fn staged_names(&self) -> Result<Vec<String>> {
        self.names_in(&self.root.join(STAGING))
    }

    fn tidy(&self, tell: &mut dyn FnMut(String, bool)) -> Result<()> {
        self.tidy_files(tell)
    }

    fn keep_reserve(&self) {
        self.fill_reserve();
    }

    fn yield_reserve(&self) {
        self.shrink_reserve();
    }

    fn probe(&self) {
        if let Some(lock) = &self.lock
            && let Err(error) = lock.renew()
        {
            log::warn!("op=probe: {error}");
        }
    }

    fn space(&self) -> Result<Space> {
        let found = rustix::fs::statvfs(&self.root)
            .map_err(|error| Error::io("statvfs", &self.root, error))?;
        Ok(Space {
            total_bytes: found.f_blocks * found.f_frsize,
            free_bytes: found.f_bfree * found.f_frsize,
            available_bytes: found.f_bavail * found.f_frsize,
        })
    }
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        let path = path.display();
        Error::Store(format!(
            "store {path}: {error}: choose a directory you can write with --store"
        ))
    })
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::io("sync", path, error))
}
