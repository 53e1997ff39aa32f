//! The digests that are asked for beside the store's own, computed of the same bytes.

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

use crate::image::{Algorithm, Checksum, Checksums};

/// One digest under way.
#[derive(Debug)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
            Algorithm::Md5 => Self::Md5(Md5::new()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(data),
            Self::Sha512(hasher) => hasher.update(data),
            Self::Md5(hasher) => hasher.update(data),
        }
    }

    fn checksum(&self) -> Option<Checksum> {
        match self {
            Self::Sha256(hasher) => {
                Checksum::from_bytes(Algorithm::Sha256, &hasher.clone().finalize())
            }
            Self::Sha512(hasher) => {
                Checksum::from_bytes(Algorithm::Sha512, &hasher.clone().finalize())
            }
            Self::Md5(hasher) => Checksum::from_bytes(Algorithm::Md5, &hasher.clone().finalize()),
        }
    }
}

/// Some digests of the same bytes.
#[derive(Debug, Default)]
pub(super) struct Hashers(Vec<Hasher>);

impl Hashers {
    pub(super) fn new(wanted: &[Algorithm]) -> Self {
        Self(wanted.iter().map(|algorithm| Hasher::new(*algorithm)).collect())
    }

    pub(super) fn update(&mut self, data: &[u8]) {
        for hasher in &mut self.0 {
            hasher.update(data);
        }
    }

    /// What they are of all bytes so far.
    pub(super) fn checksums(&self) -> Checksums {
        let mut known = Checksums::default();
        for checksum in self.0.iter().filter_map(Hasher::checksum) {
            known.put(checksum);
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_are_those_of_the_standards() {
        let mut hashers = Hashers::new(&Algorithm::ALL);
        hashers.update(b"a");
        hashers.update(b"bc");
        let known = hashers.checksums();
        // From FIPS 180-2 and RFC 1321.
        let expected = [
            (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Algorithm::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        ];
        for (algorithm, hex) in expected {
            assert_eq!(known.hex(algorithm), Some(hex));
        }
    }
}
