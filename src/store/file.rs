//! One file of the store, open: positioned reads and writes, holes, and what it takes on the disk.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{FallocateFlags, SeekFrom};

use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Fingerprint, Ownership, Timestamp};
use crate::inspect::Probe;
use crate::sys;

/// How much is written at once: filesystems are slower with more than with so much again and again.
const PIECE_BYTES: usize = 256 << 10;

/// A file of the store. It has no position: each call names an offset in bytes.
#[derive(Debug)]
pub struct StoreFile {
    file: File,
    what: String,
}

/// A stretch of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// Where to look for the next data or hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is stored.
    Data,
    /// The next byte that is in a hole; the end of the file is one.
    Hole,
}

impl StoreFile {
    /// Takes an open file, and what it is called in messages.
    pub(crate) fn new(file: File, what: String) -> Self {
        Self { file, what }
    }

    /// What the file is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.what
    }

    /// Reads at `offset` until `buffer` is full or the file ends; answers how many bytes that were.
    ///
    /// # Errors
    /// The disk does not give them.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read", error)),
            }
        }
        Ok(done)
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The disk is full or refuses; part of the data may be written then.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut at = offset;
        for piece in data.chunks(PIECE_BYTES) {
            self.file.write_all_at(piece, at).map_err(|error| self.failed("write", error))?;
            hit(Failpoint::StoreWritten);
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies `extent` of `source` to `offset`, within the kernel where the filesystem offers that; by a
    /// reflink where it can.
    ///
    /// # Errors
    /// The disk is full, or one of the two can't be read or written.
    pub fn copy_from(&self, source: &Self, extent: Extent, offset: u64) -> Result<()> {
        let (mut from, mut to) = (extent.offset, offset);
        let end = extent.offset + extent.length;
        while from < end {
            let length = usize::try_from(end - from).unwrap_or(usize::MAX);
            let copied = rustix::fs::copy_file_range(
                &source.file,
                Some(&mut from),
                &self.file,
                Some(&mut to),
                length,
            );
            match copied {
                Ok(0) => return Ok(()),
                Ok(_) => hit(Failpoint::StoreWritten),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(self.failed("copy_file_range", error)),
            }
        }
        Ok(())
    }

    /// Becomes the same as `source` without copying, as reflinks do. Answers whether the filesystem offers
    /// that; if not, nothing has changed.
    #[must_use]
    pub fn share(&self, source: &Self) -> bool {
        rustix::fs::ioctl_ficlone(&self.file, &source.file).is_ok()
    }

    /// Makes the file `size_bytes` long, with a hole at its end if it grows.
    ///
    /// # Errors
    /// The filesystem refuses.
    pub fn set_size(&self, size_bytes: u64) -> Result<()> {
        self.file.set_len(size_bytes).map_err(|error| self.failed("truncate", error))?;
        hit(Failpoint::StoreResized);
        Ok(())
    }

    /// Allocates or frees a stretch, as fallocate(2) with these `mode` bits.
    ///
    /// # Errors
    /// The mode is not known, the disk is full, or the filesystem does not offer it.
    pub fn allocate(&self, mode: u32, extent: Extent) -> Result<()> {
        let flags = FallocateFlags::from_bits(mode)
            .ok_or_else(|| Error::Invalid(format!("fallocate mode {mode:#x}")))?;
        rustix::fs::fallocate(&self.file, flags, extent.offset, extent.length)
            .map_err(|error| self.failed("fallocate", error))?;
        hit(Failpoint::StoreResized);
        Ok(())
    }

    /// Starts to write a stretch to the disk, without waiting for it. What the filesystem does not
    /// offer is left to [`sync`](Self::sync).
    pub fn start_write_back(&self, extent: Extent) {
        if let Err(error) = sys::start_write_back(&self.file, extent.offset, extent.length) {
            log::debug!("op=write_back: {}: {error}", self.what);
        }
    }

    /// Returns when the data is on the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| self.failed("fdatasync", error))?;
        hit(Failpoint::StoreSynced);
        Ok(())
    }

    /// The length in bytes.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn size_bytes(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(|error| self.failed("stat", error))?.len())
    }

    /// The space taken on the disk in bytes.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn allocated_bytes(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(|error| self.failed("stat", error))?;
        Ok(metadata.blocks() * 512)
    }

    /// The next data or hole at or after `offset`; none when there is no data up to the end.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn seek(&self, whence: Seek, offset: u64) -> Result<Option<u64>> {
        let from = match whence {
            Seek::Data => SeekFrom::Data(offset),
            Seek::Hole => SeekFrom::Hole(offset),
        };
        // The position of the file moves, and nobody uses it.
        match rustix::fs::seek(&self.file, from) {
            Ok(at) => Ok(Some(at)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(self.failed("lseek", error)),
        }
    }

    /// Whose it is, and its permission bits.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn ownership(&self) -> Result<Ownership> {
        let found = self.file.metadata().map_err(|error| self.failed("stat", error))?;
        Ok(Ownership { uid: found.uid(), gid: found.gid(), mode: found.mode() & 0o7777 })
    }

    /// By what it is known not to have changed.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let found = self.file.metadata().map_err(|error| self.failed("stat", error))?;
        let time = |seconds: i64, nanoseconds: i64| {
            let whole = seconds.saturating_mul(1_000_000_000);
            Timestamp::from_nanoseconds(whole.saturating_add(nanoseconds))
        };
        Ok(Fingerprint {
            inode: found.ino(),
            size_bytes: found.len(),
            modified_at: time(found.mtime(), found.mtime_nsec()),
            changed_at: time(found.ctime(), found.ctime_nsec()),
        })
    }

    fn failed(&self, op: &'static str, error: impl Into<std::io::Error>) -> Error {
        Error::io(op, &self.what, error)
    }
}

impl AsFd for StoreFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Probe for StoreFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        if i64::try_from(offset).is_err() {
            return Ok(0);
        }
        Self::read_at(self, offset, buffer).map_err(std::io::Error::other)
    }

    fn next_data(&self, offset: u64) -> std::io::Result<u64> {
        let found = self.seek(Seek::Data, offset).map_err(std::io::Error::other)?;
        Ok(found.unwrap_or(u64::MAX))
    }
}
