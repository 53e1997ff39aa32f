//! Where the bytes of an image are, and what they are known to be.

use super::Digest;

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

/// Where the bytes of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nowhere: none have come.
    Absent,
    /// In staging, still being written.
    Staged,
    /// Complete, under its digest (or, until the last close, in staging).
    Sealed(Seal),
    /// Given back; what they were is still known.
    Gone(Seal),
}

impl Content {
    /// What the content is known to be, once it is complete.
    #[must_use]
    pub const fn seal(&self) -> Option<&Seal> {
        match self {
            Self::Sealed(seal) | Self::Gone(seal) => Some(seal),
            Self::Absent | Self::Staged => None,
        }
    }

    /// What is left when the data is given back.
    pub(super) const fn reclaimed(self) -> Self {
        match self {
            Self::Sealed(seal) | Self::Gone(seal) => Self::Gone(seal),
            Self::Absent | Self::Staged => Self::Absent,
        }
    }
}
