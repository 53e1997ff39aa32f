//! How the kernel reads what is open: from the file below by itself, or by asking, keeping the pages.
//!
//! The kernel reads one inode in one way: all who have it open share a backing id, or none has one. A file
//! that somebody has open since it was staged is read through pages until he closes it.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::BackingId;
use parking_lot::Mutex;

use super::content::Caching;
use super::handles::Handle;
use crate::image::ImageNumber;

/// How an inode is read.
#[derive(Clone)]
enum Way {
    /// From the file below.
    Through(Arc<BackingId>),
    /// Through pages of its own.
    Pages,
}

/// An inode that is open.
struct Openings {
    way: Way,
    handles: HashSet<u64>,
}

/// All inodes that are open to be read, or mapped. The mutex guards the map, and is held while the kernel is
/// told of a file, as one inode may have one backing id only.
#[derive(Default)]
pub(crate) struct Backings {
    is_offered: AtomicBool,
    open: Mutex<HashMap<ImageNumber, Openings>>,
}

impl Backings {
    /// Notes whether the kernel reads files below by itself.
    pub(crate) fn offer(&self, is_offered: bool) {
        self.is_offered.store(is_offered, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(crate) fn is_offered(&self) -> bool {
        self.is_offered.load(Ordering::Relaxed)
    }

    /// Notes an opening, and says by what the kernel is to read it; by asking, if by nothing. `register`
    /// tells the kernel of a file.
    pub(crate) fn open(
        &self,
        number: u64,
        caching: Caching,
        handle: &Handle,
        register: impl FnOnce(BorrowedFd<'_>) -> std::io::Result<BackingId>,
    ) -> Option<Arc<BackingId>> {
        let (image, file) = match handle {
            Handle::Read { file, image } => {
                // What is staged may still be written.
                let is_whole =
                    image.content.digest().is_some() || image.content.located().is_some();
                (image.number, is_whole.then_some((file, image.content.located().is_none())))
            }
            Handle::Upload(upload) => (upload.session.number(), None),
            Handle::Empty | Handle::Page { .. } | Handle::Draft(_) => return None,
        };
        if caching == Caching::Direct {
            return None;
        }
        let mut open = self.open.lock();
        let openings = open.entry(image).or_insert_with(|| {
            let backing =
                file.and_then(|(file, is_ours)| self.register((file.as_fd(), is_ours), register));
            let way = backing.map_or(Way::Pages, |backing| Way::Through(Arc::new(backing)));
            Openings { way, handles: HashSet::new() }
        });
        openings.handles.insert(number);
        match &openings.way {
            Way::Through(backing) => Some(Arc::clone(backing)),
            Way::Pages => None,
        }
    }

    fn register(
        &self,
        (file, is_ours): (BorrowedFd<'_>, bool),
        register: impl FnOnce(BorrowedFd<'_>) -> std::io::Result<BackingId>,
    ) -> Option<BackingId> {
        if !self.is_offered() {
            return None;
        }
        let backing = register(file);
        if let Err(error) = &backing
            // A file that lies elsewhere says nothing of the store's.
            && is_ours
        {
            // It takes a privilege, or the store's filesystem is stacked itself: that does not change.
            log::info!("op=passthrough: {error}: images are read through the kernel's page cache");
            self.offer(false);
        }
        backing.ok()
    }

    /// Notes that a handle of an image is closed.
    pub(crate) fn close(&self, image: ImageNumber, handle: u64) {
        let mut open = self.open.lock();
        if let Some(openings) = open.get_mut(&image) {
            openings.handles.remove(&handle);
            if openings.handles.is_empty() {
                open.remove(&image);
            }
        }
    }
}
