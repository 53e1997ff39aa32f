//! ISO 9660 volumes, after ECMA-119; knows the volume's size, and nothing of its files.
//!
//! A disk with such a volume may have more beside it, which is checked where it is understood.

use super::reader::{Checked, Reader, product, refuse, require};
use super::{partition, raw, udf};

pub(super) const MARK: &[u8] = b"CD001";

/// Behind the type of the first volume descriptor, which begins at the 17th sector.
pub(super) const MARK_OFFSET: u64 = 32_769;

const SECTOR_BYTES: u64 = 2048;
const FIRST_DESCRIPTOR: u64 = 16;

/// ECMA-119 8.4: the primary volume descriptor; 8.3: the one that ends their set.
const PRIMARY: u8 = 1;
const TERMINATOR: u8 = 255;

/// A set of descriptors has three or four; nobody needs more than this.
const DESCRIPTORS_MAX: u64 = 32;

/// The size of the disk that the volume is on, if all of the volume is there.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    for index in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + DESCRIPTORS_MAX {
        let fields = reader.fields("volume descriptor", index * SECTOR_BYTES, 132)?;
        if fields.bytes(1, MARK.len())? != MARK || fields.byte(0)? == TERMINATOR {
            break;
        }
        if fields.byte(0)? == PRIMARY {
            let blocks = u64::from(fields.le32(80)?);
            let block_bytes = u64::from(fields.le16(128)?);
            let is_size =
                block_bytes.is_power_of_two() && (512..=SECTOR_BYTES).contains(&block_bytes);
            require(is_size, "has blocks of an impossible size: fetch it again")?;
            let volume = reader.span("volume", 0, product(blocks, block_bytes)?)?;
            udf::check(reader)?;
            partition::check_beside(reader, volume.end())?;
            return Ok(raw::virtual_size_bytes(reader));
        }
    }
    refuse("has no primary volume descriptor: fetch it again")
}

#[cfg(test)]
mod tests {
    use crate::image::DiskFormat;
    use crate::inspect::tests::{patched, reason, refuses, refuses_each_cut, sound};

    fn volume() -> Vec<u8> {
        patched(
            &[0; 20 * 2048],
            &[
                (32_768, b"\x01CD001\x01\0"),
                (32_768 + 80, b"\x13\0\0\0\0\0\0\x13"),
                (32_768 + 128, b"\0\x08\x08\0"),
                (34_816, b"\xffCD001\x01"),
            ],
        )
    }

    #[test]
    fn a_volume_is_whole_with_or_without_what_is_behind_it() {
        assert_eq!(sound(&volume()), (DiskFormat::Iso, 20 * 2048));
        assert_eq!(sound(&volume()[..19 * 2048]), (DiskFormat::Iso, 19 * 2048));
        assert!(reason(&volume()[..19 * 2048 - 1]).contains("volume lies beyond"));
    }

    #[test]
    fn a_volume_that_also_boots_from_a_disk_is_a_volume() {
        let record = b"\x80\0\0\0\x83\0\0\0\x01\0\0\0\x3f\0\0\0";
        let hybrid = patched(&volume(), &[(446, record), (510, b"\x55\xaa")]);
        assert_eq!(sound(&hybrid).0, DiskFormat::Iso);
    }

    #[test]
    fn a_partition_appended_to_a_volume_is_there_too() {
        // The first partition holds the volume and is rounded up; the second begins behind it.
        let table = b"\x80\0\0\0\x17\0\0\0\0\0\0\0\xff\0\0\0\0\0\0\0\xef\0\0\0\x4c\0\0\0\x04\0\0\0";
        let disk = patched(&volume(), &[(446, table), (510, b"\x55\xaa")]);
        assert_eq!(sound(&disk), (DiskFormat::Iso, 20 * 2048));
        assert!(reason(&disk[..disk.len() - 1]).contains("appended partition lies beyond"));
    }

    #[test]
    fn no_beginning_of_a_volume_passes_for_it() {
        refuses_each_cut(&volume()[..19 * 2048], 0..32_000);
    }

    #[test]
    fn a_volume_that_makes_no_sense_is_refused() {
        refuses(
            &volume(),
            &[
                (&[(32_768 + 80, &[0xff; 4])], "volume lies beyond"),
                (&[(32_768 + 128, &[0, 0])], "impossible size"),
                (&[(32_768, &[0])], "no primary volume descriptor"),
                (&[(32_768, &[255])], "no primary volume descriptor"),
            ],
        );
    }
}
