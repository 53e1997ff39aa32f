//! An input read as an image: its pages of 4 KiB that are not all zero, and where they lie.
//!
//! So that a small input can be a large image. `scripts/fuzz.d/seeds.py` writes the same:
//! the number of pages (one byte), the size of the image (eight bytes, little-endian), the index of each
//! page (four bytes each), and the pages.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;

use sps::image::DiskFormat;
use sps::inspect::{Probe, Verdict, inspect};

use crate::{assert_printable, memory};

const PAGE_BYTES: usize = 4096;

/// An image of this size is as good as any larger one; what is read of it grows with it.
const SIZE_BYTES_MAX: u64 = 1 << 28;

/// What an inspection may hold: the places of half a million tables, and a window.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// The rules of `inspect::reader`: four times the image, 64 MiB at least and 4 GiB at most, where a
/// small read counts as a page.
const READ_BYTES_MIN: u64 = 64 << 20;
const READ_BYTES_MAX: u64 = 4 << 30;
const ONE_READ_BYTES_MAX: usize = 64 << 10;

/// A reason is a line for people.
const REASON_BYTES_MAX: usize = 512;

/// An inspection that read more than this is not done twice.
const CHEAP_READS: u64 = 256;

/// No disk is larger than a file can be.
const DISK_BYTES_MAX: u64 = i64::MAX as u64;

/// An image of which all but a few pages are holes.
pub struct Disk {
    pages: BTreeMap<u64, Vec<u8>>,
    size_bytes: u64,
}

impl Disk {
    /// Reads an input; none that is shorter than its head.
    pub fn parse(input: &[u8]) -> Option<Self> {
        let (count, rest) = input.split_first()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let size_bytes = u64::from_le_bytes(*size) % (SIZE_BYTES_MAX + 1);
        let indices = rest.get(..usize::from(*count) * 4)?;
        let mut data = rest.get(indices.len()..)?.chunks(PAGE_BYTES);
        let mut pages = BTreeMap::new();
        for index in indices.chunks_exact(4) {
            let index = u32::from_le_bytes(index.try_into().ok()?);
            let mut page = data.next().unwrap_or_default().to_vec();
            page.resize(PAGE_BYTES, 0);
            pages.insert(u64::from(index), page);
        }
        Some(Self { pages, size_bytes })
    }

    /// The length of the image.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Puts bytes into the image, as far as they lie within it.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (offset..self.size_bytes).zip(bytes) {
            let page =
                self.pages.entry(at / PAGE_BYTES as u64).or_insert_with(|| vec![0; PAGE_BYTES]);
            page[(at % PAGE_BYTES as u64) as usize] = *byte;
        }
    }

    /// The bytes at `offset`, with zeros where there are none.
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.copy(offset, &mut bytes);
        bytes
    }

    fn copy(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let rest = usize::try_from(self.size_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let piece = (PAGE_BYTES - within).min(length - done);
            let target = &mut buffer[done..done + piece];
            match self.pages.get(&(at / PAGE_BYTES as u64)) {
                Some(page) => target.copy_from_slice(&page[within..within + piece]),
                None => target.fill(0),
            }
            done += piece;
        }
        length
    }

    fn next_data(&self, offset: u64) -> u64 {
        let first = offset / PAGE_BYTES as u64;
        let next = self.pages.range(first..).next().map(|(index, _)| index * PAGE_BYTES as u64);
        next.map_or(u64::MAX, |start| start.max(offset))
    }
}

/// The image as the inspection sees it, which counts what is asked.
struct Counted<'a> {
    disk: &'a Disk,
    tells_holes: bool,
    reads: Cell<u64>,
    cost_bytes: Cell<u64>,
}

impl<'a> Counted<'a> {
    fn new(disk: &'a Disk, tells_holes: bool) -> Self {
        Self { disk, tells_holes, reads: Cell::new(0), cost_bytes: Cell::new(0) }
    }

    fn count(&self, length: usize) {
        self.reads.set(self.reads.get() + 1);
        self.cost_bytes.set(self.cost_bytes.get() + length.max(PAGE_BYTES) as u64);
        let allowed = (self.disk.size_bytes * 4).clamp(READ_BYTES_MIN, READ_BYTES_MAX);
        // What there is to read may end at the end of the content, and is then asked for once more.
        let slack = self.reads.get().min(64) * ONE_READ_BYTES_MAX as u64;
        assert!(self.cost_bytes.get() <= 2 * allowed + slack, "reads on and on");
    }
}

