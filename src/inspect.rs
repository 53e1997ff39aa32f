//! What a content is, from its bytes alone: the name declares nothing.
//!
//! Pure but for the reads of a [`Probe`]; a bounded number of small ones, whatever the bytes say.

use crate::image::DiskFormat;

/// Something whose bytes can be read at an offset.
pub trait Probe {
    /// Fills as much of `buffer` as there is at `offset`; answers how many bytes that were.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize>;
}

/// A format, where its mark stands from the beginning, and the mark.
type Mark = (DiskFormat, u64, &'static [u8]);

/// The marks in the order in which they are looked for: a container before what it may hold, and what
/// is hybrid (an ISO that also boots from a disk) by its more telling half. From the format
/// specifications of each.
const MARKS: &[Mark] = &[
    (DiskFormat::Qcow2, 0, b"QFI\xfb"),
    (DiskFormat::Qed, 0, b"QED\0"),
    (DiskFormat::Vmdk, 0, b"KDMV"),
    (DiskFormat::Vmdk, 0, b"# Disk DescriptorFile"),
    (DiskFormat::Vdi, 64, b"\x7f\x10\xda\xbe"),
    (DiskFormat::Vhdx, 0, b"vhdxfile"),
    (DiskFormat::Vhd, 0, b"conectix"),
    (DiskFormat::Luks, 0, b"LUKS\xba\xbe"),
    (DiskFormat::Iso, 32_769, b"CD001"),
    (DiskFormat::Gpt, 512, b"EFI PART"),
    (DiskFormat::Mbr, 510, b"\x55\xaa"),
];

/// A fixed Virtual PC disk has its mark in the last sector only.
const VHD_FOOTER_BYTES: u64 = 512;

/// The longest mark.
const MARK_BYTES_MAX: usize = 21;

/// Says what the content of `size_bytes` bytes is.
///
/// # Errors
/// The bytes can't be read.
pub fn detect(probe: &dyn Probe, size_bytes: u64) -> std::io::Result<DiskFormat> {
    for (format, offset, mark) in MARKS {
        if has_mark(probe, *offset, mark)? {
            return Ok(*format);
        }
    }
    let footer = size_bytes.checked_sub(VHD_FOOTER_BYTES);
    match footer {
        Some(offset) if has_mark(probe, offset, b"conectix")? => Ok(DiskFormat::Vhd),
        Some(_) | None => Ok(DiskFormat::Raw),
    }
}

fn has_mark(probe: &dyn Probe, offset: u64, mark: &[u8]) -> std::io::Result<bool> {
    let mut buffer = [0; MARK_BYTES_MAX];
    let Some(found) = buffer.get_mut(..mark.len()) else {
        return Ok(false);
    };
    Ok(probe.read_at(offset, found)? == mark.len() && found == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Probe for Vec<u8> {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
            let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or(&[]);
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        }
    }

    #[test]
    fn every_mark_is_found_where_its_format_has_it() {
        for (format, offset, mark) in MARKS {
            assert!(mark.len() <= MARK_BYTES_MAX);
            let mut bytes = vec![0; 40_000];
            let at = usize::try_from(*offset).expect("small");
            bytes[at..at + mark.len()].copy_from_slice(mark);
            assert_eq!(detect(&bytes, 40_000).expect("readable"), *format);
        }
    }

    #[test]
    fn what_has_no_mark_is_raw_however_short() {
        for size in [0, 1, 4, 511, 512, 513, 70_000] {
            let bytes = vec![7u8; size];
            assert_eq!(detect(&bytes, size as u64).expect("readable"), DiskFormat::Raw);
        }
    }

    #[test]
    fn a_fixed_vhd_is_known_by_its_footer() {
        let mut bytes = vec![0u8; 4096];
        bytes[4096 - 512..4096 - 504].copy_from_slice(b"conectix");
        assert_eq!(detect(&bytes, 4096).expect("readable"), DiskFormat::Vhd);
    }
}
