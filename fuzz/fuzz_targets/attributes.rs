//! Values of attributes, one after another on one record: lines of `name=value`, where an empty one takes it off.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::fs::xattr::assign;
use sps_fuzz::{assert_printable, memory, record};

const MEMORY_BYTES_MAX: usize = 8 << 20;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut image = record::queued();
    memory::within(MEMORY_BYTES_MAX, || {
        for line in text.split('\n') {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let value = Some(value).filter(|value| !value.is_empty());
            let mut next = image.clone();
            match assign(&mut next, name, value) {
                Ok(()) => image = next,
                Err(error) => assert_printable("an error", &error.to_string()),
            }
        }
    });
    // What is said of an image stays within its bounds, and reads back as it was.
    let tags = image.details.tags();
    assert!(tags.len() <= 128 && image.details.properties().count() <= 128);
    let mut again = record::queued();
    assign(&mut again, "tags", Some(&tags.join(","))).expect("it had them");
    for (key, value) in image.details.properties() {
        assert!(!key.contains(char::is_control) && !key.is_empty());
        assign(&mut again, &format!("property.{key}"), Some(value)).expect("it had it");
    }
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let expected = &image.expected;
    let fixed = [
        ("min_disk", number(image.details.min_disk)),
        ("min_ram", number(image.details.min_ram)),
        ("expected_size", expected.size.map(|size| size.to_string())),
        ("expected_blake3", expected.blake3.map(|digest| digest.to_string())),
        ("disk_format", expected.format.map(|format| format.name().to_owned())),
        ("protected", Some(image.ownership.is_protected().to_string())),
        (
            "visibility",
            Some(if image.ownership.is_public() { "public" } else { "private" }.to_owned()),
        ),
    ];
    for (name, value) in fixed {
        assign(&mut again, name, value.as_deref()).expect("it had it");
    }
    for (algorithm, hex) in expected.checksums.iter() {
        assign(&mut again, &format!("expected_{algorithm}"), Some(hex)).expect("it had it");
    }
    assert_eq!(again, image);
});
