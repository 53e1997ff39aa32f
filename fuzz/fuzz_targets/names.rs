//! Names of images, ids and digests: what is taken reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::image::{Algorithm, Checksum, Checksums, Digest, ImageId, ImageName, NAME_BYTES_MAX};

fuzz_target!(|input: &[u8]| {
    if let Ok(name) = ImageName::new(input) {
        assert_eq!(name.as_str().as_bytes(), input);
        assert!(input.len() <= NAME_BYTES_MAX && !input.is_empty());
        assert!(!name.as_str().contains(|c: char| c.is_control() || c == '/'));
        let id = ImageId::from_bytes([input[0]; 16]);
        let listed = name.listed_as(id);
        assert!(listed.len() <= 255, "{} bytes", listed.len());
        assert!(ImageName::new(listed.as_bytes()).is_err(), "{listed} passes for a name");
        assert_eq!(
            ImageName::parse_listed(listed.as_bytes()),
            Ok((name.clone(), Some(id.prefix())))
        );
        assert_eq!(ImageName::parse_listed(input), Ok((name, None)));
    } else if let Ok((name, prefix)) = ImageName::parse_listed(input) {
        let text = std::str::from_utf8(input).expect("a name is text");
        let prefix = prefix.expect("it is no name by itself");
        assert_eq!(
            format!("{name}~{prefix}"),
            format!("{name}~{}", text[name.as_str().len() + 1..].to_ascii_lowercase())
        );
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(id) = ImageId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(digest) = Digest::parse(text) {
        assert_eq!(digest.to_string(), text);
    }
    for algorithm in Algorithm::ALL {
        if let Some(checksum) = Checksum::parse(algorithm, text) {
            let mut known = Checksums::default();
            known.put(checksum);
            assert_eq!(known.hex(algorithm), Some(text.to_ascii_lowercase().as_str()));
        }
    }
});
