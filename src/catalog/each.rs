//! Going through all records, however many there are, a few of them in memory at a time.

use crate::error::Result;
use crate::image::{Image, ImageNumber};
use crate::lifecycle::Status;
use crate::registry::Registry;

/// Records that are read at once.
const PAGE: u32 = 256;

/// Calls `visit` with each image of a status, or of all, in the order of their numbers. It may change them.
pub(super) fn each_image(
    registry: &dyn Registry,
    status: Option<Status>,
    visit: &mut dyn FnMut(Image) -> Result<()>,
) -> Result<()> {
    let mut after = ImageNumber::new(0);
    loop {
        let page = registry.page(status, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.image.number;
        page.into_iter().try_for_each(|listed| visit(listed.image))?;
    }
}
