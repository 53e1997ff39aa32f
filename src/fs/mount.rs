//! What a mount serves requests from: the catalog, what is open, and whose folders they are.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::backing::Backings;
use super::caller::{Caller, MountIdentity};
use super::claims::Claims;
use super::content::Opened;
use super::departures::{Departures, Scope};
use super::drafts::Drafts;
use super::epoch::Epoch;
use super::handles::{Handles, UploadHandle};
use super::nodes::Nodes;
use super::tree::Node;
use super::vacancies::Vacancies;
use super::watch::Watch;
use crate::catalog::{Actor, Catalog, Live, UploadSession, now};
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageName, ImageNumber, Timestamp, User};
use crate::tasks::Executor;

/// Whose the status folders are, and who may put images into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mounting user.
    pub uid: u32,
    /// The group of the folders.
    pub gid: u32,
    /// Permission bits of the status folders.
    pub folder_mode: u16,
    /// The kernel may read sealed data from the file below by itself.
    pub passthrough: bool,
    /// What the operator chose, as JSON.
    pub config: String,
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

    /// The one with all his groups. Root needs none.
    ///
    /// # Errors
    /// They can't be seen.
    pub(crate) fn user(self) -> Result<User> {
        let groups = if self.uid == 0 { Some(Vec::new()) } else { self.caller().groups() };
        let groups = groups.ok_or(Error::NoPermission("your groups can't be seen from here"))?;
        Ok(User { uid: self.uid, gid: self.gid, groups })
    }

    /// The one with the groups that are known of him.
    pub(crate) fn user_as_known(self) -> User {
        let alone = User { uid: self.uid, gid: self.gid, groups: Vec::new() };
        self.user().unwrap_or(alone)
    }

    /// The process that asks, as `/proc` shows it.
    pub(crate) const fn caller(self) -> Caller {
        Caller::new(self.thread, self.uid)
    }
}

/// One mounted catalog.
pub(crate) struct Mount {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tasks: Executor,
    pub(crate) settings: Settings,
    pub(crate) handles: Handles,
    pub(crate) backings: Backings,
    pub(crate) epoch: Epoch,
    pub(crate) departures: Departures,
    pub(crate) claims: Claims,
    pub(crate) vacancies: Vacancies,
    pub(crate) nodes: Nodes,
    pub(crate) watch: Watch,
    pub(crate) drafts: Drafts,
    /// Images of which the kernel may have pages from when they were staged.
    pub(crate) paged: Mutex<HashSet<ImageNumber>>,
    pub(crate) started_at: Timestamp,
    /// Known once the kernel has mounted it, which is before the first request.
    pub(crate) identity: OnceLock<MountIdentity>,
}

/// An image as the mount shows it: the record, and what its upload knows better.
pub(crate) struct Shown {
    pub(crate) image: Image,
    pub(crate) live: Option<Live>,
    /// Length in bytes; none where it is not known.
    pub(crate) size_bytes: Option<u64>,
    pub(crate) allocated_bytes: u64,
}

