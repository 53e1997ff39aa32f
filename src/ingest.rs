//! One upload: its bytes, their digest, and the seal.
//!
//! The digest is computed while data streams in, as long as each write begins where the last ended.
//! Any other order costs one more reading when the upload is sealed. This module refuses to know which
//! image it is for and what becomes of it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::{Digest, Seal};
use crate::inspect;
use crate::store::{Extent, Seek, StoreFile};

/// How much is read at once to hash what was not written in order.
const CHUNK_BYTES: usize = 1 << 20;

/// How much is written before the disk is told to begin: what is left for the vote is little, and no
/// other commit waits behind gigabytes.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// What stands for a hole when it is hashed.
static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];

/// Who is told how many bytes are done, and may end the work by an error.
pub type Watch<'a> = dyn Fn(u64) -> Result<()> + 'a;

/// Data on its way into the store.
#[derive(Debug)]
pub struct Upload {
    staged: Arc<StoreFile>,
    hasher: blake3::Hasher,
    /// All bytes before this one are in the hasher, as they are in the file.
    hashed_bytes: u64,
    /// Whether what is in the hasher was overwritten since.
    is_stale: bool,
    size_bytes: u64,
    /// Where the disk was last told to begin.
    written_back_bytes: u64,
}

impl Upload {
    /// An upload into an empty staged file.
    #[must_use]
    pub fn new(staged: Arc<StoreFile>) -> Self {
        Self {
            staged,
            hasher: blake3::Hasher::new(),
            hashed_bytes: 0,
            is_stale: false,
            size_bytes: 0,
            written_back_bytes: 0,
        }
    }

    /// An upload that goes on with a staged file that has data.
    ///
    /// # Errors
    /// Its size can't be read.
    pub fn resume(staged: Arc<StoreFile>) -> Result<Self> {
        let size_bytes = staged.size_bytes()?;
        Ok(Self { size_bytes, ..Self::new(staged) })
    }

    /// The staged file.
    #[must_use]
    pub const fn file(&self) -> &Arc<StoreFile> {
        &self.staged
    }

