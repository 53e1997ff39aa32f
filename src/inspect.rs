//! What a content is, from its bytes alone, and whether it is whole: the name declares nothing.
//!
//! Pure but for the reads of a [`Probe`]. It knows no file, no store and no image; it changes nothing.
//! The rules are those of the format specifications; where these leave a choice, what qemu does.

mod checksum;
mod iso;
mod luks;
mod partition;
mod qcow2;
mod qed;
mod raw;
mod reader;
mod udf;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use crate::image::DiskFormat;
use reader::{Checked, Flaw, Reader};

/// Something whose bytes can be read at an offset.
pub trait Probe {
    /// Fills as much of `buffer` as there is at `offset`; answers how many bytes that were.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize>;

    /// The first offset from `offset` on where a byte may be other than zero: `offset` itself where
    /// that is not known, and `u64::MAX` where there is none. It spares the reading of holes.
    ///
    /// # Errors
    /// The bytes can't be read.
    fn next_data(&self, offset: u64) -> std::io::Result<u64> {
        Ok(offset)
    }
}

/// What a content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its format.
    pub format: DiskFormat,
    /// The size of the disk in it, in bytes, as a guest sees it.
    pub virtual_size_bytes: u64,
}

/// What came of an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The content is what it seems to be, and all of it is there.
    Sound(Found),
    /// The content must not be used.
    Refused {
        /// What it seems to be.
        format: DiskFormat,
        /// One line for people: what is wrong, and what helps.
        reason: String,
    },
}

/// Says what the content of `size_bytes` bytes is, and whether it is whole.
///
/// # Errors
/// The bytes can't be read.
pub fn inspect(probe: &dyn Probe, size_bytes: u64) -> std::io::Result<Verdict> {
    let reader = Reader::new(probe, size_bytes);
    let format = match detect(&reader) {
        Ok(format) => format,
        Err(Flaw::Unreadable(error)) => return Err(error),
        // Detection looks at a handful of places and breaks on none.
        Err(Flaw::Broken(_) | Flaw::Cut(_)) => DiskFormat::Raw,
    };
    match virtual_size_bytes(&reader, format) {
        Ok(virtual_size_bytes) => Ok(Verdict::Sound(Found { format, virtual_size_bytes })),
        Err(Flaw::Unreadable(error)) => Err(error),
        Err(Flaw::Broken(reason)) => {
            Ok(Verdict::Refused { format, reason: format!("{} {reason}", format.name()) })
        }
        Err(Flaw::Cut(what)) => Ok(Verdict::Refused {
            format,
            reason: format!(
                "{} is cut short: its {what} lies beyond the end of the file: copy it again",
                format.name()
            ),
        }),
    }
}

/// The formats in the order in which they are looked for: a container before what it may hold, and
/// what is hybrid (an ISO that also boots from a disk) by its more telling half.
fn detect(reader: &Reader<'_>) -> Checked<DiskFormat> {
    // Whoever takes it for that opens the files that it names, whatever else it is.
    if vmdk::is_description(reader)? {
        return Ok(DiskFormat::Vmdk);
    }
    let marks: [(DiskFormat, u64, &[u8]); 11] = [
        (DiskFormat::Qcow2, 0, qcow2::MARK),
        (DiskFormat::Qed, 0, qed::MARK),
        (DiskFormat::Vmdk, 0, vmdk::MARK),
        (DiskFormat::Vmdk, 0, vmdk::DESCRIPTOR_MARK),
        (DiskFormat::Vmdk, 0, vmdk::ESX_MARK),
        (DiskFormat::Vdi, vdi::MARK_OFFSET, vdi::MARK),
        (DiskFormat::Vhdx, 0, vhdx::MARK),
        (DiskFormat::Vhd, 0, vhd::MARK),
        (DiskFormat::Luks, 0, luks::MARK),
        (DiskFormat::Vhd, vhd::footer_offset(reader.size_bytes()), vhd::MARK),
        (DiskFormat::Iso, iso::MARK_OFFSET, iso::MARK),
    ];
    for (format, offset, mark) in marks {
        if reader.has(offset, mark)? {
            return Ok(format);
        }
    }
    if partition::is_gpt(reader)? {
        Ok(DiskFormat::Gpt)
    } else if partition::is_mbr(reader)? {
        Ok(DiskFormat::Mbr)
    } else {
        Ok(DiskFormat::Raw)
    }
}

