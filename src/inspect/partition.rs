//! Raw disks with a partition table, after the UEFI specification 2.10, chapter 5; knows where the
//! tables are, and nothing of what the partitions hold.

use super::checksum::{CRC32, checksum_without};
use super::raw;
use super::reader::{Checked, Fields, Reader, product};

/// A disk counts in sectors of one of these sizes; the table is in the second.
const SECTORS_BYTES: [u64; 2] = [512, 4096];

const GPT_MARK: &[u8] = b"EFI PART";
const GPT_HEADER_BYTES_MIN: u32 = 92;
const GPT_CHECKSUM_AT: usize = 16;

const MBR_MARK: &[u8] = b"\x55\xaa";
const MBR_MARK_AT: u64 = 510;
const MBR_ENTRIES_AT: u64 = 446;
const MBR_ENTRY_BYTES: usize = 16;
const SECTOR_BYTES: u64 = 512;

/// The kind of the one that stands for all partitions of a GUID partition table.
const PROTECTIVE: u8 = 0xee;

/// Whether there is a GUID partition table whose checksum holds.
pub(super) fn is_gpt(reader: &Reader<'_>) -> Checked<bool> {
    Ok(gpt(reader)?.is_some())
}

/// Whether there is a master boot record with a partition in it.
pub(super) fn is_mbr(reader: &Reader<'_>) -> Checked<bool> {
    Ok(!partitions(reader)?.is_empty())
}

/// The size of a disk with a GUID partition table, if its second header and its table are there.
pub(super) fn gpt_virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    check_gpt(reader)?;
    Ok(raw::virtual_size_bytes(reader))
}

/// Checks what is on a disk beside a volume that ends at `volume_end`: partitions that were appended
/// to it, and a GUID partition table. A partition that holds the volume itself may be rounded up, and
/// so end where no file does.
pub(super) fn check_beside(reader: &Reader<'_>, volume_end: u64) -> Checked<()> {
    for partition in partitions(reader)? {
        let start = u64::from(partition.start) * SECTOR_BYTES;
        if partition.kind != PROTECTIVE && start >= volume_end {
            let length = u64::from(partition.sectors) * SECTOR_BYTES;
            reader.span("appended partition", start, length)?;
        }
    }
    check_gpt(reader)
}

fn check_gpt(reader: &Reader<'_>) -> Checked<()> {
    let Some((header, sector_bytes)) = gpt(reader)? else {
        return Ok(());
    };
    let backup = product(header.le64(32)?, sector_bytes)?;
    reader.span("backup partition table", backup, sector_bytes)?;
    let entries = product(header.le64(72)?, sector_bytes)?;
    let entries_bytes = product(u64::from(header.le32(80)?), u64::from(header.le32(84)?))?;
    reader.span("partition table", entries, entries_bytes)?;
    let last_usable = product(header.le64(48)?, sector_bytes)?;
    reader.span("last partition", last_usable, sector_bytes).map(|_| ())
}

/// A partition in a master boot record.
struct Partition {
    kind: u8,
    start: u32,
    sectors: u32,
}

/// The partitions in the master boot record; none where there is no record. The boot sector of a FAT
/// or NTFS volume bears the same mark, but has code or text where the partitions would be.
fn partitions(reader: &Reader<'_>) -> Checked<Vec<Partition>> {
    let mut found = Vec::new();
    if !reader.has(MBR_MARK_AT, MBR_MARK)? {
        return Ok(found);
    }
    let entries = reader.fields("boot record", MBR_ENTRIES_AT, 4 * MBR_ENTRY_BYTES)?;
    for at in (0..4).map(|index| index * MBR_ENTRY_BYTES) {
        if !matches!(entries.byte(at)?, 0 | 0x80) {
            return Ok(Vec::new());
        }
        let (kind, start) = (entries.byte(at + 4)?, entries.le32(at + 8)?);
        let sectors = entries.le32(at + 12)?;
        if kind != 0 && sectors != 0 {
            found.push(Partition { kind, start, sectors });
        }
    }
    Ok(found)
}

