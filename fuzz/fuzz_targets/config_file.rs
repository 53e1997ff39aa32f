//! The text of `config.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::config::Options;
use sps_fuzz::{assert_printable, memory};

const MEMORY_BYTES_MAX: usize = 64 << 20;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut options = Options::new(true);
    match memory::within(MEMORY_BYTES_MAX, || options.take_text(text, "config.toml")) {
        Ok(()) => {
            let json = options.to_json();
            serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
        }
        Err(error) => {
            assert_eq!(error.exit_status(), 2);
            assert_printable("an error", &sps::text::plain(&error.to_string()));
        }
    }
});
