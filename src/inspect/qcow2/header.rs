//! The header of a qcow2 and its extensions; decides whether the image stands alone.

use crate::inspect::luks;
use crate::inspect::reader::{Checked, Fields, Reader, aligned, quoted, refuse, require};

/// The fields of version 3 end here; those behind are optional.
const LENGTH_3: usize = 104;
const LENGTH_2: usize = 72;

/// What a reader must understand (bytes 72 to 79). Dirty only means that reference counts may be
/// stale, which any reader may ignore.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED;

/// The first feature that is cleared by whoever doesn't know it: the bitmaps are up to date.
const BITMAPS_VALID: u64 = 1;

/// qemu opens nothing larger: 32 MiB of first-level table, 8 MiB of reference counts' table.
const FIRST_LEVEL_BYTES_MAX: u64 = 32 << 20;
const COUNTS_BYTES_MAX: u64 = 8 << 20;

/// A first-level table: where it begins, and how many entries it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstLevel {
    pub(super) offset: u64,
    pub(super) entries: u64,
}

impl FirstLevel {
    /// The size of the table; refused where qemu refuses it.
    pub(super) fn length_bytes(self) -> Checked<u64> {
        let length = self.entries.saturating_mul(8);
        require(
            length <= FIRST_LEVEL_BYTES_MAX,
            "has a first-level table over 32 MiB: rebuild it",
        )?;
        Ok(length)
    }
}

/// What the header says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) cluster_bits: u32,
    pub(super) size_bytes: u64,
    pub(super) first_level: FirstLevel,
    pub(super) counts_offset: u64,
    pub(super) counts_bytes: u64,
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
    /// Clusters are parted into 32, and a second-level entry has 16 bytes.
    pub(super) is_extended: bool,
    /// Clusters are compressed by zstd; otherwise by deflate.
    pub(super) is_zstd: bool,
    are_bitmaps_valid: bool,
    is_luks: bool,
    length: u64,
}

impl Header {
    pub(super) fn read(reader: &Reader<'_>) -> Checked<Self> {
        let fields = reader.fields("header", 0, LENGTH_2)?;
        let version = fields.be32(4)?;
        if !matches!(version, 2 | 3) {
            return refuse(format!("has the version {version}: convert it with qemu-img convert"));
        }
        if fields.be64(8)? != 0 {
            return refuse("has a backing file: flatten it with qemu-img convert");
        }
        let features = Features::read(reader, version)?;
        let cluster_bits = fields.be32(20)?;
        let is_valid = (9..=21).contains(&cluster_bits);
        require(is_valid, "has clusters of an impossible size: rebuild it with qemu-img convert")?;
        require(features.length <= 1 << cluster_bits, "has a header longer than a cluster")?;
        let is_extended = features.incompatible & EXTENDED != 0;
        require(!is_extended || cluster_bits >= 14, "has subclusters of an impossible size")?;
        let encryption = fields.be32(32)?;
        require(
            encryption <= 2,
            "is encrypted in an unknown way: decrypt it with qemu-img convert",
        )?;
        let counts_bytes = u64::from(fields.be32(56)?) << cluster_bits;
        let is_valid = (1..=COUNTS_BYTES_MAX).contains(&counts_bytes);
        require(is_valid, "has a table of reference counts of an impossible size")?;
        let header = Self {
            cluster_bits,
            size_bytes: fields.be64(24)?,
            first_level: FirstLevel {
                offset: fields.be64(40)?,
                entries: u64::from(fields.be32(36)?),
            },
            counts_offset: fields.be64(48)?,
            counts_bytes,
            snapshots: fields.be32(60)?,
            snapshots_offset: fields.be64(64)?,
            is_extended,
            is_zstd: features.incompatible & COMPRESSION != 0,
            are_bitmaps_valid: features.autoclear & BITMAPS_VALID != 0,
            is_luks: encryption == 2,
            length: features.length,
        };
        let needed = header.size_bytes.div_ceil(header.table_covers_bytes());
        let is_enough = header.first_level.entries >= needed;
        require(is_enough, "has a first-level table too small for its size: rebuild it")?;
        Ok(header)
    }

