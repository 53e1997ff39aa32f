//! The attributes `user.sps.*` of an image: what a property of the record is called, and how it reads.

use super::mount::{Asker, Mount, Shown};
use super::tree::Node;
use crate::catalog::Rename;
use crate::error::{Error, Result};
use crate::image::{Content, Image, ImageName, Seal};

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
    ExpectedSize,
}

impl Property {
    const ALL: [(&'static str, Self); 16] = [
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
        ("expected_size", Self::ExpectedSize),
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
                let is_known = image.content != Content::Absent || shown.size_bytes > Some(0);
                shown.size_bytes.filter(|_| is_known).map(|size| size.to_string())
            }
            Self::ExpectedSize => image.expected_size.map(|size| size.to_string()),
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
        let node = Self::node(inode)?;
        match node.image() {
            Some(number) => {
                let property = Property::named(name).ok_or(Error::NoAttribute)?;
                let shown = self.shown(self.image(number)?);
                property.value(&shown).ok_or(Error::NoAttribute)
            }
            None if node == Node::Root && name == PID => Ok(std::process::id().to_string()),
            None => Err(Error::NoAttribute),
        }
    }

    /// Sets an attribute, or removes it where there is no value.
    pub(crate) fn set_attribute(
        &self,
        asker: Asker,
        inode: u64,
        name: &[u8],
        value: Option<&[u8]>,
    ) -> Result<()> {
        const REFUSED: Error = Error::Forbidden("this attribute can't be set");
        let name = own_name(name)?;
        let Node::Image(number) = Self::node(inode)? else { return Err(REFUSED) };
        let image = self.image(number)?;
        let value = value
            .map(|value| {
                let text = std::str::from_utf8(value).ok();
                text.ok_or_else(|| Error::Invalid(format!("{name} is text")))
            })
            .transpose()?;
        match (Property::named(name), value) {
            (Some(Property::Name), Some(value)) => {
                let name = ImageName::new(value.as_bytes())?;
                let (seen, actor) = (image.status, asker.actor());
                self.catalog.rename(image.id, &name, Rename { seen, actor, no_replace: false })
            }
            (Some(Property::Protected), Some(value)) => {
                let protected = choice(value, ["true", "false"])?;
                self.declare(asker, &image, |image| image.ownership.set_protected(protected))
            }
            (Some(Property::Visibility), Some(value)) => {
                let public = choice(value, ["public", "private"])?;
                self.declare(asker, &image, |image| image.ownership.set_public(public))
            }
            (Some(Property::ExpectedSize), value) if image.may_be_declared() => {
                let parse = |value: &str| {
                    let size = value.parse::<u64>();
                    size.map_err(|_| Error::Invalid(format!("{value:?} is not a size in bytes")))
                };
                let expected = value.map(parse).transpose()?;
                self.declare(asker, &image, |image| image.expected_size = expected)
            }
            _ => Err(REFUSED),
        }
    }

    fn declare(&self, asker: Asker, image: &Image, edit: impl Fn(&mut Image)) -> Result<()> {
        self.catalog.declare(image.id, asker.actor(), edit)
    }
}

/// Which of two words a value is: the first, or the second.
fn choice(value: &str, [yes, no]: [&str; 2]) -> Result<bool> {
    match value {
        _ if value == yes => Ok(true),
        _ if value == no => Ok(false),
        _ => Err(Error::Invalid(format!("{value:?}: it is {yes} or {no}"))),
    }
}

fn own_name(name: &[u8]) -> Result<&str> {
    let name = std::str::from_utf8(name).map_err(|_| Error::ForeignAttribute)?;
    name.strip_prefix(PREFIX).ok_or(Error::ForeignAttribute)
}
