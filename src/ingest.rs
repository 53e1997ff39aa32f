//! The upload pipeline: bytes arrive in any order, are written, hashed, and at the end said to be what they
//! are.
//!
//! The digest is computed while data streams in, as long as each write begins where the last ended: whoever
//! has written hands his data to the `Stream` afterwards, while the next one writes. Any other order costs
//! one more reading when the upload is sealed. This module refuses to know which image it is for and what
//! becomes of it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::{Algorithm, Checksums, Seal};
use crate::inspect::{self, Found, Verdict};
use crate::store::{Extent, Seek, StoreFile};

mod checksums;
mod stream;

pub use stream::Turn;

use stream::Stream;

/// How much is read at once to hash what was not written in order.
const CHUNK_BYTES: usize = 1 << 20;

/// How much is written before the disk is told to begin: what is left for the vote is little, and no
/// other commit waits behind gigabytes.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// The mode bits of fallocate(2) that make a hole.
const FALLOC_PUNCH_HOLE: u32 = 2;
const FALLOC_KEEP_SIZE: u32 = 1;

/// Who is told how many bytes are done, and may end the work by an error.
pub type Watch<'a> = dyn Fn(u64) -> Result<()> + 'a;

/// What the bytes of an upload were found to be.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What is kept of it.
    pub seal: Seal,
    /// The digests that were asked for beside the store's own.
    pub checksums: Checksums,
    /// Why it must not be used, if so.
    pub refusal: Option<String>,
}

/// Data on its way into the store.
#[derive(Debug)]
pub struct Upload {
    staged: Arc<StoreFile>,
    stream: Arc<Stream>,
    /// The digests that are computed beside the store's own.
    wanted: Vec<Algorithm>,
    /// All bytes before this one are in the stream as they are in the file, or on their way there.
    streamed_bytes: u64,
    /// Whether what is in the stream was overwritten since.
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
            stream: Arc::default(),
            wanted: Vec::new(),
            streamed_bytes: 0,
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

    /// Has these digests computed beside the store's own. Asked for after the first byte, they cost another
    /// reading.
    pub fn want(&mut self, wanted: impl IntoIterator<Item = Algorithm>) {
        let before = self.wanted.len();
        for algorithm in wanted {
            if !self.wanted.contains(&algorithm) {
                self.wanted.push(algorithm);
            }
        }
        if self.wanted.len() > before {
            self.is_stale |= self.streamed_bytes > 0;
            self.stream = Arc::new(Stream::new(&self.wanted));
        }
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

    /// Waits until the hash has nearly caught up with what was written.
    pub fn wait_for_room(&self) {
        self.stream.wait_for_room();
    }

    /// Writes all of `data` at `offset`. What is answered is the turn of these bytes to be hashed, if they
    /// go on where the last ones ended; it is to be taken soon, as all that come after it wait.
    ///
    /// # Errors
    /// The disk is full or refuses; the upload can't be sealed after that.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<Option<Turn>> {
        self.staged.write_at(offset, data)?;
        let end = offset + data.len() as u64;
        self.size_bytes = self.size_bytes.max(end);
        let write_back = (end >= self.written_back_bytes + WRITE_BACK_BYTES).then(|| {
            let offset = self.written_back_bytes;
            self.written_back_bytes = end;
            Extent { offset, length: end - offset }
        });
        if offset == self.streamed_bytes && !self.is_stale {
            self.streamed_bytes = end;
            let (stream, staged) = (Arc::clone(&self.stream), Arc::clone(&self.staged));
            return Ok(Some(Turn::new(stream, staged, offset, write_back)));
        }
        self.is_stale |= offset < self.streamed_bytes;
        if let Some(extent) = write_back {
            self.staged.start_write_back(extent);
        }
        Ok(None)
    }

    /// Makes the upload `size_bytes` long.
    ///
    /// # Errors
    /// The filesystem refuses.
    pub fn set_size(&mut self, size_bytes: u64) -> Result<()> {
        self.staged.set_size(size_bytes)?;
        self.is_stale |= size_bytes < self.streamed_bytes;
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Allocates or frees a stretch, as fallocate(2) with these `mode` bits.
    ///
    /// # Errors
    /// The disk is full, or the filesystem does not offer the mode.
    pub fn allocate(&mut self, mode: u32, extent: Extent) -> Result<()> {
        self.staged.allocate(mode, extent)?;
        self.is_stale |= mode != 0 && extent.offset < self.streamed_bytes;
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
            self.stream_zeros(data, watch)?;
            at = data;
            while at < end {
                watch(at)?;
                let wanted = bounded(&chunk, end - at).len();
                let buffer = chunk.get_mut(..wanted).unwrap_or_default();
                let count = source.read_at(at, buffer)?;
                if count == 0 {
                    return Err(Error::Damaged(format!("{} became shorter", source.name())));
                }
                let bytes = chunk.get(..count).unwrap_or_default();
                if let Some(turn) = self.write(at, bytes)? {
                    turn.take(bytes);
                }
                at += count as u64;
            }
        }
        self.stream_zeros(size_bytes, watch)
    }

