//! Virtual PC disks, after the Virtual Hard Disk Image Format Specification 1.0 and, for the size that
//! a guest sees, what qemu makes of it; knows where blocks lie, and nothing of what is in them.

use super::reader::{
    Checked, Fields, Flaw, Reader, Window, entry_be, product, refuse, require, sum,
};

pub(super) const MARK: &[u8] = b"conectix";

const FOOTER_BYTES: usize = 512;
const DYNAMIC_HEADER_BYTES: usize = 1024;
const SECTOR_BYTES: u64 = 512;

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;

/// 64 TiB in blocks of 2 MiB; a disk has 2 TiB at most.
const BLOCKS_MAX: u64 = 1 << 25;
const NO_BLOCK: u64 = 0xffff_ffff;

/// These count a disk in cylinders, heads and sectors; all others in bytes.
const CREATORS_BY_GEOMETRY: [&[u8]; 2] = [b"vpc ", b"qemu"];

/// The largest geometry: a disk that has it is larger, and counted in bytes by all.
const GEOMETRY_SECTORS_MAX: u64 = 65_535 * 16 * 255;

/// Where the footer of a content of `size_bytes` begins, which is all there is of it if it is fixed.
pub(super) const fn footer_offset(size_bytes: u64) -> u64 {
    size_bytes.saturating_sub(SECTOR_BYTES)
}

/// The size of the disk, if the image stands alone and all of its blocks are there.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    let end = footer_offset(reader.size_bytes());
    if !reader.has(end, MARK)? {
        return Err(Flaw::Cut("footer"));
    }
    let footer = reader.fields("footer", end, FOOTER_BYTES)?;
    check_sum(footer.all(), footer.be32(64)?, 64)?;
    let size_bytes = disk_bytes(&footer)?;
    match footer.be32(60)? {
        FIXED => {
            let room = "holds less than its size: copy it again";
            require(footer.be64(48)? <= end && size_bytes <= end, room)?;
        }
        DYNAMIC => {
            let is_copied = reader.fields("footer", 0, FOOTER_BYTES)?.all() == footer.all();
            require(is_copied, "has a first sector that is no copy of its last: copy it again")?;
            check_blocks(reader, &footer, end)?;
        }
        DIFFERENCING => return refuse("has a parent image: merge them with qemu-img convert"),
        kind => return refuse(format!("is of kind {kind}, which is unknown: convert it first")),
    }
    Ok(size_bytes)
}

fn disk_bytes(footer: &Fields) -> Checked<u64> {
    let cylinders = u64::from(footer.be16(56)?);
    let heads = u64::from(footer.byte(58)?);
    let sectors = cylinders * heads * u64::from(footer.byte(59)?);
    let by_geometry = CREATORS_BY_GEOMETRY.contains(&footer.bytes(28, 4)?);
    if by_geometry && sectors != GEOMETRY_SECTORS_MAX {
        Ok(sectors * SECTOR_BYTES)
    } else {
        Ok(footer.be64(48)? / SECTOR_BYTES * SECTOR_BYTES)
    }
}

fn check_blocks(reader: &Reader<'_>, footer: &Fields, end: u64) -> Checked<()> {
    let offset = footer.be64(16)?;
    let header = reader.fields("dynamic header", offset, DYNAMIC_HEADER_BYTES)?;
    require(header.bytes(0, 8)? == b"cxsparse", "has no dynamic header: copy it again")?;
    check_sum(header.all(), header.be32(36)?, 36)?;
    let block_bytes = u64::from(header.be32(32)?);
    let blocks = u64::from(header.be32(28)?);
    let is_size = block_bytes.is_power_of_two() && block_bytes >= SECTOR_BYTES;
    require(is_size, "has blocks of an impossible size: rebuild it with qemu-img convert")?;
    let disk_bytes = disk_bytes(footer)?;
    require(blocks <= BLOCKS_MAX, "has more blocks than a disk can have: rebuild it")?;
    let is_enough = disk_bytes <= product(blocks, block_bytes)?;
    require(is_enough, "has a block table too small for its size: rebuild it")?;
    let table = reader.span("block table", header.be64(16)?, blocks * 4)?;
    // A block begins with a bitmap of its sectors, in whole sectors.
    let bitmap_bytes = (block_bytes / SECTOR_BYTES).div_ceil(8).next_multiple_of(SECTOR_BYTES);
    let blocks_max = reader.size_bytes().div_ceil(block_bytes);
    let mut found = 0;
    Window::new().walk(reader, table, 4, |_, entry| {
        let sector = entry_be(entry);
        if sector == NO_BLOCK {
            return Ok(());
        }
        found += 1;
        require(found <= blocks_max, "names blocks more than once: rebuild it")?;
        let length = sum(bitmap_bytes, block_bytes)?;
        let block = reader.span("data", sector * SECTOR_BYTES, length)?;
        let is_apart = block.offset >= SECTOR_BYTES && !block.overlaps(&table);
        require(is_apart, "has a block on its own tables: rebuild it")?;
        if block.end() > end { Err(Flaw::Cut("data")) } else { Ok(()) }
    })
}