    /// The length so far in bytes.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The disk is full or refuses; the upload can't be sealed after that.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.staged.write_at(offset, data)?;
        let end = offset + data.len() as u64;
        if offset == self.hashed_bytes && !self.is_stale {
            self.hasher.update(data);
            self.hashed_bytes = end;
        } else if offset < self.hashed_bytes {
            self.is_stale = true;
        }
        self.size_bytes = self.size_bytes.max(end);
        if end >= self.written_back_bytes + WRITE_BACK_BYTES {
            let offset = self.written_back_bytes;
            self.staged.start_write_back(Extent { offset, length: end - offset });
            self.written_back_bytes = end;
        }
        Ok(())
    }

    /// Makes the upload `size_bytes` long.
    ///
    /// # Errors
    /// The filesystem refuses.
    pub fn set_size(&mut self, size_bytes: u64) -> Result<()> {
        self.staged.set_size(size_bytes)?;
        self.is_stale |= size_bytes < self.hashed_bytes;
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Allocates or frees a stretch, as fallocate(2) with these `mode` bits.
    ///
    /// # Errors
    /// The disk is full, or the filesystem does not offer the mode.
    pub fn allocate(&mut self, mode: u32, extent: Extent) -> Result<()> {
        self.staged.allocate(mode, extent)?;
        self.is_stale |= mode != 0 && extent.offset < self.hashed_bytes;
        self.size_bytes = self.staged.size_bytes()?;
        Ok(())
    }

    /// Takes all data of `source`, which is written there, holes and all, and hashes it on the way.
    /// `watch` is told how many bytes are done, and ends it by an error.
    ///
    /// # Errors
    /// What `watch` says, or one of the two can't be read or written.
    pub fn take(&mut self, source: &StoreFile, watch: &Watch<'_>) -> Result<()> {
        let size_bytes = source.size_bytes()?;
        self.set_size(size_bytes)?;
        let mut at = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Some(data) = source.seek(Seek::Data, at)? {
            let end = source.seek(Seek::Hole, data)?.unwrap_or(size_bytes).min(size_bytes);
            self.hash_zeros(data, watch)?;
            at = data;
            while at < end {
                watch(at)?;
                let wanted = bounded(&chunk, end - at).len();
                let buffer = chunk.get_mut(..wanted).unwrap_or_default();
                let count = source.read_at(at, buffer)?;
                if count == 0 {
                    return Err(Error::Damaged(format!("{} became shorter", source.name())));
                }
                self.write(at, chunk.get(..count).unwrap_or_default())?;
                at += count as u64;
            }
        }
        self.hash_zeros(size_bytes, watch)
    }

    /// Takes all data of `source` as the beginning of what is uploaded, without looking at it.
    ///
    /// # Errors
    /// One of the two can't be read or written.
    pub fn copy(&mut self, source: &StoreFile) -> Result<()> {
        let size_bytes = source.size_bytes()?;
        self.set_size(size_bytes)?;
        let mut at = 0;
        while let Some(data) = source.seek(Seek::Data, at)? {
            let end = source.seek(Seek::Hole, data)?.unwrap_or(size_bytes).min(size_bytes);
            self.staged.copy_from(source, Extent { offset: data, length: end - data })?;
            at = end;
        }
        Ok(())
    }

    /// Says what the bytes are, all of them, as they are now.
    ///
    /// # Errors
    /// They can't be read.
    pub fn examine(&mut self) -> Result<Seal> {
        self.examine_watched(&|_| Ok(()))
    }

    /// The same. `watch` is told how many bytes are hashed, and ends it by an error; what is hashed by
    /// then need not be hashed again.
    ///
    /// # Errors
    /// What `watch` says, or the bytes can't be read.
    pub fn examine_watched(&mut self, watch: &Watch<'_>) -> Result<Seal> {
        if self.is_stale || self.hashed_bytes != self.size_bytes {
            self.hash_again(watch)?;
        }
        let format = inspect::detect(self.staged.as_ref(), self.size_bytes)
            .map_err(|error| Error::io("read", self.staged.name(), error))?;
        Ok(Seal {
            digest: Digest::from_bytes(*self.hasher.finalize().as_bytes()),
            size_bytes: self.size_bytes,
            allocated_bytes: self.staged.allocated_bytes()?,
            format,
        })
    }

    fn hash_again(&mut self, watch: &Watch<'_>) -> Result<()> {
        if self.is_stale {
            self.hasher.reset();
            self.hashed_bytes = 0;
            self.is_stale = false;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        while self.hashed_bytes < self.size_bytes {
            let data = self.staged.seek(Seek::Data, self.hashed_bytes)?;
            let data = data.unwrap_or(self.size_bytes).min(self.size_bytes);
            self.hash_zeros(data, watch)?;
            let hole = self.staged.seek(Seek::Hole, data)?;
            let hole = hole.unwrap_or(self.size_bytes).min(self.size_bytes);
            self.hash_data(hole, &mut chunk, watch)?;
        }
        Ok(())
    }

    fn hash_zeros(&mut self, end: u64, watch: &Watch<'_>) -> Result<()> {
        while self.hashed_bytes < end {
            watch(self.hashed_bytes)?;
            let zeros = bounded(&ZEROS, end - self.hashed_bytes);
            self.hasher.update(zeros);
            self.hashed_bytes += zeros.len() as u64;
        }
        Ok(())
    }

    fn hash_data(&mut self, end: u64, chunk: &mut [u8], watch: &Watch<'_>) -> Result<()> {
        while self.hashed_bytes < end {
            watch(self.hashed_bytes)?;
            let wanted = bounded(chunk, end - self.hashed_bytes).len();
            let Some(buffer) = chunk.get_mut(..wanted) else {
                break;
            };
            let count = self.staged.read_at(self.hashed_bytes, buffer)?;
            if count == 0 {
                let what = format!("{} is shorter than it was written", self.staged.name());
                return Err(Error::Damaged(what));
            }
            self.hasher.update(chunk.get(..count).unwrap_or_default());
            self.hashed_bytes += count as u64;
        }
        Ok(())
    }
}

/// The first `length` bytes of `buffer`, or all of it if it is shorter.
fn bounded(buffer: &[u8], length: u64) -> &[u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
    buffer.get(..length).unwrap_or_default()
}
