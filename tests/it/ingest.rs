//! An upload against a vector of bytes: whatever is done to it in whatever order, what is sealed is what is there.

use std::sync::Arc;

use blake3::hash;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use sps::error::Error;
use sps::image::{Algorithm, ImageId};
use sps::ingest::Upload;
use sps::store::{Extent, LocalStore, OpenOptions, Store, StoreFile};

/// Longer than what is read at once, so that there are several pieces.
const SOURCE_BYTES: usize = 2_500_000;

#[derive(Clone, Debug)]
enum Step {
    /// The bytes come with a turn to be hashed: it is taken, or left.
    Write {
        offset: usize,
        length: usize,
        letter: u8,
        is_taken: bool,
    },
    Append {
        length: usize,
        letter: u8,
    },
    Size(usize),
    Allocate {
        is_punched: bool,
        offset: usize,
        length: usize,
    },
    Copy {
        from: usize,
        length: usize,
        offset: usize,
    },
    Take,
    Want(Algorithm),
    Examine,
    /// It is hashed as far as this, and given up.
    ExamineTo(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let at = || prop::sample::select(vec![0usize, 0, 1, 4_096, 70_000, 1_048_576, 1_100_000]);
    let length = || prop::sample::select(vec![1usize, 100, 4_096, 66_000, 1_048_577]);
    prop_oneof![
        4 => (at(), length(), b'a'..b'e', prop::bool::weighted(0.8)).prop_map(
            |(offset, length, letter, is_taken)| Step::Write { offset, length, letter, is_taken }),
        4 => (length(), b'a'..b'e').prop_map(|(length, letter)| Step::Append { length, letter }),
        2 => at().prop_map(Step::Size),
        3 => (any::<bool>(), at(), length())
            .prop_map(|(is_punched, offset, length)| Step::Allocate { is_punched, offset, length }),
        4 => (at(), length(), at())
            .prop_map(|(from, length, offset)| Step::Copy { from, length, offset }),
        1 => Just(Step::Take),
        1 => prop::sample::select(vec![Algorithm::Sha256, Algorithm::Md5]).prop_map(Step::Want),
        3 => Just(Step::Examine),
        2 => (0..2_000_000u64).prop_map(Step::ExamineTo),
    ]
}

/// A file with holes: data, nothing for a while, data, and nothing to its end.
fn source(store: &dyn Store) -> (StoreFile, Vec<u8>) {
    let mut bytes = vec![0; SOURCE_BYTES];
    let file = store.stage(ImageId::random()).expect("staged");
    file.set_size(SOURCE_BYTES as u64).expect("long enough");
    for (start, end, letter) in [(0, 65_536, b'x'), (1_048_576, 2_200_000, b'y')] {
        bytes[start..end].fill(letter);
        file.write_at(start as u64, &bytes[start..end]).expect("written");
    }
    (file, bytes)
}

struct Rig {
    upload: Upload,
    source: StoreFile,
    source_bytes: Vec<u8>,
    /// What must be there.
    bytes: Vec<u8>,
    wanted: Vec<Algorithm>,
}

impl Rig {
    fn new(store: &dyn Store) -> Self {
        let (source, source_bytes) = source(store);
        let upload = Upload::new(Arc::new(store.stage(ImageId::random()).expect("staged")));
        Self { upload, source, source_bytes, bytes: Vec::new(), wanted: Vec::new() }
    }

    fn put(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(data);
    }

