//! What each operation of the specification does to the model, or why it is refused.

use libc::{EACCES, EBUSY, ECANCELED, EEXIST, EIO, EPERM};
use sps::lifecycle::Status;

use super::spec::{Data, Image, Key, Model, ROOT, Refusal, UNUSABLE, Upload, is_protected};
use crate::support::digest_of;

type Outcome<T = ()> = Result<T, Refusal>;

/// The rows of the table of transitions that a rename between folders asks for.
const MOVES: [(Status, Status); 17] = [
    (Status::Uploading, Status::Active),
    (Status::Queued, Status::Uploading),
    (Status::Uploading, Status::Queued),
    (Status::Saving, Status::Killed),
    (Status::Active, Status::Deactivated),
    (Status::Deactivated, Status::Active),
    (Status::Active, Status::PendingDelete),
    (Status::Deactivated, Status::PendingDelete),
    (Status::PendingDelete, Status::Active),
    (Status::PendingDelete, Status::Deactivated),
    (Status::PendingDelete, Status::Deleted),
    (Status::Queued, Status::Deleted),
    (Status::Uploading, Status::Deleted),
    (Status::Importing, Status::Deleted),
    (Status::Saving, Status::Deleted),
    (Status::Killed, Status::Deleted),
    (Status::Active, Status::Queued),
];

/// The folders into which an image of `from` may be moved.
pub fn ways_from(from: Status) -> Vec<Status> {
    MOVES.into_iter().filter(|(a, _)| *a == from).map(|(_, b)| b).collect()
}

/// An image that nothing is known of but its name.
pub fn fresh(id: String, name: &str, status: Status, owner: u32, mode: u32) -> Image {
    Image {
        id,
        name: name.to_owned(),
        status,
        data: Data::None,
        owner,
        mode,
        tags: Vec::new(),
        expected_size: None,
        expected_blake3: None,
        bound: None,
        origin: None,
        has_message: false,
        entered: 0,
        is_provisional: false,
        is_withdrawn: false,
    }
}

/// A rename, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub name: &'a str,
    pub no_replace: bool,
    pub by: u32,
}

impl Model {
    /// Create in `queued/`, `active/` or `uploading/`.
    pub fn create(&mut self, image: Image) -> Key {
        self.add(image)
    }

    /// A new image in the place of `old`: nothing by itself until it has data.
    pub fn replace(&mut self, old: Key, id: String) -> Outcome<Key> {
        let before = self.image(old).clone();
        if is_protected(before.mode) {
            return Err(EPERM);
        }
        let tags = before.tags;
        let new = fresh(id, &before.name, Status::Queued, before.owner, before.mode);
        Ok(self.add(Image { tags, is_provisional: true, ..new }))
    }

    pub fn open(&mut self, key: Key, by: u32) {
        let is_staging = self.image(key).status == Status::Uploading;
        if is_staging && self.image(key).data == Data::None {
            self.change(key).data = Data::Staged(Vec::new());
        }
        let data = match &self.image(key).data {
            Data::Staged(data) if is_staging => data.clone(),
            _ => Vec::new(),
        };
        let upload = self.uploads.entry(key).or_insert(Upload {
            data,
            has_begun: is_staging,
            is_emptied: false,
            is_sealed: false,
            failure: None,
            is_cancelled: false,
            is_staging,
            holders: 0,
            opener: by,
        });
        upload.holders += 1;
    }

    fn may_change(&self, key: Key) -> Outcome {
        let upload = &self.uploads[&key];
        if upload.is_cancelled { Err(ECANCELED) } else { upload.failure.map_or(Ok(()), Err) }
    }

    /// The first byte makes a queued image `saving`; a write takes a vote back.
    pub(super) fn begin(&mut self, key: Key) -> Outcome {
        self.may_change(key)?;
        let upload = self.uploads.get_mut(&key).expect("open");
        upload.is_sealed = false;
        if upload.has_begun {
            return Ok(());
        }
        if self.images.get(&key).is_none_or(|image| image.status != Status::Queued) {
            self.uploads.get_mut(&key).expect("open").failure = Some(ECANCELED);
            return Err(ECANCELED);
        }
        self.uploads.get_mut(&key).expect("open").has_begun = true;
        self.enter(key, Status::Saving);
        // Why an earlier attempt failed is of no account any more.
        self.change(key).has_message = false;
        Ok(())
    }

