//! Operations that look at names: look up, list, follow a link.

use super::mount::{Asker, Mount};
use super::tree::Node;
use crate::error::{Error, Result};
use crate::image::{IdPrefix, Image, ImageId, ImageName, ImageNumber, NameFault};
use crate::lifecycle::{Status, TaskStatus};
use crate::registry::{Listed, ListedName};
use crate::task::{Task, TaskNumber};

/// Lines that a listing reads at first, and at most, at once: the kernel may take few or many.
const PAGE_MIN: u32 = 64;
const PAGE_MAX: u32 = 1024;

/// How often it is looked for a name that comes and goes.
const LOOKS_MAX: usize = 4;

/// Where in a listing `.` and `..` end and the rest begins.
const DOTS: u64 = 2;

/// One line of a listing: the node, its name, and where the next line begins.
pub(crate) struct Line {
    pub(crate) node: Node,
    pub(crate) name: String,
    pub(crate) next: u64,
    /// The record, where the node is an image.
    pub(crate) image: Option<Image>,
    /// The record, where the node is a task.
    pub(crate) task: Option<Box<Task>>,
}

/// A child that was found.
pub(crate) struct Found {
    pub(crate) node: Node,
    pub(crate) image: Option<Image>,
    pub(crate) task: Option<Box<Task>>,
}

impl Found {
    const fn plain(node: Node) -> Self {
        Self { node, image: None, task: None }
    }

    fn image(image: Image) -> Self {
        Self { image: Some(image.clone()), ..Self::plain(Node::Image(image.number)) }
    }
}

/// What a listing is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Names alone.
    Names,
    /// The records as well.
    Attributes,
}

/// How many lines are read at once, again and again.
fn pages() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(PAGE_MIN), |page| Some(page.saturating_mul(2).min(PAGE_MAX)))
}

impl Mount {
    /// Finds the child of a folder by its name, for a thread that may have been told to look again, and
    /// where somebody else is about to make a name again that he has removed from `active/`.
    pub(crate) fn look_up_for(&self, asker: Asker, parent: u64, name: &[u8]) -> Result<Found> {
        let is_active = Self::node(parent)? == Node::Folder(Status::Active);
        let plain = ImageName::parse_listed(name).ok().filter(|_| is_active);
        let Some((plain, _)) = plain else { return self.look_up(parent, name) };
        if let Some(image) = self.made_here(asker, &plain) {
            return Ok(Found::image(image));
        }
        let claimed = self.claims.named(asker.thread, &plain);
        if let Some(image) = claimed.and_then(|number| self.image(number).ok()) {
            return Ok(Found::image(image));
        }
        let found = if self.vacancies.is_forgotten() {
            self.look_up(parent, name)
        } else {
            self.unless_vacant(asker, &plain, || self.look_up(parent, name), Found::image)
        }?;
        // The kernel may look more than once before it opens: while nothing is there, it will again.
        let Some(image) = found.image else { return Ok(found) };
        Ok(Found::image(match self.claims.looks_again(asker.thread) {
            Some(usage) => self.found_again(asker, image, usage),
            None => image,
        }))
    }

    /// The image that the caller has made in `active/` by mknod(2) and not begun to write.
    fn made_here(&self, asker: Asker, name: &ImageName) -> Option<Image> {
        let number = self.nodes.made_by(|| asker.caller().process(), name)?;
        let image = self.image(number).ok().filter(|image| image.status == Status::Queued);
        if image.is_none() {
            self.nodes.forget(name);
        }
        image
    }

    /// Looks with `find` for what has a name in `active/` or, while that is removed and made again, finds
    /// what had it. It may come and go between the two questions.
    pub(crate) fn unless_vacant<T>(
        &self,
        asker: Asker,
        name: &ImageName,
        find: impl Fn() -> Result<T>,
        removed: impl Fn(Image) -> T,
    ) -> Result<T> {
        let mut found = find();
        for _ in 1..LOOKS_MAX {
            if !matches!(found, Err(Error::NotFound)) {
                break;
            }
            if let Some(image) = self.vacant(asker, name) {
                return Ok(removed(image));
            }
            found = find();
        }
        found
    }

