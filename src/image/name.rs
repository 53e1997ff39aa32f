//! The name of an image, as a file's name shows it.

use std::fmt;

use super::{IdPrefix, ImageId};

/// The longest name in bytes: 255, less the nine of a `~ID8`.
pub const NAME_BYTES_MAX: usize = 246;

/// What a name begins with that is kept for the mount's own files.
const RESERVED_PREFIX: &str = ".sps";

/// The characters between a name and the first digits of an id.
const PREFIX_DIGITS: usize = 8;

/// A name an image may have (specification, section 2): UTF-8 without `/`, NUL or control characters,
/// at most 246 bytes, not beginning with `.sps`, not ending in `~` and eight hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageName(String);

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// It is longer than 246 bytes.
    TooLong,
    /// It is empty, `.` or `..`.
    NotAName,
    /// It is not UTF-8, or has a `/`, a NUL or a control character.
    Character,
    /// It begins with `.sps`.
    Reserved,
    /// It ends in `~` and eight hex digits, which tells images of one name apart.
    LooksLikeId,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a name has at most 246 bytes",
            Self::NotAName => "a name is not empty and not a dot or two",
            Self::Character => "a name is UTF-8 without control characters",
            Self::Reserved => "names that begin with .sps are kept for the mount's own files",
            Self::LooksLikeId => "a name does not end in ~ and eight hex digits",
        })
    }
}

impl ImageName {
    /// The name that these bytes spell.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn new(bytes: &[u8]) -> Result<Self, NameFault> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(NameFault::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| NameFault::Character)?;
        if text.is_empty() || text == "." || text == ".." {
            return Err(NameFault::NotAName);
        }
        if text.contains(|c: char| c == '/' || c.is_control()) {
            return Err(NameFault::Character);
        }
        if text.starts_with(RESERVED_PREFIX) {
            return Err(NameFault::Reserved);
        }
        if split_prefix(text).is_some() {
            return Err(NameFault::LooksLikeId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text that is its caller's.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name by which an older image of this name is listed: `NAME~ID8`.
    #[must_use]
    pub fn listed_as(&self, id: ImageId) -> String {
        format!("{}~{}", self.0, id.prefix())
    }

    /// Takes a listed `NAME~ID8` apart; a plain name has no prefix.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn parse_listed(bytes: &[u8]) -> Result<(Self, Option<IdPrefix>), NameFault> {
        match std::str::from_utf8(bytes).ok().and_then(split_prefix) {
            Some((name, prefix)) => Ok((Self::new(name.as_bytes())?, Some(prefix))),
            None => Ok((Self::new(bytes)?, None)),
        }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn split_prefix(text: &str) -> Option<(&str, IdPrefix)> {
    let (name, digits) = text.rsplit_once('~')?;
    if digits.len() != PREFIX_DIGITS || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let value = u32::from_str_radix(digits, 16).ok()?;
    Some((name, IdPrefix::from_bytes(value.to_be_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_specification_forbids_are_refused_with_their_reason() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let cases: &[(&[u8], NameFault)] = &[
            (b"", NameFault::NotAName),
            (b".", NameFault::NotAName),
            (b"..", NameFault::NotAName),
            (b"a/b", NameFault::Character),
            (b"a\0b", NameFault::Character),
            (b"a\nb", NameFault::Character),
            (b"a\x1b[31m", NameFault::Character),
            (b"a\x7f", NameFault::Character),
            ("a\u{85}".as_bytes(), NameFault::Character),
            (b"\xff\xfe", NameFault::Character),
            (b".sps", NameFault::Reserved),
            (b".spsfoo", NameFault::Reserved),
            (b"a~0123abcd", NameFault::LooksLikeId),
            (b"a~0123ABCD", NameFault::LooksLikeId),
            (long.as_bytes(), NameFault::TooLong),
        ];
        for (bytes, fault) in cases {
            assert_eq!(ImageName::new(bytes).as_ref().err(), Some(fault), "{bytes:?}");
        }
    }

    #[test]
    fn names_people_use_are_taken() {
        let longest = "ü".repeat(NAME_BYTES_MAX / 2);
        for name in ["debian-12.qcow2", ".x.AbCdEf", "a b", "é~1", "a~0123abc", &longest] {
            assert_eq!(ImageName::new(name.as_bytes()).map(|n| n.to_string()), Ok(name.into()));
        }
    }

    #[test]
    fn a_listed_name_comes_apart_again() {
        let id = ImageId::random();
        let name = ImageName::new(b"x.img").expect("a plain name");
        let listed = name.listed_as(id);
        assert_eq!(ImageName::parse_listed(listed.as_bytes()), Ok((name, Some(id.prefix()))));
        let (low, high) = id.prefix().range();
        assert!(low <= id && id <= high);
    }
}