    pub fn write(&mut self, key: Key, offset: usize, bytes: &[u8]) -> Outcome {
        self.begin(key)?;
        self.edit(key, |data| {
            if data.len() < offset + bytes.len() {
                data.resize(offset + bytes.len(), 0);
            }
            data[offset..offset + bytes.len()].copy_from_slice(bytes);
        });
        Ok(())
    }

    pub fn truncate(&mut self, key: Key, size: usize) -> Outcome {
        if size == 0 && !self.uploads[&key].has_begun {
            self.may_change(key)?;
            self.uploads.get_mut(&key).expect("open").is_emptied = true;
            return Ok(());
        }
        self.begin(key)?;
        self.edit(key, |data| data.resize(size, 0));
        Ok(())
    }

    pub(super) fn edit(&mut self, key: Key, edit: impl FnOnce(&mut Vec<u8>)) {
        let upload = self.uploads.get_mut(&key).expect("open");
        edit(&mut upload.data);
        if upload.is_staging {
            let Data::Staged(data) = &mut self.images.get_mut(&key).expect("there").data else {
                unreachable!("it is staged")
            };
            // What is open in staging and what lies there are the same bytes.
            data.clone_from(&upload.data);
        }
    }

    /// Whether the content may become what its image is to be.
    fn check_content(&self, key: Key, data: &[u8]) -> Outcome {
        let image = self.image(key);
        let digest = digest_of(data);
        let is_wrong = data.starts_with(UNUSABLE)
            || image.expected_size.is_some_and(|size| size != data.len() as u64)
            || image.expected_blake3.as_ref().is_some_and(|declared| *declared != digest)
            || image.bound.as_ref().is_some_and(|bound| *bound != digest);
        if is_wrong { Err(EIO) } else { Ok(()) }
    }

    /// Whether one of `askers` may put an image in the place of whoever has its name in `active/`.
    pub(super) fn check_name(&self, key: Key, name: &str, askers: &[u32]) -> Outcome<Option<Key>> {
        let holder = self.bearer(Status::Active, name).filter(|holder| *holder != key);
        let Some(holder) = holder else { return Ok(None) };
        let theirs = self.image(holder);
        let governs = askers.iter().any(|by| *by == ROOT || *by == theirs.owner);
        let own = self.image(key).owner;
        // Who may write it may replace it by an upload of his own. One that was closed long ago is moved.
        let is_moved =
            self.image(key).status == Status::Importing && !self.uploads.contains_key(&key);
        let lets_write =
            theirs.mode & 0o002 != 0 || (own == theirs.owner && theirs.mode & 0o020 != 0);
        let may_write = lets_write && !is_moved;
        if !governs && !may_write {
            return Err(EACCES);
        }
        if is_protected(theirs.mode) { Err(EPERM) } else { Ok(Some(holder)) }
    }

    /// A close: the content is checked, and sealed if it is as it must be.
    pub fn vote(&mut self, key: Key) -> Outcome {
        self.may_change(key)?;
        let upload = self.uploads[&key].clone();
        if upload.is_staging || upload.is_sealed || !(upload.has_begun || upload.is_emptied) {
            return Ok(());
        }
        let askers = [upload.opener, self.image(key).owner];
        let Image { name, status, .. } = self.image(key).clone();
        let is_there = [Status::Queued, Status::Saving].contains(&status);
        let voted = if is_there { Ok(()) } else { Err(ECANCELED) }
            .and_then(|()| self.check_name(key, &name, &askers))
            .and_then(|_| self.check_content(key, &upload.data));
        let upload = self.uploads.get_mut(&key).expect("open");
        upload.is_sealed = voted.is_ok();
        upload.failure = voted.err();
        voted
    }