    /// The image that had a name in `active/` until somebody else removed it, who may be about to make it
    /// again: to all but him it is there a little longer.
    fn vacant(&self, asker: Asker, name: &ImageName) -> Option<Image> {
        if !self.vacancies.has(name) {
            return None;
        }
        let removed = self.vacancies.left_to(asker.caller().process(), name)?;
        let image = self.catalog.by_id(removed).ok().flatten()?;
        (image.status.is_recoverable() || image.status.has_unique_names()).then_some(image)
    }

    /// Finds the child of a folder by its name.
    pub(crate) fn look_up(&self, parent: u64, name: &[u8]) -> Result<Found> {
        let parent = Self::node(parent)?;
        match (name, parent) {
            (b".", node) => return self.itself(node),
            (b"..", node) => return self.above(node),
            _ => {}
        }
        match parent {
            Node::Folder(status) => self.image_named(status, name).map(Found::image),
            Node::TaskFolder(status) => {
                let (name, prefix) = listed(name)?;
                let task = self.catalog.find_task(status, &name, prefix)?.ok_or(Error::NotFound)?;
                Ok(Found {
                    task: Some(Box::new(task.clone())),
                    ..Found::plain(Node::Task(task.number))
                })
            }
            Node::ById => {
                let id = std::str::from_utf8(name).ok().and_then(ImageId::parse);
                let image = self.catalog.by_id(id.ok_or(Error::NotFound)?)?;
                let image = image.ok_or(Error::NotFound)?;
                let node = Node::Link(image.number);
                Ok(Found { image: Some(image), ..Found::plain(node) })
            }
            Node::Root
            | Node::Tasks
            | Node::Own
            | Node::Page(_)
            | Node::Task(_)
            | Node::Draft(_)
            | Node::Image(_)
            | Node::Link(_) => parent
                .fixed_children()
                .into_iter()
                .find(|(child, _)| child.as_bytes() == name)
                .map(|(_, node)| Found::plain(node))
                .ok_or(Error::NotFound),
        }
    }

    /// What a node is that the kernel has only the number of: an NFS server asks for it as `.`. What is gone is not
    /// found, which the server's client is told as ESTALE.
    fn itself(&self, node: Node) -> Result<Found> {
        match node {
            Node::Image(number) => self.image(number).map(Found::image),
            Node::Link(number) => {
                let image = self.catalog.by_number(number)?.ok_or(Error::NotFound)?;
                Ok(Found { image: Some(image), ..Found::plain(node) })
            }
            Node::Task(number) => {
                let task = self.catalog.task_by_number(number)?.ok_or(Error::NotFound)?;
                Ok(Found { task: Some(Box::new(task)), ..Found::plain(node) })
            }
            // It is nothing but what its writer has open.
            Node::Draft(_) => Err(Error::NotFound),
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::ById
            | Node::Own
            | Node::Page(_) => Ok(Found::plain(node)),
        }
    }

    /// The folder that a node stands in at the moment, asked for as `..`.
    fn above(&self, node: Node) -> Result<Found> {
        let found = self.itself(node)?;
        let folder = match (node, &found.image, &found.task) {
            (Node::Image(_), Some(image), _) => Node::Folder(image.status),
            (_, _, Some(task)) => Node::TaskFolder(task.status),
            _ => node.parent(),
        };
        Ok(Found::plain(folder))
    }

    /// The image that a folder lists under a name.
    pub(crate) fn image_named(&self, status: Status, name: &[u8]) -> Result<Image> {
        let (name, prefix) = listed(name)?;
        self.catalog.find(status, &name, prefix)?.ok_or(Error::NotFound)
    }

