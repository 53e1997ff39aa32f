//! Whether a compressed cluster is all there: its length is known to the sector only, so where its file
//! ends within that sector, the stream itself must tell. Nothing is kept of what it holds.
//!
//! After RFC 1951 (deflate) and RFC 8878 (zstd).

use std::slice::Iter;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Deflate,
    Zstd,
}

/// Whether `bytes` begin with a stream that yields `needed` bytes or comes to its end.
pub(super) fn is_whole(compression: Compression, bytes: &[u8], needed: u64) -> bool {
    let end = match compression {
        Compression::Deflate => inflate(bytes, needed),
        Compression::Zstd => frame(bytes),
    };
    end.is_some()
}

/// No cluster has as many blocks; each may cost a table.
const BLOCKS_MAX: u32 = 4096;

const END_OF_BLOCK: u16 = 256;
const FIRST_LENGTH: u16 = 257;
const CODE_BITS_MAX: usize = 15;

/// RFC 1951, 3.2.5: for each length code, the least length and the number of bits to add.
const LENGTHS: [(u64, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// RFC 1951, 3.2.7: the order of the lengths of the codes for lengths.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The bits of a stream, the lowest of each byte first.
struct Bits<'a> {
    bytes: Iter<'a, u8>,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    /// The next `count` bits, sixteen at most, as a number.
    fn take(&mut self, count: u32) -> Option<u32> {
        while self.count < count {
            self.held |= u32::from(*self.bytes.next()?) << self.count;
            self.count += 8;
        }
        let taken = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Some(taken)
    }

    /// Goes on at the next whole byte.
    const fn align(&mut self) {
        self.held = 0;
        self.count = 0;
    }
}

/// A canonical Huffman code: how many symbols have each length, and the symbols in order.
struct Code {
    counts: [u32; CODE_BITS_MAX + 1],
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Self {
        let mut counts = [0; CODE_BITS_MAX + 1];
        let mut used: Vec<(u8, u16)> = lengths.iter().copied().zip(0..).collect();
        used.retain(|(length, _)| *length > 0);
        used.sort_unstable();
        for (length, _) in &used {
            if let Some(count) = counts.get_mut(usize::from(*length)) {
                *count += 1;
            }
        }
        Self { counts, symbols: used.into_iter().map(|(_, symbol)| symbol).collect() }
    }

    fn next(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for count in self.counts.iter().skip(1) {
            code |= bits.take(1)?;
            let place = code.checked_sub(first)?;
            if place < *count {
                let at = usize::try_from(index + place).ok()?;
                return self.symbols.get(at).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// Counts what a deflate stream yields, until that is enough.
fn inflate(bytes: &[u8], needed: u64) -> Option<()> {
    let mut bits = Bits { bytes: bytes.iter(), held: 0, count: 0 };
    let mut yielded = 0;
    for _ in 0..BLOCKS_MAX {
        let is_last = bits.take(1)? == 1;
        yielded += match bits.take(2)? {
            0 => stored(&mut bits)?,
            1 => coded(&mut bits, &fixed_codes(), needed - yielded)?,
            2 => {
                let codes = dynamic_codes(&mut bits)?;
                coded(&mut bits, &codes, needed - yielded)?
            }
            _ => return None,
        };
        if is_last || yielded >= needed {
            return Some(());
        }
    }
    None
}

fn stored(bits: &mut Bits<'_>) -> Option<u64> {
    bits.align();
    let length = bits.take(16)?;
    let complement = bits.take(16)?;
    if length != complement ^ 0xffff {
        return None;
    }
    for _ in 0..length {
        bits.take(8)?;
    }
    Some(u64::from(length))
}

/// A block of literals and of lengths with distances.
fn coded(bits: &mut Bits<'_>, codes: &(Code, Code), needed: u64) -> Option<u64> {
    let (symbols, distances) = codes;
    let mut yielded = 0;
    while yielded < needed {
        let symbol = symbols.next(bits)?;
        if symbol == END_OF_BLOCK {
            return Some(yielded);
        }
        let Some(length_code) = symbol.checked_sub(FIRST_LENGTH) else {
            yielded += 1;
            continue;
        };
        let (length, more) = LENGTHS.get(usize::from(length_code))?;
        yielded += length + u64::from(bits.take(*more)?);
        let distance = distances.next(bits)?;
        // RFC 1951, 3.2.5: two codes for each number of bits, from the fourth on.
        bits.take(u32::from(distance / 2).saturating_sub(1).min(13))?;
    }
    Some(yielded)
}

fn fixed_codes() -> (Code, Code) {
    let mut lengths = [8; 288];
    for (symbol, length) in lengths.iter_mut().enumerate() {
        *length = match symbol {
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        };
    }
    (Code::new(&lengths), Code::new(&[5; 30]))
}

fn dynamic_codes(bits: &mut Bits<'_>) -> Option<(Code, Code)> {
    let symbols = usize::try_from(bits.take(5)?).ok()? + 257;
    let distances = usize::try_from(bits.take(5)?).ok()? + 1;
    let given = usize::try_from(bits.take(4)?).ok()? + 4;
    let mut short = [0; 19];
    for at in ORDER.iter().take(given) {
        *short.get_mut(*at)? = u8::try_from(bits.take(3)?).ok()?;
    }
    let code = Code::new(&short);
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < symbols + distances {
        let (length, count) = match code.next(bits)? {
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (u8::try_from(length).ok()?, 1),
        };
        lengths.extend((0..count).map(|_| length));
    }
    let (left, right) = lengths.split_at_checked(symbols)?;
    Some((Code::new(left), Code::new(right)))
}

/// RFC 8878, 3.1.1: a frame whose blocks have their lengths before them.
fn frame(bytes: &[u8]) -> Option<()> {
    let rest = bytes.strip_prefix(b"\x28\xb5\x2f\xfd")?;
    let (descriptor, mut rest) = rest.split_first()?;
    let is_single = descriptor >> 5 & 1 == 1;
    let has_checksum = descriptor >> 2 & 1 == 1;
    let size_bytes = match descriptor >> 6 {
        0 => usize::from(is_single),
        exponent => 1 << exponent,
    };
    let dictionary_bytes = match descriptor & 3 {
        3 => 4,
        bytes => usize::from(bytes),
    };
    rest = rest.get(usize::from(!is_single) + dictionary_bytes + size_bytes..)?;
    for _ in 0..BLOCKS_MAX {
        let (head, body) = rest.split_first_chunk::<3>()?;
        let [low, middle, high] = *head;
        let head = u32::from_le_bytes([low, middle, high, 0]);
        let length = match head >> 1 & 3 {
            1 => 1,
            3 => return None,
            _ => usize::try_from(head >> 3).ok()?,
        };
        rest = body.get(length..)?;
        if head & 1 == 1 {
            return rest.get(..if has_checksum { 4 } else { 0 }).map(|_| ());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text `a` 300 times, then `bcdefgh`, as zlib writes it with fixed codes.
    const FIXED: &[u8] = b"\x4b\x4c\x1c\x05\xc4\x82\xa4\xe4\x94\xd4\xb4\xf4\x0c\0";

    #[test]
    fn a_deflate_stream_is_whole_with_its_last_byte_only() {
        let stored: &[u8] = b"\x01\x05\0\xfa\xffhello";
        for stream in [FIXED, stored] {
            assert!(is_whole(Compression::Deflate, stream, u64::MAX));
            for length in 0..stream.len() {
                let cut = &stream[..length];
                assert!(!is_whole(Compression::Deflate, cut, u64::MAX), "{length}");
            }
        }
    }

    #[test]
    fn a_stream_that_has_yielded_enough_need_not_end() {
        assert!(is_whole(Compression::Deflate, &FIXED[..FIXED.len() - 1], 306));
        assert!(is_whole(Compression::Deflate, b"\0\x05\0\xfa\xffhello", 5));
        assert!(!is_whole(Compression::Deflate, b"\0\x05\0\xfa\xffhello", 6));
    }

    #[test]
    fn a_zstd_frame_is_whole_with_its_last_byte_only() {
        // A window of 1 KiB, a block of four bytes, one of many equal ones, and a checksum.
        let frame = b"\x28\xb5\x2f\xfd\x04\0\x20\0\0abcd\x43\x1f\0x1234";
        assert!(is_whole(Compression::Zstd, frame, 0));
        for length in 0..frame.len() {
            assert!(!is_whole(Compression::Zstd, &frame[..length], 0), "{length}");
        }
    }

    #[test]
    fn what_is_no_stream_is_not_whole() {
        for bytes in [&[0xff; 64][..], &[0x05; 64], b"\x00\x05\0\x00\x00hello", &[0x02; 9000]] {
            assert!(!is_whole(Compression::Deflate, bytes, 1 << 20));
            assert!(!is_whole(Compression::Zstd, bytes, 1 << 20));
        }
    }
}
