//! The store: bytes on their way in, and bytes under their digest.
//!
//! A backend stands behind [`Store`]. It moves and keeps bytes; it refuses to know what a status is and
//! which image has what. Data that is sealed never changes.

use std::sync::Arc;

use crate::error::Result;
use crate::image::{Digest, ImageId, Seal};

mod file;
mod local;

pub use file::{Extent, Seek, StoreFile};
pub use local::{LocalStore, OpenOptions};

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes free.
    pub free_bytes: u64,
    /// Bytes free to those who are not root.
    pub available_bytes: u64,
}

/// What keeps the bytes.
pub trait Store: Send + Sync {
    /// Makes an empty file in staging for the data of `id`.
    ///
    /// # Errors
    /// There is one already, or the disk refuses.
    fn stage(&self, id: ImageId) -> Result<StoreFile>;

    /// The staged data of `id` to go on writing, made if there is none.
    ///
    /// # Errors
    /// The disk refuses.
    fn stage_again(&self, id: ImageId) -> Result<StoreFile>;

    /// The staged data of `id`, if there is any, to read.
    ///
    /// # Errors
    /// It can't be opened.
    fn staged(&self, id: ImageId) -> Result<Option<StoreFile>>;

    /// Returns when the staged data of `id`, and that it is there, is on the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    fn sync(&self, staged: &StoreFile) -> Result<()>;

    /// Returns when staged data is on the disk, whatever it is called there.
    ///
    /// # Errors
    /// The disk does not take it.
    fn sync_data(&self, staged: &StoreFile) -> Result<()>;

    /// Makes sealed data the staged data of `id` again, if it is the file that is `staged`. Answers whether
    /// it was.
    ///
    /// # Errors
    /// The disk refuses.
    fn take_back(&self, id: ImageId, digest: &Digest, staged: &StoreFile) -> Result<bool>;

    /// Gives the staged data of `id` its digest for a name, durably. Where that content is there
    /// already, the staged copy goes. Harmless when it was done before.
    ///
    /// # Errors
    /// There is no such data, staged or sealed, or the disk refuses.
    fn seal(&self, id: ImageId, seal: &Seal) -> Result<()>;

    /// Drops the staged data of `id`; harmless if there is none.
    ///
    /// # Errors
    /// The disk refuses.
    fn discard(&self, id: ImageId) -> Result<()>;

    /// Drops whatever is in staging and is not of an image for which `keep` says so. Answers how
    /// many files that were.
    ///
    /// # Errors
    /// Staging can't be read or changed.
    fn discard_strays(&self, keep: &dyn Fn(ImageId) -> bool) -> Result<u64>;

    /// Sealed data, to read. Whoever has it goes on reading after it was dropped.
    ///
    /// # Errors
    /// It is not there, or can't be opened.
    fn open(&self, digest: &Digest) -> Result<Arc<StoreFile>>;

    /// Notes whether sealed data is damaged: then it is kept for those who may read it all the same, and
    /// the next whole copy takes its place.
    ///
    /// # Errors
    /// The disk refuses.
    fn mark_damaged(&self, digest: &Digest, is_damaged: bool) -> Result<()>;

    /// Whether sealed data is gone, or was found damaged.
    ///
    /// # Errors
    /// The filesystem does not say.
    fn is_damaged(&self, digest: &Digest) -> Result<bool>;

    /// Drops sealed data; harmless if it is gone.
    ///
    /// # Errors
    /// The disk refuses.
    fn drop_sealed(&self, digest: &Digest) -> Result<()>;

    /// Returns when it is on the disk that these contents, and whatever manifests, were dropped.
    ///
    /// # Errors
    /// The disk does not take it.
    fn sync_removals(&self, digests: &[Digest]) -> Result<()>;

    /// Calls `visit` with the digest of all that is sealed.
    ///
    /// # Errors
    /// The store can't be read, or `visit` failed.
    fn each_sealed(&self, visit: &mut dyn FnMut(Digest) -> Result<()>) -> Result<()>;

    /// Keeps what is known of an image beside its data, durably.
    ///
    /// # Errors
    /// The disk refuses.
    fn put_manifest(&self, id: ImageId, text: &str) -> Result<()>;

    /// Drops the manifest of `id`; harmless if there is none.
    ///
    /// # Errors
    /// The disk refuses.
    fn drop_manifest(&self, id: ImageId) -> Result<()>;

    /// Calls `visit` with the name and the text of every manifest. What is no text is given as none.
    ///
    /// # Errors
    /// The store can't be read, or `visit` failed.
    fn each_manifest(&self, visit: &mut dyn FnMut(&str, &str) -> Result<()>) -> Result<()>;

    /// The text of the manifest of `id`, if there is one. What is no text is given as none.
    ///
    /// # Errors
    /// It can't be read.
    fn manifest(&self, id: ImageId) -> Result<Option<String>>;

    /// What is in staging, by name: an image's id, unless somebody else put it there.
    ///
    /// # Errors
    /// Staging can't be read.
    fn staged_names(&self) -> Result<Vec<String>>;

    /// Sees that all files are such as the store makes them, whatever is in them. Calls `tell` with each that
    /// was not, and with whether it is now.
    ///
    /// # Errors
    /// The store can't be read or changed.
    fn tidy(&self, tell: &mut dyn FnMut(String, bool)) -> Result<()>;

    /// Keeps a little room back, for what must be written when there is no other. Where there is none
    /// to keep, that is no failure.
    fn keep_reserve(&self);

    /// Gives a part of the room that was kept back.
    fn yield_reserve(&self);

    /// Returns when the disk has answered, whatever it said.
    fn probe(&self);

    /// How much room there is.
    ///
    /// # Errors
    /// The filesystem does not say.
    fn space(&self) -> Result<Space>;
}
