//! Where a request is worked on: by the thread that read it, or by another one because it may wait.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::ReplyEntry;

use super::answer;
use super::departures::Scope;
use super::lane::Lane;
use super::mount::{Asker, Mount};
use crate::failpoint::{Failpoint, hit};

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

    /// Looks a name up for the kernel, when all is settled that concerns it.
    pub(super) fn look_up(&self, asker: Asker, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let scope = Mount::scope(parent, name.as_bytes());
        let is_vacant = self.mount.is_vacant(asker, parent, name.as_bytes());
        let vacant = is_vacant.then(|| scope.clone());
        let name = name.to_owned();
        let look = move |mount: &Mount| {
            answer::entry("lookup", reply, || {
                hit(Failpoint::LookUp);
                if let Some(scope) = &vacant {
                    mount.wait_for_vacant(asker, parent, name.as_bytes(), scope);
                }
                let found = mount.look_up_for(asker, parent, name.as_bytes())?;
                Ok(mount.attributes_found(found))
            });
        };
        if is_vacant { self.slowly(look) } else { self.when_settled(scope, look) }
    }
}