/// The header, if there is one, and the size of the disk's sectors.
fn gpt(reader: &Reader<'_>) -> Checked<Option<(Fields, u64)>> {
    for sector_bytes in SECTORS_BYTES {
        if !reader.has(sector_bytes, GPT_MARK)? {
            continue;
        }
        let header = reader.fields("partition table", sector_bytes, 512)?;
        let length = header.le32(12)?;
        if !(GPT_HEADER_BYTES_MIN..=512).contains(&length) || header.le64(24)? != 1 {
            continue;
        }
        let covered = header.bytes(0, usize::try_from(length).unwrap_or(0))?;
        let kept = header.le32(GPT_CHECKSUM_AT)?;
        if checksum_without(CRC32, covered, GPT_CHECKSUM_AT) == kept {
            return Ok(Some((header, sector_bytes)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::DiskFormat;
    use crate::inspect::tests::{patched, reason, sound};

    const BOOT: &[u8] = b"\x80\0\0\0\x83\0\0\0\x01\0\0\0\x3f\0\0\0";
    const WHOLE: &[u8] = b"\0\0\x02\0\xee\xff\xff\xff\x01\0\0\0\xff\0\0\0";

    fn mbr(entry: &[u8]) -> Vec<u8> {
        patched(&[0; 65_536], &[(446, entry), (510, b"\x55\xaa")])
    }

    fn gpt(sector_bytes: usize) -> Vec<u8> {
        let disk = vec![0; sector_bytes * 16];
        let header: [(usize, &[u8]); 8] = [
            (0, GPT_MARK),
            (12, &92_u32.to_le_bytes()),
            (24, &1_u64.to_le_bytes()),
            (32, &15_u64.to_le_bytes()),
            (48, &10_u64.to_le_bytes()),
            (72, &2_u64.to_le_bytes()),
            (80, &4_u32.to_le_bytes()),
            (84, &128_u32.to_le_bytes()),
        ];
        let moved = header.map(|(at, bytes)| (at + sector_bytes, bytes));
        let disk = patched(&patched(&disk, &moved), &[(446, WHOLE), (510, b"\x55\xaa")]);
        let sum = checksum_without(CRC32, &disk[sector_bytes..sector_bytes + 92], 16);
        patched(&disk, &[(sector_bytes + 16, &sum.to_le_bytes())])
    }

    #[test]
    fn a_record_is_one_only_with_a_partition_that_could_be() {
        let late = [&[0; 16], BOOT].concat();
        for (entries, format) in [
            (BOOT, DiskFormat::Mbr),
            (WHOLE, DiskFormat::Mbr),
            (late.as_slice(), DiskFormat::Mbr),
            (&[0; 64], DiskFormat::Raw),
            (b"Non-system disk or disk error, press a key", DiskFormat::Raw),
            (b"\x80\0\0\0\x83\0\0\0\x01\0\0\0\0\0\0\0", DiskFormat::Raw),
        ] {
            assert_eq!(sound(&mbr(entries)).0, format, "{entries:?}");
        }
        assert_eq!(sound(&mbr(BOOT)[..511]).0, DiskFormat::Raw);
    }

    #[test]
    fn a_partition_table_is_found_in_sectors_of_both_sizes() {
        for sector_bytes in [512, 4096] {
            let disk = gpt(sector_bytes);
            assert_eq!(sound(&disk), (DiskFormat::Gpt, disk.len() as u64));
        }
    }

    #[test]
    fn a_disk_without_its_backup_header_is_refused() {
        for (sector_bytes, less) in [(512, 1), (512, 512), (4096, 4096), (4096, 20_000)] {
            let disk = gpt(sector_bytes);
            let said = reason(&disk[..disk.len() - less]);
            assert!(said.contains("backup partition table"), "{said}");
        }
    }

    #[test]
    fn a_damaged_table_leaves_what_protects_it() {
        assert_eq!(sound(&patched(&gpt(512), &[(560, b"x")])).0, DiskFormat::Mbr);
        assert_eq!(sound(&patched(&gpt(512), &[(560, b"x"), (510, b"x")])).0, DiskFormat::Raw);
    }
}
