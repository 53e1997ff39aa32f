//! Contents that bear the mark of ISO 9660.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::check_marked;

fuzz_target!(|input: &[u8]| check_marked(input, 32_769, b"CD001"));
