//! The tables of a qcow2: two levels for the disk and for each snapshot, and reference counts.

use super::clusters::{Clusters, Place};
use super::header::{FirstLevel, Header};
use super::layout::Layout;
use crate::inspect::reader::{Checked, Reader, Span, TOO_LARGE, Window, entry_be, refuse, require};

/// The offset in a first- or second-level entry: bits 9 to 55.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// The offset in an entry of the reference counts' table.
const COUNTS_OFFSET: u64 = !0x1ff;

/// One disk in the image: the active one, or that of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    pub(super) tables: FirstLevel,
    pub(super) size_bytes: u64,
}

/// The walk over all tables.
pub(super) struct Tables<'a> {
    reader: &'a Reader<'a>,
    header: &'a Header,
    first: Window,
    second: Window,
    clusters: Clusters<'a>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(reader: &'a Reader<'a>, header: &'a Header) -> Self {
        let (first, second) = (Window::new(), Window::new());
        Self { reader, header, first, second, clusters: Clusters::new(reader, header) }
    }

    /// Checks the table of reference counts and takes its blocks.
    pub(super) fn reference_counts(&mut self, layout: &mut Layout) -> Checked<()> {
        let (reader, header) = (self.reader, self.header);
        let (offset, length) = (header.counts_offset, header.counts_bytes);
        let table = reader.span("table of reference counts", offset, length)?;
        require(header.is_aligned(offset), "has reference counts astride of clusters: repair it")?;
        layout.claim(table)?;
        self.first.walk_sparse(reader, table, 8, |_, entry| {
            let offset = entry_be(entry) & COUNTS_OFFSET;
            if offset == 0 {
                return Ok(());
            }
            let block = cluster(reader, header, "block of reference counts", offset)?;
            require(
                layout.claim_table(block)?,
                "names a block of reference counts twice: repair it",
            )
        })
    }

    /// Takes the tables of the active disk before any is followed, so that a table too many or
    /// named twice costs no more than the first level.
    pub(super) fn claim_first_level(&mut self, layout: &mut Layout, disk: Disk) -> Checked<Span> {
        let (reader, header) = (self.reader, self.header);
        let table = first_level(reader, header, disk.tables)?;
        layout.claim(table)?;
        let mut all_bytes = 0_u64;
        let allowed_bytes = reader.allowance_bytes();
        self.first.walk_sparse(reader, table, 8, |_, entry| {
            let offset = entry_be(entry) & OFFSET;
            if offset == 0 {
                return Ok(());
            }
            let table = cluster(reader, header, "second-level table", offset)?;
            require(
                layout.claim_table(table)?,
                "names one table twice: repair it with qemu-img check",
            )?;
            all_bytes = all_bytes.saturating_add(table.length_bytes);
            require(all_bytes <= allowed_bytes, TOO_LARGE)
        })?;
        Ok(table)
    }

    /// Follows the tables of the active disk, which were taken before.
    pub(super) fn disk(&mut self, layout: &mut Layout, disk: Disk, table: Span) -> Checked<()> {
        self.follow(layout, disk, table, |_, _| Ok(true))
    }

    /// Takes the tables of a snapshot and follows those which no other disk shares.
    pub(super) fn snapshot(&mut self, layout: &mut Layout, disk: Disk) -> Checked<()> {
        let table = first_level(self.reader, self.header, disk.tables)?;
        self.follow(layout, disk, table, Layout::claim_table)
    }

    fn follow(
        &mut self,
        layout: &mut Layout,
        disk: Disk,
        table: Span,
        mut is_due: impl FnMut(&mut Layout, Span) -> Checked<bool>,
    ) -> Checked<()> {
        let (reader, header) = (self.reader, self.header);
        let Self { first, second, clusters, .. } = self;
        first.walk_sparse(reader, table, 8, |index, entry| {
            let offset = entry_be(entry) & OFFSET;
            if offset == 0 {
                return Ok(());
            }
            let table = cluster(reader, header, "second-level table", offset)?;
            if !is_due(layout, table)? {
                return Ok(());
            }
            let start = index.saturating_mul(header.table_covers_bytes());
            second.walk_sparse(reader, table, header.entry_bytes(), |index, entry| {
                let at = start.saturating_add(index.saturating_mul(header.cluster_bytes()));
                let rest = disk.size_bytes.checked_sub(at).filter(|rest| *rest > 0);
                let place = Place { rest_bytes: rest.unwrap_or(u64::MAX) };
                clusters.check(layout, place, entry)
            })
        })
    }
}

