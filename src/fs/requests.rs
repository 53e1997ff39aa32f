//! Where a request is worked on: by the thread that read it, or by another one because it may wait.

use std::sync::Arc;

use super::departures::Scope;
use super::lane::Lane;
use super::mount::Mount;

/// The implementation of fuser's trait.
pub(super) struct Requests {
    pub(super) mount: Arc<Mount>,
    pub(super) lane: Lane,
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

    /// Runs `work` from another thread: it may wait for the disk.
    pub(super) fn slowly(&self, work: impl FnOnce(&Mount) + Send + 'static) {
        let mount = Arc::clone(&self.mount);
        self.lane.run(move || work(&mount));
    }
}
