//! The virtual tree: which node has which inode number, and what the folders are called.
//!
//! ```text
//! /  queued/ saving/ … deleted/    the images of each status
//!    tasks/pending/ …              the tasks of each status
//!    by-id/<uuid>                  a link to each image, wherever it is
//!    STATUS                        the status screen
//!    .sps/status.json …            the same and more, for programs
//! ```

use crate::image::ImageNumber;
use crate::lifecycle::{Status, TaskStatus};
use crate::task::TaskNumber;

/// Something the mount shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// The mount point.
    Root,
    /// The folder of a status.
    Folder(Status),
    /// The folder of the task folders.
    Tasks,
    /// The folder of a task status.
    TaskFolder(TaskStatus),
    /// The folder of links.
    ById,
    /// The folder of what is generated for programs.
    Own,
    /// A file that is generated.
    Page(Page),
    /// A task.
    Task(TaskNumber),
    /// A file in `tasks/pending/` that is being written, and is no task yet.
    Draft(u64),
    /// An image.
    Image(ImageNumber),
    /// The link to an image.
    Link(ImageNumber),
}

/// A file that is generated each time it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Page {
    /// The status screen, for people.
    Status,
    /// The same, for programs.
    StatusJson,
    /// What happened, a line a transition.
    Events,
    /// What the operator chose.
    Config,
    /// What is counted and measured.
    Metrics,
}

impl Page {
    const ALL: [(&'static str, Self); 5] = [
        ("STATUS", Self::Status),
        ("status.json", Self::StatusJson),
        ("events.jsonl", Self::Events),
        ("config.json", Self::Config),
        ("metrics", Self::Metrics),
    ];
}

const ROOT: u64 = 1;
const FIRST_FOLDER: u64 = 2;
const TASKS: u64 = 16;
const FIRST_TASK_FOLDER: u64 = 17;
const BY_ID: u64 = 24;
const OWN: u64 = 25;
const FIRST_PAGE: u64 = 26;
const PAGES_END: u64 = 32;

/// Images are numbered above all that is fixed; the links to them have this bit as well.
const FIRST_IMAGE: u64 = 1 << 12;
const LINK_BIT: u64 = 1 << 62;
const TASK_BIT: u64 = 1 << 61;
const DRAFT_BIT: u64 = 1 << 60;

/// The name of the folder of links.
const BY_ID_NAME: &str = "by-id";
const TASKS_NAME: &str = "tasks";
const OWN_NAME: &str = ".sps";

impl Node {
    /// The inode number of the node: the same across restarts.
    pub(crate) fn inode(self) -> u64 {
        let position = |index: Option<usize>| index.map_or(0, |index| index as u64);
        match self {
            Self::Root => ROOT,
            Self::Folder(status) => {
                FIRST_FOLDER + position(Status::ALL.iter().position(|s| *s == status))
            }
            Self::Tasks => TASKS,
            Self::TaskFolder(status) => {
                FIRST_TASK_FOLDER + position(TaskStatus::ALL.iter().position(|s| *s == status))
            }
            Self::ById => BY_ID,
            Self::Own => OWN,
            Self::Page(page) => {
                FIRST_PAGE + position(Page::ALL.iter().position(|(_, p)| *p == page))
            }
            Self::Task(number) => TASK_BIT | number.get(),
            Self::Draft(number) => DRAFT_BIT | number,
            Self::Image(number) => FIRST_IMAGE + number.get(),
            Self::Link(number) => LINK_BIT | (FIRST_IMAGE + number.get()),
        }
    }

