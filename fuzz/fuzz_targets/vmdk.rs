//! Contents that bear one of the marks of VMware.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::{Disk, check};

const MARKS: [&[u8]; 3] = [b"KDMV", b"# Disk DescriptorFile", b"COWD"];

fuzz_target!(|input: &[u8]| {
    let Some(mut disk) = Disk::parse(input) else { return };
    let known = MARKS.iter().find(|mark| disk.bytes(0, mark.len()) == **mark);
    let mark = known.unwrap_or(&MARKS[0]);
    disk.put(0, mark);
    check(&disk);
});
