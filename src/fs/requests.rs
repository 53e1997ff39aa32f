//! Where a request is worked on: by the thread that read it, or by another one because it may wait. And until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fuser::{Errno, FileAttr, ReplyEmpty, ReplyEntry, ReplyWrite, Request};

use super::answer;
use super::deadlines::{Deadlines, Due};
use super::departures::Scope;
use super::lane::Lane;
use super::mount::{Asker, Mount};
use crate::error::Result;

/// The implementation of fuser's trait.
pub(super) struct Requests {
    pub(super) mount: Arc<Mount>,
    pub(super) lane: Lane,
    pub(super) deadlines: Arc<Deadlines>,
    /// Threads that read requests, and how many of them work on one.
    pub(super) threads: usize,
    pub(super) working: AtomicUsize,
}

/// A thread that reads requests and works on one of them.
struct Working<'a>(&'a AtomicUsize);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Requests {
    fn due(&self, op: &'static str, request: &Request) -> Due {
        self.deadlines.begin(op, request.unique().0)
    }

    /// Refuses what the mount never does.
    pub(super) fn refuse(
        &self,
        (op, request): (&'static str, &Request),
        why: &'static str,
    ) -> Errno {
        let _due = self.due(op, request);
        answer::refuse(op, why)
    }

    /// Whether the thread that has read a request may work on it: not the last threads, as the disk may be slow, or
    /// not answer at all.
    fn working(&self) -> Option<Working<'_>> {
        let before = self.working.fetch_add(1, Ordering::AcqRel);
        let working = Working(&self.working);
        (before < self.threads.div_ceil(4) * 3).then_some(working)
    }

    fn elsewhere(&self, due: Due, work: impl FnOnce(&Mount) + Send + 'static) {
        let mount = Arc::clone(&self.mount);
        self.lane.run(move || {
            work(&mount);
            drop(due);
        });
    }

    /// Runs `work` from this thread or, where that would keep others from being read, from another.
    pub(super) fn at_once(
        &self,
        (op, request): (&'static str, &Request),
        work: impl FnOnce(&Mount) + Send + 'static,
    ) {
        let due = self.due(op, request);
        match self.working() {
            Some(_working) => work(&self.mount),
            None => self.elsewhere(due, work),
        }
    }

    /// The same, or from another thread where it may wait.
    pub(super) fn at_once_unless(
        &self,
        is_slow: bool,
        (op, request): (&'static str, &Request),
        work: impl FnOnce(&Mount) + Send + 'static,
    ) {
        if is_slow { self.slowly((op, request), work) } else { self.at_once((op, request), work) }
    }

    /// Runs `work` when no RELEASE and no withdrawal is on its way that changes what it looks at: at
    /// once, or from another thread.
    pub(super) fn when_settled(
        &self,
        (op, request): (&'static str, &Request),
        scope: Scope,
        work: impl FnOnce(&Mount) + Send + 'static,
    ) {
        if self.mount.is_settled(&scope) {
            self.at_once((op, request), work);
        } else {
            self.slowly((op, request), move |mount| {
                mount.settle(&scope);
                work(mount);
            });
        }
    }

    /// Writes from this thread or, where it would wait for a vote or keep others from being read, from another.
    pub(super) fn write_when_free(
        &self,
        request: &Request,
        reply: ReplyWrite,
        (handle, offset, data): (u64, u64, &[u8]),
    ) {
        let (due, asker) = (self.due("write", request), Asker::of(request));
        let working = if self.mount.is_busy(handle) { None } else { self.working() };
        match working {
            Some(_working) => answer::write(&self.mount, asker, reply, (handle, offset, data)),
            None => {
                let data = data.to_vec();
                self.elsewhere(due, move |mount| {
                    answer::write(mount, asker, reply, (handle, offset, &data));
                });
            }
        }
    }

    /// Runs `work` from another thread: it may wait for the disk.
    pub(super) fn slowly(
        &self,
        (op, request): (&'static str, &Request),
        work: impl FnOnce(&Mount) + Send + 'static,
    ) {
        self.elsewhere(self.due(op, request), work);
    }

    /// Runs `work` from another thread, and tells whether it was done.
    pub(super) fn tell(
        &self,
        (op, request): (&'static str, &Request),
        reply: ReplyEmpty,
        work: impl FnOnce(&Mount) -> Result<()> + Send + 'static,
    ) {
        self.slowly((op, request), move |mount| answer::empty(op, reply, || work(mount)));
    }

    /// Runs `work` from another thread, and tells what it made.
    pub(super) fn name(
        &self,
        (op, request): (&'static str, &Request),
        reply: ReplyEntry,
        work: impl FnOnce(&Mount) -> Result<(FileAttr, Duration)> + Send + 'static,
    ) {
        self.slowly((op, request), move |mount| answer::entry(op, reply, || work(mount)));
    }

    /// Runs the work of a close from another thread. A caller who was told that it failed, as the disk did not answer,
    /// must not find it done later.
    pub(super) fn close(
        &self,
        request: &Request,
        handle: u64,
        reply: ReplyEmpty,
        work: impl FnOnce(&Mount) -> Result<()> + Send + 'static,
    ) {
        let due = self.due("flush", request);
        let session = self.mount.session(handle);
        let due = due.or_else(move |error| {
            if let Some(session) = session {
                session.give_up(error);
            }
        });
        self.elsewhere(due, move |mount| answer::empty("flush", reply, || work(mount)));
    }
}
