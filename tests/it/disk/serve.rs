//! The disk as the kernel talks to it.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::MutexGuard;

use super::{Effect, Inode, Kind, Op, PAGE, ROOT, Shared, State};

/// Nothing changes but through the kernel.
const KEPT: Duration = Duration::from_secs(3600);

const GENERATION: Generation = Generation(0);

/// What fuser serves.
pub(super) struct Served(pub(super) Arc<Shared>);

type Answer<T> = Result<T, Errno>;

impl Served {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// What a file is called, for faults and to be told: one of its names, or what it was called last.
    fn path(&self, number: u64) -> String {
        let state = self.state();
        path_of(&state, number)
    }

    fn admit(&self, op: Op, path: &str) -> Answer<()> {
        self.0.wait_until_thawed();
        self.0.admit(op, path)
    }

    fn admit_child(&self, op: Op, parent: INodeNo, name: &OsStr) -> Answer<String> {
        let name = name.to_str().ok_or(Errno::EINVAL)?.to_owned();
        self.admit(op, &format!("{}/{name}", self.path(parent.0)))?;
        Ok(name)
    }

    fn attributes(&self, number: u64) -> Answer<FileAttr> {
        self.0.wait_until_thawed();
        let state = self.state();
        state.seen.get(&number).map(|inode| attributes(&state, number, inode)).ok_or(Errno::ENOENT)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Answer<u64> {
        let state = self.state();
        let entries = state.seen.get(&parent.0).and_then(Inode::entries).ok_or(Errno::ENOTDIR)?;
        let name = name.to_str().ok_or(Errno::EINVAL)?;
        entries.get(name).map(|(number, _)| *number).ok_or(Errno::ENOENT)
    }

    fn make(
        &self,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        mode: u32,
        is_directory: bool,
    ) -> Answer<FileAttr> {
        let name = self.admit_child(Op::Create, parent, name)?;
        let inode = Inode::new(mode & 0o7777, (request.uid(), request.gid()), is_directory);
        let mut state = self.state();
        let entries = state.seen.get(&parent.0).and_then(Inode::entries).ok_or(Errno::ENOTDIR)?;
        if entries.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        let number = state.make(parent.0, &name, inode);
        Ok(attributes(&state, number, &state.seen[&number]))
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> Answer<()> {
        let number = self.child(parent, name)?;
        let name = self.admit_child(Op::Unlink, parent, name)?;
        let mut state = self.state();
        if state.seen.get(&number).and_then(Inode::entries).is_some_and(|all| !all.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        state.note(Effect::Names { directory: parent.0, changes: vec![(name, None)] });
        Ok(())
    }

    /// Whether there is room for what a file is to get in that stretch.
    fn check_room(&self, number: u64, offset: u64, length: u64) -> Answer<()> {
        let state = self.state();
        let Some(Kind::File { pages, .. }) = state.seen.get(&number).map(|inode| &inode.kind)
        else {
            return Err(Errno::EBADF);
        };
        let wanted = (offset / PAGE as u64)..(offset + length).div_ceil(PAGE as u64);
        let more = wanted.filter(|page| !pages.contains_key(page)).count() * PAGE;
        let capacity = self.0.capacity.load(Ordering::Acquire);
        let has_room = more == 0 || state.used() + more as u64 <= capacity;
        if has_room { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    fn write(&self, number: u64, offset: u64, data: &[u8]) -> Answer<()> {
        self.admit(Op::Write, &self.path(number))?;
        self.check_room(number, offset, data.len() as u64)?;
        self.state().note(Effect::Write { inode: number, offset, data: data.into() });
        Ok(())
    }

    fn rename(
        &self,
        (parent, name): (INodeNo, &OsStr),
        (to_parent, to_name): (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Answer<()> {
        let number = self.child(parent, name)?;
        let target = self.child(to_parent, to_name);
        if flags.bits() & libc::RENAME_NOREPLACE != 0 && target.is_ok() {
            return Err(Errno::EEXIST);
        }
        let to_name = self.admit_child(Op::Rename, to_parent, to_name)?;
        let name = name.to_str().ok_or(Errno::EINVAL)?.to_owned();
        let mut state = self.state();
        if parent == to_parent {
            let changes = vec![(name, None), (to_name, Some(number))];
            state.note(Effect::Names { directory: parent.0, changes });
        } else {
            // Two directories: either of them can be on the disk before the other.
            let gained = vec![(to_name, Some(number))];
            state.note(Effect::Names { directory: to_parent.0, changes: gained });
            let lost = vec![(name, None)];
            state.note(Effect::Names { directory: parent.0, changes: lost });
        }
        Ok(())
    }

    fn link(&self, number: u64, parent: INodeNo, name: &OsStr) -> Answer<FileAttr> {
        let name = self.admit_child(Op::Link, parent, name)?;
        let mut state = self.state();
        let changes = vec![(name, Some(number))];
        state.note(Effect::Names { directory: parent.0, changes });
        let inode = state.seen.get(&number).ok_or(Errno::ENOENT)?;
        Ok(attributes(&state, number, inode))
    }

    fn sync(&self, number: u64) -> Answer<()> {
        let admitted = self.admit(Op::Fsync, &self.path(number));
        let mut state = self.state();
        match &admitted {
            Ok(()) => state.sync(number),
            Err(_) if self.0.is_off.load(Ordering::Acquire) => {}
            Err(_) => state.fail_sync(number),
        }
        admitted
    }

    fn allocate(&self, number: u64, (offset, length): (u64, u64), mode: i32) -> Answer<()> {
        self.admit(Op::Write, &self.path(number))?;
        let is_punched = mode & libc::FALLOC_FL_PUNCH_HOLE != 0;
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        if mode & !(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let effect = if is_punched {
            Effect::Punch { inode: number, offset, length }
        } else {
            self.check_room(number, offset, length)?;
            Effect::Allocate { inode: number, offset, length, keep_size }
        };
        self.state().note(effect);
        Ok(())
    }

    fn set(&self, number: u64, wanted: &Wanted) -> Answer<()> {
        let path = self.path(number);
        if let Some(size) = wanted.size {
            self.admit(Op::Truncate, &path)?;
            self.state().note(Effect::Resize { inode: number, size });
        }
        let (mode, uid, gid) = (wanted.mode, wanted.uid, wanted.gid);
        if mode.is_some() || uid.is_some() || gid.is_some() {
            self.admit(Op::Attributes, &path)?;
            let mut state = self.state();
            let inode = state.seen.get(&number).ok_or(Errno::ENOENT)?;
            let owner = (uid.unwrap_or(inode.owner.0), gid.unwrap_or(inode.owner.1));
            let mode = mode.map_or(inode.mode, |mode| mode & 0o7777);
            state.note(Effect::Attributes { inode: number, mode, owner });
        }
        if let (Some(at), Some(inode)) = (wanted.modified, self.state().seen.get_mut(&number)) {
            inode.modified = at;
        }
        Ok(())
    }
}

/// What of a file's attributes is to change.
struct Wanted {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    modified: Option<SystemTime>,
}

fn path_of(state: &State, number: u64) -> String {
    let mut number = number;
    let mut path = String::new();
    while number != ROOT {
        let parent = state.seen.iter().find_map(|(parent, inode)| {
            let (name, _) = inode.entries()?.iter().find(|(_, entry)| entry.0 == number)?;
            Some((*parent, name.clone()))
        });
        let Some((parent, name)) = parent else { return "/unnamed".into() };
        path = format!("/{name}{path}");
        number = parent;
    }
    path
}

fn attributes(state: &State, number: u64, inode: &Inode) -> FileAttr {
    let is_directory = inode.entries().is_some();
    FileAttr {
        ino: INodeNo(number),
        size: inode.size(),
        blocks: inode.pages() * (PAGE as u64 / 512),
        atime: inode.modified,
        mtime: inode.modified,
        ctime: inode.changed,
        crtime: inode.changed,
        kind: if is_directory { FileType::Directory } else { FileType::RegularFile },
        perm: (inode.mode & 0o7777) as u16,
        nlink: if is_directory { 2 } else { state.links(number) },
        uid: inode.owner.0,
        gid: inode.owner.1,
        rdev: 0,
        blksize: PAGE as u32,
        flags: 0,
    }
}

fn done(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn entry(reply: ReplyEntry, answer: Answer<FileAttr>) {
    match answer {
        Ok(attr) => reply.entry(&KEPT, &attr, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "the signatures are those of the trait that is implemented"
)]
impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.0.wait_until_thawed();
        entry(reply, self.child(parent, name).and_then(|number| self.attributes(number)));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode.0) {
            Ok(attr) => reply.attr(&KEPT, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let modified = mtime.map(|time| match time {
            TimeOrNow::SpecificTime(time) => time,
            TimeOrNow::Now => SystemTime::now(),
        });
        let wanted = Wanted { mode, uid, gid, size, modified };
        let set = self.set(inode.0, &wanted).and_then(|()| self.attributes(inode.0));
        match set {
            Ok(attr) => reply.attr(&KEPT, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        entry(reply, self.make(request, (parent, name), mode & !umask, true));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(request, (parent, name), mode & !umask, false) {
            Ok(attr) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&KEPT, &attr, GENERATION, FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.remove(parent, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.remove(parent, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        done(reply, Self::rename(self, (parent, name), (newparent, newname), flags));
    }

    fn link(
        &self,
        _: &Request,
        inode: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        entry(reply, Self::link(self, inode.0, newparent, newname));
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let path = self.path(inode.0);
        // What the kernel has is asked for again where a read may fail.
        let is_asked = self.0.orders.lock().faults.iter().any(|fault| fault.op == Op::Read);
        let flags = match is_asked && !path.ends_with("-shm") {
            true => FopenFlags::empty(),
            false => FopenFlags::FOPEN_KEEP_CACHE,
        };
        match self.admit(Op::Open, &path) {
            Ok(()) => reply.opened(FileHandle(0), flags),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if let Err(errno) = self.admit(Op::Read, &self.path(inode.0)) {
            return reply.error(errno);
        }
        let bytes = self.state().seen.get(&inode.0).map(|inode| inode.read(offset, size as usize));
        match bytes {
            Some(bytes) => reply.data(&bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match Self::write(self, inode.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn forget(&self, _: &Request, inode: INodeNo, _: u64) {
        // Names are kept for long, so what the kernel forgets is what nobody has open.
        self.state().forget(inode.0);
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.sync(inode.0));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.sync(inode.0));
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.0.wait_until_thawed();
        let state = self.state();
        let Some(entries) = state.seen.get(&inode.0).and_then(Inode::entries) else {
            return reply.error(Errno::ENOTDIR);
        };
        let mut rest: Vec<_> = entries.iter().filter(|(_, (_, place))| *place > offset).collect();
        rest.sort_by_key(|(_, (_, place))| *place);
        for (name, (number, place)) in rest {
            let is_directory = state.seen.get(number).and_then(Inode::entries).is_some();
            let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(*number), *place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let page = PAGE as u64;
        let blocks = self.0.capacity.load(Ordering::Acquire) / page;
        let free = blocks.saturating_sub(self.state().used() / page);
        reply.statfs(blocks, free, free, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        done(reply, self.allocate(inode.0, (offset, length), mode));
    }

    fn lseek(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let is_data = whence == libc::SEEK_DATA;
        let state = self.state();
        let found = state.seen.get(&inode.0).and_then(|inode| inode.seek(offset as u64, is_data));
        match found {
            Some(at) => reply.offset(at as i64),
            None => reply.error(Errno::ENXIO),
        }
    }

    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Directories need no opening: a store has hundreds. An older kernel asks all the same.
        let _ = config.add_capabilities(InitFlags::FUSE_NO_OPENDIR_SUPPORT);
        Ok(())
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }
}
