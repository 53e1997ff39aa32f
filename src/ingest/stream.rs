//! The bytes of an upload in their order, hashed by whoever brings them.
//!
//! A writer takes his [`Turn`] while the upload is his, and hashes when he has let go of it and the turns
//! before are over. So one hashes while the next one writes.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::image::Digest;
use crate::store::{Extent, StoreFile};

/// From this length on all processors hash together.
const TOGETHER_BYTES: usize = 1 << 20;

/// What stands for a hole when it is hashed. The kernel has one page for all of it.
static ZEROS: [u8; 16 << 20] = [0; 16 << 20];

#[derive(Debug, Default)]
struct Hashed {
    hasher: blake3::Hasher,
    /// How many bytes are in it.
    bytes: u64,
    /// A turn was not taken: what comes after it is not in the hash.
    is_broken: bool,
}

/// What is hashed of an upload.
#[derive(Debug, Default)]
pub(super) struct Stream {
    hashed: Mutex<Hashed>,
    advanced: Condvar,
}

impl Stream {
    /// Adds the next bytes; nobody has a turn.
    pub(super) fn add(&self, data: &[u8]) {
        let mut hashed = self.hashed.lock();
        if data.len() >= TOGETHER_BYTES {
            hashed.hasher.update_rayon(data);
        } else {
            hashed.hasher.update(data);
        }
        hashed.bytes += data.len() as u64;
    }

    /// Adds zeros, `length` of them or as many as are done at once; answers how many that were.
    pub(super) fn add_zeros(&self, length: u64) -> u64 {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        self.add(ZEROS.get(..length).unwrap_or_default());
        length as u64
    }

    /// Waits until all turns before `bytes` are taken. Answers whether they were.
    pub(super) fn settle(&self, bytes: u64) -> bool {
        let mut hashed = self.hashed.lock();
        while hashed.bytes < bytes && !hashed.is_broken {
            self.advanced.wait(&mut hashed);
        }
        !hashed.is_broken
    }

    /// The digest of all bytes so far.
    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(*self.hashed.lock().hasher.finalize().as_bytes())
    }
}

/// The turn of some bytes to be hashed.
#[derive(Debug)]
#[must_use = "all turns after it wait"]
pub struct Turn {
    stream: Arc<Stream>,
    staged: Arc<StoreFile>,
    offset: u64,
    write_back: Option<Extent>,
    is_taken: bool,
}

impl Turn {
    /// The turn of the bytes at `offset`, in which the disk is told to begin with `write_back`.
    pub(super) const fn new(
        stream: Arc<Stream>,
        staged: Arc<StoreFile>,
        offset: u64,
        write_back: Option<Extent>,
    ) -> Self {
        Self { stream, staged, offset, write_back, is_taken: false }
    }

    /// Hashes `data`, the bytes that were written, when all before them are.
    pub fn take(mut self, data: &[u8]) {
        let mut hashed = self.stream.hashed.lock();
        while hashed.bytes < self.offset && !hashed.is_broken {
            self.stream.advanced.wait(&mut hashed);
        }
        hashed.hasher.update(data);
        hashed.bytes += data.len() as u64;
        self.is_taken = true;
        drop(hashed);
        self.stream.advanced.notify_all();
        if let Some(extent) = self.write_back {
            self.staged.start_write_back(extent);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.is_taken {
            self.stream.hashed.lock().is_broken = true;
            self.stream.advanced.notify_all();
        }
    }
}