    pub(super) const fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The size of a second-level entry.
    pub(super) const fn entry_bytes(&self) -> usize {
        if self.is_extended { 16 } else { 8 }
    }

    /// How much of the disk one second-level table covers.
    pub(super) const fn table_covers_bytes(&self) -> u64 {
        let entry_bits = if self.is_extended { 4 } else { 3 };
        1 << (2 * self.cluster_bits - entry_bits)
    }

    /// Whether `offset` is the beginning of a cluster.
    pub(super) const fn is_aligned(&self, offset: u64) -> bool {
        offset.trailing_zeros() >= self.cluster_bits
    }
}

/// What the fields say that only version 3 has; version 2 has none of it.
struct Features {
    incompatible: u64,
    autoclear: u64,
    length: u64,
}

impl Features {
    fn read(reader: &Reader<'_>, version: u32) -> Checked<Self> {
        if version == 2 {
            return Ok(Self { incompatible: 0, autoclear: 0, length: 72 });
        }
        let fields = reader.fields("header", 0, LENGTH_3)?;
        let incompatible = fields.be64(72)?;
        let length = u64::from(fields.be32(100)?);
        if incompatible & DATA_FILE != 0 {
            return refuse("has its data in another file: flatten it with qemu-img convert");
        }
        if incompatible & CORRUPT != 0 {
            return refuse("is marked corrupt: repair it with qemu-img check -r all");
        }
        if incompatible & !KNOWN != 0 {
            let unknown = incompatible & !KNOWN;
            return refuse(format!(
                "needs features that are unknown ({unknown:#x}): convert it with a newer qemu-img"
            ));
        }
        require(fields.be32(96)? <= 6, "has reference counts of an impossible width: rebuild it")?;
        require(length >= 104 && length % 8 == 0, "has a header of an impossible length")?;
        Self::check_compression(reader, incompatible, length)?;
        Ok(Self { incompatible, autoclear: fields.be64(88)?, length })
    }

    fn check_compression(reader: &Reader<'_>, incompatible: u64, length: u64) -> Checked<()> {
        let kind = if length > 104 { reader.fields("header", 104, 1)?.byte(0)? } else { 0 };
        let is_named = incompatible & COMPRESSION != 0;
        match kind {
            0 if !is_named => Ok(()),
            1 if is_named => Ok(()),
            _ => refuse("is compressed in an unknown way: convert it with a newer qemu-img"),
        }
    }
}

/// Where the extensions say that more of the image is.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) bitmaps: Option<Bitmaps>,
}

/// The directory of bitmaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bitmaps {
    pub(super) count: u32,
    pub(super) offset: u64,
    pub(super) length_bytes: u64,
}

const END: u32 = 0;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;
const BITMAPS: u32 = 0x2385_2875;

/// The names of features, backing format and data file: nothing has more extensions than this.
const EXTENSIONS_MAX: u32 = 64;

/// Reads the extensions between the header and the end of its cluster.
pub(super) fn extensions(reader: &Reader<'_>, header: &Header) -> Checked<Extensions> {
    let mut found = Extensions::default();
    let mut is_unlocked = !header.is_luks;
    let mut at = header.length;
    for index in 0.. {
        require(index < EXTENSIONS_MAX, "has more header extensions than there are kinds")?;
        if at.saturating_add(8) > header.cluster_bytes() {
            break;
        }
        let head = reader.fields("header", at, 8)?;
        let length = u64::from(head.be32(4)?);
        let body = at.saturating_add(8);
        let end = body.saturating_add(length);
        let kind = head.be32(0)?;
        if kind == END {
            break;
        }
        require(end <= header.cluster_bytes(), "has a header extension longer than a cluster")?;
        match kind {
            DATA_FILE_NAME => return refuse_data_file(reader, body, length),
            BITMAPS if header.are_bitmaps_valid => {
                found.bitmaps = Some(bitmaps(&reader.fields("header", body, 24)?)?);
            }
            ENCRYPTION => {
                check_encryption(reader, &reader.fields("header", body, 16)?)?;
                is_unlocked = true;
            }
            // Names and hints, which nobody has to understand.
            _ => {}
        }
        at = aligned(end, 8)?;
    }
    require(is_unlocked, "is encrypted but has no key material: it can't be read")?;
    Ok(found)
}

