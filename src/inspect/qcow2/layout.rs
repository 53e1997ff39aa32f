//! Which parts of a qcow2 are taken by its own tables, so that none is taken twice; reads nothing.

use std::collections::{BTreeMap, HashSet};

use super::header::Header;
use crate::inspect::reader::{Checked, Span, refuse, require};

/// As many tables and blocks as 256 TiB need in clusters of 64 KiB; about 8 MiB of memory.
const TABLES_MAX: usize = 1 << 19;

/// Tables by the number of their cluster, and longer stretches by their ends.
pub(super) struct Layout {
    cluster_bits: u32,
    stretches: BTreeMap<u64, u64>,
    tables: HashSet<u32>,
}

impl Layout {
    pub(super) fn new(header: &Header) -> Self {
        let cluster_bits = header.cluster_bits;
        Self { cluster_bits, stretches: BTreeMap::new(), tables: HashSet::new() }
    }

    /// Takes a stretch that belongs to nothing else.
    pub(super) fn claim(&mut self, span: Span) -> Checked<()> {
        if span.length_bytes == 0 {
            return Ok(());
        }
        let clusters = span.offset >> self.cluster_bits..=(span.end() - 1) >> self.cluster_bits;
        let is_table = |cluster| u32::try_from(cluster).is_ok_and(|it| self.tables.contains(&it));
        let is_free = !self.is_claimed(span) && !clusters.into_iter().any(is_table);
        require(is_free, "has tables that overlap: repair it with qemu-img check")?;
        self.stretches.insert(span.offset, span.end());
        Ok(())
    }

    /// Whether a part of the stretch is taken by another.
    pub(super) fn is_claimed(&self, span: Span) -> bool {
        let before = self.stretches.range(..span.end()).next_back();
        before.is_some_and(|(_, end)| *end > span.offset)
    }

    /// Takes the cluster of a table; answers whether it was free until now.
    pub(super) fn claim_table(&mut self, span: Span) -> Checked<bool> {
        require(!self.is_claimed(span), "has tables that overlap: repair it with qemu-img check")?;
        let Ok(cluster) = u32::try_from(span.offset >> self.cluster_bits) else {
            return refuse(
                "has too small clusters for its size: enlarge them with qemu-img convert",
            );
        };
        let is_new = self.tables.insert(cluster);
        require(
            self.tables.len() <= TABLES_MAX,
            "has more tables than can be checked: use larger clusters (qemu-img convert)",
        )?;
        Ok(is_new)
    }
}
