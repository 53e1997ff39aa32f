//! Bounded, checked reading of bytes that nobody vouches for; knows no format.
//!
//! Every offset and length comes from the content itself, so each is compared with the size of the
//! content before it is used, and all reads together may not exceed an allowance.

use std::cell::Cell;
use std::io;

use super::Probe;

/// The most that is read at once; longer tables go through a window of this size.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// A small read costs as much as this: it takes as long.
const READ_BYTES_MIN: usize = 4096;

/// Any content may have this much of it read.
const ALLOWANCE_BYTES_MIN: u64 = 64 << 20;

/// The tables of 32 TiB in clusters of 64 KiB.
const ALLOWANCE_BYTES_MAX: u64 = 4 << 30;

/// Why an inspection stops that has read enough.
pub(super) const TOO_LARGE: &str =
    "has larger tables than its size explains: rewrite it with qemu-img convert";

/// Names from the content are cut to this length in a reason.
const QUOTED_BYTES_MAX: usize = 64;

/// Why an inspection ended without a finding.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The bytes can't be read.
    Unreadable(io::Error),
    /// The content breaks a rule; a text for people, without the name of the format.
    Broken(String),
    /// What is named lies, wholly or in part, beyond the end of the content.
    Cut(&'static str),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// A value of the content, or why there is none.
pub(super) type Checked<T> = Result<T, Flaw>;

/// The content breaks a rule.
pub(super) fn refuse<T>(reason: impl Into<String>) -> Checked<T> {
    Err(Flaw::Broken(reason.into()))
}

/// Refuses with `reason` unless the rule holds.
pub(super) fn require(holds: bool, reason: &str) -> Checked<()> {
    if holds { Ok(()) } else { refuse(reason) }
}

/// Bytes of the content as they may stand in a text: escaped, and cut to 64 of them.
pub(super) fn quoted(bytes: &[u8]) -> String {
    match bytes.get(..QUOTED_BYTES_MAX) {
        Some(head) if bytes.len() > QUOTED_BYTES_MAX => format!("\"{}…\"", head.escape_ascii()),
        Some(_) | None => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// The sum, where it can be told.
pub(super) fn sum(left: u64, right: u64) -> Checked<u64> {
    left.checked_add(right).map_or_else(|| refuse("has an offset that no file can have"), Ok)
}

/// The product, where it can be told.
pub(super) fn product(left: u64, right: u64) -> Checked<u64> {
    left.checked_mul(right).map_or_else(|| refuse("has a size that no disk can have"), Ok)
}

/// The next multiple of `unit` from `offset` on, where it can be told.
pub(super) fn aligned(offset: u64, unit: u64) -> Checked<u64> {
    let next = offset.checked_next_multiple_of(unit);
    next.map_or_else(|| refuse("has an offset that no file can have"), Ok)
}

/// A stretch of the content that is known to lie within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length_bytes: u64,
    what: &'static str,
}

impl Span {
    /// Where it ends. It lies within a content, so there is such a place.
    pub(super) const fn end(&self) -> u64 {
        self.offset.saturating_add(self.length_bytes)
    }

    /// Whether both have a byte in common.
    pub(super) const fn overlaps(&self, other: &Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    /// The stretch in pieces that can be read at once.
    fn pieces(self) -> impl Iterator<Item = Self> {
        let chunk = u64::try_from(CHUNK_BYTES).unwrap_or(u64::MAX);
        (self.offset..self.end()).step_by(CHUNK_BYTES).map(move |offset| Self {
            offset,
            length_bytes: (self.end() - offset).min(chunk),
            what: self.what,
        })
    }
}

/// The content under inspection, and how much of it may still be read.
pub(super) struct Reader<'a> {
    probe: &'a dyn Probe,
    size_bytes: u64,
    allowance_bytes: Cell<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(probe: &'a dyn Probe, size_bytes: u64) -> Self {
        let allowance =
            size_bytes.saturating_mul(4).clamp(ALLOWANCE_BYTES_MIN, ALLOWANCE_BYTES_MAX);
        Self { probe, size_bytes, allowance_bytes: Cell::new(allowance) }
    }

    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// How much may still be read.
    pub(super) fn allowance_bytes(&self) -> u64 {
        self.allowance_bytes.get()
    }

    /// What stands at `offset`: `length` bytes, or as many as there are.
    pub(super) fn bytes(&self, offset: u64, length: usize) -> Checked<Vec<u8>> {
        let mut bytes = vec![0; length.min(CHUNK_BYTES)];
        let count = self.fill(offset, &mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Whether `mark` stands at `offset`.
    pub(super) fn has(&self, offset: u64, mark: &[u8]) -> Checked<bool> {
        Ok(self.bytes(offset, mark.len())? == mark)
    }

    /// The fields of the structure `what` at `offset`, which must all be there.
    pub(super) fn fields(&self, what: &'static str, offset: u64, length: usize) -> Checked<Fields> {
        let bytes = self.bytes(offset, length)?;
        if bytes.len() < length { Err(Flaw::Cut(what)) } else { Ok(Fields { bytes, what }) }
    }

    /// The stretch of `length_bytes` at `offset`, if it lies within the content.
    pub(super) fn span(&self, what: &'static str, offset: u64, length_bytes: u64) -> Checked<Span> {
        match offset.checked_add(length_bytes) {
            Some(end) if end <= self.size_bytes => Ok(Span { offset, length_bytes, what }),
            Some(_) | None => Err(Flaw::Cut(what)),
        }
    }

    /// Whether the bytes from `offset` to `end` are known to be zero.
    fn is_hole(&self, offset: u64, end: u64) -> Checked<bool> {
        self.spend(0)?;
        Ok(self.probe.next_data(offset)? >= end)
    }

    fn spend(&self, length: usize) -> Checked<()> {
        let cost = u64::try_from(length.max(READ_BYTES_MIN)).unwrap_or(u64::MAX);
        let Some(left) = self.allowance_bytes.get().checked_sub(cost) else {
            return refuse(TOO_LARGE);
        };
        self.allowance_bytes.set(left);
        Ok(())
    }

    fn fill(&self, offset: u64, buffer: &mut [u8]) -> Checked<usize> {
        self.spend(buffer.len())?;
        let mut done = 0;
        let mut at = offset;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let count = self.probe.read_at(at, rest)?;
            let Some(next) = u64::try_from(count).ok().and_then(|count| at.checked_add(count))
            else {
                break;
            };
            if count == 0 {
                break;
            }
            at = next;
            done += count;
        }
        Ok(done)
    }
}

/// One buffer through which tables are walked, piece by piece.
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    /// Shows each entry of a table, with its index. An entry's size divides 64 KiB.
    pub(super) fn walk(
        &mut self,
        reader: &Reader<'_>,
        table: Span,
        entry_bytes: usize,
        mut visit: impl FnMut(u64, &[u8]) -> Checked<()>,
    ) -> Checked<()> {
        for piece in table.pieces() {
            self.walk_piece(reader, table, piece, entry_bytes, &mut visit)?;
        }
        Ok(())
    }

    /// As [`Self::walk`], for a table in which zeros name nothing: holes are passed over.
    pub(super) fn walk_sparse(
        &mut self,
        reader: &Reader<'_>,
        table: Span,
        entry_bytes: usize,
        mut visit: impl FnMut(u64, &[u8]) -> Checked<()>,
    ) -> Checked<()> {
        for piece in table.pieces() {
            if !reader.is_hole(piece.offset, piece.end())? {
                self.walk_piece(reader, table, piece, entry_bytes, &mut visit)?;
            }
        }
        Ok(())
    }

    fn walk_piece(
        &mut self,
        reader: &Reader<'_>,
        table: Span,
        piece: Span,
        entry_bytes: usize,
        visit: &mut impl FnMut(u64, &[u8]) -> Checked<()>,
    ) -> Checked<()> {
        let length = usize::try_from(piece.length_bytes).unwrap_or(CHUNK_BYTES);
        let skipped = usize::try_from(piece.offset - table.offset).unwrap_or(usize::MAX);
        let first = u64::try_from(skipped / entry_bytes).unwrap_or(u64::MAX);
        let bytes = self.show(reader, table.what, piece.offset, length)?;
        for (index, entry) in (first..).zip(bytes.chunks_exact(entry_bytes)) {
            visit(index, entry)?;
        }
        Ok(())
    }

    /// The fields of the structure `what` at `offset`, for structures that follow one another.
    pub(super) fn fields(
        &mut self,
        reader: &Reader<'_>,
        what: &'static str,
        offset: u64,
        length: usize,
    ) -> Checked<Fields> {
        Ok(Fields { bytes: self.show(reader, what, offset, length)?.to_vec(), what })
    }

    /// The bytes at `offset`, from the last read where that had them.
    fn show(
        &mut self,
        reader: &Reader<'_>,
        what: &'static str,
        offset: u64,
        length: usize,
    ) -> Checked<&[u8]> {
        if self.held(offset, length).is_none() {
            // Small tables that follow one another are read many at once.
            let is_next = self.held(offset.saturating_sub(1), 1).is_some();
            self.bytes.resize(if is_next { CHUNK_BYTES } else { length.max(READ_BYTES_MIN) }, 0);
            let count = reader.fill(offset, &mut self.bytes)?;
            self.bytes.truncate(count);
            self.start = offset;
        }
        self.held(offset, length).ok_or(Flaw::Cut(what))
    }

    fn held(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }
}

/// The bytes of one structure, read field by field.
pub(super) struct Fields {
    bytes: Vec<u8>,
    what: &'static str,
}

impl Fields {
    /// The `length` bytes at `at`.
    pub(super) fn bytes(&self, at: usize, length: usize) -> Checked<&[u8]> {
        let end = at.saturating_add(length);
        self.bytes.get(at..end).ok_or(Flaw::Cut(self.what))
    }

    pub(super) fn all(&self) -> &[u8] {
        &self.bytes
    }

    fn array<const N: usize>(&self, at: usize) -> Checked<[u8; N]> {
        self.bytes(at, N)?.try_into().map_err(|_| Flaw::Cut(self.what))
    }

    pub(super) fn byte(&self, at: usize) -> Checked<u8> {
        Ok(u8::from_be_bytes(self.array(at)?))
    }

    pub(super) fn be16(&self, at: usize) -> Checked<u16> {
        Ok(u16::from_be_bytes(self.array(at)?))
    }

    pub(super) fn be32(&self, at: usize) -> Checked<u32> {
        Ok(u32::from_be_bytes(self.array(at)?))
    }

    pub(super) fn be64(&self, at: usize) -> Checked<u64> {
        Ok(u64::from_be_bytes(self.array(at)?))
    }

    pub(super) fn le16(&self, at: usize) -> Checked<u16> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    pub(super) fn le32(&self, at: usize) -> Checked<u32> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    pub(super) fn le64(&self, at: usize) -> Checked<u64> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }
}

/// A big-endian table entry of four or eight bytes; zero for any other length.
pub(super) fn entry_be(bytes: &[u8]) -> u64 {
    let long = bytes.try_into().map(u64::from_be_bytes).ok();
    long.or_else(|| bytes.try_into().map(|short| u64::from(u32::from_be_bytes(short))).ok())
        .unwrap_or(0)
}

/// A little-endian table entry of four or eight bytes; zero for any other length.
pub(super) fn entry_le(bytes: &[u8]) -> u64 {
    let long = bytes.try_into().map(u64::from_le_bytes).ok();
    long.or_else(|| bytes.try_into().map(|short| u64::from(u32::from_le_bytes(short))).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zeros without end, of which only the last byte is known to be data.
    struct Hole {
        size_bytes: u64,
    }

    impl Probe for Hole {
        fn read_at(&self, _: u64, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len())
        }

        fn next_data(&self, offset: u64) -> io::Result<u64> {
            Ok(offset.max(self.size_bytes - 1))
        }
    }

    #[test]
    fn bytes_of_an_image_stand_escaped_and_short_in_a_text() {
        assert_eq!(quoted(b"a\x1b[2J\"\n"), "\"a\\x1b[2J\\\"\\n\"");
        let long = quoted(&[b'x'; 65]);
        assert_eq!(long.len(), 64 + 2 + '…'.len_utf8());
    }

    #[test]
    fn a_stretch_that_wraps_or_passes_the_end_is_cut_off() {
        let content = vec![0; 100];
        let reader = Reader::new(&content, 100);
        for (offset, length, is_inside) in [
            (0, 100, true),
            (100, 0, true),
            (0, 101, false),
            (101, 0, false),
            (u64::MAX, 1, false),
            (1, u64::MAX, false),
        ] {
            assert_eq!(
                reader.span("table", offset, length).is_ok(),
                is_inside,
                "{offset} {length}"
            );
        }
    }

    #[test]
    fn reading_ends_when_the_allowance_is_spent() {
        let hole = Hole { size_bytes: 1 << 50 };
        let reader = Reader::new(&hole, hole.size_bytes);
        let table = reader.span("table", 0, 1 << 40).expect("inside");
        let mut seen = 0;
        let flaw = Window::new().walk(&reader, table, 8, |_, _| {
            seen += 8;
            Ok(())
        });
        assert!(matches!(flaw, Err(Flaw::Broken(reason)) if reason == TOO_LARGE));
        assert_eq!(seen, ALLOWANCE_BYTES_MAX);
    }

    #[test]
    fn holes_are_passed_over_and_what_is_behind_them_keeps_its_index() {
        let hole = Hole { size_bytes: 1 << 20 };
        let reader = Reader::new(&hole, hole.size_bytes);
        let table = reader.span("table", 0, 1 << 20).expect("inside");
        let mut seen = Vec::new();
        let walked = Window::new().walk_sparse(&reader, table, 8, |index, _| {
            seen.push(index);
            Ok(())
        });
        assert!(walked.is_ok());
        let last = (1 << 20) / 8;
        assert_eq!(seen, (last - 8192..last).collect::<Vec<u64>>());
    }

    #[test]
    fn every_entry_of_a_table_is_shown_once_in_order() {
        let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_be_bytes).collect();
        let reader = Reader::new(&content, content.len() as u64);
        let table = reader.span("table", 4, 199_996).expect("inside");
        let mut next = 0;
        let walked = Window::new().walk(&reader, table, 4, |index, entry| {
            assert_eq!((index, entry_be(entry)), (next, next + 1));
            next += 1;
            Ok(())
        });
        assert!(walked.is_ok());
        assert_eq!(next, 49_999);
    }

    #[test]
    fn fields_that_are_not_there_are_no_numbers() {
        let fields = Fields { bytes: vec![1, 2, 3, 4], what: "header" };
        assert_eq!(fields.be32(0).expect("there"), 0x0102_0304);
        assert_eq!(fields.le16(2).expect("there"), 0x0403);
        assert!(matches!(fields.be32(1), Err(Flaw::Cut("header"))));
        assert!(matches!(fields.le64(usize::MAX), Err(Flaw::Cut("header"))));
        assert_eq!((entry_be(&[0, 1]), entry_le(&[1, 0, 0, 0])), (0, 1));
    }
}
