//! The table of internal snapshots of a qcow2: where the tables of each lie.

use super::header::{FirstLevel, Header};
use super::layout::Layout;
use super::tables::Disk;
use crate::inspect::reader::{Checked, Reader, Span, Window, aligned, require};

/// qemu has no more snapshots, and no larger entries, than these.
const SNAPSHOTS_MAX: u32 = 65_536;
const EXTRA_BYTES_MAX: u64 = 1024;

/// A thousand snapshots of 64 TiB have smaller first-level tables than this in all.
const FIRST_LEVELS_BYTES_MAX: u64 = 128 << 20;

/// The fixed fields of an entry; the size of the disk is the second of the extra ones.
const ENTRY_BYTES: usize = 40;
const DISK_SIZE_END: u64 = 16;

/// Reads the table of snapshots and takes it and the first-level table of each.
pub(super) fn read(
    reader: &Reader<'_>,
    header: &Header,
    layout: &mut Layout,
) -> Checked<Vec<Disk>> {
    require(
        header.snapshots <= SNAPSHOTS_MAX,
        "has more snapshots than qemu can have: rebuild it",
    )?;
    let mut snapshots = Vec::new();
    let mut levels = Vec::new();
    let mut offset = header.snapshots_offset;
    let mut table_end = offset;
    let mut all_bytes = 0_u64;
    let mut window = Window::new();
    for _ in 0..header.snapshots {
        let (disk, end) = entry(reader, header, &mut window, offset)?;
        let length = disk.tables.length_bytes()?;
        all_bytes = all_bytes.saturating_add(length);
        require(all_bytes <= FIRST_LEVELS_BYTES_MAX, "has too large snapshots: delete some")?;
        levels.push(reader.span("first-level table of a snapshot", disk.tables.offset, length)?);
        snapshots.push(disk);
        table_end = end;
        // The last entry has no padding behind it.
        offset = aligned(end, 8)?;
    }
    let length = table_end.saturating_sub(header.snapshots_offset);
    layout.claim(reader.span("table of snapshots", header.snapshots_offset, length)?)?;
    levels.into_iter().try_for_each(|level: Span| layout.claim(level))?;
    Ok(snapshots)
}

/// The disk of the snapshot whose entry begins at `offset`, and where the entry ends.
fn entry(
    reader: &Reader<'_>,
    header: &Header,
    window: &mut Window,
    offset: u64,
) -> Checked<(Disk, u64)> {
    let fields = window.fields(reader, "table of snapshots", offset, ENTRY_BYTES)?;
    let extra_bytes = u64::from(fields.be32(36)?);
    let names_bytes = u64::from(fields.be16(12)?) + u64::from(fields.be16(14)?);
    require(extra_bytes <= EXTRA_BYTES_MAX, "has a snapshot that is no snapshot: repair it")?;
    let body = offset.saturating_add(40);
    let rest_bytes = extra_bytes + names_bytes;
    reader.span("table of snapshots", body, rest_bytes)?;
    let size_bytes = if extra_bytes >= DISK_SIZE_END {
        window.fields(reader, "table of snapshots", body, 16)?.be64(8)?
    } else {
        header.size_bytes
    };
    let tables = FirstLevel { offset: fields.be64(0)?, entries: u64::from(fields.be32(8)?) };
    let end = body.saturating_add(rest_bytes);
    Ok((Disk { tables, size_bytes }, end))
}

#[cfg(test)]
mod tests {
    use crate::inspect::qcow2::tests::{DATA, FIRST, SECOND, image};
    use crate::inspect::tests::{patched, refuses, refuses_each_cut, sound};

    const TABLE: usize = DATA + 512;
    const LEVEL: usize = DATA + 1024;

    /// An image with one snapshot, named by two letters, which shares all of its data.
    fn snapped() -> Vec<u8> {
        let mut image = image(&[(63, &[1]), (64, &(TABLE as u64).to_be_bytes())]);
        image.resize(LEVEL + 8, 0);
        patched(
            &image,
            &[
                (TABLE, &(LEVEL as u64).to_be_bytes()),
                (TABLE + 11, &[1]),
                (TABLE + 13, &[1]),
                (TABLE + 15, &[1]),
                (TABLE + 39, &[16]),
                (TABLE + 48, &32_768_u64.to_be_bytes()),
                (TABLE + 56, b"1a"),
                (LEVEL, &(SECOND as u64).to_be_bytes()),
            ],
        )
    }

    #[test]
    fn a_snapshot_may_share_its_data_and_no_beginning_passes() {
        assert_eq!(sound(&snapped()).1, 32_768);
        refuses_each_cut(&snapped(), 0..0);
    }

    #[test]
    fn a_table_that_ends_with_its_file_has_no_padding() {
        let late = (LEVEL as u64).to_be_bytes();
        let mut moved = patched(&snapped(), &[(64, &late)]);
        moved.truncate(LEVEL);
        moved.extend(snapped()[TABLE..TABLE + 58].to_vec());
        moved[LEVEL..LEVEL + 8].copy_from_slice(&(TABLE as u64).to_be_bytes());
        moved[TABLE..TABLE + 512].fill(0);
        assert_eq!(sound(&moved).1, 32_768);
    }

    #[test]
    fn snapshots_that_make_no_sense_are_refused() {
        refuses(
            &snapped(),
            &[
                (&[(60, &[0xff; 4])], "more snapshots"),
                (&[(64, &[0xff; 8])], "table of snapshots lies beyond"),
                (&[(TABLE, &[0xff; 8])], "table of a snapshot lies beyond"),
                (&[(TABLE, &(FIRST as u64).to_be_bytes())], "tables that overlap"),
                (&[(TABLE, &(SECOND as u64).to_be_bytes())], "tables that overlap"),
                (&[(TABLE + 8, &[0xff; 4])], "over 32 MiB"),
                (&[(TABLE + 36, &[0xff; 4])], "no snapshot"),
                (&[(LEVEL, &[0, 1])], "second-level table lies beyond"),
            ],
        );
    }
}
