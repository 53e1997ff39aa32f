//! The bitmaps of changed blocks that a qcow2 may hold: their tables and clusters lie within it.

use super::header::{Bitmaps, Header};
use crate::inspect::reader::{Checked, Reader, Window, aligned, entry_be, require, sum};

/// qemu has no more bitmaps, and no larger ones, than these.
const BITMAPS_MAX: u32 = 65_535;
const TABLE_BYTES_MAX: u64 = 64 << 20;

const ENTRY_BYTES: usize = 24;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// Checks each bitmap in the directory.
pub(super) fn check(reader: &Reader<'_>, header: &Header, bitmaps: Bitmaps) -> Checked<()> {
    require(bitmaps.count <= BITMAPS_MAX, "has more bitmaps than qemu can have: remove them")?;
    let directory = reader.span("directory of bitmaps", bitmaps.offset, bitmaps.length_bytes)?;
    let mut window = Window::new();
    let mut directory_window = Window::new();
    let mut offset = directory.offset;
    let mut all_bytes = 0_u64;
    for _ in 0..bitmaps.count {
        let fields =
            directory_window.fields(reader, "directory of bitmaps", offset, ENTRY_BYTES)?;
        let length = u64::from(fields.be32(8)?) * 8;
        all_bytes = all_bytes.saturating_add(length);
        require(all_bytes <= TABLE_BYTES_MAX, "has too large bitmaps: remove some")?;
        let table = reader.span("table of a bitmap", fields.be64(0)?, length)?;
        window.walk_sparse(reader, table, 8, |_, entry| {
            let cluster = entry_be(entry) & OFFSET;
            if cluster != 0 {
                reader.span("data of a bitmap", cluster, header.cluster_bytes())?;
            }
            Ok(())
        })?;
        let names_bytes = u64::from(fields.be16(18)?) + u64::from(fields.be32(20)?);
        offset = aligned(sum(offset, names_bytes + 24)?, 8)?;
        require(offset <= directory.end(), "has a directory of bitmaps that is too short")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::inspect::qcow2::tests::{DATA, image};
    use crate::inspect::tests::{patched, refuses, refuses_each_cut, sound};

    const DIRECTORY: usize = DATA + 512;
    const TABLE: usize = DATA + 1024;
    const BITS: usize = DATA + 1536;

    fn mapped() -> Vec<u8> {
        let extension = [0x2385_2875_u64 << 32 | 24, 1 << 32, 32, DIRECTORY as u64];
        let mut image = image(&[(95, &[1]), (104, &extension.map(u64::to_be_bytes).concat())]);
        image.resize(BITS + 512, 0);
        patched(
            &image,
            &[
                (DIRECTORY, &(TABLE as u64).to_be_bytes()),
                (DIRECTORY + 11, &[1]),
                (DIRECTORY + 19, &[2]),
                (DIRECTORY + 24, b"b1"),
                (TABLE, &(BITS as u64).to_be_bytes()),
            ],
        )
    }

    #[test]
    fn bitmaps_lie_within_the_image_and_no_beginning_passes() {
        assert_eq!(sound(&mapped()).1, 32_768);
        refuses_each_cut(&mapped(), 0..0);
    }

    #[test]
    fn bitmaps_that_nobody_keeps_are_not_looked_at() {
        assert_eq!(sound(&patched(&mapped()[..DIRECTORY], &[(95, &[0])])).1, 32_768);
    }

    #[test]
    fn bitmaps_that_make_no_sense_are_refused() {
        refuses(
            &mapped(),
            &[
                (&[(112, &[0xff; 4])], "more bitmaps"),
                (&[(120, &[0xff; 8])], "directory of bitmaps lies beyond"),
                (&[(127, &[8])], "directory of bitmaps that is too short"),
                (&[(DIRECTORY, &[0xff; 8])], "table of a bitmap lies beyond"),
                (&[(DIRECTORY + 8, &[0xff; 4])], "too large bitmaps"),
                (&[(DIRECTORY + 20, &[0xff; 4])], "too short"),
                (&[(TABLE, &[0, 0xff])], "data of a bitmap lies beyond"),
            ],
        );
    }
}
