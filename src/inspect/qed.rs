//! QEMU enhanced disk: known by its mark, and never taken; knows nothing of what is in it.
//!
//! The format is no longer developed, and no other tool reads it.

use super::reader::{Checked, refuse};

pub(super) const MARK: &[u8] = b"QED\0";

/// Refuses.
pub(super) fn virtual_size_bytes() -> Checked<u64> {
    refuse("is no longer developed: convert it with qemu-img convert -O qcow2")
}

#[cfg(test)]
mod tests {
    use crate::inspect::tests::reason;

    #[test]
    fn every_qed_is_refused_and_told_what_helps() {
        assert!(reason(b"QED\0").contains("qemu-img convert -O qcow2"));
    }
}
