//! LUKS volumes, after the LUKS1 and LUKS2 on-disk format specifications; knows where the encrypted
//! data begins, and nothing of ciphers and keys.
//!
//! The data of a LUKS volume reaches to the end of its file, wherever that is: a volume that was cut
//! in its data can't be told from a smaller one.

use super::raw;
use super::reader::{CHUNK_BYTES, Checked, Fields, Flaw, Reader, refuse};

pub(super) const MARK: &[u8] = b"LUKS\xba\xbe";

const SECTOR_BYTES: u64 = 512;
pub(super) const HEADER_BYTES: usize = 592;

/// LUKS1: the key slots, and what the state of one in use is.
const SLOTS: usize = 8;
const SLOTS_AT: usize = 208;
const SLOT_BYTES: usize = 48;
const SLOT_ACTIVE: u32 = 0x00ac_71f3;

/// LUKS2: where the text begins that describes the segments.
const TEXT_AT: u64 = 4096;

/// The size of the disk behind the header.
pub(super) fn virtual_size_bytes(reader: &Reader<'_>) -> Checked<u64> {
    let header = reader.fields("header", 0, HEADER_BYTES)?;
    check(reader, &header, 0, reader.size_bytes())?;
    let data = data_offset(reader, &header)?;
    reader.span("data", data, 0)?;
    Ok(raw::virtual_size_bytes(reader).saturating_sub(data))
}

/// Checks that a header which begins at `start` has all of its parts before `end`.
pub(super) fn check(reader: &Reader<'_>, header: &Fields, start: u64, end: u64) -> Checked<()> {
    if header.be16(6)? != 1 {
        return Ok(());
    }
    let key_bytes = u64::from(header.be32(108)?);
    for slot in (0..SLOTS).map(|slot| SLOTS_AT + slot * SLOT_BYTES) {
        if header.be32(slot)? == SLOT_ACTIVE {
            let offset = u64::from(header.be32(slot + 40)?) * SECTOR_BYTES;
            let length = u64::from(header.be32(slot + 44)?).checked_mul(key_bytes);
            let last = length.and_then(|length| length.checked_add(start.checked_add(offset)?));
            if last.is_none_or(|last| last > end || last > reader.size_bytes()) {
                return Err(Flaw::Cut("key material"));
            }
        }
    }
    Ok(())
}

fn data_offset(reader: &Reader<'_>, header: &Fields) -> Checked<u64> {
    match header.be16(6)? {
        1 => Ok(u64::from(header.be32(104)?) * SECTOR_BYTES),
        2 => {
            let header_bytes = header.be64(8)?;
            // There are two copies of the header, one behind the other.
            reader.span("second header", header_bytes, header_bytes)?;
            let text = reader.bytes(TEXT_AT, CHUNK_BYTES)?;
            Ok(segment_offset(&text).unwrap_or(0))
        }
        version => refuse(format!("has the version {version}, which is unknown: use 1 or 2")),
    }
}

/// Where the first segment begins: the number behind `"offset":"` in `"segments":{…}`.
fn segment_offset(text: &[u8]) -> Option<u64> {
    let segments = after(text, b"\"segments\"")?;
    let digits = after(segments, b"\"offset\":\"")?;
    let length = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..length)?).ok()?.parse().ok()
}

fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).position(|found| found == mark)?;
    text.get(at.checked_add(mark.len())?..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::DiskFormat;
    use crate::inspect::tests::{patched, reason, refuses, sound};

    fn first() -> Vec<u8> {
        patched(
            &[0; 16_384],
            &[
                (0, MARK),
                (6, &[0, 1]),
                (104, &16_u32.to_be_bytes()),
                (108, &32_u32.to_be_bytes()),
                (208, &SLOT_ACTIVE.to_be_bytes()),
                (248, &8_u32.to_be_bytes()),
                (252, &64_u32.to_be_bytes()),
            ],
        )
    }

    fn second(text: &[u8]) -> Vec<u8> {
        let header: [(usize, &[u8]); 4] =
            [(0, MARK), (6, &[0, 2]), (8, &8192_u64.to_be_bytes()), (4096, text)];
        patched(&[0; 65_536], &header)
    }

    #[test]
    fn the_disk_is_what_is_behind_the_header() {
        assert_eq!(sound(&first()), (DiskFormat::Luks, 8192));
        let text =
            br#"{"keyslots":{"0":{"area":{"offset":"1"}}},"segments":{"0":{"offset":"32768"}}}"#;
        assert_eq!(sound(&second(text)), (DiskFormat::Luks, 32_768));
        assert_eq!(sound(&second(b"{}")), (DiskFormat::Luks, 65_536));
    }

    #[test]
    fn a_header_whose_parts_are_missing_is_refused() {
        refuses(
            &first(),
            &[
                (&[(104, &[0xff; 4])], "data lies beyond"),
                (&[(248, &[0xff; 4])], "key material lies beyond"),
                (&[(252, &[0xff; 4]), (108, &[0xff; 4])], "key material lies beyond"),
                (&[(6, &[0, 3])], "version 3"),
            ],
        );
        assert!(reason(&first()[..5000]).contains("key material lies beyond"));
        assert!(reason(&first()[..7000]).contains("data lies beyond"));
        let text = br#""segments":{"0":{"offset":"99999"}}"#;
        assert!(reason(&second(text)).contains("data lies beyond"));
        assert!(reason(&second(text)[..16_000]).contains("second header lies beyond"));
        let endless = br#""segments":{"0":{"offset":"99999999999999999999999""#;
        assert_eq!(sound(&second(endless)).1, 65_536);
    }
}
