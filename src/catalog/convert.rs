//! Making a new image of an active one, in another format. Whoever writes it is not the catalog: it is given the
//! file that is read and the one that is to be written, and what it leaves there is an import like any other.

use std::sync::Arc;

use super::import::{New, author};
use super::{Catalog, Shared};
use crate::error::{Error, Result};
use crate::image::{DiskFormat, Image, ImageId, User};
use crate::ingest::{Upload, Watch, sound};
use crate::inspect::Found;
use crate::lifecycle::Access;
use crate::store::StoreFile;
use crate::task::{Convert, Task, TaskInput};

/// What is to be converted, and where to.
pub struct Conversion {
    /// The data of the image.
    pub source: Arc<StoreFile>,
    /// Its format.
    pub from: DiskFormat,
    /// The size of the disk in it, in bytes.
    pub virtual_size_bytes: u64,
    /// An empty file.
    pub target: Arc<StoreFile>,
    /// How long that may become at most, in bytes.
    pub target_bytes_max: u64,
}

/// Who writes it, told of how many bytes are done.
type Work<'a> = dyn Fn(&Conversion, &Watch<'_>) -> Result<()> + 'a;

/// How much longer than the disk in it a container may be: its tables, and what is rounded up.
const OVERHEAD_BYTES: u64 = 64 << 20;

impl Catalog {
    /// Makes a new image of another, which `work` writes, on behalf of the author of the task. Answers the
    /// new image.
    ///
    /// # Errors
    /// The author may not read the image, it can't be converted, what `work` says, or the result is not
    /// what it is to be.
    pub fn convert(
        &self,
        task: &Task,
        convert: &Convert,
        watch: &dyn Fn(u8) -> Result<()>,
        work: &Work<'_>,
    ) -> Result<ImageId> {
        let image = self.by_id(convert.source)?.ok_or(Error::NotFound)?;
        must_read(&image, &author(task, &convert.groups))?;
        let private = task.id.as_image_id();
        let done = self.shared.immutable(&image, private, watch).and_then(|source| {
            self.convert_source(task, convert, (&image, &source), (watch, work))
        });
        self.shared.store.discard(private)?;
        done
    }

    fn convert_source(
        &self,
        task: &Task,
        convert: &Convert,
        (image, source): (&Image, &Arc<StoreFile>),
        (watch, work): (&dyn Fn(u8) -> Result<()>, &Work<'_>),
    ) -> Result<ImageId> {
        let Found { format: from, virtual_size_bytes } = sound(source)?;
        let target_bytes_max = self.shared.target_bytes_max(virtual_size_bytes);
        let new = New {
            made: convert.image,
            name: &convert.name,
            source: image.ownership,
            // Raw is whatever is in it.
            format: Some(convert.to).filter(|to| *to != DiskFormat::Raw),
            details: image.details.clone(),
            noted: &|id| TaskInput::Convert(Convert { image: Some(id), ..convert.clone() }),
        };
        self.import_new(task, &new, (virtual_size_bytes, watch), &|upload, watch| {
            let conversion = Conversion {
                source: Arc::clone(source),
                from,
                virtual_size_bytes,
                target: Arc::clone(upload.file()),
                target_bytes_max,
            };
            work(&conversion, watch)?;
            *upload = Upload::resume(Arc::clone(upload.file()))?;
            Ok(())
        })
    }
}

impl Shared {
    /// The data of an image that nobody can change while it is converted: of a file that lies elsewhere a copy,
    /// as what was inspected of that may be written to since.
    fn immutable(
        &self,
        image: &Image,
        private: ImageId,
        watch: &dyn Fn(u8) -> Result<()>,
    ) -> Result<Arc<StoreFile>> {
        let Some(located) = image.content.located() else { return self.open_data(image) };
        let file = self.open_located(located)?;
        self.store.discard(private)?;
        let mut copy = Upload::new(Arc::new(self.store.stage(private)?));
        self.check_size(located.fingerprint.size_bytes)?;
        copy.take(&file, &|_| watch(0))?;
        Catalog::check_source(image, &file)?;
        Ok(Arc::clone(copy.file()))
    }

    fn target_bytes_max(&self, virtual_size_bytes: u64) -> u64 {
        let most = virtual_size_bytes.saturating_add(virtual_size_bytes / 16);
        most.saturating_add(OVERHEAD_BYTES).min(self.policy.image_size_cap.unwrap_or(u64::MAX))
    }
}

/// A task is no way to read what its author can't read.
pub(super) fn must_read(image: &Image, author: &User) -> Result<()> {
    let may = match image.status.access() {
        Access::Mode => image.ownership.lets_read(author),
        Access::Root => author.uid == 0,
        Access::Empty | Access::Staged | Access::Nobody => false,
    };
    if may { Ok(()) } else { Err(Error::NoPermission("you may not read the image yourself")) }
}
