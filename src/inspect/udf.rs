//! The UDF volume that a bridge disk has beside its ISO 9660 one, after ECMA-167 and UDF 2.60: it holds
//! what the other only hints at. Knows where the partition ends, and nothing of its files.

use super::reader::{Checked, Fields, Reader, product};

const SECTOR_BYTES: u64 = 2048;

/// ECMA-167 3/8.4.2.1: where the first anchor stands.
const ANCHOR_SECTOR: u32 = 256;

/// Kinds of descriptors (ECMA-167 3/7.2.1).
const ANCHOR: u16 = 2;
const PARTITION: u16 = 5;
const TERMINATOR: u16 = 8;

const DESCRIPTOR_BYTES: usize = 512;

/// A sequence has sixteen descriptors or a few more.
const DESCRIPTORS_MAX: u64 = 64;

/// Checks that the volume, if there is one, lies within the content.
pub(super) fn check(reader: &Reader<'_>) -> Checked<()> {
    let Some(anchor) = descriptor(reader, u64::from(ANCHOR_SECTOR))? else {
        return Ok(());
    };
    if anchor.le16(0)? != ANCHOR || anchor.le32(12)? != ANCHOR_SECTOR {
        return Ok(());
    }
    let first = u64::from(anchor.le32(20)?);
    let sequence_bytes = u64::from(anchor.le32(16)?);
    let sequence = reader.span("UDF volume", product(first, SECTOR_BYTES)?, sequence_bytes)?;
    let second = product(u64::from(anchor.le32(28)?), SECTOR_BYTES)?;
    reader.span("second UDF volume description", second, u64::from(anchor.le32(24)?))?;
    let count = (sequence.length_bytes / SECTOR_BYTES).min(DESCRIPTORS_MAX);
    for sector in (first..).take(usize::try_from(count).unwrap_or(0)) {
        let Some(found) = descriptor(reader, sector)? else {
            return Ok(());
        };
        match found.le16(0)? {
            PARTITION => {
                let start = product(u64::from(found.le32(188)?), SECTOR_BYTES)?;
                let length = product(u64::from(found.le32(192)?), SECTOR_BYTES)?;
                reader.span("UDF partition", start, length)?;
            }
            TERMINATOR => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// The descriptor in a sector, if the sum over its tag is right.
fn descriptor(reader: &Reader<'_>, sector: u64) -> Checked<Option<Fields>> {
    let offset = product(sector, SECTOR_BYTES)?;
    if reader.span("UDF volume", offset, SECTOR_BYTES).is_err() {
        return Ok(None);
    }
    let fields = reader.fields("UDF volume", offset, DESCRIPTOR_BYTES)?;
    let kept = fields.byte(4)?;
    let sum = fields.bytes(0, 16)?.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let is_right = fields.le16(0)? != 0 && sum.wrapping_sub(kept) == kept;
    Ok(is_right.then_some(fields))
}

#[cfg(test)]
mod tests {
    use crate::inspect::tests::{patched, reason, sound};

    fn tag(kind: u8, sector: u16) -> Vec<u8> {
        let [low, high] = sector.to_le_bytes();
        let sum = kind.wrapping_add(low).wrapping_add(high);
        vec![kind, 0, 0, 0, sum, 0, 0, 0, 0, 0, 0, 0, low, high, 0, 0]
    }

    /// A bridge disk whose ISO volume is small.
    fn bridge() -> Vec<u8> {
        let at = |sector: usize, offset: usize| sector * 2048 + offset;
        patched(
            &vec![0; 300 * 2048],
            &[
                (32_768, b"\x01CD001\x01\0"),
                (32_768 + 80, b"\x13\0\0\0\0\0\0\x13"),
                (32_768 + 128, b"\0\x08\x08\0"),
                (at(256, 0), &tag(2, 256)),
                (at(256, 16), b"\0\x10\0\0\x20\0\0\0\0\x10\0\0\x28\0\0\0"),
                (at(32, 0), &tag(5, 32)),
                (at(32, 188), b"\x01\x01\0\0\x20\0\0\0"),
                (at(33, 0), &tag(8, 33)),
            ],
        )
    }

    #[test]
    fn a_bridge_disk_reaches_to_the_end_of_its_udf_partition() {
        let end = (257 + 32) * 2048;
        assert_eq!(sound(&bridge()[..end]).1, end as u64);
        assert!(reason(&bridge()[..end - 1]).contains("UDF partition lies beyond"));
    }

    #[test]
    fn what_bears_no_right_tag_is_no_udf_volume() {
        let plain = patched(&bridge(), &[(256 * 2048 + 4, &[0])]);
        assert_eq!(sound(&plain[..270 * 2048]).1, 270 * 2048);
    }

    #[test]
    fn descriptions_beyond_the_end_are_refused() {
        for at in [20, 28] {
            let far = patched(&bridge(), &[(256 * 2048 + at, &[0xff; 4])]);
            assert!(reason(&far).contains("lies beyond"));
        }
    }
}
