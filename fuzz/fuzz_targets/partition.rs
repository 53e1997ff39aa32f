//! Contents with a boot record and a partition table, with a right checksum unless the input says otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::{Disk, check, crc};

const POLYNOMIAL: u32 = 0xedb8_8320;

fuzz_target!(|input: &[u8]| {
    let Some(mut disk) = Disk::parse(input) else { return };
    disk.put(510, b"\x55\xaa");
    for sector in [512, 4096] {
        let header = disk.bytes(sector, 512);
        let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        // The four bytes behind the checksum are reserved.
        if header.starts_with(b"EFI PART") && header[20] == 0 && (92..=512).contains(&length) {
            let mut covered = header[..length].to_vec();
            covered[16..20].fill(0);
            disk.put(sector + 16, &crc(POLYNOMIAL, &covered).to_le_bytes());
        }
    }
    check(&disk);
});
