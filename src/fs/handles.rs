//! What is open: a number for the kernel, and what stands behind it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::process::{Resource, getrlimit};

use super::caller::{Caller, Pid};
use super::drafts::Draft;
use super::tree::Node;
use crate::catalog::UploadSession;
use crate::error::{Error, Result};
use crate::image::{Image, ImageNumber};
use crate::store::StoreFile;

/// How many threads are told apart as writers of one handle; beyond that, all are writers.
const WRITERS_MAX: usize = 64;

/// Something open.
pub(crate) enum Handle {
    /// Sealed data, to read.
    Read {
        /// The data; it stays readable whatever becomes of the image.
        file: Arc<StoreFile>,
        /// The image as it was when it was opened.
        image: Box<Image>,
    },
    /// An image without data, to read.
    Empty,
    /// An image that is being uploaded.
    Upload(UploadHandle),
    /// A generated page, or the record of a task, as it was when it was opened.
    Page {
        /// Which one.
        node: Node,
        /// What it said.
        text: Vec<u8>,
    },
    /// A file that is to become a task.
    Draft(Draft),
}

impl Handle {
    /// The upload, if it is one.
    pub(crate) const fn upload(&self) -> Option<&UploadHandle> {
        match self {
            Self::Upload(upload) => Some(upload),
            Self::Read { .. } | Self::Empty | Self::Page { .. } | Self::Draft(_) => None,
        }
    }
}

/// An image that is being uploaded, through one opening of it.
pub(crate) struct UploadHandle {
    /// The upload, which other openings may share.
    pub(crate) session: Arc<UploadSession>,
    /// Who opened it.
    pub(crate) opener: Option<Pid>,
    writers: Mutex<Vec<Writer>>,
}

/// A thread that wrote, and its process. The lock owner of a WRITE would not do: it is an address, which
/// the next process may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Writer {
    thread: u32,
    process: Pid,
}

impl UploadHandle {
    /// A handle of `session` that `opener` opened.
    pub(crate) fn new(session: Arc<UploadSession>, opener: Option<Pid>) -> Self {
        Self { session, opener, writers: Mutex::new(Vec::new()) }
    }

    /// Notes who writes. Only the first write of a thread asks `/proc`.
    pub(crate) fn wrote(&self, caller: Caller) {
        let thread = caller.thread();
        let is_known = |writers: &[Writer]| {
            writers.len() >= WRITERS_MAX || writers.iter().any(|writer| writer.thread == thread)
        };
        if is_known(&self.writers.lock()) {
            return;
        }
        if let Some(process) = caller.process() {
            self.writers.lock().push(Writer { thread, process });
        }
    }

    /// The processes that the upload stands or falls with.
    pub(crate) fn authors(&self) -> Vec<Pid> {
        let mut authors: Vec<Pid> = self.opener.into_iter().collect();
        for writer in self.writers.lock().iter() {
            if !authors.contains(&writer.process) {
                authors.push(writer.process);
            }
        }
        authors
    }

    /// Whether the upload stands or falls with a process: it wrote, or opened the file for those who
    /// do.
    pub(crate) fn depends_on(&self, process: Option<Pid>) -> bool {
        if process.is_none() || process == self.opener {
            return true;
        }
        let writers = self.writers.lock();
        writers.len() >= WRITERS_MAX || writers.iter().any(|writer| Some(writer.process) == process)
    }
}

/// Descriptors that are kept for what is done with what is open: a close must be able to look into `/proc`, to
/// name what it seals, and to ask the registry, however many others have images open.
const RESERVED: usize = 512;

/// All that is open, by the number the kernel has.
pub(crate) struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
    /// How many may be open: each takes a descriptor of this process.
    most: usize,
}

impl Default for Handles {
    fn default() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let most = limit - RESERVED.min(limit / 2);
        Self { open: RwLock::default(), next: AtomicU64::new(1), most }
    }
}

impl Handles {
    /// Whether one more image may be opened.
    ///
    /// # Errors
    /// As many are open as may be.
    pub(crate) fn must_have_room(&self) -> Result<()> {
        if self.open.read().len() < self.most { Ok(()) } else { Err(Error::TooManyOpen) }
    }

    /// Keeps `handle`, and answers its number.
    pub(crate) fn insert(&self, handle: Handle) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.write().insert(number, Arc::new(handle));
        number
    }

    /// What stands behind a number.
    pub(crate) fn of(&self, number: u64) -> Option<Arc<Handle>> {
        self.open.read().get(&number).map(Arc::clone)
    }

    /// Takes a handle out: it is closed.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        self.open.write().remove(&number)
    }

    /// A file that is to become a task, by its number.
    pub(crate) fn draft(&self, number: u64) -> Option<Arc<Handle>> {
        let open = self.open.read();
        let is_it = |handle: &&Arc<Handle>| match handle.as_ref() {
            Handle::Draft(draft) => draft.number == number,
            Handle::Read { .. } | Handle::Empty | Handle::Upload(_) | Handle::Page { .. } => false,
        };
        open.values().find(is_it).map(Arc::clone)
    }

    /// How long a page or the record of a task is for who opened it last: fstat(2) comes without a handle, and
    /// by now it may say more.
    pub(crate) fn page_bytes(&self, of: Node) -> Option<u64> {
        let open = self.open.read();
        let pages = open.iter().filter_map(|(number, handle)| match handle.as_ref() {
            Handle::Page { node, text } if *node == of => Some((number, text.len() as u64)),
            Handle::Page { .. }
            | Handle::Read { .. }
            | Handle::Empty
            | Handle::Upload(_)
            | Handle::Draft(_) => None,
        });
        pages.max().map(|(_, bytes)| bytes)
    }

    /// The image as some reader opened it. It is asked for when the record is gone.
    pub(crate) fn image_read(&self, number: ImageNumber) -> Option<Image> {
        self.open.read().values().find_map(|handle| match handle.as_ref() {
            Handle::Read { image, .. } if image.number == number => Some(image.as_ref().clone()),
            Handle::Read { .. }
            | Handle::Empty
            | Handle::Upload(_)
            | Handle::Page { .. }
            | Handle::Draft(_) => None,
        })
    }
}
