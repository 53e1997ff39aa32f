//! Every verb of the product: load, decide, act, commit.
//!
//! This is the only floor that pairs the registry with the store, so that the order of writes at a crash
//! is read in one place: on the way in data, its name, manifest, record; on the way out record, manifest,
//! data. Time and ids enter here. It refuses to know what a mount, a path or a request is.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::image::{
    Content, IdPrefix, Image, ImageId, ImageName, ImageNumber, Ownership, Timestamp,
};
use crate::lifecycle::{Decision, Effect, Event, Status, Step, decide};
use crate::registry::{Change, Draft, Durability, Key, Listed, Reclaim, Registry, Total};
use crate::store::{Space, Store, StoreFile};

mod keeper;
mod manifest;
mod publish;
mod recover;
mod remove;
mod reserve;
mod upload;

pub use publish::Resize;
pub use remove::{Attributes, Rename};
pub use upload::{Live, UploadSession};

use keeper::Keeper;
use reserve::Reservations;
use upload::Uploads;

/// How often a verb decides again when the record changed under it.
const CONFLICTS_MAX: u32 = 16;

/// What the operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A deleted image can be had back until it is purged.
    pub delayed_delete: bool,
    /// A failed upload leaves the image queued, to be tried again, instead of killed.
    pub retry_failed_upload: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { delayed_delete: true, retry_failed_upload: false }
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

    /// Whether it is the superuser.
    #[must_use]
    pub const fn is_root(self) -> bool {
        self.uid == Self::ROOT
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

/// The catalog of one store.
pub struct Catalog {
    shared: Arc<Shared>,
    keeper: Keeper,
}

/// What the verbs and the keeper's thread both use.
struct Shared {
    registry: Box<dyn Registry>,
    store: Box<dyn Store>,
    policy: Policy,
    uploads: Uploads,
    reservations: Reservations,
}

impl Catalog {
    /// Opens the catalog of a registry and its store, and settles what a daemon that stopped left
    /// behind.
    ///
    /// # Errors
    /// The registry or the store can't be read or changed.
    pub fn open(
        registry: Box<dyn Registry>,
        store: Box<dyn Store>,
        policy: Policy,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            registry,
            store,
            policy,
            uploads: Uploads::default(),
            reservations: Reservations::default(),
        });
        shared.recover()?;
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
        self.shared.registry.flush()
    }

    /// Reserves an id and a name: a new image, queued.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn queue(&self, name: ImageName, ownership: Ownership) -> Result<Image> {
        let draft = Draft {
            id: ImageId::random(),
            name,
            status: Status::Queued,
            ownership,
            created_at: now(),
        };
        let image = self.shared.registry.create(draft)?;
        log::info!("image={} name={:?} to=queued op=create", image.id, image.name.as_str());
        Ok(image)
    }

    /// Returns when all that was done before is on the disk.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn flush(&self) -> Result<()> {
        self.shared.registry.flush()
    }

    /// The image with this number, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn by_number(&self, number: ImageNumber) -> Result<Option<Image>> {
        self.shared.registry.image(Key::Number(number))
    }

    /// The image with this id, if there is one.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn by_id(&self, id: ImageId) -> Result<Option<Image>> {
        self.shared.registry.image(Key::Id(id))
    }

    /// The newest image of a name in a status or, with a prefix, the one whose id begins so.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn find(
        &self,
        status: Status,
        name: &ImageName,
        prefix: Option<IdPrefix>,
    ) -> Result<Option<Image>> {
        self.shared.registry.find(status, name, prefix)
    }

    /// Images with a number above `after`, at most `limit`, of one status or of all.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn page(
        &self,
        status: Option<Status>,
        after: ImageNumber,
        limit: u32,
    ) -> Result<Vec<Listed>> {
        self.shared.registry.page(status, after, limit)
    }

    /// The name by which the folder of its status lists the image.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn listed_name(&self, image: &Image) -> Result<String> {
        let is_shadowed = self.shared.registry.is_shadowed(image)?;
        Ok(if is_shadowed { image.name.listed_as(image.id) } else { image.name.to_string() })
    }

    /// Counts and sizes, a row for each status that has images.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn totals(&self) -> Result<Vec<Total>> {
        self.shared.registry.totals()
    }

    /// The images that entered a status last, the latest first.
    ///
    /// # Errors
    /// The registry can't be read.
    pub fn latest(&self, status: Status, limit: u32) -> Result<Vec<Image>> {
        self.shared.registry.latest(status, limit)
    }

    /// How much room the store has.
    ///
    /// # Errors
    /// The filesystem does not say.
    pub fn space(&self) -> Result<Space> {
        self.shared.store.space()
    }

    /// The sealed data of an image, to read. It stays readable to whoever has it, whatever becomes of
    /// the image.
    ///
    /// # Errors
    /// It has none, or it is gone from the disk.
    pub fn open_sealed(&self, image: &Image) -> Result<Arc<StoreFile>> {
        match &image.content {
            Content::Sealed(seal) => self.shared.store.open(&seal.digest).or_else(|error| {
                match self.by_id(image.id)?.map(|now| now.content) {
                    Some(Content::Sealed(_)) => {
                        Err(Error::Damaged(format!("data of image {}: {error}", image.id)))
                    }
                    // It was removed since it was looked up.
                    Some(Content::Absent | Content::Staged | Content::Gone(_)) | None => {
                        Err(Error::NotFound)
                    }
                }
            }),
            Content::Absent | Content::Staged | Content::Gone(_) => Err(Error::NotFound),
        }
    }
}

