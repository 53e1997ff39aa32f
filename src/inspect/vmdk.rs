//! VMware sparse extents, after the Virtual Disk Format 5.0; knows where grains lie, and nothing of
//! what is in them.
//!
//! Only a disk that is one file is taken: `monolithicSparse`, and `streamOptimized` for transport.

mod descriptor;
mod grains;

use super::reader::{Checked, Fields, Flaw, Reader, product, refuse, require};
use grains::Grains;

pub(super) const MARK: &[u8] = b"KDMV";

/// A text that names the extents, each in a file of its own.
pub(super) const DESCRIPTOR_MARK: &[u8] = b"# Disk DescriptorFile";

/// This much of a description is looked at to know it; qemu looks at less.
const HEAD_BYTES: usize = 4096;

/// The extents of old ESX servers, which never stand alone.
pub(super) const ESX_MARK: &[u8] = b"COWD";

const SECTOR_BYTES: u64 = 512;
const HEADER_BYTES: usize = 512;

/// Flags of the header.
const REDUNDANT: u32 = 1 << 1;
const ZEROED: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// The grain directory is found by way of a footer, at the end.
const AT_END: u64 = u64::MAX;

/// The footer begins this far from the end: its marker, itself, and the marker of the end.
const FOOTER_BYTES: u64 = 3 * 512;
const FOOTER_MARKER: u32 = 3;

/// The grain size in sectors, and the entries of a grain table.
const GRAIN_SECTORS_MAX: u64 = 1 << 21;
const TABLE_ENTRIES_MAX: u32 = 512;

/// 16 TiB of tables of 32 MiB each.
const TABLES_MAX: u64 = 1 << 19;

/// Whether a reader that asks for no mark takes the content for a description of extents, as qemu does: comments and
/// blank lines, then a version. The names in it are of any files.
pub(super) fn is_description(reader: &Reader<'_>) -> Checked<bool> {
    let head = reader.bytes(0, HEAD_BYTES)?;
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(first.is_some_and(|line| line.starts_with(b"version=")))
}

/// The size of the disk, if the image stands alone and all of its grains are there.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    if reader.has(0, ESX_MARK)? {
        return refuse("is an extent of an ESX disk: convert the disk with qemu-img convert");
    }
    if !reader.has(0, MARK)? {
        return descriptor::refuse_standalone(reader);
    }
    let head = reader.fields("header", 0, HEADER_BYTES)?;
    // A reader that finds no size here opens the extents that the text names.
    require(head.le64(12)? != 0, "has its disk in other files: convert it with qemu-img convert")?;
    descriptor::check(reader, head.le64(28)?, head.le64(36)?)?;
    reader.span("metadata", 0, product(head.le64(64)?, SECTOR_BYTES)?)?;
    let is_at_end = head.le64(56)? == AT_END;
    let header = if is_at_end { footer(reader)? } else { head };
    let extent = Extent::read(&header)?;
    grains::check(reader, &extent)?;
    Ok(extent.grains.size_bytes)
}

/// The second header, between two markers at the end.
fn footer(reader: &Reader<'_>) -> Checked<Fields> {
    let Some(start) = reader.size_bytes().checked_sub(FOOTER_BYTES) else {
        return Err(Flaw::Cut("footer"));
    };
    let marker = reader.fields("footer", start, 16)?;
    let header = reader.fields("footer", start + SECTOR_BYTES, HEADER_BYTES)?;
    let end = reader.fields("footer", start + 2 * SECTOR_BYTES, 16)?;
    let is_marker = marker.le32(12)? == FOOTER_MARKER && marker.le32(8)? == 0;
    if !is_marker || header.bytes(0, 4)? != MARK || end.all().iter().any(|byte| *byte != 0) {
        return Err(Flaw::Cut("footer"));
    }
    require(header.le64(56)? != AT_END, "has a footer without a grain directory: copy it again")?;
    Ok(header)
}

/// What a header says of its extent.
struct Extent {
    grains: Grains,
    /// The directory in use, and the second one where there is one.
    directories: [Option<u64>; 2],
    tables: u64,
    table_entries: u64,
}

