//! Digests other than the store's own: declared by who brings an image, or asked for by who checks it.

use std::collections::BTreeMap;
use std::fmt;

/// A digest that is not the store's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5: against accidents alone.
    Md5,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Md5];

    /// Its name, as it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Md5 => "md5",
        }
    }

    /// The algorithm of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One such digest, in lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    hex: String,
}

impl Checksum {
    /// The digest with these bytes; none if there are not as many as the algorithm makes.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (bytes.len() == algorithm.bytes()).then_some(Self { algorithm, hex })
    }

    /// The digest that `text` spells in hex digits of either case.
    #[must_use]
    pub fn parse(algorithm: Algorithm, text: &str) -> Option<Self> {
        let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let is_whole = text.len() == algorithm.bytes() * 2;
        (is_hex && is_whole).then(|| Self { algorithm, hex: text.to_ascii_lowercase() })
    }
}

/// What is known of such digests, or declared: at most one of each algorithm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checksums(BTreeMap<Algorithm, String>);

impl Checksums {
    /// The digest of an algorithm in hex digits, if it is there.
    #[must_use]
    pub fn hex(&self, algorithm: Algorithm) -> Option<&str> {
        self.0.get(&algorithm).map(String::as_str)
    }

    /// Puts a digest there.
    pub fn put(&mut self, checksum: Checksum) {
        self.0.insert(checksum.algorithm, checksum.hex);
    }

    /// Takes the digest of an algorithm away.
    pub fn drop(&mut self, algorithm: Algorithm) {
        self.0.remove(&algorithm);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The algorithms of which there is a digest.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.0.keys().copied()
    }

    /// All of them, with their hex digits.
    pub fn iter(&self) -> impl Iterator<Item = (Algorithm, &str)> {
        self.0.iter().map(|(algorithm, hex)| (*algorithm, hex.as_str()))
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_as_many_hex_digits_as_the_algorithm_makes_are_a_digest() {
        for algorithm in Algorithm::ALL {
            let whole = "aB".repeat(algorithm.bytes());
            let mut known = Checksums::default();
            known.put(Checksum::parse(algorithm, &whole).expect("a digest"));
            assert_eq!(known.hex(algorithm), Some(whole.to_ascii_lowercase().as_str()));
            let cases = [&whole[1..], &format!("{whole}0"), &whole.replace('a', "g"), ""];
            assert!(cases.iter().all(|text| Checksum::parse(algorithm, text).is_none()));
            assert!(Checksum::from_bytes(algorithm, &[1; 5]).is_none());
        }
    }
}