impl Mount {
    /// A mount of `catalog`.
    pub(crate) fn new(catalog: Arc<Catalog>, tasks: Executor, settings: Settings) -> Self {
        Self {
            catalog,
            tasks,
            settings,
            handles: Handles::default(),
            backings: Backings::default(),
            epoch: Epoch::default(),
            departures: Departures::default(),
            claims: Claims::default(),
            vacancies: Vacancies::default(),
            nodes: Nodes::default(),
            watch: Watch::default(),
            drafts: Drafts::default(),
            paged: Mutex::default(),
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
        let is_coming = image.status.publication().is_some() || image.status.is_staging();
        let upload = if is_coming { self.catalog.upload_of(image.id) } else { None };
        let (size_bytes, allocated_bytes) = match (&upload, &image.content) {
            (Some(upload), _) => (Some(upload.live().size_bytes), upload.allocated_bytes()),
            (None, Content::Sealed(seal)) => (Some(seal.size_bytes), seal.allocated_bytes),
            (None, Content::Located(located)) => {
                let size_bytes = located.fingerprint.size_bytes;
                (Some(size_bytes), size_bytes)
            }
            (None, Content::Gone(seal)) => (Some(seal.size_bytes), 0),
            (None, Content::Staged | Content::Absent) if image.status.keeps_staged_data() => {
                self.staged_size(&image)
            }
            (None, Content::Staged | Content::Absent) => (None, 0),
        };
        Shown { live: upload.map(|upload| upload.live()), image, size_bytes, allocated_bytes }
    }

    /// Length and space of what is staged and not open.
    fn staged_size(&self, image: &Image) -> (Option<u64>, u64) {
        let staged = self.catalog.open_staged(image).ok().flatten();
        let size = staged.as_ref().and_then(|file| file.size_bytes().ok());
        let allocated = staged.as_ref().and_then(|file| file.allocated_bytes().ok());
        (size.or(Some(0)), allocated.unwrap_or(0))
    }

    /// Whether nothing is on its way that changes what a request looks at.
    pub(crate) fn is_settled(&self, scope: &Scope) -> bool {
        !self.departures.concerns(scope) && !self.watch.concerns(scope)
    }

    /// Waits for what is on its way, a second at most.
    pub(crate) fn settle(&self, scope: &Scope) {
        self.departures.wait(scope);
        if self.watch.concerns(scope) {
            self.watch.settle(self, scope);
        }
    }

    /// Whether only a commit changes what the kernel is told of a node: it may keep that.
    pub(crate) fn is_kept(&self, node: Node, image: Option<&Image>) -> bool {
        match node {
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::ById
            | Node::Own => true,
            Node::Page(_) | Node::Task(_) | Node::Draft(_) => false,
            Node::Image(_) | Node::Link(_) => image.is_some_and(|image| {
                image.status.is_lasting()
                    && !self.departures.may_change(&image.name)
                    && !self.vacancies.has(&image.name)
                    && !self.watch.has(image.number)
            }),
        }
    }

    /// By what the kernel is to read what was opened, if not by asking.
    pub(crate) fn backed(
        &self,
        opened: &Opened,
        register: impl FnOnce(BorrowedFd<'_>) -> std::io::Result<fuser::BackingId>,
    ) -> Option<Arc<fuser::BackingId>> {
        let handle = self.handles.of(opened.handle)?;
        let backing = self.backings.open(opened.handle, opened.caching, &handle, register);
        if !self.backings.is_offered() {
            // It was, and does not work.
            self.epoch.end();
        }
        backing
    }

    /// The upload behind a handle, if there is one.
    pub(crate) fn session(&self, handle: u64) -> Option<Arc<UploadSession>> {
        self.with_upload(handle, |upload| Ok(Arc::clone(&upload.session))).ok()
    }

    /// Does something with the upload behind a handle.
    pub(crate) fn with_upload<T>(
        &self,
        handle: u64,
        work: impl FnOnce(&UploadHandle) -> Result<T>,
    ) -> Result<T> {
        let handle = self.handles.of(handle);
        work(handle.as_ref().and_then(|handle| handle.upload()).ok_or(Error::BadHandle)?)
    }

    /// What the attributes, the link or the opening of a node look at. An image's own are true at any
    /// moment.
    pub(crate) fn attribute_scope(inode: u64) -> Scope {
        match Node::of_inode(inode) {
            Some(Node::Link(number)) => Scope::Number(number),
            Some(Node::Page(_)) => Scope::Any,
            Some(
                Node::Root
                | Node::Folder(_)
                | Node::Tasks
                | Node::TaskFolder(_)
                | Node::ById
                | Node::Own
                | Node::Task(_)
                | Node::Draft(_)
                | Node::Image(_),
            )
            | None => Scope::Nothing,
        }
    }

    /// What the opening of a node looks at. The kernel may have kept its name from before a close: what has
    /// the name when that is published is opened then.
    pub(crate) fn opening_scope(&self, inode: u64) -> Scope {
        let Some(Node::Image(number)) = Node::of_inode(inode) else {
            return Self::attribute_scope(inode);
        };
        if self.is_settled(&Scope::Any) {
            return Scope::Nothing;
        }
        match self.catalog.by_number(number) {
            Ok(Some(image)) if image.status.has_unique_names() => Scope::Name(image.name),
            Ok(_) | Err(_) => Scope::Nothing,
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
                | Node::Own
                | Node::Page(_)
                | Node::Task(_)
                | Node::Draft(_)
                | Node::Image(_)
                | Node::Link(_),
            )
            | None => Scope::Nothing,
        }
    }
}