    /// The writer says, or shows by its end, that it failed.
    pub fn fail(&mut self, key: Key) {
        let upload = self.uploads.get_mut(&key).expect("open");
        if upload.is_staging {
            return;
        }
        upload.is_sealed = false;
        if upload.has_begun {
            upload.failure = upload.failure.or(Some(EIO));
        } else {
            upload.is_emptied = false;
        }
    }

    /// A descriptor is gone; with the last one it is decided what becomes of the upload.
    pub fn close(&mut self, key: Key) {
        let upload = self.uploads.get_mut(&key).expect("open");
        upload.holders -= 1;
        if upload.holders > 0 {
            return;
        }
        let voted = self.vote(key);
        let upload = self.uploads.remove(&key).expect("open");
        if upload.is_cancelled || upload.is_staging || !self.images.contains_key(&key) {
            return;
        }
        if !upload.has_begun && !upload.is_emptied && upload.failure.is_none() {
            if self.image(key).is_provisional {
                self.images.remove(&key);
            }
            return;
        }
        let is_there = [Status::Queued, Status::Saving].contains(&self.image(key).status);
        if !is_there {
            return;
        }
        let published = voted.and_then(|()| {
            let askers = [upload.opener, self.image(key).owner];
            let name = self.image(key).name.clone();
            self.check_name(key, &name, &askers)
        });
        match published {
            Ok(holder) => self.publish(key, Data::Whole(upload.data), holder),
            Err(_) => self.kill(key, upload.is_sealed.then_some(upload.data)),
        }
    }

    /// It is active, has its name, and its id never serves anything else.
    pub(super) fn publish(&mut self, key: Key, data: Data, holder: Option<Key>) {
        if let (Data::Whole(bytes) | Data::Elsewhere(_, bytes), None) =
            (&data, &self.image(key).bound)
        {
            self.change(key).bound = Some(digest_of(bytes));
        }
        self.enter(key, Status::Active);
        let image = self.change(key);
        image.data = data;
        image.has_message = false;
        image.origin = None;
        if let Some(holder) = holder {
            self.take_away(holder);
        }
        self.published.insert(key, holder);
    }

    /// The end of an upload that failed. An image that got no data stays queued, and says why.
    pub(super) fn kill(&mut self, key: Key, sealed: Option<Vec<u8>>) {
        let retries = self.rules.retry_failed_upload;
        if self.image(key).status == Status::Saving {
            self.enter(key, if retries { Status::Queued } else { Status::Killed });
            let is_kept = sealed.is_some() && !retries;
            self.change(key).data = sealed.filter(|_| is_kept).map_or(Data::None, Data::Gone);
        }
        let image = self.change(key);
        image.has_message = true;
        image.is_provisional = false;
    }

    /// What a delete does: into the trash, out of it, or the record itself.
    fn take_away(&mut self, key: Key) {
        let before = self.image(key).status;
        let is_trashed = [Status::Active, Status::Deactivated].contains(&before);
        if is_trashed && self.rules.delayed_delete {
            self.enter(key, Status::PendingDelete);
            self.change(key).origin = Some(before);
            return;
        }
        if before == Status::Deleted {
            self.images.remove(&key);
            return;
        }
        let sealed = self.uploads.get(&key).filter(|upload| upload.is_sealed);
        let sealed = sealed.map(|upload| upload.data.clone());
        self.enter(key, Status::Deleted);
        let image = self.change(key);
        image.data = match (std::mem::replace(&mut image.data, Data::None), sealed) {
            (Data::Whole(data) | Data::Gone(data), _) | (_, Some(data)) => Data::Gone(data),
            (Data::None | Data::Staged(_) | Data::Elsewhere(..), None) => Data::None,
        };
    }

    /// Whoever writes the image is cut off.
    fn cut_off(&mut self, key: Key) {
        if let Some(upload) = self.uploads.get_mut(&key) {
            upload.is_cancelled = true;
        }
    }

