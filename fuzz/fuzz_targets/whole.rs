//! Any content, as it stands: what it is taken for, and what becomes of it then.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::{Disk, check};

fuzz_target!(|input: &[u8]| {
    if let Some(disk) = Disk::parse(input) {
        check(&disk);
    }
});
