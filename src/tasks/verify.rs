//! `verify`: contents are read and hashed again. Damage is withheld, and is not a failure of the task.

use super::Watch;
use crate::catalog::{Catalog, Verified};
use crate::error::Result;
use crate::image::ImageId;
use crate::task::TaskResult;

/// Verifies one image, or all.
pub(super) fn run(
    catalog: &Catalog,
    image: Option<ImageId>,
    watch: &Watch<'_>,
) -> Result<TaskResult> {
    let verified = match image {
        Some(image) => catalog.verify_image(image, watch)?,
        None => catalog.verify_all(watch)?,
    };
    let Verified { contents, size_bytes, damaged } = verified;
    Ok(TaskResult::Verified { contents, size_bytes, damaged })
}
