//! Cyclic redundancy checks of 32 bits; knows no format.

/// Of GUID partition tables, UEFI specification 2.10, 5.3.2.
pub(super) const CRC32: u32 = 0xedb8_8320;

/// Of VHDX, MS-VHDX 2.2: Castagnoli's.
pub(super) const CRC32C: u32 = 0x82f6_3b78;

/// The checksum of `bytes` by a reflected polynomial.
pub(super) fn checksum(polynomial: u32, bytes: &[u8]) -> u32 {
    let table = remainders(polynomial);
    let remainder = bytes.iter().fold(u32::MAX, |remainder, byte| {
        let [low, ..] = (remainder ^ u32::from(*byte)).to_le_bytes();
        (remainder >> 8) ^ table.get(usize::from(low)).copied().unwrap_or(0)
    });
    !remainder
}

/// What is left of each single byte.
fn remainders(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    for (remainder, byte) in table.iter_mut().zip(0_u32..) {
        *remainder = byte;
        for _ in 0..8 {
            let mask = (*remainder & 1).wrapping_neg();
            *remainder = (*remainder >> 1) ^ (polynomial & mask);
        }
    }
    table
}

/// The checksum of `bytes` with the four at `at`, where it is itself kept, taken as zero.
pub(super) fn checksum_without(polynomial: u32, bytes: &[u8], at: usize) -> u32 {
    let mut copy = bytes.to_vec();
    if let Some(kept) = at.checked_add(4).and_then(|end| copy.get_mut(at..end)) {
        kept.fill(0);
    }
    checksum(polynomial, &copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_both_are_the_published_ones() {
        assert_eq!(checksum(CRC32, b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(CRC32C, b"123456789"), 0xe306_9283);
        assert_eq!(
            checksum_without(CRC32, b"12\xff\xff\xff\xff", 2),
            checksum(CRC32, b"12\0\0\0\0")
        );
    }
}
