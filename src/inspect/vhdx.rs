//! Hyper-V disks, after MS-VHDX; knows where blocks lie, and nothing of what is in them.

mod metadata;

use super::checksum::{CRC32C, checksum_without};
use super::reader::{Checked, Fields, Reader, Span, Window, entry_le, product, refuse, require};
use metadata::Metadata;

pub(super) const MARK: &[u8] = b"vhdxfile";

/// MS-VHDX 2.2: two headers and two region tables, each at a multiple of 64 KiB.
const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
const HEADER_BYTES: usize = 4096;
const REGION_TABLE_BYTES: usize = 64 << 10;
const CHECKSUM_AT: usize = 4;

/// Each part begins and ends at a multiple of 1 MiB.
const MIB: u64 = 1 << 20;

const REGION_ENTRIES_MAX: u32 = 2047;

/// Identifiers as they are written (MS-VHDX 2.2.3.2).
const BLOCK_TABLE: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";

/// States of a block whose data is in the file (MS-VHDX 2.5.1.1).
const PRESENT: u64 = 6;
const PARTIAL: u64 = 7;
const STATE: u64 = 7;

/// The size of the disk, if the image stands alone and all of its blocks are there.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    check_header(reader)?;
    let (blocks, metadata) = regions(reader)?;
    let metadata = Metadata::read(reader, metadata)?;
    check_blocks(reader, &metadata, blocks)?;
    Ok(metadata.size_bytes)
}

/// Checks the newer of the two headers: it names the log, which must hold nothing.
fn check_header(reader: &Reader<'_>) -> Checked<()> {
    let mut newest: Option<(u64, Fields)> = None;
    for offset in HEADERS {
        let fields = reader.fields("header", offset, HEADER_BYTES)?;
        let checksum = checksum_without(CRC32C, fields.all(), CHECKSUM_AT);
        if fields.bytes(0, 4)? == b"head" && fields.le32(CHECKSUM_AT)? == checksum {
            let sequence = fields.le64(8)?;
            if newest.as_ref().is_none_or(|(other, _)| sequence > *other) {
                newest = Some((sequence, fields));
            }
        }
    }
    let Some((_, header)) = newest else {
        return refuse("has no header with a right checksum: copy it again");
    };
    require(header.le16(66)? == 1, "has an unknown version: convert it with qemu-img convert")?;
    reader.span("log", header.le64(72)?, u64::from(header.le32(68)?))?;
    let is_clean = header.bytes(48, 16)?.iter().all(|byte| *byte == 0);
    require(is_clean, "was not closed cleanly: replay its log with qemu-img check -r all")
}

/// Where the block table and the metadata are.
fn regions(reader: &Reader<'_>) -> Checked<(Span, Span)> {
    for offset in REGION_TABLES {
        let fields = reader.fields("region table", offset, REGION_TABLE_BYTES)?;
        let checksum = checksum_without(CRC32C, fields.all(), CHECKSUM_AT);
        if fields.bytes(0, 4)? == b"regi" && fields.le32(CHECKSUM_AT)? == checksum {
            return named_regions(reader, &fields);
        }
    }
    refuse("has no region table with a right checksum: copy it again")
}

fn named_regions(reader: &Reader<'_>, fields: &Fields) -> Checked<(Span, Span)> {
    let count = fields.le32(8)?;
    require(count <= REGION_ENTRIES_MAX, "has too many regions: rebuild it with qemu-img convert")?;
    let mut blocks = None;
    let mut metadata = None;
    let mut at: usize = 16;
    for _ in 0..count {
        let (offset, length) = (fields.le64(at + 16)?, u64::from(fields.le32(at + 24)?));
        let region = reader.span("region", offset, length)?;
        let is_aligned = offset % MIB == 0 && offset >= MIB;
        require(is_aligned, "has a region at an impossible place: rebuild it")?;
        let name = fields.bytes(at, 16)?;
        if name == BLOCK_TABLE {
            blocks = Some(region);
        } else if name == METADATA {
            metadata = Some(region);
        } else {
            let is_optional = fields.le32(at + 28)? & 1 == 0;
            require(is_optional, "needs a region that is unknown: convert it with qemu-img")?;
        }
        at += 32;
    }
    match (blocks, metadata) {
        (Some(blocks), Some(metadata)) => Ok((blocks, metadata)),
        (Some(_) | None, Some(_) | None) => refuse("lacks a region: copy it again"),
    }
}

