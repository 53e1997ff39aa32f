//! The thread that does what nobody waits for: gives back the data of deleted images, publishes what
//! could not be published at once, and looks for data that belongs to nobody.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::manifest::Manifest;
use super::reserve::Claim;
use super::{Actor, Shared};
use crate::error::{Error, Result};
use crate::failpoint::{Failpoint, hit};
use crate::image::{Content, Digest, ImageId};
use crate::registry::Key;

/// How many contents are given back between two commits.
const BATCH: u32 = 64;

/// How long the keeper waits before it tries again what did not succeed.
const RETRY: Duration = Duration::from_secs(1);

/// The shortest sleep: what is due in less can wait so long.
const BLINK: Duration = Duration::from_millis(10);

/// How often it is looked for what is due at most, unless something is known to be.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is noted how long the store has lived. A crash makes what is due later by that at most.
const NOTE: Duration = Duration::from_secs(300);

/// Orphans that are looked at in one sweep; the rest waits for the next mount.
const ORPHANS_MAX: usize = 10_000;

/// Contents on their way out that a sweep knows of.
const LEAVING_MAX: u32 = 10_000;

#[derive(Default)]
struct Signal {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    work: bool,
    stop: bool,
}

/// The handle to the keeper's thread, to the one that hashes what is staged, and to the one that computes
/// digests that are asked for.
pub(super) struct Keeper {
    signal: Arc<Signal>,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self> {
        let signal = Arc::new(Signal::default());
        let spawn = |name: &str, work: fn(&Shared, &Signal)| {
            let (shared, signal) = (Arc::clone(&shared), Arc::clone(&signal));
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || work(&shared, &signal))
                .map_err(|error| Error::io("start thread", name, error))
        };
        let prepare: fn(&Shared, &Signal) =
            |shared, signal| shared.prepare_staged(|| signal.wanted.lock().stop);
        let digest: fn(&Shared, &Signal) =
            |shared, signal| shared.compute_checksums(|| signal.wanted.lock().stop);
        let threads =
            vec![spawn("keeper", keep)?, spawn("stager", prepare)?, spawn("digester", digest)?];
        Ok(Self { signal, shared, threads: Mutex::new(threads) })
    }

    /// Tells the thread that there may be work.
    pub(super) fn wake(&self) {
        self.signal.wanted.lock().work = true;
        self.signal.changed.notify_one();
    }

    /// Lets the thread finish what it is at, and ends it.
    pub(super) fn stop(&self) {
        self.signal.wanted.lock().stop = true;
        self.signal.changed.notify_one();
        self.shared.staging.wake();
        self.shared.wanted.wake();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a thread of the keeper ended in a panic");
            }
        }
    }
}

fn keep(shared: &Shared, signal: &Signal) {
    report("sweep", shared.sweep_orphans(|| signal.wanted.lock().stop));
    let mut noted = Instant::now();
    let mut looked: Option<Instant> = None;
    let mut until = Instant::now();
    loop {
        // Whoever wakes the keeper again and again does not have it look for what is due each time.
        if looked.is_none_or(|at| at.elapsed() >= PAUSE) || until <= Instant::now() {
            let nap = shared.pass_time().unwrap_or_else(|error| {
                log::error!("op=pass_time errno={}: {error}", error.errno());
                RETRY
            });
            looked = Some(Instant::now());
            until = Instant::now() + nap;
        } else {
            until = until.min(Instant::now() + PAUSE);
        }
        report("clock", shared.note_time(&mut noted));
        let is_stopped = || signal.wanted.lock().stop;
        report("manifest", shared.refresh_manifests(is_stopped));
        shared.store.keep_reserve();
        let is_done = report("reclaim", shared.drain_reclaims()) & shared.settle_kept();
        let nap = until.saturating_duration_since(Instant::now());
        let nap = if is_done { nap.max(BLINK) } else { RETRY };
        let mut wanted = signal.wanted.lock();
        if !wanted.work && !wanted.stop {
            signal.changed.wait_for(&mut wanted, nap);
        }
        wanted.work = false;
        if wanted.stop {
            drop(wanted);
            report("reclaim", shared.drain_reclaims());
            shared.settle_kept();
            return;
        }
    }
}

fn report(op: &str, outcome: Result<()>) -> bool {
    outcome.inspect_err(|error| log::error!("op={op} errno={}: {error}", error.errno())).is_ok()
}

impl Shared {
    fn note_time(&self, noted: &mut Instant) -> Result<()> {
        if noted.elapsed() < NOTE {
            return Ok(());
        }
        *noted = Instant::now();
        self.registry.set_clock(self.clock.mark())
    }

    fn drain_reclaims(&self) -> Result<()> {
        while self.reclaim()? {}
        Ok(())
    }

