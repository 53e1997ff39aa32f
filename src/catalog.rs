//! Every verb of the product: load, decide, act, commit.
//!
//! This is the only floor that pairs the registry with the store, so that the order of writes at a crash
//! is read in one place: on the way in data, its name, manifest, record; on the way out record, manifest,
//! data. Time and ids enter here. It refuses to know what a mount, a path or a request is.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::image::{Details, Image, ImageId, ImageName, ImageNumber, Ownership};
use crate::lifecycle::Status;
use crate::location::Locations;
use crate::registry::{Draft, Quota, Registry};
use crate::store::Store;

mod ask;
mod backup;
mod change;
mod checksums;
mod clock;
mod convert;
mod each;
mod fsck;
mod import;
mod keeper;
mod locate;
mod manifest;
mod movement;
mod publish;
mod quota;
mod recover;
mod remove;
mod replace;
mod reserve;
mod settle;
mod staging;
mod task;
mod time;
mod upload;
mod uploads;
mod verify;
mod write;

pub use backup::{Backup, Copying};
pub use clock::{SystemTimeSource, TimeSource, now};
pub use convert::Conversion;
pub use fsck::{Checkup, Finding, check};
pub use manifest::Manifest;
pub use movement::Move;
pub use quota::Usage;
pub use remove::{Attributes, Rename};
pub use staging::Progress;
pub use upload::{Live, UploadSession};
pub use verify::Verified;
pub use write::{Resize, Source};

use checksums::Wanted;
use clock::StoreClock;
use keeper::Keeper;
use replace::Recents;
use reserve::Reservations;
use staging::Staging;
use uploads::Uploads;

/// How long a mount that ends is held up for manifests that are outdated; what is left is for the next one.
const LAST_WORK: Duration = Duration::from_secs(5);

/// How often a verb decides again when the record changed under it.
const CONFLICTS_MAX: u32 = 16;

/// What the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A deleted image can be had back until it is purged.
    pub delayed_delete: bool,
    /// A failed upload leaves the image queued, to be tried again, instead of killed.
    pub retry_failed_upload: bool,
    /// The oldest of the trash is purged when an upload finds no space.
    pub scrub_when_full: bool,
    /// How long an image is in the trash.
    pub scrub_time: Duration,
    /// How long the record of a deleted image is kept.
    pub forget_time: Duration,
    /// How long a failed upload is shown.
    pub killed_time: Duration,
    /// How long a finished task is shown.
    pub task_time: Duration,
    /// How long an image is in the trash at least: until then nobody purges it by hand.
    pub min_trash_time: Duration,
    /// How long an upload may go without data; none for ever.
    pub stall_time: Option<Duration>,
    /// How long an image may be, in bytes; none without a limit.
    pub image_size_cap: Option<u64>,
    /// How much all images may be together.
    pub quota: Quota,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            delayed_delete: true,
            retry_failed_upload: false,
            scrub_when_full: false,
            scrub_time: DAY.saturating_mul(7),
            forget_time: DAY.saturating_mul(30),
            killed_time: DAY.saturating_mul(30),
            task_time: DAY.saturating_mul(2),
            min_trash_time: Duration::ZERO,
            stall_time: None,
            image_size_cap: None,
            quota: Quota { bytes: None, images: None },
        }
    }
}

/// On whose behalf a verb acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// User id.
    pub uid: u32,
}

impl Actor {
    const ROOT: u32 = 0;

    /// On behalf of a writer who is gone, and who was told at his vote that he may have what he asked for.
    const VOTED: Self = Self { uid: Self::ROOT };

    /// Whether it is the superuser.
    #[must_use]
    pub const fn is_root(self) -> bool {
        self.uid == Self::ROOT
    }

    /// Whether it is the superuser, or the user that the daemon runs as.
    #[must_use]
    pub fn is_operator(self) -> bool {
        self.is_root() || self.uid == rustix::process::geteuid().as_raw()
    }

    /// Only root and an image's owner remove, move, restore or change it (specification, section 2).
    fn must_govern(self, image: &Image) -> Result<()> {
        if self.is_root() || self.uid == image.ownership.uid {
            Ok(())
        } else {
            Err(Error::NoPermission("only root and the image's owner may do that"))
        }
    }
}

/// What a catalog is made of.
pub struct Parts {
    /// The records.
    pub registry: Box<dyn Registry>,
    /// The bytes.
    pub store: Box<dyn Store>,
    /// Where files that are to be imported may lie.
    pub locations: Locations,
    /// What the time is.
    pub time: Box<dyn TimeSource>,
}

