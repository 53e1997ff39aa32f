//! Operations on attributes: stat, chmod, chown, utimens, truncate by path, statfs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};

use super::mount::{Asker, Mount, Shown};
use super::page;
use super::tree::Node;
use crate::catalog::{Attributes, Resize, now};
use crate::error::{Error, Result};
use crate::image::{Image, Timestamp};
use crate::store::Space;

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
    /// The attributes of a node.
    pub(crate) fn attributes(&self, inode: u64) -> Result<FileAttr> {
        let node = Self::node(inode)?;
        match node {
            Node::Image(number) | Node::Link(number) => {
                let image = self.image(number)?;
                Ok(self.attributes_of(node, Some(image)))
            }
            Node::StatusPage => {
                let mut attr = self.attributes_of(node, None);
                attr.size = page::render(self)?.len() as u64;
                attr.blocks = attr.size.div_ceil(SECTOR_BYTES);
                Ok(attr)
            }
            Node::Root | Node::Folder(_) | Node::Tasks | Node::TaskFolder(_) | Node::ById => {
                Ok(self.attributes_of(node, None))
            }
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

    /// What kind of file a node is.
    pub(crate) const fn kind_of(node: Node) -> FileType {
        match node {
            Node::Root | Node::Folder(_) | Node::Tasks | Node::TaskFolder(_) | Node::ById => {
                FileType::Directory
            }
            Node::StatusPage | Node::Image(_) => FileType::RegularFile,
            Node::Link(_) => FileType::Symlink,
        }
    }

    fn fixed_attributes(&self, node: Node) -> FileAttr {
        let at = system_time(self.started_at);
        let perm = match node {
            Node::Folder(_) => self.settings.folder_mode,
            Node::Root | Node::Tasks | Node::TaskFolder(_) | Node::ById => 0o755,
            Node::StatusPage | Node::Image(_) | Node::Link(_) => 0o444,
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
        Ok((self.catalog.space()?, images))
    }

    /// Sets attributes. On folders and links it is accepted and ignored, for the tools that copy
    /// whole trees.
    pub(crate) fn set_attributes(
        &self,
        asker: Asker,
        inode: u64,
        setting: Setting,
    ) -> Result<FileAttr> {
        let Node::Image(number) = Self::node(inode)? else {
            return match setting.size_bytes {
                Some(_) => Err(Error::NoPermission("it can't be written")),
                None => self.attributes(inode),
            };
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

fn image_attributes(node: Node, shown: &Shown) -> FileAttr {
    let Shown { image, live, allocated_bytes } = shown;
    let known = image.content.seal().map_or(0, |seal| seal.size_bytes);
    let (size, modified_at) =
        live.map_or((known, image.modified_at), |live| (live.size_bytes, live.modified_at));
    let modified_at = system_time(modified_at);
    FileAttr {
        ino: INodeNo(node.inode()),
        size,
        blocks: allocated_bytes.div_ceil(SECTOR_BYTES),
        atime: modified_at,
        mtime: modified_at,
        ctime: system_time(image.status_at),
        crtime: system_time(image.created_at),
        kind: FileType::RegularFile,
        perm: u16::try_from(image.ownership.mode & 0o7777).unwrap_or(0),
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