    /// Gives back a batch of what no record holds. Answers whether there was any.
    pub(super) fn reclaim(&self) -> Result<bool> {
        let batch = self.registry.reclaims(BATCH)?;
        if batch.is_empty() {
            return Ok(false);
        }
        // The records that let go must be on the disk before the data leaves it.
        self.registry.flush()?;
        for reclaim in &batch {
            self.drop_manifest_unless_sealed(reclaim.id)?;
            hit(Failpoint::ReclaimManifest);
            self.drop_unless_referenced(&reclaim.digest)?;
            hit(Failpoint::ReclaimData);
        }
        // Struck out only when it is gone for good.
        let digests: Vec<Digest> = batch.iter().map(|reclaim| reclaim.digest).collect();
        self.store.sync_removals(&digests)?;
        self.registry.settle(&batch)?;
        Ok(true)
    }

    pub(super) fn drop_manifest_unless_sealed(&self, id: ImageId) -> Result<()> {
        let _claim = self.reservations.reserve(Claim::Manifest(id));
        let image = self.registry.image(Key::Id(id))?;
        match image.map(|image| image.content) {
            Some(Content::Sealed(_)) => Ok(()),
            Some(Content::Absent | Content::Staged | Content::Located(_) | Content::Gone(_))
            | None => self.store.drop_manifest(id),
        }
    }

    fn drop_unless_referenced(&self, digest: &Digest) -> Result<()> {
        let _claim = self.reservations.reserve(Claim::Content(*digest));
        if self.registry.is_referenced(digest)? {
            return Ok(());
        }
        self.store.drop_sealed(digest)
    }

    /// Settles the uploads that could not be settled at their last close. Answers whether nothing is
    /// left.
    fn settle_kept(&self) -> bool {
        let mut is_done = true;
        for (id, failure) in self.uploads.unsettled() {
            let settled = match failure {
                Some(failure) => self.kill(id, &failure),
                None => self.publish_or_kill(id, false, Some(Actor::VOTED)),
            };
            match settled {
                Ok(()) => self.uploads.strike_unsettled(id),
                Err(error) => {
                    is_done = false;
                    log::warn!("image={id} op=settle errno={}: {error}; again", error.errno());
                }
            }
        }
        is_done
    }

    /// Drops sealed data that no record holds and no manifest names. What a manifest names is kept and
    /// reported: the registry may be older than the store.
    fn sweep_orphans(&self, is_stopped: impl Fn() -> bool) -> Result<()> {
        let mut orphans: Vec<Digest> = Vec::new();
        self.store.each_sealed(&mut |digest| {
            if orphans.len() < ORPHANS_MAX
                && !is_stopped()
                && !self.registry.is_referenced(&digest)?
            {
                orphans.push(digest);
            }
            Ok(())
        })?;
        if orphans.is_empty() || is_stopped() {
            return Ok(());
        }
        let mut named: Vec<Digest> = Vec::new();
        let mut unreadable = 0;
        self.store.each_manifest(&mut |name, text| {
            match Manifest::digest_in(text) {
                Some(digest) => named.extend(orphans.extract_if(.., |orphan| *orphan == digest)),
                None if self.has_data(name)? => {}
                None => unreadable += 1,
            }
            Ok(())
        })?;
        // What is uploaded meanwhile has its data and its manifest before its record, and what is purged has them
        // after it.
        let leaving = self.registry.reclaims(LEAVING_MAX)?;
        let mut unknown = 0;
        for digest in &named {
            let is_known = leaving.iter().any(|reclaim| reclaim.digest == *digest);
            unknown += usize::from(!is_known && !self.registry.is_referenced(digest)?);
        }
        if unknown > 0 {
            log::error!(
                "op=sweep: manifests name {unknown} contents that the registry does not know: it may be older \
                 than the store. They are kept: unmount, and run sps fsck --rebuild"
            );
        }
        if unreadable > 0 && !orphans.is_empty() {
            log::error!(
                "op=sweep: {} contents belong to no image, unless one of {unreadable} manifests names them \
                 that can't be read. They are kept: unmount, and run sps fsck",
                orphans.len()
            );
            return Ok(());
        }
        for digest in &orphans {
            log::warn!("op=sweep: {digest} belongs to no image and is removed");
            self.drop_unless_referenced(digest)?;
        }
        Ok(())
    }

    /// Whether the image that the name of a manifest says has a record with data: then nobody needs that manifest.
    fn has_data(&self, name: &str) -> Result<bool> {
        let Some(id) = ImageId::parse(name) else { return Ok(false) };
        let content = self.registry.image(Key::Id(id))?.map(|image| image.content);
        Ok(matches!(content, Some(Content::Sealed(_))))
    }
}