/// Checks the block table: after the blocks of each chunk stands one entry for a bitmap, which only
/// an image with a parent uses.
fn check_blocks(reader: &Reader<'_>, metadata: &Metadata, region: Span) -> Checked<()> {
    let chunk = product(1 << 23, metadata.sector_bytes)? / metadata.block_bytes;
    let blocks = metadata.size_bytes.div_ceil(metadata.block_bytes);
    let entries = blocks + blocks.saturating_sub(1) / chunk.max(1);
    let length = product(entries, 8)?;
    let is_enough = length <= region.length_bytes;
    require(is_enough, "has a block table too small for its size: rebuild it")?;
    let table = reader.span("block table", region.offset, length)?;
    let blocks_max = reader.size_bytes().div_ceil(metadata.block_bytes);
    let mut found = 0;
    Window::new().walk_sparse(reader, table, 8, |index, entry| {
        let entry = entry_le(entry);
        if (index + 1).is_multiple_of(chunk + 1) {
            return Ok(());
        }
        match entry & STATE {
            PRESENT => {}
            PARTIAL => return refuse("has a parent image: merge them with qemu-img convert"),
            _ => return Ok(()),
        }
        found += 1;
        require(found <= blocks_max, "names blocks more than once: rebuild it")?;
        let offset = entry / MIB * MIB;
        require(offset >= MIB, "has a block on its own header: rebuild it")?;
        let at = (index - index / (chunk + 1)).saturating_mul(metadata.block_bytes);
        let rest = metadata.size_bytes.saturating_sub(at);
        let data = reader.span("data", offset, metadata.block_bytes.min(rest))?;
        require(!data.overlaps(&region), "has a block on its own block table: rebuild it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::DiskFormat;
    use crate::inspect::tests::{Patch, patched, reason, sound};

    const HEADER: usize = 64 << 10;
    const REGIONS: usize = 192 << 10;
    const BLOCKS: usize = 1 << 20;
    pub(super) const METADATA: usize = 2 << 20;

    /// A disk of one block and a sector, in blocks of 1 MiB; only the sector is there, behind 3 MiB.
    pub(super) fn image(patches: &[Patch<'_>]) -> Vec<u8> {
        let region = |name: &[u8], offset: usize| {
            let length = 1_u32 << 20;
            [name, &(offset as u64).to_le_bytes(), &length.to_le_bytes(), &[1, 0, 0, 0]].concat()
        };
        let regions = [region(&BLOCK_TABLE, BLOCKS), region(&super::METADATA, METADATA)].concat();
        let parts: [Patch<'_>; 9] = [
            (0, MARK),
            (HEADER, b"head"),
            (HEADER + 8, &[1]),
            (HEADER + 66, &[1]),
            (REGIONS, b"regi"),
            (REGIONS + 8, &[2]),
            (REGIONS + 16, &regions),
            (BLOCKS + 8, &(3_u64 << 20 | PRESENT).to_le_bytes()),
            (METADATA, &metadata::tests::region((1 << 20) + 512)),
        ];
        let mut image = patched(&patched(&vec![0; (3 << 20) + 512], &parts), patches);
        for (start, length) in [(HEADER, HEADER_BYTES), (REGIONS, REGION_TABLE_BYTES)] {
            let sum = checksum_without(CRC32C, &image[start..start + length], CHECKSUM_AT);
            image[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        }
        image
    }

    #[test]
    fn a_disk_is_measured_and_refused_when_cut() {
        let image = image(&[]);
        assert_eq!(sound(&image), (DiskFormat::Vhdx, (1 << 20) + 512));
        for length in
            [8, 70_000, 200_000, 300_000, BLOCKS + 9, METADATA + 9, 3 << 20, image.len() - 1]
        {
            assert!(reason(&image[..length]).contains("cut short"), "{length}");
        }
    }

    #[test]
    fn parts_that_make_no_sense_are_refused() {
        for (patches, part) in [
            (&[(HEADER, b"x".as_slice())], "no header"),
            (&[(HEADER + 66, &[2])], "unknown version"),
            (&[(HEADER + 48, &[1])], "not closed cleanly"),
            (&[(HEADER + 72, &[0xff; 8])], "log lies beyond"),
            (&[(REGIONS, b"x")], "no region table"),
            (&[(REGIONS + 8, &[0xff; 4])], "too many regions"),
            (&[(REGIONS + 8, &[1, 0, 0, 0])], "lacks a region"),
            (&[(REGIONS + 16, b"x")], "a region that is unknown"),
            (&[(REGIONS + 32, &[0xff; 8])], "region lies beyond"),
            (&[(REGIONS + 32, &[0; 8])], "region at an impossible place"),
            (&[(REGIONS + 40, &[8, 0, 0, 0])], "block table too small"),
            (&[(BLOCKS + 8, &[7])], "parent image"),
            (&[(BLOCKS + 8, &[6, 0, 0x40])], "data lies beyond"),
            (&[(BLOCKS + 8, &[6, 0, 0x10])], "on its own block table"),
            (&[(BLOCKS + 8, &[6, 0, 0])], "on its own header"),
        ] {
            let said = reason(&image(patches));
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_wrong_checksum_leaves_the_second_copy() {
        let image = image(&[]);
        let header = &image[HEADER..HEADER + HEADER_BYTES];
        let second = patched(&image, &[(2 * HEADER, header), (HEADER + 9, b"x")]);
        assert_eq!(sound(&second).1, (1 << 20) + 512);
        assert!(reason(&patched(&image, &[(HEADER + 9, b"x")])).contains("no header"));
    }
}