    /// Takes a stretch of `source` to `offset`, without looking at it. Where the source has a hole there is
    /// one.
    ///
    /// # Errors
    /// One of the two can't be read or written.
    pub fn copy(&mut self, source: &StoreFile, from: Extent, offset: u64) -> Result<()> {
        let from_end = from.offset + from.length;
        let end = offset + from.length;
        self.is_stale |= offset < self.streamed_bytes;
        if offset < self.size_bytes {
            // What was there before is not to show through the holes.
            let length = end.min(self.size_bytes) - offset;
            let punched = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
            self.staged.allocate(punched, Extent { offset, length })?;
        }
        if end > self.size_bytes {
            self.set_size(end)?;
        }
        let mut at = from.offset;
        while let Some(data) = source.seek(Seek::Data, at)?.filter(|data| *data < from_end) {
            at = source.seek(Seek::Hole, data)?.unwrap_or(from_end).min(from_end);
            let extent = Extent { offset: data, length: at - data };
            self.staged.copy_from(source, extent, offset + (data - from.offset))?;
        }
        Ok(())
    }

    /// Says what the bytes are, all of them, as they are now.
    ///
    /// # Errors
    /// They can't be read.
    pub fn examine(&mut self) -> Result<Examined> {
        self.examine_watched(&|_| Ok(()))
    }

    /// The same. `watch` is told how many bytes are hashed, and ends it by an error; what is hashed by
    /// then need not be hashed again.
    ///
    /// # Errors
    /// What `watch` says, or the bytes can't be read.
    pub fn examine_watched(&mut self, watch: &Watch<'_>) -> Result<Examined> {
        if self.is_stale || !self.stream.settle(self.streamed_bytes) {
            // Whoever still has a turn in the old one spoils nothing.
            self.stream = Arc::new(Stream::new(&self.wanted));
            self.streamed_bytes = 0;
            self.is_stale = false;
        }
        if self.streamed_bytes != self.size_bytes {
            self.stream_file(watch)?;
        }
        let verdict = inspected(&self.staged, self.size_bytes)?;
        let (format, virtual_size_bytes, refusal) = match verdict {
            Verdict::Sound(found) => (found.format, Some(found.virtual_size_bytes), None),
            Verdict::Refused { format, reason } => (format, None, Some(reason)),
        };
        let seal = Seal {
            digest: self.stream.digest(),
            size_bytes: self.size_bytes,
            allocated_bytes: self.staged.allocated_bytes()?,
            format,
            virtual_size_bytes,
        };
        Ok(Examined { seal, checksums: self.stream.checksums(), refusal })
    }

    /// Hashes what is in the file and was not streamed, reading what is no hole.
    fn stream_file(&mut self, watch: &Watch<'_>) -> Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while self.streamed_bytes < self.size_bytes {
            let data = self.staged.seek(Seek::Data, self.streamed_bytes)?;
            let data = data.unwrap_or(self.size_bytes).min(self.size_bytes);
            self.stream_zeros(data, watch)?;
            let hole = self.staged.seek(Seek::Hole, data)?;
            let hole = hole.unwrap_or(self.size_bytes).min(self.size_bytes);
            self.stream_data(hole, &mut chunk, watch)?;
        }
        Ok(())
    }

    fn stream_zeros(&mut self, end: u64, watch: &Watch<'_>) -> Result<()> {
        while self.streamed_bytes < end {
            watch(self.streamed_bytes)?;
            self.streamed_bytes += self.stream.add_zeros(end - self.streamed_bytes);
        }
        Ok(())
    }

    fn stream_data(&mut self, end: u64, chunk: &mut [u8], watch: &Watch<'_>) -> Result<()> {
        while self.streamed_bytes < end {
            watch(self.streamed_bytes)?;
            let wanted = bounded(chunk, end - self.streamed_bytes).len();
            let Some(buffer) = chunk.get_mut(..wanted) else {
                break;
            };
            let count = self.staged.read_at(self.streamed_bytes, buffer)?;
            if count == 0 {
                let what = format!("{} is shorter than it was written", self.staged.name());
                return Err(Error::Damaged(what));
            }
            self.stream.add(chunk.get(..count).unwrap_or_default());
            self.streamed_bytes += count as u64;
        }
        Ok(())
    }
}

/// What is found in a file that nobody uploads, and is whole and safe to use.
///
/// # Errors
/// It is not, or can't be read.
pub fn sound(file: &StoreFile) -> Result<Found> {
    match inspected(file, file.size_bytes()?)? {
        Verdict::Sound(found) => Ok(found),
        Verdict::Refused { reason, .. } => Err(Error::Rejected(reason)),
    }
}

fn inspected(file: &StoreFile, size_bytes: u64) -> Result<Verdict> {
    inspect::inspect(file, size_bytes).map_err(|error| Error::io("read", file.name(), error))
}

/// The first `length` bytes of `buffer`, or all of it if it is shorter.
fn bounded(buffer: &[u8], length: u64) -> &[u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
    buffer.get(..length).unwrap_or_default()
}
