//! Operations on attributes: stat, chmod, chown, utimens, truncate by path, statfs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use super::drafts::Draft;
use super::handles::Handle;
use super::mount::{Asker, Mount, Shown};
use super::names::Found;
use super::page;
use super::tree::Node;
use crate::catalog::{Attributes, Resize, now};
use crate::error::{Error, Result};
use crate::image::{Image, Ownership, Timestamp};
use crate::store::Space;
use crate::task::Task;

/// What `cp` takes its buffer size from.
const BLOCK_BYTES: u32 = 1 << 20;

/// The unit of allocated blocks in stat(2).
const SECTOR_BYTES: u64 = 512;

/// What setattr asks for, decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setting {
    pub(crate) attributes: Attributes,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) handle: Option<u64>,
}

impl Mount {
    /// The attributes of a node, and how long the kernel may keep them.
    pub(crate) fn attributes(&self, inode: u64) -> Result<(FileAttr, Duration)> {
        let node = Self::node(inode)?;
        let image = node.image().map(|number| self.image(number)).transpose()?;
        let kept = self.epoch.kept(self.is_kept(node, image.as_ref()));
        Ok((self.attributes_with(node, image)?, kept))
    }

    fn attributes_with(&self, node: Node, image: Option<Image>) -> Result<FileAttr> {
        match node {
            Node::Page(page) => {
                let size_bytes = match self.handles.page_bytes(node) {
                    Some(size_bytes) => size_bytes,
                    None => page::render(self, page)?.len() as u64,
                };
                Ok(self.sized(node, size_bytes))
            }
            Node::Task(number) => {
                let task = self.catalog.task_by_number(number)?.ok_or(Error::NotFound)?;
                Ok(self.task_attributes(&task))
            }
            Node::Draft(number) => match self.handles.draft(number).as_deref() {
                Some(Handle::Draft(draft)) => Ok(self.draft_attributes(draft)),
                _ => Err(Error::NotFound),
            },
            Node::Image(_)
            | Node::Link(_)
            | Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::Own
            | Node::ById => Ok(self.attributes_of(node, image)),
        }
    }

    fn sized(&self, node: Node, size_bytes: u64) -> FileAttr {
        FileAttr {
            size: size_bytes,
            blocks: size_bytes.div_ceil(SECTOR_BYTES),
            ..self.fixed_attributes(node)
        }
    }

    /// The attributes of the file of a task.
    pub(crate) fn task_attributes(&self, task: &Task) -> FileAttr {
        let changed = system_time(task.updated_at);
        let node = Node::Task(task.number);
        let size_bytes =
            self.handles.page_bytes(node).unwrap_or_else(|| page::task(task).len() as u64);
        FileAttr {
            mtime: changed,
            atime: changed,
            ctime: system_time(task.status_at),
            crtime: system_time(task.created_at),
            perm: u16::try_from(task.ownership.mode & 0o7777).unwrap_or(0),
            uid: task.ownership.uid,
            gid: task.ownership.gid,
            ..self.sized(node, size_bytes)
        }
    }

    /// The attributes of a file that is to become a task.
    pub(crate) fn draft_attributes(&self, draft: &Draft) -> FileAttr {
        let author = draft.ownership();
        FileAttr {
            perm: u16::try_from(author.mode & 0o777).unwrap_or(0),
            uid: author.uid,
            gid: author.gid,
            ..self.sized(Node::Draft(draft.number), draft.size_bytes())
        }
    }

    /// The attributes of a node whose record, if it has one, is at hand.
    pub(crate) fn attributes_of(&self, node: Node, image: Option<Image>) -> FileAttr {
        match (node, image) {
            (Node::Image(_), Some(image)) => image_attributes(node, &self.shown(image)),
            (Node::Link(_), Some(image)) => self.link_attributes(node, &image),
            _ => self.fixed_attributes(node),
        }
    }

    /// The attributes of a child that was found in a folder, and how long the kernel may keep both.
    pub(crate) fn attributes_found(&self, folder: u64, found: Found) -> (FileAttr, Duration) {
        let status = found.image.as_ref().map(|image| image.status);
        // What was removed a moment ago is still shown to some where it was.
        let is_there = match (Self::node(folder), found.node, status) {
            (Ok(Node::Folder(folder)), Node::Image(_), Some(status)) => folder == status,
            _ => true,
        };
        let kept = self.epoch.kept(is_there && self.is_kept(found.node, found.image.as_ref()));
        let attributes = match found.task {
            Some(task) => self.task_attributes(&task),
            None => self.attributes_of(found.node, found.image),
        };
        (attributes, kept)
    }

    /// What kind of file a node is.
    pub(crate) const fn kind_of(node: Node) -> FileType {
        match node {
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::Own
            | Node::ById => FileType::Directory,
            Node::Page(_) | Node::Image(_) | Node::Task(_) | Node::Draft(_) => {
                FileType::RegularFile
            }
            Node::Link(_) => FileType::Symlink,
        }
    }

