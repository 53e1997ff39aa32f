//! What an image is: its id, name, digest, content and record.
//!
//! Every type is checked where it is made, so that what holds one need not ask again. This module
//! refuses to know where records and bytes are kept, and what the time is.

use std::fmt;

use uuid::Uuid;

use crate::lifecycle::{Effect, Status, Step, Subject};

mod checksum;
mod content;
mod details;
mod expected;
mod name;
mod time;

pub use checksum::{Algorithm, Checksum, Checksums};
pub use content::{Content, DiskFormat, Fingerprint, Located, Seal, User};
pub use details::{DetailFault, Details, VALUE_BYTES_MAX};
pub use expected::Expected;
pub use name::{ImageName, NAME_BYTES_MAX, NameFault};
pub use time::{Moment, StoreTime, Timestamp};

/// The identity of an image: a version 4 UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(Uuid);

impl ImageId {
    /// An id that nobody has had before.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id that `text` spells, if it spells one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Only the spelling that `Display` gives, so that an image has one name in `by-id/`.
        let uuid = Uuid::try_parse(text).ok()?;
        (uuid.hyphenated().to_string() == text).then_some(Self(uuid))
    }

    /// The id with these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The first four bytes, which the eight digits of a listed `NAME~ID8` spell.
    #[must_use]
    pub fn prefix(&self) -> IdPrefix {
        let [a, b, c, d, ..] = *self.0.as_bytes();
        IdPrefix([a, b, c, d])
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

/// The first eight hex digits of an id, as `NAME~ID8` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdPrefix([u8; 4]);

impl IdPrefix {
    /// The prefix with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// The lowest and the highest id that begin so.
    #[must_use]
    pub fn range(&self) -> (ImageId, ImageId) {
        let mut low = [0; 16];
        let mut high = [0xff; 16];
        low[..4].copy_from_slice(&self.0);
        high[..4].copy_from_slice(&self.0);
        (ImageId::from_bytes(low), ImageId::from_bytes(high))
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A BLAKE3 digest of an image's whole content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest that 64 lower-case hex digits spell.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hash = blake3::Hash::from_hex(text).ok()?;
        (hash.to_hex().as_str() == text).then(|| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The number of an image in the mount, the same across restarts and never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageNumber(u64);

impl ImageNumber {
    /// The number `value`, counted from 1.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Who owns a file, and what the mode bits let others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits, within [`MODE_BITS`](Self::MODE_BITS).
    pub mode: u32,
}

impl Ownership {
    /// What an image keeps of a mode: set-user-ID and set-group-ID bits are for programs, and dropped.
    pub const MODE_BITS: u32 = 0o1777;
    const PROTECTED: u32 = 0o1000;
    const OTHERS_READ: u32 = 0o4;

    /// Sets or takes off the sticky bit.
    pub const fn set_protected(&mut self, protected: bool) {
        self.mode =
            if protected { self.mode | Self::PROTECTED } else { self.mode & !Self::PROTECTED };
    }

    /// Lets everyone see the data, or not.
    pub const fn set_public(&mut self, public: bool) {
        self.mode =
            if public { self.mode | Self::OTHERS_READ } else { self.mode & !Self::OTHERS_READ };
    }

    /// The bits that count for a user: those of the first class that he is in, and no others.
    fn bits(&self, user: &User) -> u32 {
        if user.uid == self.uid {
            self.mode >> 6
        } else if user.is_in(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        }
    }

    /// Whether the mode bits let a user write.
    #[must_use]
    pub fn lets_write(&self, user: &User) -> bool {
        user.uid == 0 || self.bits(user) & 0o2 != 0
    }

    /// Whether the mode bits let a user read.
    #[must_use]
    pub fn lets_read(&self, user: &User) -> bool {
        user.uid == 0 || self.bits(user) & 0o4 != 0
    }

    /// The mode bits of what is made of this for a group: nobody can read it who could not read this. In another
    /// group are others, and who is in the first one counts as anybody there.
    #[must_use]
    pub const fn readable_by_no_more(&self, gid: u32) -> u32 {
        const READERS: u32 = 0o044;
        let readers = self.mode & READERS;
        if gid == self.gid || readers == READERS { 0o600 | readers } else { 0o600 }
    }

    /// Whether the sticky bit keeps the image from being removed or replaced.
    #[must_use]
    pub const fn is_protected(&self) -> bool {
        self.mode & Self::PROTECTED != 0
    }

    /// Whether everyone may see the data.
    #[must_use]
    pub const fn is_public(&self) -> bool {
        self.mode & Self::OTHERS_READ != 0
    }
}

/// What the registry knows of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its identity.
    pub id: ImageId,
    /// Its number in the mount.
    pub number: ImageNumber,
    /// How often the record was changed; a change compares it.
    pub version: u64,
    /// Its name.
    pub name: ImageName,
    /// Where it is in its life.
    pub status: Status,
    /// Where its bytes are.
    pub content: Content,
    /// Whose it is.
    pub ownership: Ownership,
    /// When the record was made.
    pub created_at: Timestamp,
    /// When the record last changed.
    pub updated_at: Timestamp,
    /// When the status last changed.
    pub status_at: Timestamp,
    /// When it did by the store's own clock: what its time in the trash is counted from.
    pub entered_at: StoreTime,
    /// When the content last changed, or what a tool set.
    pub modified_at: Timestamp,
    /// The status to restore to.
    pub origin: Option<Status>,
    /// The digest that this id is bound to since it was first active.
    pub bound_digest: Option<Digest>,
    /// Without data it is nothing by itself: it was made to replace another, or to be imported.
    pub is_provisional: bool,
    /// What was declared of its content.
    pub expected: Expected,
    /// Digests of its content other than the store's own, as far as they are known.
    pub checksums: Checksums,
    /// What is said of it.
    pub details: Details,
    /// Why it is where it is, for a person to read.
    pub message: Option<String>,
}

impl Image {
    /// What of the image a decision depends on.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        Subject { status: self.status, protected: self.ownership.is_protected() }
    }

    /// Whether it may still be said what the data must be: as long as that has not all come.
    #[must_use]
    pub fn may_be_declared(&self) -> bool {
        self.status.takes_declarations() && self.content.seal().is_none()
    }

    /// The record after `step` was taken at `now`. What the step does outside of the record is the
    /// catalog's to do.
    #[must_use]
    pub fn stepped(&self, step: Step, now: Moment) -> Self {
        let mut next = self.clone();
        for effect in step.effects {
            match effect {
                Effect::Reclaim => next.content = next.content.reclaimed(),
                Effect::ClearSize => {
                    next.content = Content::Absent;
                    next.checksums = Checksums::default();
                }
                Effect::RememberOrigin => next.origin = Some(self.status),
                Effect::BindDigest => {
                    next.bound_digest = next.content.digest().or(next.bound_digest);
                }
                Effect::CancelWriter | Effect::TakeName | Effect::DropRecord => {}
            }
        }
        if next.status.restore_event().is_none() && step.to.restore_event().is_some() {
            next.origin = None;
        }
        next.is_provisional = false;
        next.status = step.to;
        next.status_at = now.at;
        next.entered_at = now.age;
        next.updated_at = now.at;
        next
    }
}
