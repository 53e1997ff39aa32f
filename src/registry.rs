//! The registry: what is known of every image, kept so that a crash can't half-change it.
//!
//! A backend stands behind [`Registry`]. It stores records, compares versions and answers questions;
//! it refuses to know what a status permits, where bytes are, and what the time is. Every change is one
//! [`Change`], applied whole or not at all.

use crate::error::Result;
use crate::image::{
    Digest, IdPrefix, Image, ImageId, ImageName, ImageNumber, Ownership, Timestamp,
};
use crate::lifecycle::Status;

mod sqlite;

pub use sqlite::SqliteRegistry;

/// An image that is to be recorded for the first time; the registry gives it a number.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its identity.
    pub id: ImageId,
    /// Its name.
    pub name: ImageName,
    /// Its first status.
    pub status: Status,
    /// Whose it is.
    pub ownership: Ownership,
    /// When it was made; all its times begin so.
    pub created_at: Timestamp,
}

/// Sealed data that no record holds any more, to be given back. It is remembered until that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// The image whose manifest goes.
    pub id: ImageId,
    /// The content, which goes if no other image has it.
    pub digest: Digest,
}

/// Whether a commit must be on the disk before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives the end of the daemon, not a loss of power.
    Transient,
    /// It survives a loss of power.
    Durable,
}

/// A set of changes that happen together.
#[derive(Clone, Debug)]
pub struct Change {
    /// Records to replace, each with the version that was read. One that gives up a unique name
    /// comes before the one that takes it.
    pub updates: Vec<Image>,
    /// Records to drop.
    pub forgotten: Vec<Image>,
    /// Data that is to be given back once this is committed.
    pub reclaims: Vec<Reclaim>,
    /// What the commit must survive.
    pub durability: Durability,
}

/// A record by one of its keys.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// By identity.
    Id(ImageId),
    /// By number.
    Number(ImageNumber),
}

/// An image as a folder lists it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The record.
    pub image: Image,
    /// Whether a newer image of the same status bears the plain name.
    pub is_shadowed: bool,
}

/// How many images have a status, and how much they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The status.
    pub status: Status,
    /// Number of images.
    pub images: u64,
    /// Sum of the sizes of their content in bytes.
    pub size_bytes: u64,
}

/// What keeps the records.
pub trait Registry: Send + Sync {
    /// Records a new image.
    ///
    /// # Errors
    /// The registry can't write.
    fn create(&self, draft: Draft) -> Result<Image>;

    /// Makes all of `change`, if every record still has the version that was read and no unique name
    /// is taken twice.
    ///
    /// # Errors
    /// [`Conflict`](crate::error::Error::Conflict) when something changed in between; nothing is done.
    fn commit(&self, change: Change) -> Result<()>;

    /// Returns when all that was committed before is on the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    fn flush(&self) -> Result<()>;

    /// The record of `key`, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    fn image(&self, key: Key) -> Result<Option<Image>>;

    /// The newest image of that name and status or, with a prefix, the one whose id begins so.
    ///
    /// # Errors
    /// The registry can't be read.
    fn find(
        &self,
        status: Status,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Image>>;

    /// At most `limit` images with a number above `after`, in the order of numbers: of one status, or
    /// of all.
    ///
    /// # Errors
    /// The registry can't be read.
    fn page(&self, status: Option<Status>, after: ImageNumber, limit: u32) -> Result<Vec<Listed>>;

    /// Whether a newer image of its status bears the plain name of `image`.
    ///
    /// # Errors
    /// The registry can't be read.
    fn is_shadowed(&self, image: &Image) -> Result<bool>;

    /// Counts and sizes, a row for each status that has images.
    ///
    /// # Errors
    /// The registry can't be read.
    fn totals(&self) -> Result<Vec<Total>>;

    /// The images that entered a status last, the latest first.
    ///
    /// # Errors
    /// The registry can't be read.
    fn latest(&self, status: Status, limit: u32) -> Result<Vec<Image>>;

    /// Whether any record holds the content: its count of references is not zero.
    ///
    /// # Errors
    /// The registry can't be read.
    fn is_referenced(&self, digest: &Digest) -> Result<bool>;

    /// At most `limit` of the data still to be given back.
    ///
    /// # Errors
    /// The registry can't be read.
    fn reclaims(&self, limit: u32) -> Result<Vec<Reclaim>>;

    /// Strikes out data that was given back.
    ///
    /// # Errors
    /// The registry can't write.
    fn settle(&self, reclaims: &[Reclaim]) -> Result<()>;
}

impl Change {
    /// A change of one record that need not wait for the disk.
    #[must_use]
    pub fn update(image: Image) -> Self {
        Self {
            updates: vec![image],
            forgotten: Vec::new(),
            reclaims: Vec::new(),
            durability: Durability::Transient,
        }
    }

    /// The same change, answered only when it is on the disk.
    #[must_use]
    pub fn durably(mut self) -> Self {
        self.durability = Durability::Durable;
        self
    }
}