    fn fixed_attributes(&self, node: Node) -> FileAttr {
        let at = system_time(self.started_at);
        let perm = match node {
            Node::Folder(_) | Node::TaskFolder(_) => self.settings.folder_mode,
            Node::Root | Node::Tasks | Node::Own | Node::ById => 0o755,
            Node::Page(_) | Node::Image(_) | Node::Link(_) | Node::Task(_) | Node::Draft(_) => {
                0o444
            }
        };
        FileAttr {
            ino: INodeNo(node.inode()),
            size: 0,
            blocks: 0,
            atime: at,
            mtime: at,
            ctime: at,
            crtime: at,
            kind: Self::kind_of(node),
            perm,
            nlink: if Self::kind_of(node) == FileType::Directory { 2 } else { 1 },
            uid: self.settings.uid,
            gid: self.settings.gid,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        }
    }

    fn link_attributes(&self, node: Node, image: &Image) -> FileAttr {
        let at = system_time(image.status_at);
        let target = self.read_link(node.inode()).map_or(0, |target| target.len() as u64);
        FileAttr {
            size: target,
            atime: at,
            mtime: at,
            ctime: at,
            perm: 0o777,
            uid: image.ownership.uid,
            gid: image.ownership.gid,
            ..self.fixed_attributes(node)
        }
    }

    /// How much room there is, and how many images.
    pub(crate) fn space(&self) -> Result<(Space, u64)> {
        let images = self.catalog.totals()?.iter().map(|total| total.images).sum();
        let mut space = self.catalog.space()?;
        let usage = self.catalog.usage()?;
        if let Some(most) = usage.quota.bytes {
            let left = most.saturating_sub(usage.bytes);
            space.total_bytes = space.total_bytes.min(most);
            space.free_bytes = space.free_bytes.min(left);
            space.available_bytes = space.available_bytes.min(left);
        }
        Ok((space, images))
    }

    /// Sets attributes. On folders and links it is accepted and ignored, for the tools that copy
    /// whole trees.
    pub(crate) fn set_attributes(
        &self,
        asker: Asker,
        inode: u64,
        setting: Setting,
    ) -> Result<(FileAttr, Duration)> {
        let Node::Image(number) = Self::node(inode)? else {
            return self.set_other(inode, setting);
        };
        let image = self.image(number)?;
        if let Some(size_bytes) = setting.size_bytes {
            match setting.handle {
                Some(handle) => self.resize(asker, handle, Resize::To(size_bytes))?,
                None => self.truncate(asker, &image, size_bytes)?,
            }
        }
        let Attributes { uid, gid, mode, modified_at } = setting.attributes;
        if uid.or(gid).or(mode).is_some() || modified_at.is_some() {
            self.catalog.set_attributes(image.id, setting.attributes)?;
        }
        self.attributes(inode)
    }
}

impl Mount {
    /// Sets attributes of what is no image: only the length of a draft is one that can be set.
    fn set_other(&self, inode: u64, setting: Setting) -> Result<(FileAttr, Duration)> {
        match (setting.size_bytes, Self::node(inode)?) {
            (Some(size_bytes), Node::Draft(number)) => {
                match self.handles.draft(number).as_deref() {
                    Some(Handle::Draft(draft)) => draft.set_size(size_bytes)?,
                    _ => return Err(Error::NotFound),
                }
            }
            (Some(_), _) => return Err(Error::NoPermission("it can't be written")),
            (None, _) => {}
        }
        self.attributes(inode)
    }
}

fn image_attributes(node: Node, shown: &Shown) -> FileAttr {
    let Shown { image, live, size_bytes, allocated_bytes } = shown;
    let size = size_bytes.unwrap_or(0);
    let modified_at = system_time(live.map_or(image.modified_at, |live| live.modified_at));
    FileAttr {
        ino: INodeNo(node.inode()),
        size,
        blocks: allocated_bytes.div_ceil(SECTOR_BYTES),
        atime: modified_at,
        mtime: modified_at,
        ctime: system_time(image.status_at),
        crtime: system_time(image.created_at),
        kind: FileType::RegularFile,
        perm: u16::try_from(image.ownership.mode & Ownership::MODE_BITS).unwrap_or(0),
        nlink: 1,
        uid: image.ownership.uid,
        gid: image.ownership.gid,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// A moment as fuser gives and takes it.
fn system_time(at: Timestamp) -> SystemTime {
    let distance = Duration::from_nanos(at.as_nanoseconds().unsigned_abs());
    let moved = if at.as_nanoseconds() < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(UNIX_EPOCH)
}

/// A moment as the catalog takes it; what is out of its range becomes its nearest end.
fn timestamp(at: SystemTime) -> Timestamp {
    let nanoseconds = match at.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    };
    Timestamp::from_nanoseconds(nanoseconds)
}

/// A moment of utimensat(2).
pub(crate) fn moment(time: TimeOrNow) -> Timestamp {
    match time {
        TimeOrNow::SpecificTime(at) => timestamp(at),
        TimeOrNow::Now => now(),
    }
}