    fn must_govern(&self, key: Key, by: u32) -> Outcome {
        if by == ROOT || by == self.image(key).owner { Ok(()) } else { Err(EACCES) }
    }

    pub fn unlink(&mut self, key: Key, by: u32) -> Outcome {
        self.must_govern(key, by)?;
        if self.image(key).status == Status::Deleted && by != ROOT {
            return Err(EACCES);
        }
        if is_protected(self.image(key).mode) {
            return Err(EPERM);
        }
        self.cut_off(key);
        self.take_away(key);
        Ok(())
    }

    /// Rename within a folder.
    pub fn rename(&mut self, key: Key, asked: Asked<'_>) -> Outcome {
        self.must_govern(key, asked.by)?;
        let status = self.image(key).status;
        let bearer = self.bearer(status, asked.name).filter(|bearer| *bearer != key);
        if let Some(bearer) = bearer {
            if asked.no_replace {
                return Err(EEXIST);
            }
            self.must_govern(bearer, asked.by)?;
            if is_protected(self.image(bearer).mode) {
                return Err(EPERM);
            }
            let is_trashed = status == Status::Active
                || (status == Status::Deactivated && self.rules.delayed_delete);
            if is_trashed {
                self.take_away(bearer);
                if self.published.contains_key(&key) {
                    self.published.insert(key, Some(bearer));
                }
            }
            // What was renamed last has the plain name, whoever else has it.
            let entered = self.now();
            self.change(key).entered = entered;
        }
        self.change(key).name = asked.name.to_owned();
        Ok(())
    }

    /// Rename into another status folder, for all but an import.
    pub fn relocate(&mut self, key: Key, to: Status, asked: Asked<'_>) -> Outcome {
        let holder = self.check_move(key, to, asked)?;
        let from = self.image(key).status;
        self.change(key).name = asked.name.to_owned();
        if [Status::Queued, Status::Saving, Status::Uploading, Status::Importing].contains(&from) {
            self.cut_off(key);
        }
        match to {
            Status::PendingDelete | Status::Deleted => {
                // The folder is what is asked for, whatever `rm` would do.
                let kept = std::mem::replace(&mut self.rules.delayed_delete, true);
                self.take_away(key);
                self.rules.delayed_delete = kept;
            }
            Status::Active => {
                self.enter(key, Status::Active);
                if let Some(holder) = holder {
                    self.take_away(holder);
                }
                self.change(key).origin = None;
            }
            Status::Deactivated => {
                self.enter(key, Status::Deactivated);
                self.change(key).origin = None;
            }
            Status::Queued | Status::Uploading | Status::Killed => {
                let sealed = self.uploads.get(&key).filter(|upload| upload.is_sealed);
                let sealed = sealed.map(|upload| Data::Gone(upload.data.clone()));
                self.enter(key, to);
                let image = self.change(key);
                image.data = sealed.filter(|_| to == Status::Killed).unwrap_or(Data::None);
                image.has_message |= to == Status::Killed;
            }
            Status::Saving | Status::Importing => unreachable!("nothing is moved there"),
        }
        let is_fresh =
            (from, to) == (Status::Deactivated, Status::Active) || to == Status::Uploading;
        let image = self.change(key);
        image.has_message &= !is_fresh;
        image.is_withdrawn &= !is_fresh;
        Ok(())
    }

    /// Whether an image may be moved; answers who loses the name.
    fn check_move(&self, key: Key, to: Status, asked: Asked<'_>) -> Outcome<Option<Key>> {
        let image = self.image(key);
        if !MOVES.contains(&(image.status, to)) {
            return Err(EPERM);
        }
        self.must_govern(key, asked.by)?;
        if is_protected(image.mode) {
            return Err(EPERM);
        }
        let is_restore = image.status == Status::PendingDelete && to != Status::Deleted;
        if is_restore && image.origin != Some(to) {
            return Err(EPERM);
        }
        let is_located = matches!(image.data, Data::Elsewhere(..));
        if image.status == Status::Active && to == Status::Queued && !is_located {
            return Err(EPERM);
        }
        if asked.no_replace && self.bearer(to, asked.name).is_some() {
            return Err(EEXIST);
        }
        if to != Status::Active {
            return Ok(None);
        }
        // An import takes the name when it is done.
        if let Some(holder) = self.bearer(to, asked.name)
            && asked.name != image.name
            && image.status != Status::Uploading
        {
            self.must_govern(holder, asked.by)?;
        }
        self.check_name(key, asked.name, &[asked.by, image.owner])
    }

