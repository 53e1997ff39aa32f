//! Where the bytes of an image are, and what they are known to be.

use super::{Digest, Timestamp};

/// What the data of an image looks like on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiskFormat {
    /// No container that is known: the bytes are the disk.
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// VMware sparse extent.
    Vmdk,
    /// VirtualBox disk image.
    Vdi,
    /// Virtual PC.
    Vhd,
    /// Hyper-V.
    Vhdx,
    /// QEMU enhanced disk.
    Qed,
    /// An encrypted LUKS volume.
    Luks,
    /// An ISO 9660 volume.
    Iso,
    /// A raw disk with a GUID partition table.
    Gpt,
    /// A raw disk with a master boot record.
    Mbr,
}

impl DiskFormat {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::Raw,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vdi,
        Self::Vhd,
        Self::Vhdx,
        Self::Qed,
        Self::Luks,
        Self::Iso,
        Self::Gpt,
        Self::Mbr,
    ];

    /// The format's name, as it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Qed => "qed",
            Self::Luks => "luks",
            Self::Iso => "iso",
            Self::Gpt => "gpt",
            Self::Mbr => "mbr",
        }
    }

    /// Whether content of the format `found` is what was declared as this one. A disk with a partition table is a
    /// raw disk, too.
    #[must_use]
    pub fn admits(self, found: Self) -> bool {
        self == found || (self == Self::Raw && [Self::Gpt, Self::Mbr].contains(&found))
    }

    /// The format of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What a complete content is known to be. Its digest names it in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// BLAKE3 of all bytes.
    pub digest: Digest,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Space taken on the disk in bytes; less than the length where there are holes.
    pub allocated_bytes: u64,
    /// What the content was found to be.
    pub format: DiskFormat,
    /// The size of the disk that a machine sees in it, in bytes; none where it was not looked for.
    pub virtual_size_bytes: Option<u64>,
}

/// Data that lies elsewhere, as it was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its path.
    pub path: String,
    /// On whose behalf it is read.
    pub reader: User,
    /// How it was found: what is there later and is not this is not the image.
    pub fingerprint: Fingerprint,
    /// What the content was found to be.
    pub format: DiskFormat,
    /// The size of the disk that a machine sees in it, in bytes.
    pub virtual_size_bytes: Option<u64>,
    /// BLAKE3 of all bytes, once it is computed.
    pub digest: Option<Digest>,
}

/// A user and all groups that he is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl User {
    /// Whether he is in a group.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// By what a file is known not to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its inode number.
    pub inode: u64,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When its data last changed, or what a tool set.
    pub modified_at: Timestamp,
    /// When anything of it last changed, which no tool sets.
    pub changed_at: Timestamp,
}

/// Where the bytes of an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nowhere: none have come.
    Absent,
    /// In staging, still being written.
    Staged,
    /// Complete, under its digest (or, until the last close, in staging).
    Sealed(Seal),
    /// Elsewhere, in a file that is not the store's.
    Located(Box<Located>),
    /// Given back; what they were is still known.
    Gone(Seal),
}

impl Content {
    /// What the content is known to be, once it is complete.
    #[must_use]
    pub const fn seal(&self) -> Option<&Seal> {
        match self {
            Self::Sealed(seal) | Self::Gone(seal) => Some(seal),
            Self::Absent | Self::Staged | Self::Located(_) => None,
        }
    }

    /// Where the data is, if it lies elsewhere.
    #[must_use]
    pub fn located(&self) -> Option<&Located> {
        match self {
            Self::Located(located) => Some(located),
            Self::Absent | Self::Staged | Self::Sealed(_) | Self::Gone(_) => None,
        }
    }

    /// The BLAKE3 of all bytes, if it is known.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        let located = || self.located().and_then(|located| located.digest);
        self.seal().map(|seal| seal.digest).or_else(located)
    }

    /// What the bytes were found to be.
    #[must_use]
    pub fn format(&self) -> Option<DiskFormat> {
        let located = || self.located().map(|located| located.format);
        self.seal().map(|seal| seal.format).or_else(located)
    }

    /// The size of the disk that a machine sees in it, in bytes.
    #[must_use]
    pub fn virtual_size_bytes(&self) -> Option<u64> {
        match self {
            Self::Sealed(seal) | Self::Gone(seal) => seal.virtual_size_bytes,
            Self::Located(located) => located.virtual_size_bytes,
            Self::Absent | Self::Staged => None,
        }
    }

    /// What is left when the data is given back.
    pub(super) fn reclaimed(self) -> Self {
        match self {
            Self::Sealed(seal) | Self::Gone(seal) => Self::Gone(seal),
            Self::Absent | Self::Staged | Self::Located(_) => Self::Absent,
        }
    }
}