impl Shared {
    fn load(&self, id: ImageId) -> Result<Image> {
        self.registry.image(Key::Id(id))?.ok_or(Error::NotFound)
    }

    /// Reads the record and commits what `edit` makes of it, until nobody else changes it in
    /// between. An edit that answers none changes nothing.
    fn amend(
        &self,
        id: ImageId,
        durability: Durability,
        mut edit: impl FnMut(Image) -> Result<Option<Image>>,
    ) -> Result<()> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut next) = edit(self.load(id)?)? else {
                return Ok(());
            };
            next.updated_at = now();
            let change = Change { durability, ..Change::update(next) };
            match self.registry.commit(change) {
                Err(Error::Conflict) => {}
                done => return done,
            }
        }
        Err(Error::Conflict)
    }

    /// Takes the step that `choose` asks of the record, with all its effects on records and sealed data.
    /// Answers the record before it, or none when it was so already.
    fn transition(
        &self,
        id: ImageId,
        choose: impl Fn(&Image) -> Result<Event>,
        amend: impl Fn(&mut Image),
    ) -> Result<Option<Image>> {
        for _ in 0..CONFLICTS_MAX {
            let image = self.load(id)?;
            let event = choose(&image)?;
            let step = match decide(image.subject(), event) {
                Decision::Step(step) => step,
                Decision::Already => return Ok(None),
                Decision::Denied(reason) => return Err(reason.into()),
            };
            let mut change = self.stepped(&image, step, &amend)?;
            if step.effects.contains(&Effect::TakeName) {
                self.evict_holder(&image, step.to, &mut change)?;
            }
            match self.registry.commit(change) {
                Err(Error::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let name = image.name.as_str();
                    let cause = event.name();
                    log::info!(
                        "image={id} name={name:?} from={} to={} op={cause:?}",
                        image.status,
                        step.to
                    );
                    return Ok(Some(image));
                }
            }
        }
        Err(Error::Conflict)
    }

    fn stepped(&self, image: &Image, step: Step, amend: impl Fn(&mut Image)) -> Result<Change> {
        let mut next = image.stepped(step, now());
        amend(&mut next);
        let mut change = Change::update(next);
        if step.effects.contains(&Effect::DropRecord) {
            change.forgotten.append(&mut change.updates);
        }
        if step.effects.contains(&Effect::Reclaim)
            && let Content::Sealed(seal) = image.content
        {
            change.reclaims.push(Reclaim { id: image.id, digest: seal.digest });
        }
        Ok(change)
    }

    /// Adds to `change` that whoever has the name of `image` in the status `to` gives it up.
    fn evict_holder(&self, image: &Image, to: Status, change: &mut Change) -> Result<()> {
        let holder = self.registry.find(to, &image.name, None)?;
        let Some(holder) = holder.filter(|holder| holder.id != image.id) else {
            return Ok(());
        };
        may_replace(image, &holder)?;
        let event = holder.status.removal(self.policy.delayed_delete);
        match decide(holder.subject(), event) {
            Decision::Step(step) => {
                let mut evicted = self.stepped(&holder, step, |_| {})?;
                log::info!(
                    "image={} name={:?} from={} to={} op=replaced by={}",
                    holder.id,
                    holder.name.as_str(),
                    holder.status,
                    step.to,
                    image.id
                );
                evicted.updates.append(&mut change.updates);
                change.updates = evicted.updates;
                change.reclaims.append(&mut evicted.reclaims);
                Ok(())
            }
            Decision::Already => Ok(()),
            Decision::Denied(reason) => Err(reason.into()),
        }
    }
}

/// Whether the owner of `image` may put it in the place of `holder`: whoever may write an image by its
/// mode may replace it (specification, section 2).
fn may_replace(image: &Image, holder: &Image) -> Result<()> {
    let (own, theirs) = (&image.ownership, &holder.ownership);
    let may_write = (own.gid == theirs.gid && theirs.mode & 0o020 != 0) || theirs.mode & 0o002 != 0;
    if (Actor { uid: own.uid }).must_govern(holder).is_ok() || may_write {
        Ok(())
    } else {
        Err(Error::NoPermission("the name belongs to an image of another user"))
    }
}

/// The present.
#[must_use]
pub fn now() -> Timestamp {
    let nanoseconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds)
        }
    };
    Timestamp::from_nanoseconds(nanoseconds)
}
