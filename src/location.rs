//! Data that lies elsewhere: files below the roots that the operator allows.
//!
//! A path is opened without following any link out of its root, and as the user on whose behalf that is
//! done: nobody gets at what he could not read himself. This module refuses to know what becomes of it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};

use crate::error::{Error, Result};
use crate::image::User;
use crate::store::StoreFile;

/// The type of a FUSE filesystem, from `linux/magic.h`.
const FUSE_MAGIC: u64 = 0x6573_5546;

const IN_A_MOUNT: Error = Error::Forbidden("the path is in the store, or in a mount");

/// The roots below which data may lie, and where it may not.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    roots: Vec<PathBuf>,
    store: PathBuf,
}

impl Locations {
    /// Data below `roots`, but not in `store` or in a mount of it.
    #[must_use]
    pub fn new(roots: Vec<PathBuf>, store: PathBuf) -> Self {
        Self { roots, store }
    }

    /// Opens the file at `path`, which `reader` must be able to read himself.
    ///
    /// # Errors
    /// It is not below an allowed root, a link leads out of that, it is no regular file, it is in the
    /// store or a mount of it, or the reader may not read it.
    pub fn open(&self, path: &Path, reader: &User) -> Result<StoreFile> {
        let below = |root: &PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
        let found = self.roots.iter().find_map(|root| below(root).map(|rest| (root.clone(), rest)));
        let (root, rest) = found.ok_or(Error::Forbidden(
            "the path is below no root that is allowed: see -o location_root",
        ))?;
        let whole = path.to_owned();
        let own = rustix::process::geteuid();
        let file = if own.as_raw() == reader.uid {
            open_below(&root, &rest, &whole)?
        } else if own.is_root() {
            let reader = reader.clone();
            std::thread::spawn(move || {
                become_user(&reader)?;
                open_below(&root, &rest, &whole)
            })
            .join()
            .unwrap_or(Err(Error::Fault("location")))?
        } else {
            return Err(Error::NoPermission("a daemon that is not root reads for its user alone"));
        };
        self.check(path, file)
    }

    fn check(&self, path: &Path, file: File) -> Result<StoreFile> {
        let failed = |error: rustix::io::Errno| Error::io("look at", path, error);
        let metadata = file.metadata().map_err(|error| Error::io("stat", path, error))?;
        if !metadata.is_file() {
            return Err(Error::Invalid(format!("{} is not a regular file", path.display())));
        }
        let is_fuse = is_fuse(&file).map_err(failed)?;
        let real = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .map_err(|error| Error::io("find", path, error))?;
        if is_fuse || real.starts_with(&self.store) {
            return Err(IN_A_MOUNT);
        }
        Ok(StoreFile::new(file, path.display().to_string()))
    }
}

fn is_fuse(file: impl AsFd) -> rustix::io::Result<bool> {
    let filesystem = rustix::fs::fstatfs(file)?;
    Ok(u64::try_from(filesystem.f_type).unwrap_or(0) & 0xffff_ffff == FUSE_MAGIC)
}

/// Makes this thread one of the user. All of his groups count: one may let him in, or keep him out.
fn become_user(user: &User) -> Result<()> {
    let failed = |error: rustix::io::Errno| Error::io("act for", "the user", error);
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(failed)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)
}

/// Opens `rest` below `root` without leaving that, or the filesystem it is on: another one may be the mount that
/// asks, or never answer.
fn open_below(root: &Path, rest: &Path, whole: &Path) -> Result<File> {
    let failed = |error: rustix::io::Errno| match error {
        rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
            Error::NoPermission("you may not read the file yourself")
        }
        rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => Error::Forbidden(
            "a link in the path leads out of the root that is allowed, or it is on another filesystem",
        ),
        rustix::io::Errno::NOENT => Error::Invalid(format!("{} is not there", whole.display())),
        other => Error::io("open", whole, other),
    };
    // A pipe must not be waited for.
    let reading = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The folders above the root are asked as well.
    let root = rustix::fs::open(root, directory, Mode::empty()).map_err(failed)?;
    if is_fuse(&root).map_err(failed)? {
        // To answer for it might be this process's own, and it waits here.
        return Err(IN_A_MOUNT);
    }
    let below = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let rest = if rest.as_os_str().is_empty() { Path::new(".") } else { rest };
    rustix::fs::openat2(&root, rest, reading, Mode::empty(), below).map(File::from).map_err(failed)
}
