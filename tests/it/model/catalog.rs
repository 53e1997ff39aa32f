//! The catalog, without a mount, against the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sps::catalog::{
    Actor, Attributes, Catalog, Move, Parts, Policy, Rename, Resize, TimeSource, UploadSession,
};
use sps::error::Error;
use sps::image::{Digest, Image, ImageId, ImageName, Ownership, Timestamp, User};
use sps::lifecycle::{Event, Status, moved};
use sps::location::Locations;
use sps::registry::SqliteRegistry;
use sps::store::{LocalStore, OpenOptions};
use tempfile::TempDir;

mod look;
mod steps;

use super::run_sequences;
use super::spec::{Data, Key, Model, ROOT, Refusal, Rules};
use super::verbs::{Asked, fresh, ways_from};
use crate::support::{audit, digest_of, eventually};
use steps::{ACTORS, MODES, NAMES, Step, bytes, sequence};

const SEQUENCES: u32 = 250;
const SHRINKS_MAX: u32 = 2_000;

/// Files that images may lie in.
const SOURCES: [(&str, usize); 2] = [("one", 700), ("two", 5_000)];

/// A clock that goes on by a millisecond each time somebody looks.
struct Steps(Arc<AtomicI64>);

impl TimeSource for Steps {
    fn wall(&self) -> Timestamp {
        Timestamp::from_nanoseconds(self.0.fetch_add(1_000_000, Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// The catalog under test, and the model of it.
struct Rig {
    directory: TempDir,
    /// How often the store was copied.
    copies: u32,
    clock: Arc<AtomicI64>,
    catalog: Option<Catalog>,
    ids: BTreeMap<Key, ImageId>,
    sessions: BTreeMap<Key, Arc<UploadSession>>,
    model: Model,
}

fn actor(uid: u32) -> Actor {
    Actor { uid }
}

fn user(uid: u32) -> User {
    User { uid, gid: uid, groups: Vec::new() }
}

fn image_name(name: &str) -> ImageName {
    ImageName::new(name.as_bytes()).expect("a name")
}

impl Rig {
    fn new(rules: Rules) -> Self {
        let builder = || tempfile::Builder::new();
        let memory = Path::new("/dev/shm");
        // Nothing here is about disks.
        let directory = match memory.is_dir() {
            true => builder().prefix("sps-model-").tempdir_in(memory),
            false => builder().prefix("sps-model-").tempdir(),
        };
        let directory = directory.expect("a directory");
        std::fs::create_dir(directory.path().join("files")).expect("a folder");
        for (name, size) in SOURCES {
            let path = directory.path().join("files").join(name);
            std::fs::write(path, source_data(name, size)).expect("a source");
        }
        let mut rig = Self {
            directory,
            copies: 0,
            clock: Arc::new(AtomicI64::new(1_700_000_000_000_000_000)),
            catalog: None,
            ids: BTreeMap::new(),
            sessions: BTreeMap::new(),
            model: Model::new(rules),
        };
        rig.begin();
        rig
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join(format!("store{}", self.copies))
    }

    fn source(&self, source: usize) -> (String, Vec<u8>) {
        let (name, size) = SOURCES[source];
        let path = self.directory.path().join("files").join(name);
        (path.display().to_string(), source_data(name, size))
    }

    fn begin(&mut self) {
        let store = self.store();
        let local = LocalStore::open(&store, OpenOptions::default()).expect("a store");
        let registry = SqliteRegistry::open(&local.registry_path()).expect("a registry");
        let roots = vec![self.directory.path().join("files")];
        let parts = Parts {
            registry: Box::new(registry),
            store: Box::new(local),
            locations: Locations::new(roots, store),
            time: Box::new(Steps(Arc::clone(&self.clock))),
        };
        let policy = Policy {
            delayed_delete: self.model.rules.delayed_delete,
            retry_failed_upload: self.model.rules.retry_failed_upload,
            ..Policy::default()
        };
        self.catalog = Some(Catalog::open(parts, policy).expect("a catalog"));
    }

    fn catalog(&self) -> &Catalog {
        self.catalog.as_ref().expect("a catalog that is open")
    }

    fn record(&self, key: Key) -> Image {
        self.catalog().by_id(self.ids[&key]).expect("readable").expect("a record")
    }

    fn known(&mut self, key: Key, image: &Image) {
        self.ids.insert(key, image.id);
    }

    /// An image of the model for which `fits`, if there is any.
    fn pick(&self, pick: usize, fits: impl Fn(&super::spec::Image) -> bool) -> Option<Key> {
        let keys: Vec<Key> = self
            .model
            .images
            .iter()
            .filter(|(_, image)| fits(image))
            .map(|(key, _)| *key)
            .collect();
        keys.get(pick % keys.len().max(1)).copied()
    }

    fn picked_upload(&self, pick: usize) -> Option<(Key, Arc<UploadSession>)> {
        let all: Vec<_> = self.sessions.iter().collect();
        let (key, session) = all.get(pick % all.len().max(1))?;
        Some((**key, Arc::clone(session)))
    }

    fn open(&mut self, key: Key, image: &Image, by: u32) {
        let session = self.catalog().open_upload(image, user(by)).expect("opened");
        self.sessions.insert(key, session);
        self.model.open(key, by);
    }

    fn close(&mut self, key: Key) {
        let session = Arc::clone(&self.sessions[&key]);
        if self.catalog().close_upload(&session) {
            self.sessions.remove(&key);
        }
        self.model.close(key);
    }

    fn write(&mut self, key: Key, offset: usize, data: &[u8]) {
        let session = Arc::clone(&self.sessions[&key]);
        let done = self.catalog().write(&session, offset as u64, data, &mut || {}).map(|turn| {
            if let Some(turn) = turn {
                turn.take(data);
            }
        });
        same(done, self.model.write(key, offset, data));
    }

    fn wait_for_digest(&self, key: Key) {
        eventually("the digest of a location is known", || {
            let image = self.record(key);
            image.content.digest().is_some() && image.bound_digest.is_some()
        });
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Create { .. }
            | Step::Replace { .. }
            | Step::Remake { .. }
            | Step::Locate { .. }
            | Step::Reopen { .. }
            | Step::Publish { .. } => self.make(step),
            Step::Open { .. }
            | Step::Write { .. }
            | Step::Truncate { .. }
            | Step::Vote { .. }
            | Step::Fail { .. }
            | Step::Close { .. } => self.upload(step),
            Step::Restart => self.restart(),
            Step::Crash => self.crash(),
            Step::Rename { .. }
            | Step::Move { .. }
            | Step::Import { .. }
            | Step::Unlink { .. }
            | Step::Mode { .. }
            | Step::Tags { .. }
            | Step::Declare { .. }
            | Step::AddLocation { .. }
            | Step::Withdraw { .. } => self.alter(step),
        }
    }

    fn make(&mut self, step: &Step) {
        match *step {
            Step::Create { name, is_staging, actor: by, mode } => {
                let (by, mode) = (ACTORS[by], MODES[mode]);
                let status = if is_staging { Status::Uploading } else { Status::Queued };
                self.create(NAMES[name], status, by, mode);
            }
            Step::Publish { name, length, letter, actor: by } => {
                let key = self.create(NAMES[name], Status::Queued, ACTORS[by], 0o644);
                self.write(key, 0, &bytes(letter, length));
                let session = Arc::clone(&self.sessions[&key]);
                same(self.catalog().vote(&session), self.model.vote(key));
                self.close(key);
            }
            Step::Replace { pick, actor: by } => {
                let Some(old) = self.pick(pick, |image| image.status == Status::Active) else {
                    return;
                };
                let made = self.catalog().queue_replacement(&self.record(old), actor(ACTORS[by]));
                let id = made.as_ref().map(|image| image.id.to_string()).unwrap_or_default();
                let key = same(made, self.model.replace(old, id));
                if let Some((image, key)) = key {
                    self.known(key, &image);
                    self.open(key, &image, ACTORS[by]);
                }
            }
            Step::Remake { pick } => {
                let Some(old) = self.pick(pick, |image| image.status == Status::Active) else {
                    return;
                };
                let record = self.record(old);
                let removed = self.catalog().remove(record.id, Status::Active, actor(ROOT));
                if same(removed, self.model.unlink(old, ROOT)).is_none() {
                    return;
                }
                let made = self.catalog().queue_in_place(
                    record.id,
                    record.name.clone(),
                    owned(ROOT, 0o644),
                );
                let image = made.expect("made");
                self.model.bring_back_to_replace(old);
                let tags = self.model.image(old).tags.clone();
                let new =
                    fresh(image.id.to_string(), record.name.as_str(), Status::Queued, ROOT, 0o644);
                let new = super::spec::Image { tags, is_provisional: true, ..new };
                let key = self.model.create(new);
                self.known(key, &image);
                self.open(key, &image, ROOT);
            }
            Step::Locate { name, source } => {
                let (path, data) = self.source(source);
                let before = self.model.clone();
                let made = self.catalog().locate(image_name(NAMES[name]), &path, &user(ROOT));
                let id = made.as_ref().map(|image| image.id.to_string()).unwrap_or_default();
                let new = fresh(id, NAMES[name], Status::Queued, ROOT, 0o644);
                let key = self.model.create(new);
                let located = self.model.add_location(key, &path, data, ROOT);
                match same(made, located) {
                    Some((image, ())) => {
                        self.known(key, &image);
                        self.wait_for_digest(key);
                    }
                    None => self.model = before,
                }
            }
            Step::Reopen { pick } => {
                let uploaded: Vec<Key> = self.model.published.keys().copied().collect();
                let is_uploaded = |key: &Key| {
                    self.model.images.get(key).is_some_and(|image| {
                        image.status == Status::Active && matches!(image.data, Data::Whole(_))
                    })
                };
                let uploaded: Vec<Key> = uploaded.into_iter().filter(is_uploaded).collect();
                let Some(old) = uploaded.get(pick % uploaded.len().max(1)).copied() else { return };
                let made = self.catalog().reopen(self.ids[&old], user(ROOT));
                let id = made.as_ref().map(|(image, _)| image.id.to_string()).unwrap_or_default();
                if let Some(((image, session), key)) = same(made, self.model.reopen(old, id, ROOT))
                {
                    self.known(key, &image);
                    self.sessions.insert(key, session);
                }
            }
            _ => unreachable!("it makes nothing"),
        }
    }

    fn create(&mut self, name: &str, status: Status, by: u32, mode: u32) -> Key {
        let image = self.catalog().queue(image_name(name), status, owned(by, mode)).expect("made");
        let key = self.model.create(fresh(image.id.to_string(), name, status, by, mode));
        self.known(key, &image);
        self.open(key, &image, by);
        key
    }

    fn upload(&mut self, step: &Step) {
        if let Step::Open { pick, actor: by } = *step {
            let may = [Status::Queued, Status::Uploading];
            let Some(key) = self.pick(pick, |image| may.contains(&image.status)) else { return };
            // Who was cut off has it open still: nobody joins him.
            if self.model.upload(key).is_none_or(|upload| !upload.is_cancelled) {
                self.open(key, &self.record(key), ACTORS[by]);
            }
            return;
        }
        let pick = match *step {
            Step::Write { pick, .. }
            | Step::Truncate { pick, .. }
            | Step::Vote { pick }
            | Step::Fail { pick }
            | Step::Close { pick } => pick,
            _ => unreachable!("it is no upload"),
        };
        let Some((key, session)) = self.picked_upload(pick) else { return };
        match *step {
            Step::Write { offset, length, letter, .. } => {
                self.write(key, offset, &bytes(letter, length));
            }
            Step::Truncate { size, .. } => {
                let done = self.catalog().resize(&session, Resize::To(size as u64));
                same(done, self.model.truncate(key, size));
            }
            Step::Vote { .. } => {
                same(self.catalog().vote(&session), self.model.vote(key));
            }
            Step::Fail { .. } => {
                self.catalog().fail(&session, Error::WriterFailed("its writer failed".into()));
                self.model.fail(key);
            }
            _ => self.close(key),
        }
    }

    fn alter(&mut self, step: &Step) {
        let pick = match *step {
            Step::Rename { pick, .. }
            | Step::Move { pick, .. }
            | Step::Import { pick }
            | Step::Unlink { pick, .. }
            | Step::Mode { pick, .. }
            | Step::Tags { pick, .. }
            | Step::Declare { pick, .. }
            | Step::AddLocation { pick, .. }
            | Step::Withdraw { pick } => pick,
            _ => unreachable!("it alters nothing"),
        };
        let fits = |image: &super::spec::Image| match *step {
            Step::Import { .. } => [Status::Uploading, Status::Importing].contains(&image.status),
            Step::AddLocation { .. } => image.status == Status::Queued,
            _ => true,
        };
        let Some(key) = self.pick(pick, fits) else { return };
        let (id, seen) = (self.ids[&key], self.model.image(key).status);
        match *step {
            Step::Rename { name, no_replace, actor: by, .. } => {
                let by = ACTORS[by];
                let rename = Rename { seen, actor: actor(by), no_replace };
                let done = self.catalog().rename(id, &image_name(NAMES[name]), rename);
                same(done, self.model.rename(key, Asked { name: NAMES[name], no_replace, by }));
            }
            Step::Move { to, name, no_replace, actor: by, .. } => {
                let ways = ways_from(seen);
                let Some(to) = ways.get(to % ways.len().max(1)).copied() else { return };
                let own = self.model.image(key).name.clone();
                let name = name.map_or(own, |name| NAMES[name].to_owned());
                self.relocate(key, to, Asked { name: &name, no_replace, by: ACTORS[by] });
            }
            Step::Import { .. } => self.import(key),
            Step::Unlink { actor: by, .. } => {
                let done = self.catalog().remove(id, seen, actor(ACTORS[by]));
                same(done, self.model.unlink(key, ACTORS[by]));
            }
            Step::Mode { mode, .. } => {
                let mode = MODES[mode];
                let attributes = Attributes { mode: Some(mode), ..Attributes::default() };
                self.catalog().set_attributes(id, attributes).expect("set");
                self.model.images.get_mut(&key).expect("there").mode = mode;
            }
            Step::Tags { tag, actor: by, .. } => {
                let text = ["", "t", "t,u"][usize::from(tag)];
                let done = self
                    .catalog()
                    .declare(id, actor(ACTORS[by]), |image| Ok(image.details.set_tags(text)?));
                let tags: Vec<String> =
                    text.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
                same(done, self.model.tag(key, ACTORS[by], tags));
            }
            Step::Declare { size, letter, actor: by, .. } => {
                let digest = letter.map(|letter| digest_of(&bytes(letter, 700)));
                let parsed = digest.as_deref().and_then(Digest::parse);
                let done = self.catalog().declare(id, actor(ACTORS[by]), |image| {
                    (image.expected.size, image.expected.blake3) = (size, parsed);
                    Ok(())
                });
                same(done, self.model.declare(key, ACTORS[by], size, digest));
            }
            Step::AddLocation { source, .. } => {
                let (path, data) = self.source(source);
                let done = self.catalog().add_location(&self.record(key), &path, &user(ROOT));
                if same(done, self.model.add_location(key, &path, data, ROOT)).is_some() {
                    self.wait_for_digest(key);
                }
            }
            Step::Withdraw { .. } => {
                let is_uploaded = self.model.published.contains_key(&key);
                if is_uploaded {
                    self.catalog().withdraw(id, "its writer failed").expect("withdrawn");
                    self.model.withdraw(key);
                }
            }
            _ => unreachable!("it alters nothing"),
        }
    }

    fn relocate(&mut self, key: Key, to: Status, asked: Asked<'_>) {
        let (id, seen) = (self.ids[&key], self.model.image(key).status);
        let event = moved(seen, to).expect("the lifecycle has the move");
        let name = image_name(asked.name);
        let Asked { no_replace, by, .. } = asked;
        let wanted = Move { seen, to, event, name: &name, no_replace, actor: actor(by) };
        if event == Event::Import {
            let begun = self.catalog().begin_import(id, wanted);
            same(begun, self.model.begin_import(key, asked));
        } else {
            same(self.catalog().move_image(id, wanted), self.model.relocate(key, to, asked));
        }
    }

    /// Begins the import of what is staged, or ends it.
    fn import(&mut self, key: Key) {
        let name = self.model.image(key).name.clone();
        if self.model.image(key).status == Status::Uploading {
            self.relocate(key, Status::Active, Asked { name: &name, no_replace: false, by: ROOT });
        } else {
            let done = self.catalog().import_staged(self.ids[&key], &|_| Ok(()));
            same(done, self.model.end_import(key));
        }
    }

    /// The daemon ends in order, and begins again.
    fn restart(&mut self) {
        // In which order it ends what is open is its own affair: it is left one upload.
        for key in self.sessions.keys().copied().skip(1).collect::<Vec<Key>>() {
            while self.sessions.contains_key(&key) {
                self.close(key);
            }
        }
        self.catalog().close().expect("closed");
        self.model.restart();
        self.sessions.clear();
        self.catalog = None;
        self.begin();
    }

    /// The daemon ends at once: what the disk has at that moment is what the next one finds.
    fn crash(&mut self) {
        let before = self.store();
        self.copies += 1;
        copy_store(&before, &self.store());
        self.sessions.clear();
        self.catalog().close().expect("closed");
        self.catalog = None;
        std::fs::remove_dir_all(before).expect("removed");
        self.model.crash();
        self.begin();
    }

    /// Ends all that is under way, and looks the store through.
    fn end(mut self) {
        for key in self.sessions.keys().copied().collect::<Vec<Key>>() {
            while self.sessions.contains_key(&key) {
                self.close(key);
            }
        }
        while let Some(key) = self.pick(0, |image| image.status == Status::Importing) {
            self.import(key);
        }
        self.compare();
        self.catalog().close().expect("closed");
        self.catalog = None;
        audit(&self.store());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // After a failure its threads are to end all the same.
        if let Some(catalog) = self.catalog.take() {
            let _ = catalog.close();
        }
    }
}

fn owned(uid: u32, mode: u32) -> Ownership {
    Ownership { uid, gid: uid, mode }
}

fn source_data(name: &str, size: usize) -> Vec<u8> {
    vec![name.as_bytes()[0]; size]
}

/// Both did it, or both refused for the same reason. Answers what came of it.
fn same<A, B>(product: Result<A, Error>, model: Result<B, Refusal>) -> Option<(A, B)> {
    match (product, model) {
        (Ok(product), Ok(model)) => Some((product, model)),
        (Err(product), Err(model)) => {
            assert_eq!(product.errno(), model, "{product}: the model gives another number");
            None
        }
        (Ok(_), Err(model)) => panic!("done, and the model refuses it with {model}"),
        (Err(product), Ok(_)) => panic!("refused, and the model does it: {product}"),
    }
}

/// Copies a store that is in use as it is at this moment.
fn copy_store(from: &Path, to: &Path) {
    let registry = rusqlite::Connection::open(from.join("sps.db")).expect("a database");
    registry.busy_timeout(Duration::from_secs(20)).expect("set");
    // Nobody commits meanwhile, so that the log does not begin anew; what is moved from it is in both.
    registry.execute_batch("BEGIN IMMEDIATE").expect("begun");
    copy_folder(from, to);
    registry.execute_batch("ROLLBACK").expect("ended");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let mut entries: Vec<_> = std::fs::read_dir(from).expect("a folder").flatten().collect();
    // The log before the database.
    entries.sort_by_key(|entry| entry.file_name() == "sps.db");
    for entry in entries {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else if entry.file_name() != "sps.db-shm" && entry.file_name() != "lock" {
            // What is dropped in the background meanwhile is not there.
            let _ = std::fs::copy(&from, &to);
        }
    }
}

#[test]
fn the_catalog_does_what_the_specification_says() {
    run_sequences("catalog", (SEQUENCES, SHRINKS_MAX), &sequence(), |(delayed, retry, steps)| {
        let rules = Rules { delayed_delete: *delayed, retry_failed_upload: *retry };
        let mut rig = Rig::new(rules);
        for step in steps {
            rig.take(step);
            rig.compare();
        }
        rig.end();
    });
}