/// The complement of the sum of all bytes, with the four at `at`, where it is kept, as zero.
fn check_sum(bytes: &[u8], kept: u32, at: usize) -> Checked<()> {
    let outside = |index: &usize| !(at..at.saturating_add(4)).contains(index);
    let total = bytes.iter().enumerate().filter(|(index, _)| outside(index));
    let total = total.fold(0_u32, |total, (_, byte)| total.wrapping_add(u32::from(*byte)));
    require(!total == kept, "has a wrong checksum: copy it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::DiskFormat;
    use crate::inspect::tests::{Patch, patched, reason, refuses, sound};

    fn summed(bytes: &[u8], at: usize) -> Vec<u8> {
        let sum = !bytes.iter().fold(0_u32, |sum, byte| sum + u32::from(*byte));
        patched(bytes, &[(at, &sum.to_be_bytes())])
    }

    /// A footer of a disk of three sectors, counted in bytes unless that is changed.
    fn footer(kind: u8, patches: &[Patch<'_>]) -> Vec<u8> {
        let fields: [Patch<'_>; 6] = [
            (0, MARK),
            (16, &[0, 0, 0, 0, 0, 0, 2, 0]),
            (28, b"win "),
            (48, &[0, 0, 0, 0, 0, 0, 6, 0]),
            (56, &[0, 1, 2, 1]),
            (63, &[kind]),
        ];
        summed(&patched(&patched(&[0; 512], &fields), patches), 64)
    }

    fn fixed(patches: &[Patch<'_>]) -> Vec<u8> {
        [vec![0; 1536], footer(2, patches)].concat()
    }

    /// Three blocks of one sector, each behind the one of its bitmap; only the second is there.
    fn dynamic(footer: &[u8], patches: &[Patch<'_>]) -> Vec<u8> {
        let fields: [Patch<'_>; 4] = [
            (0, b"cxsparse"),
            (16, &[0, 0, 0, 0, 0, 0, 6, 0]),
            (28, &[0, 0, 0, 3]),
            (32, &[0, 0, 2, 0]),
        ];
        let header = summed(&patched(&patched(&[0; 1024], &fields), patches), 36);
        let mut table = vec![0xff; 512];
        table[4..8].copy_from_slice(&[0, 0, 0, 4]);
        [footer, &header, &table, &[0; 1024], footer].concat()
    }

    #[test]
    fn both_kinds_are_known_and_measured() {
        assert_eq!(sound(&fixed(&[])), (DiskFormat::Vhd, 1536));
        assert_eq!(sound(&dynamic(&footer(3, &[]), &[])), (DiskFormat::Vhd, 1536));
    }

    #[test]
    fn the_creator_decides_what_counts() {
        for (creator, size) in [(b"qemu", 1024), (b"vpc ", 1024), (b"qem2", 1536), (b"vbox", 1536)]
        {
            assert_eq!(sound(&fixed(&[(28, creator)])).1, size);
        }
        let largest: Patch<'_> = (56, &[0xff, 0xff, 16, 255]);
        assert_eq!(sound(&fixed(&[(28, b"qemu"), largest])).1, 1536);
    }

    #[test]
    fn a_fixed_disk_comes_before_what_it_holds() {
        let record = b"\x80\0\0\0\x83\0\0\0\x01\0\0\0\x3f\0\0\0";
        let disk = patched(&fixed(&[]), &[(446, record), (510, b"\x55\xaa")]);
        assert_eq!(sound(&disk).0, DiskFormat::Vhd);
    }

    #[test]
    fn no_beginning_of_a_dynamic_disk_passes() {
        let disk = dynamic(&footer(3, &[]), &[]);
        for length in 513..disk.len() {
            assert!(reason(&disk[..length]).starts_with("vhd"), "{length}");
        }
    }

    #[test]
    fn a_disk_that_makes_no_sense_or_has_a_parent_is_refused() {
        let good = footer(3, &[]);
        for (disk, part) in [
            (fixed(&[(48, &[1])]), "holds less than its size"),
            (fixed(&[(63, &[4])]), "parent image"),
            (fixed(&[(63, &[9])]), "kind 9"),
            (dynamic(&good, &[(0, b"x")]), "no dynamic header"),
            (dynamic(&good, &[(28, &[0xff; 4])]), "more blocks"),
            (dynamic(&good, &[(28, &[0; 4])]), "block table too small"),
            (dynamic(&good, &[(32, &[0; 4])]), "blocks of an impossible size"),
            (dynamic(&good, &[(16, &[0xff; 8])]), "block table lies beyond"),
            (dynamic(&footer(3, &[(16, &[0xff; 8])]), &[]), "dynamic header lies beyond"),
        ] {
            let said = reason(&disk);
            assert!(said.contains(part), "{part}: {said}");
        }
        refuses(
            &dynamic(&good, &[]),
            &[
                (&[(5, b"x")], "no copy of its last"),
                (&[(600, b"x")], "wrong checksum"),
                (&[(3100, b"x")], "wrong checksum"),
                (&[(1536, &[0, 0, 0, 5])], "data lies beyond"),
                (&[(1536, &[0; 512])], "block on its own tables"),
                (&[(1536, &[0, 0, 0, 3])], "block on its own tables"),
            ],
        );
    }
}