    /// The node of an inode number, if any has it.
    pub(crate) fn of_inode(inode: u64) -> Option<Self> {
        let nth = |first: u64| usize::try_from(inode - first).ok();
        match inode {
            ROOT => Some(Self::Root),
            TASKS => Some(Self::Tasks),
            BY_ID => Some(Self::ById),
            OWN => Some(Self::Own),
            FIRST_FOLDER..TASKS => {
                Status::ALL.get(nth(FIRST_FOLDER)?).map(|status| Self::Folder(*status))
            }
            FIRST_TASK_FOLDER..BY_ID => {
                TaskStatus::ALL.get(nth(FIRST_TASK_FOLDER)?).map(|status| Self::TaskFolder(*status))
            }
            FIRST_PAGE..PAGES_END => {
                Page::ALL.get(nth(FIRST_PAGE)?).map(|(_, page)| Self::Page(*page))
            }
            _ if inode & TASK_BIT != 0 => Some(Self::Task(TaskNumber::new(inode & !TASK_BIT))),
            _ if inode & DRAFT_BIT != 0 => Some(Self::Draft(inode & !DRAFT_BIT)),
            _ if inode & LINK_BIT != 0 => (inode & !LINK_BIT)
                .checked_sub(FIRST_IMAGE)
                .map(|number| Self::Link(ImageNumber::new(number))),
            _ => inode.checked_sub(FIRST_IMAGE).map(|number| Self::Image(ImageNumber::new(number))),
        }
    }

    /// The image that the node, or the target of the link, is.
    pub(crate) const fn image(self) -> Option<ImageNumber> {
        match self {
            Self::Image(number) | Self::Link(number) => Some(number),
            Self::Root
            | Self::Folder(_)
            | Self::Tasks
            | Self::TaskFolder(_)
            | Self::ById
            | Self::Own
            | Self::Page(_)
            | Self::Task(_)
            | Self::Draft(_) => None,
        }
    }

    /// The folder that the node stands in, as far as its number tells; the root stands in itself.
    pub(crate) const fn parent(self) -> Self {
        match self {
            Self::TaskFolder(_) => Self::Tasks,
            Self::Link(_) => Self::ById,
            Self::Task(_) | Self::Draft(_) => Self::TaskFolder(TaskStatus::Pending),
            Self::Page(Page::StatusJson | Page::Events | Page::Config | Page::Metrics) => Self::Own,
            Self::Root
            | Self::Folder(_)
            | Self::Tasks
            | Self::ById
            | Self::Own
            | Self::Page(Page::Status)
            | Self::Image(_) => Self::Root,
        }
    }

    /// What always stands in the node, in the order of listing.
    pub(crate) fn fixed_children(self) -> Vec<(&'static str, Self)> {
        match self {
            Self::Root => Status::ALL
                .into_iter()
                .map(|status| (status.name(), Self::Folder(status)))
                .chain([(TASKS_NAME, Self::Tasks), (BY_ID_NAME, Self::ById), (OWN_NAME, Self::Own)])
                .chain(Page::ALL.into_iter().take(1).map(|(name, page)| (name, Self::Page(page))))
                .collect(),
            Self::Own => {
                Page::ALL.into_iter().skip(1).map(|(name, page)| (name, Self::Page(page))).collect()
            }
            Self::Tasks => TaskStatus::ALL
                .into_iter()
                .map(|status| (status.name(), Self::TaskFolder(status)))
                .collect(),
            Self::Folder(_)
            | Self::TaskFolder(_)
            | Self::ById
            | Self::Page(_)
            | Self::Task(_)
            | Self::Draft(_)
            | Self::Image(_)
            | Self::Link(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_inode_number_of_its_own_and_is_found_by_it() {
        let mut nodes = vec![Node::Root];
        nodes.extend(Node::Root.fixed_children().into_iter().map(|(_, node)| node));
        nodes.extend(Node::Tasks.fixed_children().into_iter().map(|(_, node)| node));
        nodes.extend(Node::Own.fixed_children().into_iter().map(|(_, node)| node));
        for number in [1, 2, 1 << 40] {
            nodes.push(Node::Image(ImageNumber::new(number)));
            nodes.push(Node::Link(ImageNumber::new(number)));
            nodes.push(Node::Task(TaskNumber::new(number)));
            nodes.push(Node::Draft(number));
        }
        let mut seen = std::collections::HashSet::new();
        for node in nodes {
            assert!(seen.insert(node.inode()), "{node:?}");
            assert_eq!(Node::of_inode(node.inode()), Some(node));
        }
        for free in [0, 11, 15, 21, 31, 4095, 1 << 62] {
            assert_eq!(Node::of_inode(free), None, "{free}");
        }
    }
}
