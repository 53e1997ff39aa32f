//! Contents that bear the mark of Hyper-V, with right checksums unless the input says otherwise.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps_fuzz::disk::{Disk, check, crc};

const CASTAGNOLI: u32 = 0x82f6_3b78;

/// What has a checksum over it, four bytes from its beginning.
const CHECKED: [(u64, usize); 4] =
    [(64 << 10, 4096), (128 << 10, 4096), (192 << 10, 64 << 10), (256 << 10, 64 << 10)];

fuzz_target!(|input: &[u8]| {
    let Some(mut disk) = Disk::parse(input) else { return };
    disk.put(0, b"vhdxfile");
    // The name of the creator follows, and tells here which checksums are left alone.
    let left_alone = disk.bytes(8, 1)[0];
    for (index, (offset, length)) in CHECKED.into_iter().enumerate() {
        if left_alone >> (4 + index) & 1 == 0 {
            let mut bytes = disk.bytes(offset, length);
            bytes[4..8].fill(0);
            disk.put(offset + 4, &crc(CASTAGNOLI, &bytes).to_le_bytes());
        }
    }
    check(&disk);
});
