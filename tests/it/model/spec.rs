//! The specification as a small machine in memory: images, the uploads that are open, and what is to be seen.
//!
//! It is written from the text alone. It knows no disk, no crash in the middle and no thread: an operation
//! is done or refused, and what must be seen afterwards is a list.

use std::collections::BTreeMap;

use sps::lifecycle::Status;

use crate::support::digest_of;

/// Which image, by the order in which they came.
pub type Key = usize;

/// Why an operation is refused: the number that its caller gets.
pub type Refusal = i32;

/// The superuser.
pub const ROOT: u32 = 0;

/// What content of this beginning is: a format that nobody may use.
pub const UNUSABLE: &[u8] = b"QED\0";

/// Where the bytes of an image are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// None have come.
    None,
    /// Worked on in place.
    Staged(Vec<u8>),
    /// Complete, and the store's own.
    Whole(Vec<u8>),
    /// Complete, in a file that is not the store's.
    Elsewhere(String, Vec<u8>),
    /// Purged; what they were is known.
    Gone(Vec<u8>),
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    pub id: String,
    pub name: String,
    pub status: Status,
    pub data: Data,
    pub owner: u32,
    pub mode: u32,
    pub tags: Vec<String>,
    pub expected_size: Option<u64>,
    pub expected_blake3: Option<String>,
    /// What the id is bound to since it was first active.
    pub bound: Option<String>,
    /// Where it is restored to.
    pub origin: Option<Status>,
    pub has_message: bool,
    /// When its status last changed, or it was given a name that others of its folder have.
    pub entered: u64,
    /// Without data it is nothing by itself: it was made in the place of another.
    pub is_provisional: bool,
    /// It was withheld because its writer failed after its close.
    pub is_withdrawn: bool,
}

/// What is written into an image that is not complete.
#[derive(Clone, Debug)]
pub struct Upload {
    pub data: Vec<u8>,
    pub has_begun: bool,
    pub is_emptied: bool,
    /// A vote was taken, and nothing was written since.
    pub is_sealed: bool,
    pub failure: Option<Refusal>,
    /// The image was taken away from its writer.
    pub is_cancelled: bool,
    pub is_staging: bool,
    pub holders: u32,
    pub opener: u32,
}

/// What is seen of an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub status: &'static str,
    pub listed: String,
    pub id: String,
    pub size: u64,
    pub digest: Option<String>,
    /// The digest of what can be read.
    pub content: Option<String>,
    pub has_message: bool,
    pub owner: u32,
    /// The permission bits, the protection among them.
    pub mode: u32,
    pub tags: Vec<String>,
    pub location: Option<String>,
}

/// What the operator chose.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub delayed_delete: bool,
    pub retry_failed_upload: bool,
}

/// All images of a store, and what is open.
#[derive(Clone, Debug)]
pub struct Model {
    pub rules: Rules,
    pub images: BTreeMap<Key, Image>,
    pub uploads: BTreeMap<Key, Upload>,
    /// What was published since the mount, and what that replaced.
    pub published: BTreeMap<Key, Option<Key>>,
    came: Key,
    tick: u64,
}

pub fn is_protected(mode: u32) -> bool {
    mode & 0o1000 != 0
}

impl Model {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            images: BTreeMap::new(),
            uploads: BTreeMap::new(),
            published: BTreeMap::new(),
            came: 0,
            tick: 0,
        }
    }

    pub fn image(&self, key: Key) -> &Image {
        &self.images[&key]
    }

    pub(super) fn change(&mut self, key: Key) -> &mut Image {
        self.images.get_mut(&key).expect("an image of the model")
    }

    pub fn upload(&self, key: Key) -> Option<&Upload> {
        self.uploads.get(&key)
    }

    pub(super) fn now(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// The newest image of a name in a folder: it bears the plain name.
    pub fn bearer(&self, status: Status, name: &str) -> Option<Key> {
        let same = self.images.iter().filter(|(_, i)| i.status == status && i.name == name);
        same.max_by_key(|(key, image)| (image.entered, **key)).map(|(key, _)| *key)
    }

    /// Gives an image a status: when that was is what its folder is sorted by.
    pub(super) fn enter(&mut self, key: Key, status: Status) {
        let entered = self.now();
        let image = self.change(key);
        image.status = status;
        image.entered = entered;
        image.is_provisional = false;
    }

    pub(super) fn add(&mut self, image: Image) -> Key {
        let key = self.came;
        self.came += 1;
        let entered = self.now();
        self.images.insert(key, Image { entered, ..image });
        key
    }

    /// The name by which its folder lists an image.
    pub fn listed(&self, key: Key) -> String {
        let image = self.image(key);
        if self.bearer(image.status, &image.name) == Some(key) {
            return image.name.clone();
        }
        format!("{}~{}", image.name, &image.id[..8])
    }

    /// All that must be seen, sorted.
    pub fn seen(&self) -> Vec<Seen> {
        let mut all: Vec<Seen> = self.images.keys().map(|key| self.seen_of(*key)).collect();
        all.sort();
        all
    }

    fn seen_of(&self, key: Key) -> Seen {
        let image = self.image(key);
        let upload = self.uploads.get(&key).filter(|upload| !upload.is_cancelled);
        let is_coming = [Status::Queued, Status::Saving].contains(&image.status);
        let (size, digest, content) = match (&image.data, upload) {
            (_, Some(upload)) if is_coming && !upload.is_staging => {
                let digest = upload.is_sealed.then(|| digest_of(&upload.data));
                let is_readable = image.status == Status::Queued;
                (upload.data.len(), digest, is_readable.then(|| digest_of(b"")))
            }
            (Data::None, _) => {
                let is_readable = [Status::Queued, Status::Uploading].contains(&image.status);
                (0, None, is_readable.then(|| digest_of(b"")))
            }
            (Data::Staged(data), _) => {
                let is_readable = image.status == Status::Uploading;
                (data.len(), None, is_readable.then(|| digest_of(data)))
            }
            (Data::Gone(data), _) => (data.len(), Some(digest_of(data)), None),
            (Data::Whole(data) | Data::Elsewhere(_, data), _) => {
                // Root, who looks, may read what is withheld.
                let is_readable = [Status::Active, Status::Deactivated].contains(&image.status);
                let digest = digest_of(data);
                (data.len(), Some(digest.clone()), is_readable.then_some(digest))
            }
        };
        let location = match &image.data {
            Data::Elsewhere(path, _) => Some(path.clone()),
            _ => None,
        };
        Seen {
            status: image.status.name(),
            listed: self.listed(key),
            id: image.id.clone(),
            size: size as u64,
            digest,
            content,
            has_message: image.has_message,
            owner: image.owner,
            mode: image.mode,
            tags: image.tags.clone(),
            location,
        }
    }
}
