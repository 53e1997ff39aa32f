//! What the attributes `user.sps.*` are called, and how each reads from a record.

use crate::error::{Error, Result};
use crate::fs::mount::Shown;
use crate::image::{Algorithm, Content};
use crate::text::plain;

/// What the names of all attributes of sps begin with.
const PREFIX: &str = "user.sps.";

/// What the names of properties begin with, after that.
const CUSTOM: &str = "property.";

/// What can be asked for by name (specification, section 2, Extended attributes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    Id,
    Status,
    Name,
    Size,
    VirtualSize,
    DiskFormat,
    ContainerFormat,
    Blake3,
    Checksum(Algorithm),
    CreatedAt,
    UpdatedAt,
    StatusAt,
    Owner,
    Visibility,
    Protected,
    Message,
    ExpectedSize,
    ExpectedBlake3,
    Expected(Algorithm),
    Tags,
    MinDisk,
    MinRam,
    Locations,
}

/// An attribute: one of those that every image has, or a property under a key of somebody's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute<'a> {
    Fixed(Property),
    Custom(&'a str),
}

impl Property {
    const ALL: [(&'static str, Self); 27] = [
        ("id", Self::Id),
        ("status", Self::Status),
        ("name", Self::Name),
        ("size", Self::Size),
        ("virtual_size", Self::VirtualSize),
        ("disk_format", Self::DiskFormat),
        ("container_format", Self::ContainerFormat),
        ("blake3", Self::Blake3),
        ("sha256", Self::Checksum(Algorithm::Sha256)),
        ("sha512", Self::Checksum(Algorithm::Sha512)),
        ("md5", Self::Checksum(Algorithm::Md5)),
        ("created_at", Self::CreatedAt),
        ("updated_at", Self::UpdatedAt),
        ("status_at", Self::StatusAt),
        ("owner", Self::Owner),
        ("visibility", Self::Visibility),
        ("protected", Self::Protected),
        ("message", Self::Message),
        ("expected_size", Self::ExpectedSize),
        ("expected_blake3", Self::ExpectedBlake3),
        ("expected_sha256", Self::Expected(Algorithm::Sha256)),
        ("expected_sha512", Self::Expected(Algorithm::Sha512)),
        ("expected_md5", Self::Expected(Algorithm::Md5)),
        ("tags", Self::Tags),
        ("min_disk", Self::MinDisk),
        ("min_ram", Self::MinRam),
        ("locations", Self::Locations),
    ];

    /// Those that are listed where they are set.
    const LISTED: [Self; 3] = [Self::Tags, Self::MinDisk, Self::MinRam];

    fn value(self, shown: &Shown) -> Option<String> {
        let image = &shown.image;
        let content = &image.content;
        match self {
            Self::Id => Some(image.id.to_string()),
            Self::Status => Some(image.status.to_string()),
            Self::Name => Some(image.name.to_string()),
            Self::Size => {
                let is_known = image.content != Content::Absent || shown.size_bytes > Some(0);
                shown.size_bytes.filter(|_| is_known).map(|size| size.to_string())
            }
            Self::VirtualSize => content.virtual_size_bytes().map(|size| size.to_string()),
            Self::DiskFormat => {
                let format = content.format().or(image.expected.format);
                format.map(|format| format.name().to_owned())
            }
            Self::ContainerFormat => Some("bare".to_owned()),
            Self::Blake3 => content.digest().map(|digest| digest.to_string()),
            Self::Checksum(algorithm) => image.checksums.hex(algorithm).map(str::to_owned),
            Self::CreatedAt => Some(image.created_at.to_string()),
            Self::UpdatedAt => Some(image.updated_at.to_string()),
            Self::StatusAt => Some(image.status_at.to_string()),
            Self::Owner => Some(image.ownership.uid.to_string()),
            Self::Visibility => {
                Some(if image.ownership.is_public() { "public" } else { "private" }.to_owned())
            }
            Self::Protected => Some(image.ownership.is_protected().to_string()),
            Self::Message => image.message.as_deref().map(|told| plain(told).into_owned()),
            Self::ExpectedSize => image.expected.size.map(|size| size.to_string()),
            Self::ExpectedBlake3 => image.expected.blake3.map(|digest| digest.to_string()),
            Self::Expected(algorithm) => image.expected.checksums.hex(algorithm).map(str::to_owned),
            Self::Tags => {
                let tags = image.details.tags();
                (!tags.is_empty()).then(|| tags.join(","))
            }
            Self::Locations => content.located().map(|located| located.path.clone()),
            Self::MinDisk => image.details.min_disk.map(|least| least.to_string()),
            Self::MinRam => image.details.min_ram.map(|least| least.to_string()),
        }
    }
}

impl<'a> Attribute<'a> {
    /// The attribute of that name, without what all names begin with.
    pub(super) fn named(name: &'a str) -> Option<Self> {
        if let Some(key) = name.strip_prefix(CUSTOM) {
            return Some(Self::Custom(key));
        }
        let found = Property::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, property)| Self::Fixed(*property))
    }

    /// What it is of an image; none where it is not set, or not known.
    pub(super) fn value(self, shown: &Shown) -> Option<String> {
        match self {
            Self::Fixed(property) => property.value(shown),
            Self::Custom(key) => shown.image.details.property(key).map(str::to_owned),
        }
    }
}

/// The full names of the attributes of an image that `listxattr` shows, each with the NUL that ends it.
pub(super) fn listed(shown: &Shown) -> String {
    let fixed = Property::ALL.iter().filter(|(_, property)| {
        Property::LISTED.contains(property) && property.value(shown).is_some()
    });
    let fixed = fixed.map(|(name, _)| format!("{PREFIX}{name}\0"));
    let custom = shown.image.details.properties();
    fixed.chain(custom.map(|(key, _)| format!("{PREFIX}{CUSTOM}{key}\0"))).collect()
}

/// The name of an attribute of sps without what all of them begin with.
pub(super) fn own_name(name: &[u8]) -> Result<&str> {
    let name = std::str::from_utf8(name).map_err(|_| Error::ForeignAttribute)?;
    name.strip_prefix(PREFIX).ok_or(Error::ForeignAttribute)
}