/// The catalog of one store.
pub struct Catalog {
    shared: Arc<Shared>,
    keeper: Keeper,
}

/// What the verbs and the keeper's thread both use.
struct Shared {
    registry: Box<dyn Registry>,
    store: Box<dyn Store>,
    locations: Locations,
    policy: Policy,
    clock: StoreClock,
    uploads: Uploads,
    staging: Staging,
    recents: Recents,
    reservations: Reservations,
    wanted: Wanted,
    told: OnceLock<Told>,
}

/// Who is told of each commit, before whoever asked for it is answered: which records have changed.
pub type Told = Box<dyn Fn(&[ImageNumber]) + Send + Sync>;

impl Catalog {
    /// Opens the catalog of a registry and its store, and settles what a daemon that stopped left
    /// behind.
    ///
    /// # Errors
    /// The registry or the store can't be read or changed.
    pub fn open(parts: Parts, policy: Policy) -> Result<Self> {
        let shared = Arc::new(Shared::settled(parts, policy)?);
        shared.store.keep_reserve();
        let keeper = Keeper::start(Arc::clone(&shared))?;
        Ok(Self { shared, keeper })
    }

    /// Ends what is open: sealed uploads are published, others have failed. Nothing may be asked
    /// after that.
    ///
    /// # Errors
    /// The registry does not take what was committed last.
    pub fn close(&self) -> Result<()> {
        for session in self.shared.uploads.sessions() {
            let failure = Error::WriterFailed("the mount ended during upload".into());
            self.shared.finish(&session, Some(failure));
        }
        self.keeper.stop();
        let until = Instant::now() + LAST_WORK;
        if let Err(error) = self.shared.refresh_manifests(|| Instant::now() >= until) {
            log::error!("op=manifest errno={}: {error}", error.errno());
        }
        self.shared.registry.set_clock(self.shared.clock.mark())?;
        self.shared.registry.flush()
    }

    /// Has `told` called after each commit. Only the first who asks for it is told.
    pub fn tell_commits(&self, told: Told) {
        // A second one is not there.
        let _ = self.shared.told.set(told);
    }

    /// Reserves an id and a name: a new image of that status, without data.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn queue(&self, name: ImageName, status: Status, ownership: Ownership) -> Result<Image> {
        let details = Details::default();
        self.shared.queue(Newcomer { name, status, ownership, details, in_place_by: None })
    }

    /// Returns when the disk has answered, whatever it said.
    pub fn try_disk(&self) {
        self.shared.store.probe();
    }

    /// Returns when all that was done before is on the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn flush(&self) -> Result<()> {
        self.shared.registry.flush()
    }
}

/// An image that is to be.
struct Newcomer {
    name: ImageName,
    status: Status,
    ownership: Ownership,
    details: Details,
    /// Who makes it in the place of another one.
    in_place_by: Option<Actor>,
}

impl Shared {
    /// What a registry and its store come to, when what a daemon that stopped left behind is settled.
    fn settled(parts: Parts, policy: Policy) -> Result<Self> {
        let Parts { registry, store, locations, time } = parts;
        let clock = StoreClock::resume(time, registry.clock()?);
        registry.set_clock(clock.mark())?;
        let shared = Self {
            registry,
            store,
            locations,
            policy,
            clock,
            uploads: Uploads::default(),
            staging: Staging::default(),
            recents: Recents::default(),
            reservations: Reservations::default(),
            wanted: Wanted::default(),
            told: OnceLock::new(),
        };
        shared.recover()?;
        Ok(shared)
    }

    /// Records a new image of its owner or, where somebody makes it in the place of another one, one that
    /// is nothing by itself.
    fn queue(&self, newcomer: Newcomer) -> Result<Image> {
        let Newcomer { name, status, mut ownership, details, in_place_by } = newcomer;
        ownership.mode &= Ownership::MODE_BITS;
        let created = self.clock.moment();
        let id = ImageId::random();
        let is_provisional = in_place_by.is_some();
        let by = in_place_by.map_or(ownership.uid, |actor| actor.uid);
        let quota_images = self.policy.quota.images;
        let draft = Draft {
            id,
            name,
            status,
            ownership,
            details,
            is_provisional,
            by,
            quota_images,
            created,
        };
        let mut made = self.registry.create(draft.clone());
        while made.as_ref().is_err_and(Error::wants_room) && self.make_room() {
            made = self.registry.create(draft.clone());
        }
        let image = made?;
        let name = image.name.as_str();
        log::info!("image={id} name={name:?} from=none to={status} op=create uid={by}");
        Ok(image)
    }
}
