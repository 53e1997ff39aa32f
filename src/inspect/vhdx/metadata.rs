//! The metadata region of a VHDX (MS-VHDX 2.6): the size of the disk, of its blocks and sectors.

use crate::inspect::reader::{Checked, Fields, Reader, Span, refuse, require, sum};

const TABLE_BYTES: usize = 64 << 10;
const ENTRIES_MAX: u16 = 2047;

/// Identifiers as they are written (MS-VHDX 2.6.2).
const FILE_PARAMETERS: &[u8] = b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const DISK_SIZE: &[u8] = b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
const SECTOR_SIZE: &[u8] = b"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f";
const PARENT: &[u8] = b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
const PHYSICAL_SECTOR_SIZE: &[u8] =
    b"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56";
const DISK_ID: &[u8] = b"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46";

/// MS-VHDX 2.6.2.1 and 2.6.2.2: blocks of 1 to 256 MiB, disks up to 64 TiB.
const BLOCK_BYTES_MIN: u64 = 1 << 20;
const BLOCK_BYTES_MAX: u64 = 256 << 20;
const DISK_BYTES_MAX: u64 = 64 << 40;

const HAS_PARENT: u32 = 1 << 1;
const IS_REQUIRED: u32 = 1 << 2;

/// What the metadata says of the disk.
pub(super) struct Metadata {
    pub(super) size_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) sector_bytes: u64,
}

impl Metadata {
    pub(super) fn read(reader: &Reader<'_>, region: Span) -> Checked<Self> {
        let table = reader.fields("metadata", region.offset, TABLE_BYTES)?;
        require(table.bytes(0, 8)? == b"metadata", "has no metadata: copy it again")?;
        let count = table.le16(10)?;
        require(count <= ENTRIES_MAX, "has too much metadata: rebuild it with qemu-img convert")?;
        let mut size_bytes = None;
        let mut block_bytes = None;
        let mut sector_bytes = None;
        for at in (1..=usize::from(count)).map(|index| index * 32) {
            let name = table.bytes(at, 16)?;
            let item =
                Item { reader, region, offset: table.le32(at + 16)?, length: table.le32(at + 20)? };
            if name == FILE_PARAMETERS {
                block_bytes = Some(Self::block_bytes(&item.read(8)?)?);
            } else if name == DISK_SIZE {
                size_bytes = Some(item.read(8)?.le64(0)?);
            } else if name == SECTOR_SIZE {
                sector_bytes = Some(u64::from(item.read(4)?.le32(0)?));
            } else if name == PARENT {
                return refuse("has a parent image: merge them with qemu-img convert");
            } else if name != PHYSICAL_SECTOR_SIZE && name != DISK_ID {
                let is_optional = table.le32(at + 24)? & IS_REQUIRED == 0;
                require(is_optional, "needs metadata that is unknown: convert it with qemu-img")?;
            }
        }
        match (size_bytes, block_bytes, sector_bytes) {
            (Some(size_bytes), Some(block_bytes), Some(sector_bytes)) => {
                Self { size_bytes, block_bytes, sector_bytes }.checked()
            }
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                refuse("lacks metadata: copy it again")
            }
        }
    }

    fn block_bytes(parameters: &Fields) -> Checked<u64> {
        let has_parent = parameters.le32(4)? & HAS_PARENT != 0;
        require(!has_parent, "has a parent image: merge them with qemu-img convert")?;
        Ok(u64::from(parameters.le32(0)?))
    }

    fn checked(self) -> Checked<Self> {
        let blocks = BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX;
        let is_block = self.block_bytes.is_power_of_two() && blocks.contains(&self.block_bytes);
        require(is_block, "has blocks of an impossible size: rebuild it with qemu-img convert")?;
        let is_sector = matches!(self.sector_bytes, 512 | 4096);
        require(is_sector, "has sectors of an impossible size: rebuild it with qemu-img convert")?;
        let is_size =
            self.size_bytes <= DISK_BYTES_MAX && self.size_bytes.is_multiple_of(self.sector_bytes);
        require(is_size, "has an impossible size: rebuild it with qemu-img convert")?;
        Ok(self)
    }
}

/// Where an item is in the region.
struct Item<'a> {
    reader: &'a Reader<'a>,
    region: Span,
    offset: u32,
    length: u32,
}

impl Item<'_> {
    fn read(&self, length: usize) -> Checked<Fields> {
        let end = u64::from(self.offset) + u64::from(self.length);
        let is_inside = end <= self.region.length_bytes;
        require(is_inside, "has metadata outside of its region: rebuild it")?;
        let is_whole = usize::try_from(self.length).is_ok_and(|found| found >= length);
        require(is_whole, "has metadata that is too short: rebuild it")?;
        self.reader.fields("metadata", sum(self.region.offset, u64::from(self.offset))?, length)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::inspect::tests::{patched, refuses};
    use crate::inspect::vhdx::tests::{METADATA, image};

    const ITEMS: usize = 64 << 10;

    /// The metadata of a disk in blocks of 1 MiB and sectors of 512 bytes.
    pub(in crate::inspect::vhdx) fn region(size_bytes: u64) -> Vec<u8> {
        let item = |name: &[u8], offset: u8, length: u8| {
            [name, &[offset, 0, 1, 0, length, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]].concat()
        };
        let items = [item(FILE_PARAMETERS, 0, 8), item(DISK_SIZE, 8, 8), item(SECTOR_SIZE, 16, 4)];
        patched(
            &[0; ITEMS + 20],
            &[
                (0, b"metadata"),
                (10, &[3]),
                (32, &items.concat()),
                (ITEMS, &[0, 0, 0x10]),
                (ITEMS + 8, &size_bytes.to_le_bytes()),
                (ITEMS + 16, &[0, 2]),
            ],
        )
    }

    #[test]
    fn metadata_that_makes_no_sense_is_refused() {
        const ITEM: usize = METADATA + ITEMS;
        refuses(
            &image(&[]),
            &[
                (&[(METADATA, b"x")], "no metadata"),
                (&[(METADATA + 10, &[0xff; 2])], "too much metadata"),
                (&[(METADATA + 10, &[2])], "lacks metadata"),
                (&[(METADATA + 32, b"x")], "metadata that is unknown"),
                (&[(METADATA + 32, PARENT)], "parent image"),
                (&[(METADATA + 48, &[0xff; 4])], "outside of its region"),
                (&[(METADATA + 52, &[7])], "too short"),
                (&[(ITEM, &[0; 4])], "blocks of an impossible size"),
                (&[(ITEM + 4, &[2])], "parent image"),
                (&[(ITEM + 8, &[0xff; 8])], "impossible size"),
                (&[(ITEM + 16, &[0; 4])], "sectors of an impossible size"),
            ],
        );
    }
}
