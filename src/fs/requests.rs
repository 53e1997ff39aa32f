//! Where a request is worked on: by the thread that read it, or by another one because it may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuser::ReplyWrite;

use super::answer;
use super::departures::Scope;
use super::lane::Lane;
use super::mount::{Asker, Mount};

/// The implementation of fuser's trait.
pub(super) struct Requests {
    pub(super) mount: Arc<Mount>,
    pub(super) lane: Lane,
    /// Threads that read requests, and how many of them write.
    pub(super) threads: usize,
    pub(super) writing: AtomicUsize,
}

/// A thread that reads requests and writes for one of them.
struct Writing<'a>(&'a AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Requests {
    /// Runs `work` when no RELEASE and no withdrawal is on its way that changes what it looks at: at
    /// once, or from another thread.
    pub(super) fn when_settled(&self, scope: Scope, work: impl FnOnce(&Mount) + Send + 'static) {
        if self.mount.is_settled(&scope) {
            work(&self.mount);
        } else {
            self.slowly(move |mount| {
                mount.settle(&scope);
                work(mount);
            });
        }
    }

    /// Whether the thread that has read a WRITE may do it: not where it waits for a vote, and not the last
    /// threads, as a disk may be slow.
    fn writing(&self, handle: u64) -> Option<Writing<'_>> {
        if self.mount.is_busy(handle) {
            return None;
        }
        let before = self.writing.fetch_add(1, Ordering::AcqRel);
        let writing = Writing(&self.writing);
        (before < self.threads.div_ceil(4) * 3).then_some(writing)
    }

    /// Writes from this thread or, where that would keep others from being read, from another.
    pub(super) fn write_when_free(
        &self,
        asker: Asker,
        reply: ReplyWrite,
        (handle, offset, data): (u64, u64, &[u8]),
    ) {
        match self.writing(handle) {
            Some(_writing) => answer::write(&self.mount, asker, reply, (handle, offset, data)),
            None => {
                let data = data.to_vec();
                self.slowly(move |mount| {
                    answer::write(mount, asker, reply, (handle, offset, &data));
                });
            }
        }
    }

    /// Runs `work` from another thread: it may wait for the disk.
    pub(super) fn slowly(&self, work: impl FnOnce(&Mount) + Send + 'static) {
        let mount = Arc::clone(&self.mount);
        self.lane.run(move || work(&mount));
    }
}
