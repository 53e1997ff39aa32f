//! `import`: what is staged, or a file below an allowed root, becomes an active image.

use super::Watch;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::image::ImageId;
use crate::task::{ImportPath, Task, TaskResult};

/// Takes in what is staged.
pub(super) fn staged(catalog: &Catalog, image: ImageId, watch: &Watch<'_>) -> Result<TaskResult> {
    catalog.import_staged(image, watch)?;
    Ok(TaskResult::Imported { image })
}

/// Takes in a file that lies elsewhere.
pub(super) fn path(
    catalog: &Catalog,
    task: &Task,
    path: &ImportPath,
    watch: &Watch<'_>,
) -> Result<TaskResult> {
    let image = catalog.import_path(task, path, watch)?;
    Ok(TaskResult::Imported { image })
}
