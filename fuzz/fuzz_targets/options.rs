//! Words of `-o` and variables; times and sizes among them.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sps::config::Options;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (words, variables) = text.split_once('\n').unwrap_or((text, ""));
    let variables = variables.split('\n').filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (format!("SPS_{name}"), value.to_owned()));
    let nowhere = Path::new("/nonexistent/config.toml");
    let taken = Options::new(false).resolve(nowhere, variables, &[words.to_owned()]);
    match taken {
        Ok(options) => {
            assert!((1..=256).contains(&options.threads));
            assert!(options.location_roots.iter().all(|root| root.is_absolute()));
            serde_json::from_str::<serde_json::Value>(&options.to_json()).expect("JSON");
        }
        Err(error) => assert_eq!(error.exit_status(), 2),
    }
});