    fn write(&mut self, offset: usize, (length, letter): (usize, u8), is_taken: bool) {
        let data = vec![letter; length];
        let turn = self.upload.write(offset as u64, &data).expect("written");
        if let Some(turn) = turn.filter(|_| is_taken) {
            turn.take(&data);
        }
        self.put(offset, &data);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { offset, length, letter, is_taken } => {
                self.write(offset, (length, letter), is_taken);
            }
            Step::Append { length, letter } => {
                self.write(self.bytes.len(), (length, letter), true);
            }
            Step::Size(size) => {
                self.upload.set_size(size as u64).expect("set");
                self.bytes.resize(size, 0);
            }
            Step::Allocate { is_punched, offset, length } => {
                // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, or none.
                let extent = Extent { offset: offset as u64, length: length as u64 };
                self.upload.allocate(if is_punched { 3 } else { 0 }, extent).expect("done");
                if is_punched {
                    let end = (offset + length).min(self.bytes.len());
                    self.bytes[offset.min(end)..end].fill(0);
                } else {
                    self.bytes.resize(self.bytes.len().max(offset + length), 0);
                }
            }
            Step::Copy { from, length, offset } => {
                let extent = Extent { offset: from as u64, length: length as u64 };
                self.upload.copy(&self.source, extent, offset as u64).expect("copied");
                let data = self.source_bytes[from..from + length].to_vec();
                self.put(offset, &data);
            }
            Step::Take => {
                self.upload.take(&self.source, &|_| Ok(())).expect("taken");
                self.bytes.truncate(SOURCE_BYTES);
                let data = self.source_bytes.clone();
                self.bytes.resize(SOURCE_BYTES, 0);
                for (at, byte) in data.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                    self.bytes[at] = *byte;
                }
            }
            Step::Want(algorithm) => {
                self.upload.want([algorithm]);
                self.wanted.push(algorithm);
            }
            Step::Examine => self.examine(),
            Step::ExamineTo(last) => {
                let watch = |done| if done > last { Err(Error::Interrupted) } else { Ok(()) };
                match self.upload.examine_watched(&watch) {
                    Ok(_) | Err(Error::Interrupted) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
        assert_eq!(self.upload.size_bytes(), self.bytes.len() as u64, "{step:?}");
    }

    fn examine(&mut self) {
        let found = self.upload.examine().expect("readable");
        let mut there = vec![0; self.bytes.len() + 1];
        let count = self.upload.file().read_at(0, &mut there).expect("readable");
        there.truncate(count);
        assert!(there == self.bytes, "the file has other bytes");
        assert_eq!(found.seal.size_bytes, self.bytes.len() as u64);
        assert_eq!(found.seal.digest.to_string(), hash(&self.bytes).to_string());
        let sha256 = found.checksums.hex(Algorithm::Sha256).map(str::to_owned);
        let is_wanted = self.wanted.contains(&Algorithm::Sha256);
        assert_eq!(sha256, is_wanted.then(|| hex(&Sha256::digest(&self.bytes))));
        let is_wanted = self.wanted.contains(&Algorithm::Md5);
        assert_eq!(found.checksums.hex(Algorithm::Md5).is_some(), is_wanted);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn store() -> (tempfile::TempDir, LocalStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let options = OpenOptions { is_bulk: true, ..OpenOptions::default() };
    let store = LocalStore::open(&directory.path().join("s"), options).expect("a store");
    (directory, store)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_is_what_was_put_in_however_that_came(steps in prop::collection::vec(step(), 1..14)) {
        let (_directory, store) = store();
        let mut rig = Rig::new(&store);
        for step in &steps {
            rig.take(step);
        }
        rig.examine();
    }
}

#[test]
fn holes_are_holes_after_a_copy_and_after_taking_all() {
    let (_directory, store) = store();
    let allocated = |file: &StoreFile| file.allocated_bytes().expect("known");
    let mut rig = Rig::new(&store);
    let most = allocated(&rig.source) + (64 << 10);
    rig.take(&Step::Take);
    assert!(allocated(rig.upload.file()) <= most, "taken");
    let mut rig = Rig::new(&store);
    // What was there before does not show through, and takes no room.
    rig.write(0, (SOURCE_BYTES, b'q'), true);
    let all = Extent { offset: 0, length: SOURCE_BYTES as u64 };
    rig.upload.copy(&rig.source, all, 0).expect("copied");
    rig.bytes = rig.source_bytes.clone();
    rig.examine();
    assert!(allocated(rig.upload.file()) <= most, "copied");
    // A copy into the middle leaves what is behind it.
    let mut rig = Rig::new(&store);
    rig.write(0, (300_000, b'q'), true);
    rig.take(&Step::Copy { from: 70_000, length: 100_000, offset: 50_000 });
    rig.examine();
}

#[test]
fn what_was_hashed_before_it_was_given_up_is_not_hashed_again() {
    let (_directory, store) = store();
    let mut rig = Rig::new(&store);
    rig.take(&Step::Copy { from: 0, length: 2_200_000, offset: 0 });
    let limit = 1_100_000;
    let watch = |done| if done > limit { Err(Error::Interrupted) } else { Ok(()) };
    assert!(rig.upload.examine_watched(&watch).is_err());
    let first = std::cell::Cell::new(None);
    let watch = |done| {
        first.set(first.get().or(Some(done)));
        Ok(())
    };
    rig.upload.examine_watched(&watch).expect("readable");
    assert!(first.get().is_some_and(|first| first > limit), "{first:?}");
    rig.examine();
}
