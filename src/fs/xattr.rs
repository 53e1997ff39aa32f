//! Operations on extended attributes: list, get, set, remove.

use super::mount::{Asker, Mount};
use super::tree::Node;
use crate::catalog::Rename;
use crate::error::{Error, Result};
use crate::image::{Algorithm, Checksum, Digest, DiskFormat, Image, ImageName, VALUE_BYTES_MAX};

mod property;

use property::{Attribute, Property, own_name};

/// The process that serves the mount, asked of its root.
const PID: &str = "pid";

const REFUSED: Error = Error::Forbidden("this attribute can't be set");

impl Mount {
    /// The names of the attributes that are listed, each with the NUL that ends it.
    pub(crate) fn attribute_names(&self, inode: u64) -> Result<String> {
        match Self::node(inode)? {
            Node::Image(number) => Ok(property::listed(&self.shown(self.image(number)?))),
            Node::Root
            | Node::Folder(_)
            | Node::Tasks
            | Node::TaskFolder(_)
            | Node::ById
            | Node::Own
            | Node::Page(_)
            | Node::Task(_)
            | Node::Draft(_)
            | Node::Link(_) => Ok(String::new()),
        }
    }

    /// The value of an attribute. A digest that is not known is computed from then on.
    pub(crate) fn attribute(&self, inode: u64, name: &[u8]) -> Result<String> {
        let name = own_name(name)?;
        let node = Self::node(inode)?;
        match node.image() {
            Some(number) => {
                let attribute = Attribute::named(name).ok_or(Error::NoAttribute)?;
                let shown = self.shown(self.image(number)?);
                let value = attribute.value(&shown);
                if let (None, Attribute::Fixed(Property::Checksum(algorithm))) = (&value, attribute)
                {
                    self.catalog.want_checksum(&shown.image, algorithm);
                }
                value.ok_or(Error::NoAttribute)
            }
            None if node == Node::Root && name == PID => Ok(std::process::id().to_string()),
            None => Err(Error::NoAttribute),
        }
    }

    /// Sets an attribute, or removes it where there is no value. The flags are those of setxattr(2).
    pub(crate) fn set_attribute(
        &self,
        asker: Asker,
        inode: u64,
        name: &[u8],
        (value, flags): (Option<&[u8]>, i32),
    ) -> Result<()> {
        let name = own_name(name)?;
        let Node::Image(number) = Self::node(inode)? else { return Err(REFUSED) };
        let attribute = Attribute::named(name).ok_or(REFUSED)?;
        let shown = self.shown(self.image(number)?);
        let is_there = attribute.value(&shown).is_some();
        if is_there && flags & libc::XATTR_CREATE != 0 {
            return Err(Error::Exists);
        }
        let value = value.map(|value| text(name, value)).transpose()?;
        let change = Change { asker, image: &shown.image, value };
        let must_be_there = flags & libc::XATTR_REPLACE != 0 || value.is_none();
        match attribute {
            Attribute::Fixed(property) => {
                let done = self.set_fixed(&change, property, must_be_there && !is_there);
                done.inspect_err(|error| log::debug!("op=setxattr {name}: {error}"))
            }
            Attribute::Custom(_) if must_be_there && !is_there => Err(Error::NoAttribute),
            Attribute::Custom(_) => self.declare(&change, |image| assign(image, name, value)),
        }
    }

    fn set_fixed(&self, change: &Change<'_>, property: Property, is_missing: bool) -> Result<()> {
        let image = change.image;
        match (property, change.value) {
            (Property::Name, Some(value)) => {
                let name = ImageName::new(value.as_bytes())?;
                let (seen, actor) = (image.status, change.asker.actor());
                self.catalog.rename(image.id, &name, Rename { seen, actor, no_replace: false })
            }
            _ if is_missing => Err(Error::NoAttribute),
            (Property::Locations, Some(path)) => {
                self.catalog.add_location(image, path, &change.asker.user()?)
            }
            (Property::Locations, None) => self.catalog.drop_location(image, change.asker.actor()),
            (property, value) => self.declare(change, |image| edit(image, property, value)),
        }
    }

    fn declare(&self, change: &Change<'_>, edit: impl Fn(&mut Image) -> Result<()>) -> Result<()> {
        self.catalog.declare(change.image.id, change.asker.actor(), edit)
    }
}

