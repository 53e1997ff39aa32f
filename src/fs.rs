//! The mount as the kernel talks to it: decode a request, call, reply.
//!
//! Nothing is decided here, and fuser's types stay in this file (and its attribute record in
//! `fs/attributes.rs`). What may take long (a close, a flush, a look-up that waits for a RELEASE) is
//! answered from a thread of its own, so that the threads that read requests never wait.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::catalog::{Attributes, now};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::NAME_BYTES_MAX;
use crate::store::{Extent, Seek};

mod attributes;
mod caller;
mod content;
mod departures;
mod gesture;
mod handles;
mod lane;
mod mount;
mod names;
mod page;
mod session;
mod tree;
mod xattr;

pub use mount::Settings;
pub use session::{MountOptions, Mounted};

use attributes::{Setting, timestamp};
use departures::Scope;
use lane::Lane;
use mount::{Asker, Mount};

/// A status can change at any moment: the kernel asks again each time.
const TIME_TO_LIVE: Duration = Duration::ZERO;

/// Numbers of images are never given twice.
const GENERATION: Generation = Generation(1);

/// The largest write or read in one request in bytes; the kernel caps it there as well.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Background requests the kernel may have waiting: a RELEASE must not queue behind reads.
const BACKGROUND_MAX: u16 = u16::MAX;

/// The implementation of fuser's trait.
struct Requests {
    mount: Arc<Mount>,
    lane: Lane,
}

impl Requests {
    /// Runs `work` when no RELEASE is on its way that changes what it looks at: at once, or from
    /// another thread.
    fn when_settled(&self, scope: Scope, work: impl FnOnce(&Mount) + Send + 'static) {
        if self.mount.departures.concerns(&scope) {
            let mount = Arc::clone(&self.mount);
            self.lane.run(move || {
                mount.departures.wait(&scope);
                work(&mount);
            });
        } else {
            work(&self.mount);
        }
    }

    /// Runs `work` from another thread: it may wait for the disk.
    fn slowly(&self, work: impl FnOnce(&Mount) + Send + 'static) {
        let mount = Arc::clone(&self.mount);
        self.lane.run(move || work(&mount));
    }
}

/// Runs the work of a request. A failure is logged once, here, and becomes an error number; a panic
/// becomes EIO, and the mount lives on.
fn answer<T>(op: &'static str, work: impl FnOnce() -> Result<T>) -> std::result::Result<T, Errno> {
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Fault(op)));
    outcome.map_err(|error| {
        let errno = error.errno();
        if error.needs_operator() {
            log::error!("op={op} errno={errno}: {error}");
        } else {
            log::debug!("op={op} errno={errno}: {error}");
        }
        Errno::from_i32(errno)
    })
}

