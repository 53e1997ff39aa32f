//! Files in `tasks/pending/` while they are written: each becomes a task when it is closed, or nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use fuser::FileAttr;
use parking_lot::Mutex;

use super::caller::Pid;
use super::departures::Scope;
use super::handles::Handle;
use super::mount::{Asker, Mount};
use super::tree::Node;
use crate::error::{Error, Result};
use crate::image::{ImageName, Ownership, User};
use crate::task::parse_order;

/// The longest text of a task in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// What is being written, and is no task yet.
pub(crate) struct Draft {
    /// Its number, for its inode.
    pub(crate) number: u64,
    name: ImageName,
    author: User,
    mode: u32,
    opener: Option<Pid>,
    text: Mutex<Text>,
}

/// The text so far, and whether it was ordered.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    is_ordered: bool,
    has_failed: bool,
}

/// Numbers for drafts.
#[derive(Default)]
pub(crate) struct Drafts {
    next: AtomicU64,
}

impl Draft {
    /// Its length in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.text.lock().bytes.len() as u64
    }

    /// Whose it is.
    pub(crate) const fn ownership(&self) -> Ownership {
        Ownership { uid: self.author.uid, gid: self.author.gid, mode: self.mode }
    }

    /// Reads at `offset`; answers how many bytes there were.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        super::content::copy_at(&self.text.lock().bytes, offset, buffer)
    }

    /// Writes at `offset`.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        let mut text = self.resized(end, false)?;
        let at = usize::try_from(offset).map_err(|_| Error::TooBig)?;
        for (to, from) in text.bytes.iter_mut().skip(at).zip(data) {
            *to = *from;
        }
        Ok(())
    }

    /// Makes the text `size_bytes` long.
    pub(crate) fn set_size(&self, size_bytes: u64) -> Result<()> {
        self.resized(size_bytes, true).map(|_| ())
    }

    fn resized(&self, size_bytes: u64, may_cut: bool) -> Result<parking_lot::MutexGuard<'_, Text>> {
        let mut text = self.text.lock();
        if text.is_ordered {
            return Err(Error::Busy("the task was handed over when it was closed".into()));
        }
        if size_bytes > TEXT_BYTES_MAX {
            text.has_failed = true;
            return Err(Error::TooBig);
        }
        let length = usize::try_from(size_bytes).map_err(|_| Error::TooBig)?;
        if may_cut || length > text.bytes.len() {
            text.bytes.resize(length, 0);
        }
        Ok(text)
    }
}

impl Mount {
    /// Makes a file that is to become a task.
    pub(crate) fn draft(&self, asker: Asker, name: &[u8], mode: u32) -> Result<(u64, FileAttr)> {
        let name = ImageName::new(name)?;
        let number = self.drafts.next.fetch_add(1, Ordering::Relaxed) + 1;
        let author = asker.user()?;
        let opener = asker.caller().process();
        let draft = Draft { number, name, author, mode, opener, text: Mutex::default() };
        let attributes = self.draft_attributes(&draft);
        Ok((self.handles.insert(Handle::Draft(draft)), attributes))
    }

    /// The file is closed: what is written becomes a task, or `close` fails and nothing is left.
    pub(crate) fn flush_draft(&self, asker: Asker, draft: &Draft) -> Result<()> {
        let caller = asker.caller();
        if let Some(reason) = caller.ending()?.failure() {
            log::info!("op=task name={:?}: {reason}: it is no task", draft.name.as_str());
            draft.text.lock().has_failed = true;
            return Ok(());
        }
        let inode = Node::Draft(draft.number).inode();
        let mount = self.identity.get();
        if mount.is_some_and(|mount| caller.still_holds(draft.opener, inode, mount)) {
            return Ok(());
        }
        self.order(draft)
    }

    /// The last close: what no close has handed over is handed over now.
    pub(crate) fn release_draft(&self, draft: &Draft) {
        if let Err(error) = self.order(draft) {
            log::warn!("op=task name={:?} errno={}: {error}", draft.name.as_str(), error.errno());
        }
    }

    fn order(&self, draft: &Draft) -> Result<()> {
        let mut text = draft.text.lock();
        if text.is_ordered || text.has_failed {
            return Ok(());
        }
        text.has_failed = true;
        let told = |what: String| Error::Invalid(format!("task {:?}: {what}", draft.name.as_str()));
        let order = std::str::from_utf8(&text.bytes)
            .map_err(|error| told(error.to_string()))
            .and_then(|text| parse_order(text).map_err(|fault| told(fault.to_string())))
            .inspect_err(|error| log::warn!("op=task errno={}: {error}", error.errno()))?;
        // What it names may have been closed just now.
        self.settle(&Scope::Any);
        self.catalog.order(order, draft.name.clone(), &draft.author)?;
        text.is_ordered = true;
        self.tasks.wake();
        Ok(())
    }
}