fn refuse_data_file(reader: &Reader<'_>, at: u64, length: u64) -> Checked<Extensions> {
    let name = reader.bytes(at, usize::try_from(length.min(256)).unwrap_or(0))?;
    let name = quoted(&name);
    refuse(format!("names another file for its data, {name}: flatten it with qemu-img convert"))
}

fn bitmaps(fields: &Fields) -> Checked<Bitmaps> {
    Ok(Bitmaps { count: fields.be32(0)?, length_bytes: fields.be64(8)?, offset: fields.be64(16)? })
}

/// A LUKS header without its data: all of its key material lies within the stretch for it.
fn check_encryption(reader: &Reader<'_>, fields: &Fields) -> Checked<()> {
    let area = reader.span("key material", fields.be64(0)?, fields.be64(8)?)?;
    let inner = reader.fields("key material", area.offset, luks::HEADER_BYTES)?;
    require(inner.bytes(0, 6)? == luks::MARK, "is encrypted but has no key material")?;
    luks::check(reader, &inner, area.offset, area.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::qcow2::tests::{DATA, image};
    use crate::inspect::tests::{refuses, sound};

    fn extension(kind: u32, length: u32, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes(), &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn an_image_that_needs_another_file_or_an_unknown_feature_is_refused() {
        let name = extension(DATA_FILE_NAME, 4, b"a\x1b[m");
        refuses(
            &image(&[]),
            &[
                (&[(15, &[1])], "backing file"),
                (&[(79, &[4])], "data in another file"),
                (&[(104, &name)], "data, \"a\\x1b[m\""),
                (&[(79, &[2])], "marked corrupt"),
                (&[(79, &[8])], "compressed in an unknown way"),
                (&[(79, &[16])], "subclusters of an impossible size"),
                (&[(72, &[1])], "unknown (0x100000000000000)"),
                (&[(7, &[1])], "version 1"),
            ],
        );
    }

    #[test]
    fn an_image_that_was_not_closed_is_taken_as_qemu_takes_it() {
        assert_eq!(sound(&image(&[(79, &[1])])).1, 32_768);
    }

    #[test]
    fn sizes_that_no_image_has_are_refused() {
        let long = extension(7, u32::MAX, &[]);
        refuses(
            &image(&[]),
            &[
                (&[(20, &[0; 4])], "clusters of an impossible size"),
                (&[(23, &[22])], "clusters of an impossible size"),
                (&[(36, &[0; 4])], "table too small"),
                (&[(24, &[0xff; 8])], "table too small"),
                (&[(36, &[0xff; 4])], "over 32 MiB"),
                (&[(35, &[3])], "encrypted in an unknown way"),
                (&[(56, &[0; 4])], "reference counts of an impossible size"),
                (&[(56, &[0xff; 4])], "reference counts of an impossible size"),
                (&[(99, &[7])], "impossible width"),
                (&[(103, &[96])], "header of an impossible length"),
                (&[(103, &[107])], "header of an impossible length"),
                (&[(101, &[1])], "header longer than a cluster"),
                (&[(104, &long)], "extension longer than a cluster"),
            ],
        );
    }

    #[test]
    fn an_encrypted_image_has_its_key_material_in_itself() {
        let area = |offset: u64, length: u64| {
            extension(ENCRYPTION, 16, &[offset.to_be_bytes(), length.to_be_bytes()].concat())
        };
        let (far, near) = (area(u64::MAX - 9, 20), area(DATA as u64, 100));
        refuses(
            &image(&[(35, &[2])]),
            &[
                (&[], "no key material"),
                (&[(104, &far)], "key material lies beyond"),
                (&[(104, &near)], "key material lies beyond"),
            ],
        );
        let mut whole = image(&[(35, &[2]), (104, &near), (DATA, luks::MARK), (DATA + 7, &[1])]);
        whole.resize(4096, 0);
        assert_eq!(sound(&whole).1, 32_768);
    }
}
