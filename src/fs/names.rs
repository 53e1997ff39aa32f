//! Operations on names: look up, list, make, remove, rename.

use super::gesture;
use super::mount::{Asker, Mount};
use super::tree::Node;
use crate::catalog::Rename;
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, ImageName, ImageNumber, NameFault, Ownership};
use crate::lifecycle::Status;

/// Images that a listing reads at once.
const PAGE: u32 = 256;

/// Where in a listing `.` and `..` end and the rest begins.
const DOTS: u64 = 2;

/// One line of a listing: the node, its name, and where the next line begins.
pub(crate) struct Line {
    pub(crate) node: Node,
    pub(crate) name: String,
    pub(crate) next: u64,
    /// The record, where the node is an image.
    pub(crate) image: Option<Image>,
}

/// A child that was found.
pub(crate) struct Found {
    pub(crate) node: Node,
    pub(crate) image: Option<Image>,
}

impl Mount {
    /// Finds the child of a folder by its name.
    pub(crate) fn look_up(&self, parent: u64, name: &[u8]) -> Result<Found> {
        let parent = Self::node(parent)?;
        match parent {
            Node::Folder(status) => {
                let image = self.image_named(status, name)?;
                Ok(Found { node: Node::Image(image.number), image: Some(image) })
            }
            Node::ById => {
                let id = std::str::from_utf8(name).ok().and_then(ImageId::parse);
                let image = self.catalog.by_id(id.ok_or(Error::NotFound)?)?;
                let image = image.ok_or(Error::NotFound)?;
                Ok(Found { node: Node::Link(image.number), image: Some(image) })
            }
            Node::Root
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::StatusPage
            | Node::Image(_)
            | Node::Link(_) => parent
                .fixed_children()
                .into_iter()
                .find(|(child, _)| child.as_bytes() == name)
                .map(|(_, node)| Found { node, image: None })
                .ok_or(Error::NotFound),
        }
    }

    fn image_named(&self, status: Status, name: &[u8]) -> Result<Image> {
        let (name, prefix) = ImageName::parse_listed(name).map_err(|fault| match fault {
            NameFault::TooLong => Error::BadName(fault),
            // What no image can be called is not there; making it is what is refused.
            NameFault::NotAName
            | NameFault::Character
            | NameFault::Reserved
            | NameFault::LooksLikeId => Error::NotFound,
        })?;
        self.catalog.find(status, &name, prefix)?.ok_or(Error::NotFound)
    }

    /// Lists a folder from a position on, calling `take` for each line until it says stop.
    pub(crate) fn list(
        &self,
        folder: u64,
        from: u64,
        take: &mut dyn FnMut(Line) -> bool,
    ) -> Result<()> {
        let folder = Self::node(folder)?;
        let dots = [(".", folder), ("..", folder.parent())];
        let fixed = dots.into_iter().chain(folder.fixed_children());
        for (next, (name, node)) in (1..).zip(fixed) {
            let line = Line { node, name: name.to_owned(), next, image: None };
            if next > from && !take(line) {
                return Ok(());
            }
        }
        match folder {
            Node::Folder(status) => self.list_images(Some(status), from, take),
            Node::ById => self.list_images(None, from, take),
            Node::Root
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::StatusPage
            | Node::Image(_)
            | Node::Link(_) => Ok(()),
        }
    }

    fn list_images(
        &self,
        status: Option<Status>,
        from: u64,
        take: &mut dyn FnMut(Line) -> bool,
    ) -> Result<()> {
        let mut after = ImageNumber::new(from.saturating_sub(DOTS));
        loop {
            let page = self.catalog.page(status, after, PAGE)?;
            let is_last = page.len() < PAGE as usize;
            for listed in page {
                let image = listed.image;
                after = image.number;
                let next = image.number.get() + DOTS;
                let line = match status {
                    None => Line {
                        node: Node::Link(image.number),
                        name: image.id.to_string(),
                        next,
                        image: Some(image),
                    },
                    Some(_) => Line {
                        node: Node::Image(image.number),
                        name: if listed.is_shadowed {
                            image.name.listed_as(image.id)
                        } else {
                            image.name.to_string()
                        },
                        next,
                        image: Some(image),
                    },
                };
                if !take(line) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Makes a new image, queued.
    pub(crate) fn queue(&self, asker: Asker, parent: u64, name: &[u8], mode: u32) -> Result<Image> {
        gesture::create(Self::node(parent)?)?;
        let name = ImageName::new(name)?;
        let ownership = Ownership { uid: asker.uid, gid: asker.gid, mode: mode & 0o7777 };
        self.catalog.queue(name, ownership)
    }

    /// Makes a new image and opens it to be uploaded.
    pub(crate) fn create(
        &self,
        asker: Asker,
        parent: u64,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<(u64, fuser::FileAttr)> {
        // The kernel looked before it asked; another may have been faster.
        if flags & libc::O_EXCL != 0 && self.look_up(parent, name).is_ok() {
            return Err(Error::Exists);
        }
        let image = self.queue(asker, parent, name, mode)?;
        let handle = self.open_upload(asker, &image)?;
        Ok((handle, self.attributes_of(Node::Image(image.number), Some(image))))
    }

    /// Makes a new image by mknod(2), which has no close to make it durable.
    pub(crate) fn make_node(
        &self,
        asker: Asker,
        parent: u64,
        name: &[u8],
        mode: u32,
    ) -> Result<fuser::FileAttr> {
        if mode & libc::S_IFMT != libc::S_IFREG && mode & libc::S_IFMT != 0 {
            return Err(Error::Forbidden("only regular files can be made"));
        }
        let image = self.queue(asker, parent, name, mode)?;
        self.catalog.flush()?;
        Ok(self.attributes_of(Node::Image(image.number), Some(image)))
    }

    /// Removes an image.
    pub(crate) fn unlink(&self, asker: Asker, parent: u64, name: &[u8]) -> Result<()> {
        match self.look_up(parent, name)? {
            Found { node: Node::Image(_), image: Some(image) } => {
                self.catalog.remove(image.id, image.status, asker.actor())
            }
            Found { .. } => Err(Error::Forbidden("only images can be removed")),
        }
    }

    /// Renames an image within its folder.
    pub(crate) fn rename(
        &self,
        asker: Asker,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: u32,
    ) -> Result<()> {
        let renaming = gesture::rename(Self::node(from.0)?, Self::node(to.0)?, flags)?;
        let image = self.image_named(renaming.status, from.1)?;
        // `n~ID8` as a target means `n`.
        let (name, _) = ImageName::parse_listed(to.1)?;
        let rename =
            Rename { seen: renaming.status, actor: asker.actor(), no_replace: renaming.no_replace };
        self.catalog.rename(image.id, &name, rename)
    }

    /// Where the link to an image points: the target names its status.
    pub(crate) fn read_link(&self, inode: u64) -> Result<String> {
        match Self::node(inode)? {
            Node::Link(number) => {
                let image = self.catalog.by_number(number)?.ok_or(Error::NotFound)?;
                Ok(format!("../{}/{}", image.status, self.catalog.listed_name(&image)?))
            }
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::ById
            | Node::StatusPage
            | Node::Image(_) => Err(Error::Invalid("it is not a link".into())),
        }
    }
}
