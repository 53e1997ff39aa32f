//! QEMU copy-on-write images, versions 2 and 3, after docs/interop/qcow2 of QEMU; knows where tables
//! and clusters lie, and nothing of what is in the clusters.
//!
//! Everything that a reader of the image could follow is checked to lie within the file: both levels
//! of tables of the disk and of each snapshot, the clusters that they name, reference counts, bitmaps.

mod bitmaps;
mod clusters;
mod header;
mod layout;
mod snapshots;
mod streams;
mod tables;

use super::reader::{Checked, Reader};
use header::Header;
use layout::Layout;
use tables::{Disk, Tables};

pub(super) const MARK: &[u8] = b"QFI\xfb";

/// The size of the disk, if the image stands alone and all of it is there.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    let header = Header::read(reader)?;
    let extensions = header::extensions(reader, &header)?;
    let mut layout = Layout::new(&header);
    layout.claim(reader.span("header", 0, header.cluster_bytes())?)?;
    let mut tables = Tables::new(reader, &header);
    tables.reference_counts(&mut layout)?;
    let disk = Disk { tables: header.first_level, size_bytes: header.size_bytes };
    let first = tables.claim_first_level(&mut layout, disk)?;
    let snapshots = snapshots::read(reader, &header, &mut layout)?;
    tables.disk(&mut layout, disk, first)?;
    for snapshot in snapshots {
        tables.snapshot(&mut layout, snapshot)?;
    }
    if let Some(bitmaps) = extensions.bitmaps {
        bitmaps::check(reader, &header, bitmaps)?;
    }
    Ok(header.size_bytes / 512 * 512)
}

#[cfg(test)]
mod tests {
    use crate::image::DiskFormat;
    use crate::inspect::tests::{Patch, patched, refuses_each_cut, sound};

    /// Where the parts of [`image`] are; each has a cluster of 512 bytes.
    pub(super) const COUNTS: usize = 512;
    pub(super) const BLOCK: usize = 1024;
    pub(super) const FIRST: usize = 1536;
    pub(super) const SECOND: usize = 2048;
    pub(super) const DATA: usize = 2560;

    /// A disk of 32 KiB in clusters of 512 bytes, of which only the third has data.
    pub(super) fn image(patches: &[Patch<'_>]) -> Vec<u8> {
        let parts: [Patch<'_>; 14] = [
            (0, b"QFI\xfb\0\0\0\x03"),
            (20, &9_u32.to_be_bytes()),
            (24, &32_768_u64.to_be_bytes()),
            (36, &1_u32.to_be_bytes()),
            (40, &(FIRST as u64).to_be_bytes()),
            (48, &(COUNTS as u64).to_be_bytes()),
            (56, &1_u32.to_be_bytes()),
            (96, &4_u32.to_be_bytes()),
            (100, &104_u32.to_be_bytes()),
            (COUNTS, &(BLOCK as u64).to_be_bytes()),
            (BLOCK, &1_u16.to_be_bytes().repeat(6)),
            (FIRST, &(1 << 63 | SECOND as u64).to_be_bytes()),
            (SECOND + 16, &(1 << 63 | DATA as u64).to_be_bytes()),
            (DATA, &[7; 512]),
        ];
        patched(&patched(&[0; DATA + 512], &parts), patches)
    }

    #[test]
    fn both_versions_are_read_and_no_beginning_passes() {
        for version in [2, 3] {
            let image = image(&[(7, &[version])]);
            assert_eq!(sound(&image), (DiskFormat::Qcow2, 32_768));
            refuses_each_cut(&image, 0..0);
        }
    }

    #[test]
    fn a_size_within_a_sector_counts_only_whole_ones() {
        assert_eq!(sound(&image(&[(24, &32_767_u64.to_be_bytes())])).1, 32_256);
    }
}
