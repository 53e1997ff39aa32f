//! The mount as the kernel talks to it: decode a request, call, reply.
//!
//! Nothing is decided here, and fuser's types stay in this file (and its attribute record in
//! `fs/attributes.rs`). What may take long (a close, a flush, a look-up that waits for a RELEASE) is
//! answered from a thread of its own, so that the threads that read requests never wait.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use crate::catalog::Attributes;
use crate::error::Error;
use crate::failpoint::{Failpoint, hit};
use crate::store::Extent;

mod answer;
mod attributes;
mod backing;
mod caller;
mod changes;
mod claims;
mod content;
mod deadlines;
mod departures;
mod drafts;
mod epoch;
mod gesture;
mod handles;
mod lane;
mod mount;
mod names;
mod nodes;
mod opening;
mod page;
mod requests;
mod session;
mod tree;
mod vacancies;
mod watch;
pub mod xattr;

pub use mount::Settings;
pub use session::{MountOptions, Mounted};

use answer::answer;
use attributes::{Setting, moment};
use mount::{Asker, Mount};
use requests::Requests;

#[allow(
    clippy::too_many_arguments,
    reason = "the signatures are those of the trait that is implemented"
)]
impl Filesystem for Requests {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        session::negotiate(&self.mount, config)
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (asker, name) = (Asker::of(request), name.to_owned());
        let scope = Mount::scope(parent.0, name.as_bytes());
        self.when_settled(("lookup", request), scope, move |mount| {
            answer::entry("lookup", reply, || {
                hit(Failpoint::LookUp);
                let found = mount.look_up_for(asker, parent.0, name.as_bytes())?;
                Ok(mount.attributes_found(parent.0, found))
            });
        });
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.when_settled(("getattr", request), Mount::attribute_scope(inode.0), move |mount| {
            answer::attr("getattr", reply, || mount.attributes(inode.0));
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
        let (asker, mode) = (Asker::of(request), mode.map(|mode| mode & 0o7777));
        let attributes = Attributes { uid, gid, mode, modified_at: mtime.map(moment) };
        let setting =
            Setting { attributes, size_bytes: size, handle: handle.map(|handle| handle.0) };
        let work = move |mount: &Mount| {
            answer::attr("setattr", reply, || mount.set_attributes(asker, inode.0, setting));
        };
        // They wait for what is being written, and a truncation for a vote; by its path, it has one of its own.
        self.at_once_unless(size.or(mtime.map(|_| 0)).is_some(), ("setattr", request), work);
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        self.when_settled(("readlink", request), Mount::attribute_scope(inode.0), move |mount| {
            answer::target(reply, || mount.read_link(inode.0));
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
        let (asker, name) = (Asker::of(request), name.to_owned());
        // It is made durable: there is no close that would.
        self.name(("mknod", request), reply, move |mount| {
            mount.make_node(asker, parent.0, name.as_bytes(), mode)
        });
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
        let (asker, name) = (Asker::of(request), name.to_owned());
        self.at_once(("create", request), move |mount| {
            answer::made(reply, || mount.create(asker, parent.0, name.as_bytes(), mode, flags));
        });
    }

    fn mkdir(&self, by: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(self.refuse(("mkdir", by), "the folders are the statuses: no others are made"));
    }

    fn rmdir(&self, by: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(self.refuse(("rmdir", by), "the folders are the statuses: they stay"));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (asker, name, target) = (Asker::of(request), name.to_owned(), target.to_owned());
        self.name(("symlink", request), reply, move |mount| {
            mount.locate(asker, parent.0, name.as_bytes(), &target)
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (asker, name) = (Asker::of(request), name.to_owned());
        self.at_once(("unlink", request), move |mount| {
            answer::empty("unlink", reply, || mount.unlink(asker, parent.0, name.as_bytes()));
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
        let (asker, name, newname) = (Asker::of(request), name.to_owned(), newname.to_owned());
        // It may wait for an import, a little.
        self.tell(("rename", request), reply, move |mount| {
            let from = (parent.0, name.as_bytes());
            let to = (newparent.0, newname.as_bytes());
            mount.rename(asker, from, to, flags.bits())
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let asker = Asker::of(request);
        let is_write = flags.0 & (libc::O_ACCMODE | libc::O_TRUNC) != libc::O_RDONLY;
        let open = move |mount: &Mount| {
            answer::opened(mount, reply, || mount.open(asker, inode.0, flags.0));
        };
        // What is opened again by its writer is copied first.
        if is_write {
            self.slowly(("open", request), open);
        } else {
            self.when_settled(("open", request), self.mount.opening_scope(inode.0), open);
        }
    }

    fn read(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = move |mount: &Mount| answer::read(mount, reply, (handle.0, offset, size));
        self.at_once_unless(self.mount.is_written(handle.0), ("read", request), work);
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
        self.write_when_free(request, reply, (handle.0, offset, data));
    }

    fn copy_file_range(
        &self,
        request: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (asker, from) = (Asker::of(request), Extent { offset: offset_in, length: len });
        self.slowly(("copy_file_range", request), move |mount| {
            let work = || mount.copy(asker, (fh_in.0, from), (fh_out.0, offset_out));
            answer::written(reply, answer("copy_file_range", work));
        });
    }

    fn flush(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let asker = Asker::of(request);
        self.close(request, handle.0, reply, move |mount| mount.flush(asker, handle.0));
    }

    fn release(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.tell(("release", request), reply, move |mount| {
            mount.release(handle.0);
            Ok(())
        });
    }

    fn fsync(&self, request: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        self.tell(("fsync", request), reply, move |mount| mount.fsync(handle.0));
    }

    fn fsyncdir(&self, request: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.tell(("fsyncdir", request), reply, |mount| mount.catalog.flush());
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let scope = Mount::listing_scope(inode.0, offset);
        self.when_settled(("readdir", request), scope, move |mount| {
            answer::lines(mount, inode.0, offset, reply);
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let scope = Mount::listing_scope(inode.0, offset);
        self.when_settled(("readdirplus", request), scope, move |mount| {
            answer::full_lines(mount, inode.0, offset, reply);
        });
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        self.at_once(("statfs", request), move |mount| answer::space(reply, || mount.space()));
    }

    fn getxattr(&self, by: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.to_owned();
        self.at_once(("getxattr", by), move |mount| {
            answer::value("getxattr", reply, size, || mount.attribute(inode.0, name.as_bytes()));
        });
    }

    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.at_once(("listxattr", request), move |mount| {
            answer::value("listxattr", reply, size, || mount.attribute_names(inode.0));
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let (asker, name, value) = (Asker::of(request), name.to_owned(), value.to_vec());
        self.tell(("setxattr", request), reply, move |mount| {
            mount.set_attribute(asker, inode.0, name.as_bytes(), (Some(&value), flags))
        });
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (asker, name) = (Asker::of(request), name.to_owned());
        self.tell(("removexattr", request), reply, move |mount| {
            mount.set_attribute(asker, inode.0, name.as_bytes(), (None, 0))
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
        let (asker, extent) = (Asker::of(request), Extent { offset, length });
        self.tell(("fallocate", request), reply, move |mount| {
            mount.allocate(asker, handle.0, mode, extent)
        });
    }

    fn lseek(
        &self,
        request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let work = move |mount: &Mount| {
            let offset = u64::try_from(offset).map_err(|_| Error::BeyondEnd)?;
            mount.seek(handle.0, Mount::whence(whence)?, offset)
        };
        self.at_once(("lseek", request), move |mount| answer::position(reply, || work(mount)));
    }
}