impl Extent {
    fn read(header: &Fields) -> Checked<Self> {
        let version = header.le32(4)?;
        if !(1..=3).contains(&version) {
            return refuse(format!("has the version {version}: convert it with qemu-img convert"));
        }
        let flags = header.le32(8)?;
        let sectors = header.le64(12)?;
        let grain_sectors = header.le64(20)?;
        let entries = header.le32(44)?;
        require(sectors > 0, "has its disk in other files: convert it with qemu-img convert")?;
        let is_size = grain_sectors.is_power_of_two() && grain_sectors <= GRAIN_SECTORS_MAX;
        require(is_size, "has grains of an impossible size: rebuild it with qemu-img convert")?;
        let is_table = (1..=TABLE_ENTRIES_MAX).contains(&entries);
        require(is_table, "has grain tables of an impossible size: rebuild it")?;
        let tables = sectors.div_ceil(grain_sectors * u64::from(entries));
        require(tables <= TABLES_MAX, "has an impossible size: rebuild it with qemu-img convert")?;
        let second = if flags & REDUNDANT == 0 { None } else { Some(header.le64(48)?) };
        let is_compressed = flags & COMPRESSED != 0;
        require(
            !is_compressed || header.le16(77)? == 1,
            "is compressed in an unknown way: convert it with qemu-img convert",
        )?;
        require(
            is_compressed == (flags & MARKERS != 0),
            "has marks without compression, or the reverse: rebuild it with qemu-img convert",
        )?;
        Ok(Self {
            grains: Grains {
                size_bytes: product(sectors, SECTOR_BYTES)?,
                grain_bytes: grain_sectors * SECTOR_BYTES,
                is_compressed,
                has_zeroed: flags & ZEROED != 0,
            },
            directories: [Some(header.le64(56)?), second.filter(|second| *second != AT_END)],
            tables,
            table_entries: u64::from(entries),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::image::DiskFormat;
    use crate::inspect::tests::{Patch, patched, reason, refuses, refuses_each_cut, sound};

    const TEXT: &[u8] = b"# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\n\
        createType=\"monolithicSparse\"\nRW 9 SPARSE \"a.vmdk\"\n";

    /// Where the directory, the table and the two grains of [`image`] are.
    pub(super) const DIRECTORY: usize = 1024;
    pub(super) const TABLE: usize = 1536;
    pub(super) const GRAIN: usize = 2048;

    /// A disk of nine sectors in grains of eight: the second has one sector of the disk.
    pub(super) fn image(patches: &[Patch<'_>]) -> Vec<u8> {
        let parts: [Patch<'_>; 12] = [
            (0, b"KDMV\x01"),
            (8, &[1]),
            (12, &[9]),
            (20, &[8]),
            (28, &[1]),
            (36, &[1]),
            (44, &[128]),
            (56, &[2]),
            (64, &[4]),
            (512, TEXT),
            (DIRECTORY, &[3]),
            (TABLE, &[5, 0, 0, 0, 4]),
        ];
        patched(&patched(&[0; GRAIN + 9 * 512], &parts), patches)
    }

    /// The same for transport: with markers, and its directory named at the end only.
    fn stream() -> Vec<u8> {
        let text = String::from_utf8_lossy(TEXT).replace("monolithicSparse", "streamOptimized");
        let head = image(&[(8, &[1, 0, 3]), (56, &[0xff; 8]), (77, &[1]), (512, text.as_bytes())]);
        let foot = patched(&head[..512], &[(56, &[2, 0, 0, 0, 0, 0, 0, 0])]);
        let marker = patched(&[0; 512], &[(12, &[3])]);
        [&head, &marker, &foot, &[0; 512][..]].concat()
    }

    #[test]
    fn a_disk_in_one_file_is_measured_and_no_beginning_passes() {
        assert_eq!(sound(&image(&[])), (DiskFormat::Vmdk, 9 * 512));
        refuses_each_cut(&image(&[]), 0..0);
    }

    #[test]
    fn a_stream_is_whole_with_its_footer() {
        assert_eq!(sound(&stream()), (DiskFormat::Vmdk, 9 * 512));
        refuses_each_cut(&stream(), 0..0);
        let end = stream().len();
        assert!(reason(&patched(&stream(), &[(end - 512, &[1])])).contains("footer"));
        let foot = end - 1024 + 56;
        assert!(reason(&patched(&stream(), &[(foot, &[0xff; 8])])).contains("footer without"));
    }

    #[test]
    fn a_header_that_makes_no_sense_is_refused() {
        refuses(
            &image(&[]),
            &[
                (&[(0, b"COWD")], "ESX"),
                (&[(4, &[4])], "version 4"),
                (&[(12, &[0])], "disk in other files"),
                (&[(12, &[0xff; 8])], "impossible size"),
                (&[(20, &[3])], "grains of an impossible size"),
                (&[(20, &[0; 8])], "grains of an impossible size"),
                (&[(44, &[0; 4])], "grain tables of an impossible size"),
                (&[(44, &[0xff; 4])], "grain tables of an impossible size"),
                (&[(10, &[1])], "compressed in an unknown way"),
                (&[(10, &[2])], "marks without compression"),
                (&[(64, &[0xff])], "metadata lies beyond"),
                (&[(56, &[0xff; 7])], "grain directory lies beyond"),
                (&[(8, &[3]), (48, &[0xff])], "grain directory lies beyond"),
            ],
        );
    }
}