    /// Rename from `uploading/` into `active/`: it is importing.
    pub fn begin_import(&mut self, key: Key, asked: Asked<'_>) -> Outcome {
        if self.uploads.contains_key(&key) {
            return Err(EBUSY);
        }
        self.check_move(key, Status::Active, asked)?;
        if self.image(key).has_message {
            return Err(EIO);
        }
        self.enter(key, Status::Importing);
        self.change(key).name = asked.name.to_owned();
        Ok(())
    }

    /// The import does what it is to do.
    pub fn end_import(&mut self, key: Key) -> Outcome {
        let image = self.image(key);
        let name = image.name.clone();
        let taken = match image.data.clone() {
            Data::Staged(data) => self.check_content(key, &data).map(|()| data),
            _ => Err(EIO),
        };
        let owner = [self.image(key).owner];
        match taken.and_then(|data| Ok((data, self.check_name(key, &name, &owner)?))) {
            Ok((data, holder)) => {
                self.publish(key, Data::Whole(data), holder);
                Ok(())
            }
            Err(refusal) => {
                self.enter(key, Status::Queued);
                let image = self.change(key);
                image.data = Data::None;
                image.has_message = true;
                Err(refusal)
            }
        }
    }

    /// A location is added to a queued image.
    pub fn add_location(&mut self, key: Key, path: &str, data: Vec<u8>, by: u32) -> Outcome {
        self.must_govern(key, by)?;
        self.check_content(key, &data)?;
        let upload = self.uploads.get(&key);
        let has_data = upload.is_some_and(|upload| upload.is_sealed);
        if self.image(key).status != Status::Queued || has_data {
            return Err(EPERM);
        }
        let name = self.image(key).name.clone();
        let holder = self.check_name(key, &name, &[by, self.image(key).owner])?;
        let published = self.published.get(&key).copied();
        self.publish(key, Data::Elsewhere(path.to_owned(), data), holder);
        // It was not uploaded: nobody's failure takes it back.
        self.published.remove(&key);
        if let Some(published) = published {
            self.published.insert(key, published);
        }
        Ok(())
    }

    /// Declares what must come.
    pub fn declare(
        &mut self,
        key: Key,
        by: u32,
        size: Option<u64>,
        digest: Option<String>,
    ) -> Outcome {
        self.must_govern(key, by)?;
        let image = self.image(key);
        if (image.expected_size, &image.expected_blake3) == (size, &digest) {
            return Ok(());
        }
        let may = [Status::Queued, Status::Saving, Status::Uploading].contains(&image.status);
        // All of it has come: there is nothing left to declare.
        let is_sealed = self.uploads.get(&key).is_some_and(|upload| upload.is_sealed);
        if !may || is_sealed {
            return Err(EPERM);
        }
        let image = self.change(key);
        (image.expected_size, image.expected_blake3) = (size, digest);
        Ok(())
    }
}

impl Model {
    pub fn tag(&mut self, key: Key, by: u32, tags: Vec<String>) -> Outcome {
        self.must_govern(key, by)?;
        self.change(key).tags = tags;
        Ok(())
    }
}

impl Model {
    /// Declares the size alone.
    pub fn declare_at_once(&mut self, key: Key, size: u64) -> Outcome {
        let digest = self.image(key).expected_blake3.clone();
        // Saying again what was said needs the same right.
        let status = self.image(key).status;
        if ![Status::Queued, Status::Saving, Status::Uploading].contains(&status) {
            return Err(EPERM);
        }
        self.declare(key, ROOT, Some(size), digest)
    }
}
