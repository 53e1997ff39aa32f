//! How texts and quantities read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::image::Timestamp;
use sps::text::{age, bytes, plain, span};
use sps_fuzz::assert_printable;

fuzz_target!(|input: &[u8]| {
    if let Some(number) = input.first_chunk::<8>() {
        let number = u64::from_le_bytes(*number);
        let at = Timestamp::from_nanoseconds(number.cast_signed());
        let now = Timestamp::from_nanoseconds(0);
        let told =
            [bytes(number), span(number), age(at, now), age(now, at), at.to_string(), at.precise()];
        for text in told {
            assert_printable("a quantity", &text);
            assert!(text.len() < 40, "{text}");
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let shown = plain(text);
    assert_eq!(plain(&shown), shown);
    assert!(!shown.contains(char::is_control));
    assert!(shown.chars().count() >= text.chars().count());
});