/// Who sets something of which image to what; no value takes it off.
struct Change<'a> {
    asker: Asker,
    image: &'a Image,
    value: Option<&'a str>,
}

/// Whether there is an attribute `user.sps.NAME`.
#[must_use]
pub fn is_known(name: &str) -> bool {
    Attribute::named(name).is_some()
}

/// Makes of a record what it is with another value of the attribute `user.sps.NAME`, or without one: the part of
/// setxattr(2) that asks neither who does it nor what else there is.
///
/// # Errors
/// There is no such attribute, it can't be set so, or the value makes no sense.
pub fn assign(image: &mut Image, name: &str, value: Option<&str>) -> Result<()> {
    match (Attribute::named(name).ok_or(REFUSED)?, value) {
        (Attribute::Fixed(property), value) => edit(image, property, value),
        (Attribute::Custom(key), Some(value)) => Ok(image.details.set_property(key, value)?),
        (Attribute::Custom(key), None) => {
            image.details.drop_property(key);
            Ok(())
        }
    }
}

/// Makes of a record what it is with another value of a property.
fn edit(image: &mut Image, property: Property, value: Option<&str>) -> Result<()> {
    match (property, value) {
        (Property::Tags, tags) => image.details.set_tags(tags.unwrap_or_default())?,
        (Property::MinDisk, least) => image.details.min_disk = number(least)?,
        (Property::MinRam, least) => image.details.min_ram = number(least)?,
        (Property::Protected, Some(value)) => {
            image.ownership.set_protected(choice(value, ["true", "false"])?);
        }
        (Property::Visibility, Some(value)) => {
            image.ownership.set_public(choice(value, ["public", "private"])?);
        }
        (property, value) => declare(image, property, value)?,
    }
    Ok(())
}

/// Notes a declaration of what the content must be.
fn declare(image: &mut Image, property: Property, value: Option<&str>) -> Result<()> {
    let may_be_declared = image.may_be_declared();
    let expected = &mut image.expected;
    match (property, value) {
        (
            Property::ExpectedSize
            | Property::ExpectedBlake3
            | Property::Expected(_)
            | Property::DiskFormat,
            _,
        ) if !may_be_declared => {
            return Err(Error::Forbidden("it may be declared until all data has come"));
        }
        (Property::ExpectedSize, value) => {
            expected.size = parsed(value, "a size in bytes", |value| value.parse().ok())?;
        }
        (Property::ExpectedBlake3, value) => {
            let parse = |value: &str| Digest::parse(&value.to_ascii_lowercase());
            expected.blake3 = parsed(value, "a BLAKE3 digest in hex digits", parse)?;
        }
        (Property::Expected(algorithm), Some(value)) => {
            expected.checksums.put(checksum(algorithm, value)?);
        }
        (Property::Expected(algorithm), None) => expected.checksums.drop(algorithm),
        (Property::DiskFormat, value) => {
            expected.format = parsed(value, "a disk format", DiskFormat::from_name)?;
        }
        _ => return Err(REFUSED),
    }
    Ok(())
}

fn parsed<T>(
    value: Option<&str>,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let bad = |value: &str| Error::Invalid(format!("{value:?} is not {what}"));
    value.map(|value| parse(value).ok_or_else(|| bad(value))).transpose()
}

fn checksum(algorithm: Algorithm, value: &str) -> Result<Checksum> {
    let bad = || Error::Invalid(format!("{value:?} is not a digest of {algorithm} in hex digits"));
    Checksum::parse(algorithm, value).ok_or_else(bad)
}

fn text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::TooBig);
    }
    std::str::from_utf8(value).map_err(|_| Error::Invalid(format!("{name} is text")))
}

fn number(value: Option<&str>) -> Result<Option<u32>> {
    parsed(value, "a whole number", |value| value.parse().ok())
}

/// Which of two words a value is: the first, or the second.
fn choice(value: &str, [yes, no]: [&str; 2]) -> Result<bool> {
    match value {
        _ if value == yes => Ok(true),
        _ if value == no => Ok(false),
        _ => Err(Error::Invalid(format!("{value:?}: it is {yes} or {no}"))),
    }
}
