//! What people say of an image: tags, properties, and what a machine must have to run it.
//!
//! All of it may change at any time; none of it changes what the image is.

use std::collections::BTreeMap;
use std::fmt;

/// Properties at most.
const PROPERTIES_MAX: usize = 128;

/// Tags at most.
const TAGS_MAX: usize = 128;

/// The length of a tag at most, in bytes.
const TAG_BYTES_MAX: usize = 255;

/// The length of a value at most, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// What is wrong with something that is said of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetailFault {
    /// It is not what it is to be.
    Malformed(String),
    /// There are as many already as there may be.
    TooMany(&'static str),
    /// It is longer than a value may be.
    TooLong,
}

impl fmt::Display for DetailFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(told) => told,
            Self::TooMany(told) => told,
            Self::TooLong => "a value has at most 64 KiB",
        })
    }
}

/// What is said of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    tags: Vec<String>,
    properties: BTreeMap<String, String>,
    /// What the disk of the machine must hold at least, in GiB.
    pub min_disk: Option<u32>,
    /// What the memory of the machine must be at least, in MiB.
    pub min_ram: Option<u32>,
}

impl Details {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The tags, each once, in the order in which they were given.
    #[must_use]
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The properties, by their keys.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of a property, if it is there.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.get(key).map(String::as_str)
    }

    /// Sets the tags that `text` lists, between commas. An empty text takes all of them off.
    ///
    /// # Errors
    /// One of them is empty, too long or has a control character, or there are too many. Nothing is set then.
    pub fn set_tags(&mut self, text: &str) -> Result<(), DetailFault> {
        let mut tags: Vec<String> = Vec::new();
        let listed = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
        for tag in listed {
            if tag.is_empty() || tag.len() > TAG_BYTES_MAX || tag.contains(char::is_control) {
                let length =
                    format!("a tag has 1 to {TAG_BYTES_MAX} bytes without control characters");
                return Err(DetailFault::Malformed(length));
            }
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        if tags.len() > TAGS_MAX {
            return Err(DetailFault::TooMany("an image has at most 128 tags"));
        }
        self.tags = tags;
        Ok(())
    }

    /// Sets a property, whatever it was before.
    ///
    /// # Errors
    /// The key is empty or has a control character, the value is too long, or there are too many.
    pub fn set_property(&mut self, key: &str, value: &str) -> Result<(), DetailFault> {
        if key.is_empty() || key.contains(char::is_control) {
            return Err(DetailFault::Malformed(
                "a property has a key without control characters".into(),
            ));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(DetailFault::TooLong);
        }
        if self.properties.len() >= PROPERTIES_MAX && !self.properties.contains_key(key) {
            return Err(DetailFault::TooMany("an image has at most 128 properties"));
        }
        self.properties.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Takes a property off; answers whether it was there.
    pub fn drop_property(&mut self, key: &str) -> bool {
        self.properties.remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_kept_in_their_order_and_each_once() {
        let mut details = Details::default();
        details.set_tags(" lts, gold ,lts,größe").expect("tags");
        assert_eq!(details.tags(), ["lts", "gold", "größe"]);
        for bad in ["a,,b", ",", "a\nb", &"x".repeat(256)] {
            assert!(matches!(details.set_tags(bad), Err(DetailFault::Malformed(_))), "{bad:?}");
        }
        assert_eq!(details.tags().len(), 3, "what can't be set changes nothing");
        let many: Vec<String> = (0..129).map(|tag| tag.to_string()).collect();
        assert!(matches!(details.set_tags(&many.join(",")), Err(DetailFault::TooMany(_))));
        details.set_tags(&many[1..].join(",")).expect("as many as may be");
        details.set_tags(" ").expect("none");
        assert!(details.is_empty());
    }

    #[test]
    fn properties_have_bounds_and_one_that_is_there_can_always_be_changed() {
        let mut details = Details::default();
        for key in 0..PROPERTIES_MAX {
            details.set_property(&key.to_string(), "v").expect("there is room");
        }
        assert!(matches!(details.set_property("x", "v"), Err(DetailFault::TooMany(_))));
        details.set_property("0", &"v".repeat(VALUE_BYTES_MAX)).expect("it is there");
        let long = "v".repeat(VALUE_BYTES_MAX + 1);
        assert_eq!(details.set_property("0", &long), Err(DetailFault::TooLong));
        assert!(matches!(details.set_property("", "v"), Err(DetailFault::Malformed(_))));
        assert!(details.drop_property("0") && !details.drop_property("0"));
        assert_eq!(details.properties().count(), PROPERTIES_MAX - 1);
    }
}