fn first_level(reader: &Reader<'_>, header: &Header, table: FirstLevel) -> Checked<Span> {
    let span = reader.span("first-level table", table.offset, table.length_bytes()?)?;
    require(
        header.is_aligned(table.offset),
        "has a first-level table astride of clusters: repair it",
    )?;
    Ok(span)
}

fn cluster(reader: &Reader<'_>, header: &Header, what: &'static str, offset: u64) -> Checked<Span> {
    if !header.is_aligned(offset) {
        return refuse(format!("has a {what} astride of clusters: repair it with qemu-img check"));
    }
    reader.span(what, offset, header.cluster_bytes())
}

#[cfg(test)]
mod tests {
    use crate::inspect::qcow2::tests::{BLOCK, COUNTS, FIRST, SECOND, image};
    use crate::inspect::tests::{patched, reason, refuses, sound};

    const fn entry(offset: usize) -> [u8; 8] {
        (offset as u64).to_be_bytes()
    }

    #[test]
    fn tables_that_lie_elsewhere_or_on_one_another_are_refused() {
        let far = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0];
        refuses(
            &image(&[]),
            &[
                (&[(COUNTS, &entry(COUNTS))], "tables that overlap"),
                (&[(COUNTS, &far)], "block of reference counts lies beyond"),
                (&[(COUNTS + 8, &entry(BLOCK))], "block of reference counts twice"),
                (&[(48, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0])], "counts lies beyond"),
                (&[(48, &entry(COUNTS + 8))], "counts astride"),
                (&[(40, &entry(FIRST + 8))], "first-level table astride"),
                (&[(40, &entry(COUNTS))], "tables that overlap"),
                (&[(40, &far)], "first-level table lies beyond"),
                (&[(FIRST, &entry(FIRST))], "tables that overlap"),
                (&[(FIRST, &entry(BLOCK))], "names one table twice"),
                (&[(FIRST, &far)], "second-level table lies beyond"),
                (&[(39, &[2]), (FIRST + 8, &entry(SECOND))], "names one table twice"),
                (&[(SECOND, &entry(FIRST))], "data on its own tables"),
                (&[(SECOND, &far)], "data lies beyond"),
                (&[(SECOND, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])], "compressed data"),
            ],
        );
    }

    #[test]
    fn the_last_cluster_of_a_disk_need_only_reach_to_its_end() {
        // Clusters of 1 KiB; the disk ends in the first half of the one that is there.
        let mut disk = vec![0; 5 * 1024 + 512];
        let small = image(&[(23, &[10]), (24, &512_u64.to_be_bytes())]);
        disk[..128].copy_from_slice(&small[..128]);
        for (at, value) in [(40, 3072_u64), (48, 1024), (1024, 2048), (3072, 4096), (4096, 5120)] {
            disk[at..at + 8].copy_from_slice(&value.to_be_bytes());
        }
        assert_eq!(sound(&disk).1, 512);
        assert!(reason(&disk[..disk.len() - 1]).contains("data lies beyond"));
        assert!(reason(&patched(&disk, &[(30, &[4])])).contains("data lies beyond"));
    }

    #[test]
    fn a_part_of_a_cluster_that_is_not_allocated_need_not_be_there() {
        const CLUSTER: usize = 16_384;
        let head = image(&[(23, &[14]), (79, &[16])]);
        let mut disk = vec![0; 5 * CLUSTER + 1024];
        disk[..128].copy_from_slice(&head[..128]);
        for (at, part) in [(40, 3), (48, 1), (CLUSTER, 2), (3 * CLUSTER, 4), (4 * CLUSTER, 5)] {
            disk[at..at + 8].copy_from_slice(&entry(part * CLUSTER));
        }
        let two_parts = patched(&disk, &[(4 * CLUSTER + 15, &[3])]);
        assert_eq!(sound(&two_parts).1, 32_768);
        let three_parts = patched(&disk, &[(4 * CLUSTER + 15, &[4])]);
        assert!(reason(&three_parts).contains("data lies beyond"));
    }
}
