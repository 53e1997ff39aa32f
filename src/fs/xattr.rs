//! The attributes `user.sps.*` of an image: what a property of the record is called, and how it reads.

use super::mount::{Mount, Shown};
use super::tree::Node;
use crate::error::{Error, Result};
use crate::image::Seal;

/// What the names of all attributes of sps begin with.
const PREFIX: &str = "user.sps.";

/// The process that serves the mount, asked of its root.
const PID: &str = "pid";

/// What can be asked for by name (specification, section 2, Extended attributes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    Id,
    Status,
    Name,
    Size,
    VirtualSize,
    DiskFormat,
    ContainerFormat,
    Blake3,
    CreatedAt,
    UpdatedAt,
    StatusAt,
    Owner,
    Visibility,
    Protected,
    Message,
}

impl Property {
    const ALL: [(&'static str, Self); 15] = [
        ("id", Self::Id),
        ("status", Self::Status),
        ("name", Self::Name),
        ("size", Self::Size),
        ("virtual_size", Self::VirtualSize),
        ("disk_format", Self::DiskFormat),
        ("container_format", Self::ContainerFormat),
        ("blake3", Self::Blake3),
        ("created_at", Self::CreatedAt),
        ("updated_at", Self::UpdatedAt),
        ("status_at", Self::StatusAt),
        ("owner", Self::Owner),
        ("visibility", Self::Visibility),
        ("protected", Self::Protected),
        ("message", Self::Message),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, property)| property)
    }

    fn value(self, shown: &Shown) -> Option<String> {
        let image = &shown.image;
        let seal: Option<&Seal> = image.content.seal();
        match self {
            Self::Id => Some(image.id.to_string()),
            Self::Status => Some(image.status.to_string()),
            Self::Name => Some(image.name.to_string()),
            Self::Size => {
                let live = shown.live.map(|live| live.size_bytes).filter(|size| *size > 0);
                live.or_else(|| seal.map(|seal| seal.size_bytes)).map(|size| size.to_string())
            }
            Self::VirtualSize => None,
            Self::DiskFormat => seal.map(|seal| seal.format.name().to_owned()),
            Self::ContainerFormat => Some("bare".to_owned()),
            Self::Blake3 => seal.map(|seal| seal.digest.to_string()),
            Self::CreatedAt => Some(image.created_at.to_string()),
            Self::UpdatedAt => Some(image.updated_at.to_string()),
            Self::StatusAt => Some(image.status_at.to_string()),
            Self::Owner => Some(image.ownership.uid.to_string()),
            Self::Visibility => {
                Some(if image.ownership.is_public() { "public" } else { "private" }.to_owned())
            }
            Self::Protected => Some(image.ownership.is_protected().to_string()),
            Self::Message => image.message.clone(),
        }
    }
}

impl Mount {
    /// The value of an attribute.
    pub(crate) fn attribute(&self, inode: u64, name: &[u8]) -> Result<String> {
        let name = own_name(name)?;
        match Self::node(inode)? {
            Node::Image(number) | Node::Link(number) => {
                let property = Property::named(name).ok_or(Error::NoAttribute)?;
                let shown = self.shown(self.image(number)?);
                property.value(&shown).ok_or(Error::NoAttribute)
            }
            Node::Root if name == PID => Ok(std::process::id().to_string()),
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::ById
            | Node::StatusPage => Err(Error::NoAttribute),
        }
    }

    /// Sets or removes an attribute: all of them are for reading yet.
    pub(crate) fn set_attribute(name: &[u8]) -> Result<()> {
        own_name(name)?;
        Err(Error::Forbidden("this attribute can't be set"))
    }
}

fn own_name(name: &[u8]) -> Result<&str> {
    let name = std::str::from_utf8(name).map_err(|_| Error::ForeignAttribute)?;
    name.strip_prefix(PREFIX).ok_or(Error::ForeignAttribute)
}
