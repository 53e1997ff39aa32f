//! Which of the faults that scripts/mutants has put in is switched on.
#![allow(missing_docs, reason = "it is part of no release")]

use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static CHOSEN: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0)
});

/// Where it is noted which faults a test comes by.
static NOTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MUTANTS_SEEN").ok());

static SEEN: [AtomicBool; 1 << 16] = [const { AtomicBool::new(false) }; 1 << 16];

pub fn on(number: u32) -> bool {
    if let Some(path) = NOTED.as_ref()
        && SEEN.get(number as usize).is_some_and(|seen| !seen.swap(true, Ordering::Relaxed))
        && let Ok(mut file) = std::fs::File::options().append(true).create(true).open(path)
    {
        let _ = file.write_all(format!("{number}\n").as_bytes());
    }
    *CHOSEN == number
}
