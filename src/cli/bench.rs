//! `sps bench`: what measuring needs. Filling a store goes through the catalog, without a mount.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arguments::{BenchCommand, FillArguments};
use super::backup::sync_all;
use crate::catalog::{Catalog, Parts, Policy, Source, SystemTimeSource};
use crate::error::{Error, Result};
use crate::image::{Image, ImageName, Ownership, User};
use crate::lifecycle::Status;
use crate::location::Locations;
use crate::registry::SqliteRegistry;
use crate::store::{Extent, LocalStore, OpenOptions};

/// Threads that fill: they share the commits of the registry.
const THREADS: u64 = 8;

/// How many images are made between two words on how far it is.
const TOLD: u64 = 100_000;

/// Runs the command.
pub(super) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Fill(arguments) => fill(arguments),
    }
}

fn fill(arguments: &FillArguments) -> Result<()> {
    let options = OpenOptions { is_bulk: true, ..OpenOptions::default() };
    let store = LocalStore::open(&arguments.store, options)?;
    let registry = SqliteRegistry::open_bulk(&store.registry_path())?;
    let parts = Parts {
        registry: Box::new(registry),
        store: Box::new(store),
        locations: Locations::new(Vec::new(), arguments.store.clone()),
        time: Box::new(SystemTimeSource),
    };
    let catalog = Catalog::open(parts, Policy::default())?;
    let contents = arguments.contents.unwrap_or(arguments.images).clamp(1, arguments.images.max(1));
    let filler = Filler { catalog, contents, size_bytes: arguments.size };
    // Content comes first, as the others refer to it.
    filler.make(0, contents.min(arguments.images))?;
    filler.make(contents, arguments.images)?;
    filler.catalog.close()?;
    drop(filler);
    sync_all(&arguments.store)
}

struct Filler {
    catalog: Catalog,
    contents: u64,
    size_bytes: u64,
}

impl Filler {
    /// Makes the images with numbers from `first` up to `end`.
    fn make(&self, first: u64, end: u64) -> Result<()> {
        let next = AtomicU64::new(first);
        std::thread::scope(|scope| {
            let work = || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end {
                        return Ok(());
                    }
                    self.make_one(number)?;
                    if (number + 1).is_multiple_of(TOLD) {
                        eprintln!("{} images", number + 1);
                    }
                }
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(done) => done,
                Err(_) => Err(Error::Fault("bench fill")),
            })
        })
    }

    fn make_one(&self, number: u64) -> Result<()> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let ownership = Ownership { uid, gid, mode: 0o644 };
        let image = self.catalog.queue(named(number)?, Status::Queued, ownership)?;
        let session = self.catalog.open_upload(&image, User { uid, gid, groups: Vec::new() })?;
        let filled = if number < self.contents {
            let data = content(number, self.size_bytes);
            self.catalog.write(&session, 0, &data, &mut || ()).map(|turn| {
                if let Some(turn) = turn {
                    turn.take(&data);
                }
            })
        } else {
            let original = self.find(number % self.contents)?;
            let file = self.catalog.open_sealed(&original)?;
            let source = Source { file, seal: original.content.seal().copied() };
            let all = Extent { offset: 0, length: self.size_bytes };
            self.catalog.copy(&session, &source, all, 0)
        };
        let voted = filled.and_then(|()| self.catalog.vote(&session));
        self.catalog.close_upload(&session);
        voted
    }

    fn find(&self, number: u64) -> Result<Image> {
        self.catalog.find(Status::Active, &named(number)?, None)?.ok_or(Error::NotFound)
    }
}

fn named(number: u64) -> Result<ImageName> {
    Ok(ImageName::new(format!("image-{number:07}.raw").as_bytes())?)
}

/// Bytes that no other number has.
fn content(number: u64, size_bytes: u64) -> Vec<u8> {
    let words = (0..size_bytes.div_ceil(8)).flat_map(|word| (number << 24 | word).to_le_bytes());
    words.take(usize::try_from(size_bytes).unwrap_or(usize::MAX)).collect()
}
