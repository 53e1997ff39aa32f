//! Contents that bear the mark of QEMU copy-on-write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::check_marked;

fuzz_target!(|input: &[u8]| check_marked(input, 0, b"QFI\xfb"));
