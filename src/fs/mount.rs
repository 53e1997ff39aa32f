//! What a mount serves requests from: the catalog, what is open, and whose folders they are.

use std::sync::OnceLock;

use super::caller::{Caller, MountIdentity};
use super::departures::{Departures, Scope};
use super::handles::{Handle, Handles, UploadHandle};
use super::tree::Node;
use crate::catalog::{Actor, Catalog, Live, now};
use crate::error::{Error, Result};
use crate::image::{Image, ImageName, ImageNumber, Timestamp};

/// Whose the status folders are, and who may put images into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mounting user.
    pub uid: u32,
    /// The group of the folders.
    pub gid: u32,
    /// Permission bits of the status folders.
    pub folder_mode: u16,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Thread id; 0 when it is out of sight.
    pub(crate) thread: u32,
}

impl Asker {
    /// Who sent a request.
    pub(crate) fn of(request: &fuser::Request) -> Self {
        Self { uid: request.uid(), gid: request.gid(), thread: request.pid() }
    }

    /// The one on whose behalf the catalog acts.
    pub(crate) const fn actor(self) -> Actor {
        Actor { uid: self.uid }
    }

    /// The process that asks, as `/proc` shows it.
    pub(crate) const fn caller(self) -> Caller {
        Caller::new(self.thread, self.uid)
    }
}

/// One mounted catalog.
pub(crate) struct Mount {
    pub(crate) catalog: Catalog,
    pub(crate) settings: Settings,
    pub(crate) handles: Handles,
    pub(crate) departures: Departures,
    pub(crate) started_at: Timestamp,
    /// Known once the kernel has mounted it, which is before the first request.
    pub(crate) identity: OnceLock<MountIdentity>,
}

/// An image as the mount shows it: the record, and what its upload knows better.
pub(crate) struct Shown {
    pub(crate) image: Image,
    pub(crate) live: Option<Live>,
    pub(crate) allocated_bytes: u64,
}

impl Mount {
    /// A mount of `catalog`.
    pub(crate) fn new(catalog: Catalog, settings: Settings) -> Self {
        Self {
            catalog,
            settings,
            handles: Handles::default(),
            departures: Departures::default(),
            started_at: now(),
            identity: OnceLock::new(),
        }
    }

    /// The node of an inode number.
    pub(crate) fn node(inode: u64) -> Result<Node> {
        Node::of_inode(inode).ok_or(Error::NotFound)
    }

    /// The image with that number. A reader of a forgotten one still sees it.
    pub(crate) fn image(&self, number: ImageNumber) -> Result<Image> {
        let found = self.catalog.by_number(number)?;
        found.or_else(|| self.handles.image_read(number)).ok_or(Error::NotFound)
    }

    /// The image with what is known of its upload.
    pub(crate) fn shown(&self, image: Image) -> Shown {
        let upload = image.status.publication().and_then(|_| self.catalog.upload_of(image.id));
        let sealed = match image.content {
            crate::image::Content::Sealed(seal) => seal.allocated_bytes,
            crate::image::Content::Absent
            | crate::image::Content::Staged
            | crate::image::Content::Gone(_) => 0,
        };
        Shown {
            allocated_bytes: upload.as_ref().map_or(sealed, |upload| upload.allocated_bytes()),
            live: upload.map(|upload| upload.live()),
            image,
        }
    }

    /// Does something with the upload behind a handle.
    pub(crate) fn with_upload<T>(
        &self,
        handle: u64,
        work: impl FnOnce(&UploadHandle) -> Result<T>,
    ) -> Result<T> {
        match self.handles.of(handle).as_deref() {
            Some(Handle::Upload(upload)) => work(upload),
            Some(Handle::Read { .. } | Handle::Empty | Handle::Page(_)) | None => {
                Err(Error::BadHandle)
            }
        }
    }

    /// What the attributes, the link or the opening of a node look at. An image's own are true at any
    /// moment.
    pub(crate) fn attribute_scope(inode: u64) -> Scope {
        match Node::of_inode(inode) {
            Some(Node::Link(number)) => Scope::Number(number),
            Some(Node::StatusPage) => Scope::Any,
            Some(
                Node::Root
                | Node::Folder(_)
                | Node::Tasks
                | Node::TaskFolder(_)
                | Node::ById
                | Node::Image(_),
            )
            | None => Scope::Nothing,
        }
    }

    /// What a listing looks at, at its beginning.
    pub(crate) fn listing_scope(inode: u64, offset: u64) -> Scope {
        match Node::of_inode(inode) {
            Some(Node::Folder(_) | Node::ById) if offset == 0 => Scope::Any,
            _ => Scope::Nothing,
        }
    }

    /// What a look-up of `name` in `parent` looks at.
    pub(crate) fn scope(parent: u64, name: &[u8]) -> Scope {
        match Node::of_inode(parent) {
            Some(Node::Folder(_)) => {
                ImageName::parse_listed(name).map_or(Scope::Nothing, |(name, _)| Scope::Name(name))
            }
            Some(Node::ById) => std::str::from_utf8(name)
                .ok()
                .and_then(crate::image::ImageId::parse)
                .map_or(Scope::Nothing, Scope::Id),
            Some(
                Node::Root
                | Node::Tasks
                | Node::TaskFolder(_)
                | Node::StatusPage
                | Node::Image(_)
                | Node::Link(_),
            )
            | None => Scope::Nothing,
        }
    }
}
