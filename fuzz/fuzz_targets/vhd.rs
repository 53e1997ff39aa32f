//! Contents that bear the mark of Virtual PC, with right checksums unless the input says otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::{Disk, check};

/// Writes the complement of the sum of all other bytes at `kept`.
fn repair(disk: &mut Disk, offset: u64, length: usize, kept: usize) {
    let mut bytes = disk.bytes(offset, length);
    bytes[kept..kept + 4].fill(0);
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    disk.put(offset + kept as u64, &(!sum).to_be_bytes());
}

fuzz_target!(|input: &[u8]| {
    let Some(mut disk) = Disk::parse(input) else { return };
    let footer = disk.size_bytes().saturating_sub(512);
    disk.put(footer, b"conectix");
    // The last byte of the footer is reserved.
    if disk.bytes(footer + 511, 1) != [0xff] {
        let header = disk.bytes(footer + 16, 8).try_into().map_or(0, u64::from_be_bytes);
        if header < disk.size_bytes() {
            repair(&mut disk, header, 1024, 36);
        }
        repair(&mut disk, footer, 512, 64);
        let copy = disk.bytes(footer, 512);
        if disk.bytes(footer + 60, 4) == [0, 0, 0, 3] {
            disk.put(0, &copy);
        }
    }
    check(&disk);
});
