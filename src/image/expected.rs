//! What was declared of an image before it came, and whether what came is that.

use super::{Checksums, Digest, DiskFormat, Seal};

/// What an image must be, as whoever brings it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its BLAKE3.
    pub blake3: Option<Digest>,
    /// Its other digests.
    pub checksums: Checksums,
    /// Its format.
    pub format: Option<DiskFormat>,
}

impl Expected {
    /// Says what of the content is not what was declared; nothing if all is. A digest that was declared must be
    /// among those that were `computed`.
    #[must_use]
    pub fn contradiction(&self, seal: &Seal, computed: &Checksums) -> Option<String> {
        if let Some(size) = self.size.filter(|size| *size != seal.size_bytes) {
            let came = seal.size_bytes;
            return Some(format!(
                "its size is {came} bytes, and {size} were declared: copy it again"
            ));
        }
        if let Some(declared) = self.blake3.filter(|declared| *declared != seal.digest) {
            return Some(differs("blake3", &seal.digest.to_string(), &declared.to_string()));
        }
        for (algorithm, declared) in self.checksums.iter() {
            let came = computed.hex(algorithm).unwrap_or("not known");
            if came != declared {
                return Some(differs(algorithm.name(), came, declared));
            }
        }
        let declared = self.format.filter(|declared| !declared.admits(seal.format))?;
        let (declared, found) = (declared.name(), seal.format.name());
        Some(format!("it is declared as {declared}, and its content is {found}"))
    }
}

fn differs(what: &str, came: &str, declared: &str) -> String {
    format!("its {what} is {came}, and {declared} was declared: copy it again")
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, Checksum};
    use super::*;

    #[test]
    fn each_declaration_is_held_against_what_came() {
        let seal = Seal {
            digest: Digest::from_bytes([1; 32]),
            size_bytes: 10,
            allocated_bytes: 0,
            format: DiskFormat::Gpt,
            virtual_size_bytes: None,
        };
        let md5 = |byte| Checksum::from_bytes(Algorithm::Md5, &[byte; 16]).expect("a digest");
        let mut computed = Checksums::default();
        computed.put(md5(1));
        let declared = |edit: &dyn Fn(&mut Expected)| {
            let mut expected = Expected::default();
            edit(&mut expected);
            expected.contradiction(&seal, &computed)
        };
        let good: [&dyn Fn(&mut Expected); 5] = [
            &|_| {},
            &|expected| expected.size = Some(10),
            &|expected| expected.blake3 = Some(Digest::from_bytes([1; 32])),
            &|expected| expected.checksums.put(md5(1)),
            &|expected| expected.format = Some(DiskFormat::Raw),
        ];
        for edit in good {
            assert_eq!(declared(edit), None);
        }
        let sha = Checksum::from_bytes(Algorithm::Sha256, &[1; 32]).expect("a digest");
        type Case<'a> = (&'a dyn Fn(&mut Expected), &'a str);
        let bad: [Case<'_>; 5] = [
            (&|expected| expected.size = Some(9), "10 bytes, and 9"),
            (&|expected| expected.blake3 = Some(Digest::from_bytes([2; 32])), "blake3"),
            (&|expected| expected.checksums.put(md5(2)), "md5 is 0101"),
            (&|expected| expected.checksums.put(sha.clone()), "sha256 is not known"),
            (&|expected| expected.format = Some(DiskFormat::Qcow2), "content is gpt"),
        ];
        for (edit, word) in bad {
            let told = declared(edit).expect("it differs");
            assert!(told.contains(word), "{told}");
        }
    }
}
