//! `scrub`: what is due in the trash is purged now.

use crate::catalog::Catalog;
use crate::error::Result;
use crate::task::TaskResult;

/// Purges what is due.
pub(super) fn run(catalog: &Catalog) -> Result<TaskResult> {
    catalog.scrub().map(|images| TaskResult::Scrubbed { images })
}
