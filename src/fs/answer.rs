//! How a request is answered: its failure logged once and made an error number, its panic caught, its
//! result sent.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr,
};

use super::content::Opened;
use super::mount::{Asker, Mount};
use super::names::Detail;
use crate::error::{Error, Result, errno_name};
use crate::image::NAME_BYTES_MAX;
use crate::metrics;
use crate::store::Space;

/// Numbers of images are never given twice.
const GENERATION: Generation = Generation(1);

/// Runs the work of a request. A failure is logged once, here, and becomes an error number; a panic
/// becomes EIO, and the mount lives on.
pub(super) fn answer<T>(
    op: &'static str,
    work: impl FnOnce() -> Result<T>,
) -> std::result::Result<T, Errno> {
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Fault(op)));
    outcome.map_err(|error| {
        let errno = error.errno();
        metrics::failed(op, errno_name(errno));
        if error.needs_operator() {
            log::error!("op={op} errno={errno}: {error}");
        } else {
            log::debug!("op={op} errno={errno}: {error}");
        }
        Errno::from_i32(errno)
    })
}

/// The answer to what the mount never does.
pub(super) fn refuse(op: &'static str, why: &'static str) -> Errno {
    answer(op, || Err::<(), _>(Error::Forbidden(why))).err().unwrap_or(Errno::EPERM)
}

/// Answers with success alone.
pub(super) fn empty(op: &'static str, reply: ReplyEmpty, work: impl FnOnce() -> Result<()>) {
    match answer(op, work) {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with a node that was found or made, and how long the kernel may keep it.
pub(super) fn entry(
    op: &'static str,
    reply: ReplyEntry,
    work: impl FnOnce() -> Result<(FileAttr, Duration)>,
) {
    match answer(op, work) {
        Ok((attr, kept)) => reply.entry(&kept, &attr, GENERATION),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with what was made and opened. It is new: nothing of it is to be kept yet.
pub(super) fn made(reply: ReplyCreate, work: impl FnOnce() -> Result<(Opened, FileAttr)>) {
    match answer("create", work) {
        Ok((opened, attr)) => {
            let (handle, flags) = (FileHandle(opened.handle), opened.flags());
            reply.created(&Duration::ZERO, &attr, GENERATION, handle, flags);
        }
        Err(errno) => reply.error(errno),
    }
}

/// Answers with where a link points.
pub(super) fn target(reply: ReplyData, work: impl FnOnce() -> Result<String>) {
    match answer("readlink", work) {
        Ok(target) => reply.data(target.as_bytes()),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with a position in a file.
pub(super) fn position(reply: ReplyLseek, work: impl FnOnce() -> Result<u64>) {
    match answer("lseek", work) {
        Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with attributes, and how long the kernel may keep them.
pub(super) fn attr(
    op: &'static str,
    reply: ReplyAttr,
    work: impl FnOnce() -> Result<(FileAttr, Duration)>,
) {
    match answer(op, work) {
        Ok((attr, kept)) => reply.attr(&kept, &attr),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with what was opened: the kernel reads the file below by itself, or asks.
pub(super) fn opened(mount: &Mount, reply: ReplyOpen, work: impl FnOnce() -> Result<Opened>) {
    let opened = match answer("open", work) {
        Ok(opened) => opened,
        Err(errno) => return reply.error(errno),
    };
    let handle = FileHandle(opened.handle);
    match mount.backed(&opened, |file| reply.open_backing(file)) {
        Some(backing) => {
            reply.opened_passthrough(handle, FopenFlags::FOPEN_NOFLUSH, &backing);
        }
        None => reply.opened(handle, opened.flags()),
    }
}

/// Answers with the value of an extended attribute, or its size where the buffer has none.
pub(super) fn value(
    op: &'static str,
    reply: ReplyXattr,
    size: u32,
    work: impl FnOnce() -> Result<String>,
) {
    let fitting = || {
        let value = work()?.into_bytes();
        if size > 0 && value.len() > size as usize { Err(Error::Range) } else { Ok(value) }
    };
    match answer(op, fitting) {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}

thread_local! {
    /// What is read into, so that no request allocates.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Answers with what is read of a handle, from an offset on, up to a size.
pub(super) fn read(mount: &Mount, reply: ReplyData, (handle, offset, size): (u64, u64, u32)) {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(buffer.len().max(size as usize), 0);
        let wanted = buffer.get_mut(..size as usize).unwrap_or_default();
        match answer("read", || mount.read(handle, offset, wanted)) {
            Ok(count) => {
                metrics::read(count as u64);
                reply.data(buffer.get(..count).unwrap_or_default());
            }
            Err(errno) => reply.error(errno),
        }
    });
}

/// Writes to a handle at an offset and answers, as soon as that may be. The data is hashed after.
pub(super) fn write(
    mount: &Mount,
    asker: Asker,
    reply: ReplyWrite,
    (handle, offset, data): (u64, u64, &[u8]),
) {
    let size = data.len() as u64;
    let mut reply = Some(reply);
    let mut accept = || {
        if let Some(reply) = reply.take() {
            written(reply, Ok(size));
        }
    };
    let done = answer("write", || mount.write(asker, handle, (offset, data), &mut accept));
    if let Some(reply) = reply {
        written(reply, done.as_ref().map(|_| size).map_err(|errno| *errno));
    }
    if done.is_ok() {
        metrics::written(size);
    }
    if let Ok(Some(turn)) = done {
        turn.take(data);
    }
}

/// Answers with how much was written.
pub(super) fn written(reply: ReplyWrite, written: std::result::Result<u64, Errno>) {
    match written {
        Ok(count) => reply.written(u32::try_from(count).unwrap_or(u32::MAX)),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with the lines of a folder.
pub(super) fn lines(mount: &Mount, folder: u64, from: u64, mut reply: ReplyDirectory) {
    let listed = answer("readdir", || {
        mount.list(folder, (from, Detail::Names), &mut |line| {
            let kind = Mount::kind_of(line.node);
            !reply.add(INodeNo(line.node.inode()), line.next, kind, &line.name)
        })
    });
    match listed {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with the lines of a folder and the attributes of each.
pub(super) fn full_lines(mount: &Mount, folder: u64, from: u64, mut reply: ReplyDirectoryPlus) {
    let since = mount.epoch.now();
    let listed = answer("readdirplus", || {
        mount.list(folder, (from, Detail::Attributes), &mut |line| {
            let is_settled = mount.is_kept(line.node, line.image.as_ref());
            let kept = mount.epoch.listed(is_settled, since);
            let attr = match line.task {
                Some(task) => mount.task_attributes(&task),
                None => mount.attributes_of(line.node, line.image),
            };
            let inode = INodeNo(line.node.inode());
            !reply.add(inode, line.next, &line.name, &kept, &attr, GENERATION)
        })
    });
    mount.epoch.lists(since);
    match listed {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Answers with how much room there is, and how many images.
pub(super) fn space(reply: ReplyStatfs, work: impl FnOnce() -> Result<(Space, u64)>) {
    /// The unit in which `df` counts.
    const UNIT: u32 = 4096;
    let blocks = |bytes: u64| bytes / u64::from(UNIT);
    let name_max = u32::try_from(NAME_BYTES_MAX).unwrap_or(u32::MAX);
    match answer("statfs", work) {
        Ok((space, images)) => reply.statfs(
            blocks(space.total_bytes),
            blocks(space.free_bytes),
            blocks(space.available_bytes),
            images,
            u64::from(u32::MAX),
            UNIT,
            name_max,
            UNIT,
        ),
        Err(errno) => reply.error(errno),
    }
}