fn virtual_size_bytes(reader: &Reader<'_>, format: DiskFormat) -> Checked<u64> {
    match format {
        DiskFormat::Qcow2 => qcow2::virtual_size_bytes(reader),
        DiskFormat::Vmdk => vmdk::virtual_size_bytes(reader),
        DiskFormat::Vdi => vdi::virtual_size_bytes(reader),
        DiskFormat::Vhd => vhd::virtual_size_bytes(reader),
        DiskFormat::Vhdx => vhdx::virtual_size_bytes(reader),
        DiskFormat::Qed => qed::virtual_size_bytes(),
        DiskFormat::Luks => luks::virtual_size_bytes(reader),
        DiskFormat::Iso => iso::virtual_size_bytes(reader),
        DiskFormat::Gpt => partition::gpt_virtual_size_bytes(reader),
        DiskFormat::Raw | DiskFormat::Mbr => Ok(raw::virtual_size_bytes(reader)),
    }
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

    /// Bytes to write over others, and where.
    pub(super) type Patch<'a> = (usize, &'a [u8]);

    /// The content with something else in places.
    pub(super) fn patched(content: &[u8], patches: &[Patch<'_>]) -> Vec<u8> {
        let mut bytes = content.to_vec();
        for (at, patch) in patches {
            bytes[*at..*at + patch.len()].copy_from_slice(patch);
        }
        bytes
    }

    pub(super) fn verdict(content: &[u8]) -> Verdict {
        inspect(&content.to_vec(), content.len() as u64).expect("readable")
    }

    /// The format and the size of what must be sound.
    pub(super) fn sound(content: &[u8]) -> (DiskFormat, u64) {
        match verdict(content) {
            Verdict::Sound(found) => (found.format, found.virtual_size_bytes),
            Verdict::Refused { reason, .. } => panic!("refused: {reason}"),
        }
    }

    /// Why the content is refused, as it must be.
    pub(super) fn reason(content: &[u8]) -> String {
        match verdict(content) {
            Verdict::Refused { reason, .. } => reason,
            Verdict::Sound(found) => panic!("sound: {found:?}"),
        }
    }

    /// Each change is refused with its reason.
    pub(super) fn refuses(content: &[u8], cases: &[(&[Patch<'_>], &str)]) {
        for (patches, part) in cases {
            let said = reason(&patched(content, patches));
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    /// No beginning of the content, but for one of `lengths`, passes for what it was.
    pub(super) fn refuses_each_cut(content: &[u8], lengths: std::ops::Range<usize>) {
        let (format, _) = sound(content);
        for length in (0..content.len()).filter(|length| !lengths.contains(length)) {
            if let Verdict::Sound(found) = verdict(&content[..length]) {
                assert_ne!(found.format, format, "cut to {length}");
            }
        }
    }

    #[test]
    fn what_has_no_mark_is_raw_however_short_and_counted_in_sectors() {
        for size in [0, 1, 4, 511, 512, 513, 70_000] {
            let bytes = vec![7u8; size];
            let sectors = size.div_ceil(512) as u64;
            assert_eq!(sound(&bytes), (DiskFormat::Raw, sectors * 512));
        }
    }

    #[test]
    fn every_mark_is_found_where_its_format_has_it() {
        let marks: [(DiskFormat, usize, &[u8]); 9] = [
            (DiskFormat::Qcow2, 0, b"QFI\xfb"),
            (DiskFormat::Qed, 0, b"QED\0"),
            (DiskFormat::Vmdk, 0, b"KDMV"),
            (DiskFormat::Vmdk, 0, b"# Disk DescriptorFile"),
            (DiskFormat::Vdi, 64, b"\x7f\x10\xda\xbe"),
            (DiskFormat::Vhdx, 0, b"vhdxfile"),
            (DiskFormat::Vhd, 40_000 - 512, b"conectix"),
            (DiskFormat::Luks, 0, b"LUKS\xba\xbe"),
            (DiskFormat::Iso, 32_769, b"CD001"),
        ];
        for (format, at, mark) in marks {
            let said = reason(&patched(&[0; 40_000], &[(at, mark)]));
            assert!(said.starts_with(format.name()), "{said}");
        }
    }

    #[test]
    fn a_content_that_cannot_be_read_is_an_error_and_no_verdict() {
        struct Bad;
        impl Probe for Bad {
            fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("bad disk"))
            }
        }
        assert_eq!(inspect(&Bad, 4096).expect_err("bad").to_string(), "bad disk");
    }
}