impl Probe for Counted<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(buffer.len() <= ONE_READ_BYTES_MAX, "reads {} bytes at once", buffer.len());
        self.count(buffer.len());
        Ok(self.disk.copy(offset, buffer))
    }

    fn next_data(&self, offset: u64) -> io::Result<u64> {
        self.count(0);
        Ok(if self.tells_holes { self.disk.next_data(offset) } else { offset })
    }
}

/// Inspects the image and asserts what holds of every inspection. Answers its verdict.
pub fn check(disk: &Disk) -> Verdict {
    let probe = Counted::new(disk, true);
    let verdict = memory::within(MEMORY_BYTES_MAX, || inspect(&probe, disk.size_bytes))
        .expect("all can be read");
    match &verdict {
        Verdict::Sound(found) => {
            assert!(found.virtual_size_bytes <= DISK_BYTES_MAX, "{found:?} is no disk");
            let is_the_disk = [DiskFormat::Raw, DiskFormat::Mbr, DiskFormat::Gpt, DiskFormat::Iso];
            if is_the_disk.contains(&found.format) {
                assert_eq!(found.virtual_size_bytes, disk.size_bytes.next_multiple_of(512));
            }
            assert!(found.format != DiskFormat::Qed, "QED is never taken");
            if found.format == DiskFormat::Vmdk {
                assert!(!names_parent(disk), "qemu finds a parent in it");
            } else {
                assert!(!is_description(disk), "qemu takes it for a description of extents");
            }
        }
        Verdict::Refused { format, reason } => {
            assert_printable("a reason", reason);
            assert!(reason.starts_with(format.name()), "{reason}");
            assert!(reason.len() <= REASON_BYTES_MAX, "{} bytes of reason", reason.len());
        }
    }
    if probe.reads.get() <= CHEAP_READS {
        agrees_without_holes(disk, &verdict);
    }
    verdict
}

/// Whether qemu finds a parent of a VMware disk, which it looks for here whatever the header says.
fn names_parent(disk: &Disk) -> bool {
    let text = disk.bytes(0x200, 20 * 512);
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    text.windows(18).any(|found| found == b"parentFileNameHint")
}

/// Whether qemu takes the content for a description of extents by its first sector: comments, lines of spaces,
/// and a version.
fn is_description(disk: &Disk) -> bool {
    let head = disk.bytes(0, 512.min(usize::try_from(disk.size_bytes).unwrap_or(512)));
    for line in head.split(|byte| *byte == b'\n') {
        let is_blank = line.first() == Some(&b' ') && line.trim_ascii().is_empty();
        if !line.starts_with(b"#") && !is_blank {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            return [b"version=1", b"version=2", b"version=3"]
                .iter()
                .any(|version| line == *version);
        }
    }
    false
}

/// What is known of holes spares reading, and changes no verdict: but for one who may read less.
fn agrees_without_holes(disk: &Disk, verdict: &Verdict) {
    let probe = Counted::new(disk, false);
    let again = inspect(&probe, disk.size_bytes).expect("all can be read");
    let gave_up = |verdict: &Verdict| matches!(verdict, Verdict::Refused { reason, .. } if reason.contains("larger tables"));
    assert!(*verdict == again || gave_up(&again), "{verdict:?}, and {again:?} without holes");
}

/// Checks an input whose image has `mark` at `offset`.
pub fn check_marked(input: &[u8], offset: u64, mark: &[u8]) {
    if let Some(mut disk) = Disk::parse(input) {
        disk.put(offset, mark);
        check(&disk);
    }
}

/// The reflected 32-bit cyclic redundancy check of `bytes`.
pub fn crc(polynomial: u32, bytes: &[u8]) -> u32 {
    let mut table = [0_u32; 256];
    for (remainder, byte) in table.iter_mut().zip(0_u32..) {
        *remainder = byte;
        for _ in 0..8 {
            *remainder = (*remainder >> 1) ^ (polynomial & (*remainder & 1).wrapping_neg());
        }
    }
    !bytes.iter().fold(u32::MAX, |remainder, byte| {
        (remainder >> 8) ^ table[usize::from(remainder.to_le_bytes()[0] ^ byte)]
    })
}
