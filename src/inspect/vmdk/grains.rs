//! The grain directories and grain tables of a VMware extent, and where the grains lie.

use std::collections::HashSet;

use super::{Extent, SECTOR_BYTES};
use crate::inspect::reader::{Checked, Flaw, Reader, Span, Window, entry_le, require, sum};

/// An entry that stands for a grain of zeros, where the extent has such.
const ZERO_GRAIN: u64 = 1;

/// A compressed grain begins with its place on the disk and its length.
const GRAIN_HEAD_BYTES: usize = 12;

/// What grains are like.
pub(super) struct Grains {
    pub(super) size_bytes: u64,
    pub(super) grain_bytes: u64,
    pub(super) is_compressed: bool,
    pub(super) has_zeroed: bool,
}

/// Checks both directories, all tables, and the grains that the tables of the first name. The second
/// directory names copies of these tables, so its tables need only be there.
pub(super) fn check(reader: &Reader<'_>, extent: &Extent) -> Checked<()> {
    let [first, second] = extent.directories;
    for (directory, is_first) in [(first, true), (second, false)] {
        if let Some(sector) = directory {
            let offset = sector.saturating_mul(SECTOR_BYTES);
            let directory = reader.span("grain directory", offset, extent.tables * 4)?;
            check_tables(reader, extent, directory, is_first)?;
        }
    }
    Ok(())
}

fn check_tables(
    reader: &Reader<'_>,
    extent: &Extent,
    directory: Span,
    are_followed: bool,
) -> Checked<()> {
    let mut taken = HashSet::new();
    let mut window = Window::new();
    Window::new().walk_sparse(reader, directory, 4, |index, entry| {
        let sector = entry_le(entry);
        if sector == 0 {
            return Ok(());
        }
        let length = extent.table_entries * 4;
        let table = reader.span("grain table", sector * SECTOR_BYTES, length)?;
        // An entry has four bytes.
        let is_new = u32::try_from(sector).is_ok_and(|sector| taken.insert(sector));
        require(is_new, "names one grain table twice: rebuild it with qemu-img convert")?;
        if !are_followed {
            return Ok(());
        }
        let first = index.saturating_mul(extent.table_entries);
        window.walk_sparse(reader, table, 4, |index, entry| {
            let start = first.saturating_add(index).saturating_mul(extent.grains.grain_bytes);
            check_grain(reader, &extent.grains, start, entry_le(entry))
        })
    })
}

fn check_grain(reader: &Reader<'_>, grains: &Grains, start: u64, sector: u64) -> Checked<()> {
    if sector == 0 || (grains.has_zeroed && sector == ZERO_GRAIN) || start >= grains.size_bytes {
        return Ok(());
    }
    let offset = sector * SECTOR_BYTES;
    let rest_bytes = grains.size_bytes - start;
    if grains.is_compressed {
        return check_compressed(reader, grains, offset);
    }
    reader.span("data", offset, grains.grain_bytes.min(rest_bytes)).map(|_| ())
}

/// No grain grows much by compression, so only one near the end need be asked for its length.
fn check_compressed(reader: &Reader<'_>, grains: &Grains, offset: u64) -> Checked<()> {
    let length_max = 2 * grains.grain_bytes + SECTOR_BYTES;
    if reader.span("data", offset, length_max).is_ok() {
        return Ok(());
    }
    let head = reader.fields("data", offset, GRAIN_HEAD_BYTES)?;
    let length = u64::from(head.le32(8)?);
    require(length <= length_max, "has a grain of an impossible length: copy it again")?;
    match reader.span("data", sum(offset, 12)?, length) {
        Ok(_) => Ok(()),
        Err(_) => Err(Flaw::Cut("data")),
    }
}

#[cfg(test)]
mod tests {
    use crate::inspect::tests::{refuses, sound};
    use crate::inspect::vmdk::tests::{DIRECTORY, GRAIN, TABLE, image};

    #[test]
    fn grains_and_tables_beyond_the_end_are_refused() {
        refuses(
            &image(&[]),
            &[
                (&[(DIRECTORY, &[0xff; 4])], "grain table lies beyond"),
                (&[(TABLE, &[6])], "data lies beyond"),
                (&[(TABLE, &[0xff; 4])], "data lies beyond"),
                (&[(44, &[1]), (DIRECTORY + 4, &[3])], "grain table twice"),
            ],
        );
    }

    #[test]
    fn an_entry_names_a_grain_of_zeros_only_where_there_are_such() {
        let far = [0xff; 4];
        assert_eq!(sound(&image(&[(8, &[5]), (TABLE, &[1])])).1, 9 * 512);
        assert_eq!(sound(&image(&[(TABLE + 8, &far)])).1, 9 * 512);
    }

    #[test]
    fn a_compressed_grain_near_the_end_is_there_with_its_length() {
        let compressed: [(usize, &[u8]); 3] = [(8, &[1, 0, 3]), (77, &[1]), (TABLE, &[4])];
        let with = |length: u32| {
            let bytes = length.to_le_bytes();
            let mut patches = compressed.to_vec();
            patches.push((GRAIN + 8, &bytes));
            image(&patches)
        };
        let rest = 9 * 512 - 12;
        assert_eq!(sound(&with(rest)).1, 9 * 512);
        refuses(&with(rest + 1), &[(&[], "data lies beyond")]);
        refuses(&with(u32::MAX), &[(&[], "grain of an impossible length")]);
    }
}
