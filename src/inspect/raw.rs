//! A content that is itself the disk; knows nothing of what is on it.

use super::reader::Reader;

const SECTOR_BYTES: u64 = 512;

/// The size of the disk: the content's, up to the next whole sector, as qemu has it.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> u64 {
    let size = reader.size_bytes();
    size.checked_next_multiple_of(SECTOR_BYTES).unwrap_or(size)
}
