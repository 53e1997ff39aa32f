//! Manifests that lie beside the data, from which records are made again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::catalog::Manifest;
use sps::image::{Moment, StoreTime, Timestamp};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(manifest) = Manifest::parse(text) else { return };
    assert_eq!(Manifest::parse(&manifest.to_text()).as_ref(), Some(&manifest));
    let now = Moment { at: Timestamp::from_nanoseconds(1), age: StoreTime::from_nanoseconds(1) };
    let Some(image) = manifest.to_image(now, 0) else { return };
    assert!(!image.name.as_str().contains(char::is_control));
    let again = Manifest::of(&image).expect("it is sealed");
    let again = Manifest::parse(&again.to_text()).and_then(|again| again.to_image(now, 0));
    // What a manifest is written of is published.
    assert_eq!(
        again.map(|again| (again.id, again.content, again.details)),
        Some((image.id, image.content, image.details))
    );
});