    /// Lists a folder from a position on, calling `take` for each line until it says stop.
    pub(crate) fn list(
        &self,
        folder: u64,
        (from, detail): (u64, Detail),
        take: &mut dyn FnMut(Line) -> bool,
    ) -> Result<()> {
        let folder = Self::node(folder)?;
        let dots = [(".", folder), ("..", folder.parent())];
        let fixed = dots.into_iter().chain(folder.fixed_children());
        for (next, (name, node)) in (1..).zip(fixed) {
            let line = Line { node, name: name.to_owned(), next, image: None, task: None };
            if next > from && !take(line) {
                return Ok(());
            }
        }
        match folder {
            Node::Folder(status) => self.list_images(Some(status), (from, detail), take),
            Node::ById => self.list_images(None, (from, detail), take),
            Node::TaskFolder(status) => self.list_tasks(status, from, take),
            Node::Root
            | Node::Tasks
            | Node::Own
            | Node::Page(_)
            | Node::Task(_)
            | Node::Draft(_)
            | Node::Image(_)
            | Node::Link(_) => Ok(()),
        }
    }

    fn list_images(
        &self,
        status: Option<Status>,
        (from, detail): (u64, Detail),
        take: &mut dyn FnMut(Line) -> bool,
    ) -> Result<()> {
        let mut after = ImageNumber::new(from.saturating_sub(DOTS));
        for limit in pages() {
            let lines = match detail {
                Detail::Names => self.names_after(status, after, limit)?,
                Detail::Attributes => self.records_after(status, after, limit)?,
            };
            let is_last = lines.len() < limit as usize;
            for line in lines {
                after = ImageNumber::new(line.next - DOTS);
                if !take(line) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn names_after(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<Line>> {
        let names = self.catalog.names(status, after, limit)?;
        let line = |listed: ListedName| {
            let ListedName { number, id, name, is_shadowed } = listed;
            let (node, name) = match status {
                None => (Node::Link(number), id.to_string()),
                Some(_) if is_shadowed => (Node::Image(number), name.listed_as(id)),
                Some(_) => (Node::Image(number), name.into_string()),
            };
            Line { node, name, next: number.get() + DOTS, image: None, task: None }
        };
        Ok(names.into_iter().map(line).collect())
    }

    fn records_after(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<Line>> {
        let records = self.catalog.page(status, after, limit)?;
        let line = |listed: Listed| {
            let Listed { image, is_shadowed } = listed;
            let (node, name) = match status {
                None => (Node::Link(image.number), image.id.to_string()),
                Some(_) if is_shadowed => {
                    (Node::Image(image.number), image.name.listed_as(image.id))
                }
                Some(_) => (Node::Image(image.number), image.name.to_string()),
            };
            Line { node, name, next: image.number.get() + DOTS, image: Some(image), task: None }
        };
        Ok(records.into_iter().map(line).collect())
    }

    fn list_tasks(
        &self,
        status: TaskStatus,
        from: u64,
        take: &mut dyn FnMut(Line) -> bool,
    ) -> Result<()> {
        let mut after = TaskNumber::new(from.saturating_sub(DOTS));
        for limit in pages() {
            let page = self.catalog.task_page(status, after, limit)?;
            let is_last = page.len() < limit as usize;
            for listed in page {
                let task = listed.task;
                after = task.number;
                let line = Line {
                    node: Node::Task(task.number),
                    name: if listed.is_shadowed {
                        task.name.listed_as(task.id.as_image_id())
                    } else {
                        task.name.to_string()
                    },
                    next: task.number.get() + DOTS,
                    image: None,
                    task: Some(Box::new(task)),
                };
                if !take(line) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
        Ok(())
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
            | Node::Own
            | Node::Page(_)
            | Node::Task(_)
            | Node::Draft(_)
            | Node::Image(_) => Err(Error::Invalid("it is not a link".into())),
        }
    }
}

/// Takes a name apart that is looked up. What nothing can be called is not there: making it is what is
/// refused.
fn listed(name: &[u8]) -> Result<(ImageName, Option<IdPrefix>)> {
    ImageName::parse_listed(name).map_err(|fault| match fault {
        NameFault::TooLong => Error::BadName(fault),
        NameFault::NotAName
        | NameFault::Character
        | NameFault::Reserved
        | NameFault::LooksLikeId => Error::NotFound,
    })
}