fn answer_empty(op: &'static str, reply: ReplyEmpty, work: impl FnOnce() -> Result<()>) {
    match answer(op, work) {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn asker(request: &Request) -> Asker {
    Asker {
        uid: request.uid(),
        gid: request.gid(),
        thread: request.pid(),
    }
}

fn moment(time: TimeOrNow) -> crate::image::Timestamp {
    match time {
        TimeOrNow::SpecificTime(at) => timestamp(at),
        TimeOrNow::Now => now(),
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "the signatures are those of the trait that is implemented"
)]
impl Filesystem for Requests {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Without it a truncating open could not be told from a truncate.
        config
            .add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC)
            .map_err(|_| std::io::Error::from(rustix::io::Errno::NOSYS))?;
        let wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS;
        let offered = wanted & config.capabilities();
        let numbers = config
            .add_capabilities(offered)
            .map_err(|_| ())
            .and_then(|()| config.set_max_write(REQUEST_BYTES_MAX).map_err(|_| ()))
            .and_then(|_| config.set_max_background(BACKGROUND_MAX).map_err(|_| ()));
        numbers.map_err(|()| std::io::Error::from(rustix::io::Errno::INVAL))?;
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.when_settled(Mount::scope(parent.0, name.as_bytes()), move |mount| {
            let found = answer("lookup", || {
                hit(Failpoint::LookUp);
                let found = mount.look_up(parent.0, name.as_bytes())?;
                Ok(mount.attributes_of(found.node, found.image))
            });
            match found {
                Ok(attr) => reply.entry(&TIME_TO_LIVE, &attr, GENERATION),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.when_settled(Mount::attribute_scope(inode.0), move |mount| {
            match answer("getattr", || mount.attributes(inode.0)) {
                Ok(attr) => reply.attr(&TIME_TO_LIVE, &attr),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let asker = asker(request);
        let mode = mode.map(|mode| mode & 0o7777);
        let attributes = Attributes {
            uid,
            gid,
            mode,
            modified_at: mtime.map(moment),
        };
        let setting = Setting {
            attributes,
            size_bytes: size,
            handle: handle.map(|handle| handle.0),
        };
        let work = move |mount: &Mount| match answer("setattr", || {
            mount.set_attributes(asker, inode.0, setting)
        }) {
            Ok(attr) => reply.attr(&TIME_TO_LIVE, &attr),
            Err(errno) => reply.error(errno),
        };
        // By its path, a truncation is an upload of its own, with a vote.
        if size.is_some() && handle.is_none() {
            self.slowly(work)
        } else {
            work(&self.mount)
        }
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        self.when_settled(Mount::attribute_scope(inode.0), move |mount| {
            match answer("readlink", || mount.read_link(inode.0)) {
                Ok(target) => reply.data(target.as_bytes()),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let asker = asker(request);
        let made = answer("mknod", || {
            let image = self
                .mount
                .make_node(asker, parent.0, name.as_bytes(), mode)?;
            Ok(self
                .mount
                .attributes_of(tree::Node::Image(image.number), Some(image)))
        });
        match made {
            Ok(attr) => reply.entry(&TIME_TO_LIVE, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let asker = asker(request);
        let made = answer("create", || {
            self.mount
                .create(asker, parent.0, name.as_bytes(), mode, flags)
        });
        match made {
            Ok((handle, attr)) => reply.created(
                &TIME_TO_LIVE,
                &attr,
                GENERATION,
                FileHandle(handle),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(refuse(
            "mkdir",
            "the folders are the statuses: there are no others",
        ));
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(refuse("rmdir", "the folders are the statuses: they stay"));
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(refuse("symlink", "links are not images"));
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(refuse("link", "an image has one name"));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let asker = asker(request);
        answer_empty("unlink", reply, || {
            self.mount.unlink(asker, parent.0, name.as_bytes())
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let asker = asker(request);
        let from = (parent.0, name.as_bytes());
        let to = (newparent.0, newname.as_bytes());
        answer_empty("rename", reply, || {
            self.mount.rename(asker, from, to, flags.bits())
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let asker = asker(request);
        self.when_settled(Mount::attribute_scope(inode.0), move |mount| {
            match answer("open", || mount.open(asker, inode.0, flags.0)) {
                Ok(opened) if opened.is_immutable => {
                    reply.opened(FileHandle(opened.handle), FopenFlags::FOPEN_KEEP_CACHE);
                }
                Ok(opened) => {
                    reply.opened(FileHandle(opened.handle), FopenFlags::FOPEN_DIRECT_IO);
                }
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        match answer("read", || self.mount.read(handle.0, offset, &mut buffer)) {
            Ok(count) => reply.data(buffer.get(..count).unwrap_or_default()),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let asker = asker(request);
        match answer("write", || self.mount.write(asker, handle.0, offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let asker = asker(request);
        self.slowly(move |mount| {
            answer_empty("flush", reply, || mount.flush(asker, handle.0));
        });
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.slowly(move |mount| {
            answer_empty("release", reply, || {
                mount.release(handle.0);
                Ok(())
            });
        });
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.slowly(move |mount| answer_empty("fsync", reply, || mount.fsync(handle.0)));
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.slowly(move |mount| answer_empty("fsyncdir", reply, || mount.catalog.flush()));
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.when_settled(Mount::listing_scope(inode.0, offset), move |mount| {
            let listed = answer("readdir", || {
                mount.list(inode.0, offset, &mut |line| {
                    let kind = Mount::kind_of(line.node);
                    !reply.add(INodeNo(line.node.inode()), line.next, kind, &line.name)
                })
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.when_settled(Mount::listing_scope(inode.0, offset), move |mount| {
            let listed = answer("readdirplus", || {
                mount.list(inode.0, offset, &mut |line| {
                    let attr = mount.attributes_of(line.node, line.image);
                    let inode = INodeNo(line.node.inode());
                    !reply.add(
                        inode,
                        line.next,
                        &line.name,
                        &TIME_TO_LIVE,
                        &attr,
                        GENERATION,
                    )
                })
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        const FRAGMENT_BYTES: u32 = 4096;
        let name_max = u32::try_from(NAME_BYTES_MAX).unwrap_or(u32::MAX);
        let blocks = |bytes: u64| bytes / u64::from(FRAGMENT_BYTES);
        let found = answer("statfs", || {
            let images: u64 = self
                .mount
                .catalog
                .totals()?
                .iter()
                .map(|total| total.images)
                .sum();
            Ok((self.mount.catalog.space()?, images))
        });
        match found {
            Ok((space, images)) => reply.statfs(
                blocks(space.total_bytes),
                blocks(space.free_bytes),
                blocks(space.available_bytes),
                images,
                u64::from(u32::MAX),
                FRAGMENT_BYTES,
                name_max,
                FRAGMENT_BYTES,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let found = answer("getxattr", || {
            let value = self.mount.attribute(inode.0, name.as_bytes())?.into_bytes();
            if size > 0 && value.len() > size as usize {
                Err(Error::Range)
            } else {
                Ok(value)
            }
        });
        match found {
            Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
            Ok(value) => reply.data(&value),
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, _request: &Request, _inode: INodeNo, size: u32, reply: ReplyXattr) {
        if size == 0 {
            reply.size(0)
        } else {
            reply.data(&[])
        }
    }

    fn setxattr(
        &self,
        _request: &Request,
        _inode: INodeNo,
        name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        answer_empty("setxattr", reply, || Mount::set_attribute(name.as_bytes()));
    }

    fn removexattr(&self, _request: &Request, _inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer_empty("removexattr", reply, || {
            Mount::set_attribute(name.as_bytes())
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let asker = asker(request);
        let extent = Extent { offset, length };
        answer_empty("fallocate", reply, || {
            self.mount.allocate(asker, handle.0, mode, extent)
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let found = answer("lseek", || {
            let whence = match whence {
                libc::SEEK_DATA => Seek::Data,
                libc::SEEK_HOLE => Seek::Hole,
                other => return Err(Error::Invalid(format!("lseek whence {other}"))),
            };
            let offset = u64::try_from(offset).map_err(|_| Error::BeyondEnd)?;
            self.mount.seek(handle.0, whence, offset)
        });
        match found {
            Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _inode_in: INodeNo,
        _handle_in: FileHandle,
        _offset_in: u64,
        _inode_out: INodeNo,
        _handle_out: FileHandle,
        _offset_out: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel then copies by reading and writing, and does not ask again.
        reply.error(Errno::ENOSYS);
    }
}

/// The answer to what the mount never does.
fn refuse(op: &'static str, why: &'static str) -> Errno {
    answer(op, || Err::<(), _>(Error::Forbidden(why)))
        .err()
        .unwrap_or(Errno::EPERM)
}
