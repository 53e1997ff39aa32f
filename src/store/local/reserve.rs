//! The reserve: a file that only takes room, for what must be written when there is no other.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::Ordering;

use super::{LocalStore, RESERVE};

/// How much room that is.
const RESERVE_BYTES: u64 = 4 << 20;

/// How much of it is given at once: enough for the registry to say that something goes. Whoever fills the
/// disk takes what is left of it.
const RESERVE_STEP_BYTES: u64 = 256 << 10;

impl LocalStore {
    pub(super) fn fill_reserve(&self) {
        if self.is_reserved.load(Ordering::Acquire) {
            return;
        }
        let path = self.root.join(RESERVE);
        let kept = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                let all = rustix::fs::FallocateFlags::empty();
                rustix::fs::fallocate(&file, all, 0, RESERVE_BYTES).map_err(Into::into)
            });
        match kept {
            Ok(()) => self.is_reserved.store(true, Ordering::Release),
            Err(error) => log::debug!("op=keep_reserve: {error}"),
        }
    }

    pub(super) fn shrink_reserve(&self) {
        self.is_reserved.store(false, Ordering::Release);
        let path = self.root.join(RESERVE);
        let yielded = File::options().write(true).open(&path).and_then(|file| {
            let kept = file.metadata()?.len();
            file.set_len(kept.saturating_sub(RESERVE_STEP_BYTES))
        });
        if let Err(error) = yielded {
            log::debug!("op=yield_reserve: {error}");
        }
    }
}
