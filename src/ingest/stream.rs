//! The bytes of an upload in their order, hashed by whoever brings them.
//!
//! A writer takes his [`Turn`] while the upload is his, and hashes when he has let go of it and the turns
//! before are over. So one hashes while the next one writes.

use std::sync::{Arc, LazyLock};

use parking_lot::{Condvar, Mutex};

use super::checksums::Hashers;
use crate::image::{Algorithm, Checksums, Digest};
use crate::store::{Extent, StoreFile};

/// From this length on all processors hash together.
const TOGETHER_BYTES: usize = 1 << 20;

/// Turns that wait to be taken at most. Whoever writes waits for one of them before he writes more, so that
/// nobody is told to go on who is faster than the hash.
const TURNS_MAX: u32 = 2;

/// What stands for a hole when it is hashed. It is never written, so the kernel has one page for all of it; in the
/// program it would be as long as it is.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; 16 << 20]);

#[derive(Debug, Default)]
struct Hashed {
    hasher: blake3::Hasher,
    others: Hashers,
    /// How many bytes are in it.
    bytes: u64,
    /// Turns that are given and not over.
    turns: u32,
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
    /// A stream of which these digests are computed beside the store's own.
    pub(super) fn new(wanted: &[Algorithm]) -> Self {
        let hashed = Hashed { others: Hashers::new(wanted), ..Hashed::default() };
        Self { hashed: Mutex::new(hashed), advanced: Condvar::new() }
    }

    /// Adds the next bytes; nobody has a turn.
    pub(super) fn add(&self, data: &[u8]) {
        let mut hashed = self.hashed.lock();
        if data.len() >= TOGETHER_BYTES {
            hashed.hasher.update_rayon(data);
        } else {
            hashed.hasher.update(data);
        }
        hashed.others.update(data);
        hashed.bytes += data.len() as u64;
    }

    /// Adds zeros, `length` of them or as many as are done at once; answers how many that were.
    pub(super) fn add_zeros(&self, length: u64) -> u64 {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(ZEROS.len());
        self.add(ZEROS.get(..length).unwrap_or_default());
        length as u64
    }

    /// Waits until another turn may be given.
    pub(super) fn wait_for_room(&self) {
        let mut hashed = self.hashed.lock();
        while hashed.turns >= TURNS_MAX {
            self.advanced.wait(&mut hashed);
        }
    }

    /// Waits until all turns before `bytes` are taken. Answers whether they were.
    pub(super) fn settle(&self, bytes: u64) -> bool {
        let mut hashed = self.hashed.lock();
        while hashed.bytes < bytes && !hashed.is_broken {
            self.advanced.wait(&mut hashed);
        }
        !hashed.is_broken
    }

    /// The digests beside the store's own, of all bytes so far.
    pub(super) fn checksums(&self) -> Checksums {
        self.hashed.lock().others.checksums()
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
    pub(super) fn new(
        stream: Arc<Stream>,
        staged: Arc<StoreFile>,
        offset: u64,
        write_back: Option<Extent>,
    ) -> Self {
        stream.hashed.lock().turns += 1;
        Self { stream, staged, offset, write_back, is_taken: false }
    }

    /// Hashes `data`, the bytes that were written, when all before them are.
    pub fn take(mut self, data: &[u8]) {
        let mut hashed = self.stream.hashed.lock();
        while hashed.bytes < self.offset && !hashed.is_broken {
            self.stream.advanced.wait(&mut hashed);
        }
        hashed.hasher.update(data);
        hashed.others.update(data);
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
        let mut hashed = self.stream.hashed.lock();
        hashed.turns -= 1;
        hashed.is_broken |= !self.is_taken;
        drop(hashed);
        self.stream.advanced.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn nobody_runs_ahead_of_the_hash_and_what_is_brought_out_of_order_is_hashed_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(directory.path().join("x")).expect("a file");
        let staged = Arc::new(StoreFile::new(file, "x".into()));
        let stream: Arc<Stream> = Arc::default();
        let turn = |offset| Turn::new(Arc::clone(&stream), Arc::clone(&staged), offset, None);
        let (first, second) = (turn(0), turn(1));
        let (sender, let_go) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stream.wait_for_room();
                sender.send(()).expect("heard");
            });
            scope.spawn(|| second.take(b"b"));
            assert!(let_go.recv_timeout(Duration::from_millis(100)).is_err(), "it ran ahead");
            first.take(b"a");
            let_go.recv_timeout(Duration::from_secs(10)).expect("it goes on");
        });
        assert!(stream.settle(2));
        assert_eq!(stream.digest(), Digest::from_bytes(*blake3::hash(b"ab").as_bytes()));
        // A turn that is given up is told, and keeps nobody waiting.
        drop(turn(2));
        turn(3).take(b"d");
        assert!(!stream.settle(4));
    }
}
