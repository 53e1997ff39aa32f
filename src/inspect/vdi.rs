//! VirtualBox disk images, after the header that VirtualBox documents in its sources (VDICore.h);
//! knows where blocks lie, and nothing of what is in them.

use super::reader::{
    Checked, Fields, Reader, Window, entry_le, product, quoted, refuse, require, sum,
};

pub(super) const MARK: &[u8] = b"\x7f\x10\xda\xbe";
pub(super) const MARK_OFFSET: u64 = 64;

const HEADER_BYTES: usize = 512;
const SECTOR_BYTES: u64 = 512;
const VERSION_MAJOR: u32 = 1;

/// Kinds of images: those which stand alone. The others name a parent.
const DYNAMIC: u32 = 1;
const STATIC: u32 = 2;

/// 64 TiB in blocks of 1 MiB.
const MAP_BYTES_MAX: u64 = 256 << 20;
const BLOCK_BYTES_MAX: u64 = 1 << 31;

/// Entries of the map from here on name no block.
const NO_BLOCK: u64 = 0xffff_fffe;

/// The size of the disk, if the image stands alone and all of its blocks are there.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    let header = reader.fields("header", 0, HEADER_BYTES)?;
    check_kind(&header)?;
    let size_bytes = header.le64(368)?;
    let block_bytes = u64::from(header.le32(376)?);
    let extra_bytes = u64::from(header.le32(380)?);
    let blocks = u64::from(header.le32(384)?);
    let is_size = block_bytes.is_power_of_two() && (512..=BLOCK_BYTES_MAX).contains(&block_bytes);
    require(is_size, "has blocks of an impossible size: rebuild it with qemu-img convert")?;
    let is_enough = size_bytes <= product(blocks, block_bytes)?;
    require(is_enough, "has a map too small for its size: rebuild it with qemu-img convert")?;
    let map_bytes = blocks * 4;
    require(map_bytes <= MAP_BYTES_MAX, "has more blocks than 64 TiB have: rebuild it")?;
    let map = reader.span("block map", u64::from(header.le32(340)?), map_bytes)?;
    let data = reader.span("data", u64::from(header.le32(344)?), 0)?.offset;
    require(map.length_bytes == 0 || data >= map.end(), "has blocks on its own map: rebuild it")?;
    let stride_bytes = sum(block_bytes, extra_bytes)?;
    let blocks_max = reader.size_bytes().saturating_sub(data).div_ceil(stride_bytes);
    let mut found = 0;
    Window::new().walk(reader, map, 4, |index, entry| {
        let block = entry_le(entry);
        if block >= NO_BLOCK {
            return Ok(());
        }
        found += 1;
        require(found <= blocks_max, "names blocks more than once: rebuild it")?;
        let rest_bytes = size_bytes.saturating_sub(index.saturating_mul(block_bytes));
        let offset = sum(data, sum(product(block, stride_bytes)?, extra_bytes)?)?;
        reader.span("data", offset, block_bytes.min(rest_bytes)).map(|_| ())
    })?;
    Ok(size_bytes.checked_next_multiple_of(SECTOR_BYTES).unwrap_or(size_bytes))
}

fn check_kind(header: &Fields) -> Checked<()> {
    let version = header.le32(68)?;
    if version >> 16 != VERSION_MAJOR {
        return refuse(format!(
            "has the version {}.{}: convert it with VBoxManage clonemedium",
            version >> 16,
            version & 0xffff
        ));
    }
    if header.bytes(440, 16)?.iter().any(|byte| *byte != 0) {
        let parent = quoted(header.bytes(440, 16)?);
        return refuse(format!(
            "has a parent image, {parent}: merge them with VBoxManage clonemedium"
        ));
    }
    match header.le32(76)? {
        DYNAMIC | STATIC => Ok(()),
        kind => {
            refuse(format!("is of kind {kind}, which doesn't stand alone: clone the disk first"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::DiskFormat;
    use crate::inspect::tests::{patched, refuses, refuses_each_cut, sound};

    const HEADER: &[super::super::tests::Patch<'_>] = &[
        (64, MARK),
        (68, b"\x01\0\x01\0"),
        (76, b"\x01\0\0\0"),
        (340, b"\0\x02\0\0\0\x04\0\0"),
        (368, b"\0\x06\0\0\0\0\0\0\0\x02\0\0"),
        (384, b"\x03\0\0\0"),
    ];

    /// Three blocks of one sector, of which the first is the second in the file, and the second none.
    fn image() -> Vec<u8> {
        let map = b"\x01\0\0\0\xff\xff\xff\xff\0\0\0\0";
        patched(&patched(&[0; 2048], HEADER), &[(512, map)])
    }

    #[test]
    fn the_size_is_told_and_no_beginning_passes() {
        assert_eq!(sound(&image()), (DiskFormat::Vdi, 1536));
        refuses_each_cut(&image(), 0..0);
    }

    #[test]
    fn a_size_within_a_sector_counts_as_the_whole_sector() {
        assert_eq!(sound(&patched(&image(), &[(368, b"\x01\x04")])).1, 1536);
    }

    #[test]
    fn an_image_that_makes_no_sense_or_has_a_parent_is_refused() {
        refuses(
            &image(),
            &[
                (&[(68, &[0xff; 4])], "version 65535.65535"),
                (&[(76, &[3])], "kind 3"),
                (&[(440, b"\x1b")], "parent image, \"\\x1b"),
                (&[(376, &[0; 4])], "blocks of an impossible size"),
                (&[(384, &[0xff; 4])], "more blocks than 64 TiB"),
                (&[(384, &[2])], "map too small"),
                (&[(368, &[0xff; 8])], "map too small"),
                (&[(340, &[0xff; 4])], "block map lies beyond"),
                (&[(344, &[0, 2])], "blocks on its own map"),
                (&[(512, &[2])], "data lies beyond"),
                (&[(512, &[0; 12])], "blocks more than once"),
            ],
        );
    }
}
