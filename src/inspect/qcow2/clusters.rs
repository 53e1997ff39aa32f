//! The clusters that second-level tables of a qcow2 name: the data of a disk, plain or compressed.

use super::header::Header;
use super::layout::Layout;
use super::streams::{self, Compression};
use super::tables::OFFSET;
use crate::inspect::reader::{CHUNK_BYTES, Checked, Reader, entry_be, refuse, require};

const COMPRESSED: u64 = 1 << 62;
const SECTOR_BYTES: u64 = 512;

/// As many streams as may end in the last sector of a file.
const TAILS_MAX: usize = 64;

/// Where a cluster is on its disk: how much of the disk is left from there on. What is behind the end
/// of the disk is the state of a machine, which has no size that is known here.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) rest_bytes: u64,
}

/// The check of clusters, and what it remembers of those at the end of the file.
pub(super) struct Clusters<'a> {
    reader: &'a Reader<'a>,
    header: &'a Header,
    /// Where the streams begin that end in the last sector and are whole.
    tails: Vec<u64>,
    /// How much of such streams may still be looked at.
    tails_left_bytes: u64,
}

impl<'a> Clusters<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, header: &'a Header) -> Self {
        // One long stream, and short ones behind it.
        let tails_left_bytes = 2 * header.cluster_bytes() + (64 << 10);
        Self { reader, header, tails: Vec::new(), tails_left_bytes }
    }

    /// Checks the cluster of a second-level entry.
    pub(super) fn check(&mut self, layout: &Layout, place: Place, bytes: &[u8]) -> Checked<()> {
        let (reader, header) = (self.reader, self.header);
        let Some((entry, parts)) = bytes.split_at_checked(8) else {
            return Ok(());
        };
        let entry = entry_be(entry);
        if entry & COMPRESSED != 0 {
            return self.check_compressed(entry);
        }
        let offset = entry & OFFSET;
        if offset == 0 {
            return Ok(());
        }
        require(
            header.is_aligned(offset),
            "has data astride of clusters: repair it with qemu-img check",
        )?;
        let used =
            if header.is_extended { used_bytes(header, parts) } else { header.cluster_bytes() };
        let data = reader.span("data", offset, used.min(place.rest_bytes))?;
        require(
            !layout.is_claimed(data),
            "has data on its own tables: repair it with qemu-img check",
        )
    }

    /// A compressed cluster has its length in sectors, the first of which is the one that it begins
    /// in. Whoever writes the last one need not fill its sector.
    fn check_compressed(&mut self, entry: u64) -> Checked<()> {
        let shift = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << shift) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> shift) + 1;
        let start = offset / SECTOR_BYTES * SECTOR_BYTES;
        let size_bytes = self.reader.size_bytes();
        let data = self.reader.span("compressed data", start, sectors * SECTOR_BYTES);
        let is_tail = start / SECTOR_BYTES + sectors == size_bytes.div_ceil(SECTOR_BYTES);
        if data.is_ok() || !is_tail {
            return data.map(|_| ());
        }
        if self.tails.contains(&offset) {
            return Ok(());
        }
        let length = size_bytes.saturating_sub(offset);
        let left = self.tails_left_bytes.checked_sub(length);
        if let Some(left) = left.filter(|_| self.tails.len() < TAILS_MAX) {
            self.tails_left_bytes = left;
            if self.is_whole(offset)? {
                self.tails.push(offset);
                return Ok(());
            }
        }
        refuse("is cut short: its last compressed data ends before its end: copy it again")
    }

    fn is_whole(&self, offset: u64) -> Checked<bool> {
        let mut stream = Vec::new();
        let mut at = offset;
        while at < self.reader.size_bytes() {
            let piece = self.reader.bytes(at, CHUNK_BYTES)?;
            if piece.is_empty() {
                break;
            }
            at = at.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            stream.extend(piece);
        }
        let kind = if self.header.is_zstd { Compression::Zstd } else { Compression::Deflate };
        Ok(streams::is_whole(kind, &stream, self.header.cluster_bytes()))
    }
}

/// How much of a cluster is used, from its beginning to the last part that has data.
fn used_bytes(header: &Header, parts: &[u8]) -> u64 {
    let allocated = entry_be(parts) & u64::from(u32::MAX);
    let count = u64::from(u64::BITS - allocated.leading_zeros());
    count * (header.cluster_bytes() / 32)
}

#[cfg(test)]
mod tests {
    use crate::inspect::qcow2::tests::{DATA, SECOND, image};
    use crate::inspect::tests::{Patch, reason, sound};

    /// An entry of a compressed cluster, 100 bytes behind the beginning of the data.
    fn entry(more_sectors: u64) -> [u8; 8] {
        (1 << 62 | more_sectors << 61 | (DATA as u64 + 100)).to_be_bytes()
    }

    #[test]
    fn a_compressed_cluster_is_there_with_all_of_its_sectors() {
        assert_eq!(sound(&image(&[(SECOND, &entry(0))])).1, 32_768);
        let long = image(&[(SECOND, &entry(1))]);
        assert!(reason(&long).contains("compressed data lies beyond"));
    }

    #[test]
    fn the_last_compressed_cluster_may_end_within_its_sector() {
        let stream = b"\x01\x05\0\xfa\xffhello";
        let parts: [Patch<'_>; 3] =
            [(SECOND, &entry(0)), (SECOND + 16, &[0; 8]), (DATA + 100, stream)];
        let end = DATA + 100 + stream.len();
        assert_eq!(sound(&image(&parts)[..end]).1, 32_768);
        for less in 1..=stream.len() {
            assert!(reason(&image(&parts)[..end - less]).contains("is cut short"), "{less}");
        }
    }

    #[test]
    fn no_more_is_looked_at_than_could_end_in_one_sector() {
        // Entries that all begin within one sector, each a stream that never ends.
        let many: Vec<u8> =
            (0..60).flat_map(|n| (1 << 62 | (DATA as u64 + n)).to_be_bytes()).collect();
        let image = image(&[(SECOND, &many), (DATA, &[0; 512])]);
        assert!(reason(&image[..DATA + 511]).contains("is cut short"));
    }
}
