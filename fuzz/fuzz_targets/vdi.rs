//! Contents that bear the mark of VirtualBox.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::check_marked;

fuzz_target!(|input: &[u8]| check_marked(input, 64, b"\x7f\x10\xda\xbe"));
