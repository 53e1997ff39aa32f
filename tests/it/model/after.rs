//! What happens to an image after its close, and to all of them when the daemon ends.

use sps::lifecycle::Status;

use super::spec::{Data, Key, Model, Refusal, is_protected};

type Outcome<T = ()> = Result<T, Refusal>;

impl Model {
    /// Its writer opens again what it has just published: a new image goes on with it, as if the old one had
    /// never been.
    pub fn reopen(&mut self, key: Key, id: String, by: u32) -> Outcome<Key> {
        let new = self.replace(key, id)?;
        self.open(new, by);
        let Data::Whole(data) = self.image(key).data.clone() else { unreachable!("it is active") };
        self.begin(new)?;
        self.edit(new, |to| to.clone_from(&data));
        let behind = self.standing_behind(key);
        self.images.remove(&key);
        self.bring_back(behind);
        Ok(new)
    }

    /// Its writer ends by saying that it failed.
    pub fn withdraw(&mut self, key: Key) {
        let image = self.image(key).clone();
        match image.status {
            Status::Active => {
                let behind = self.standing_behind(key);
                self.enter(key, Status::Deactivated);
                self.bring_back(behind);
            }
            Status::PendingDelete if image.origin == Some(Status::Active) => {
                self.change(key).origin = Some(Status::Deactivated);
            }
            _ => return,
        }
        let image = self.change(key);
        image.has_message = true;
        image.is_withdrawn = true;
    }

    /// What an image replaced or, where that was taken back itself since, what that had replaced.
    fn standing_behind(&self, key: Key) -> Option<Key> {
        let mut next = *self.published.get(&key)?;
        while let Some(behind) = next {
            match self.images.get(&behind) {
                Some(image) if !image.is_withdrawn => return Some(behind),
                Some(_) | None => next = self.published.get(&behind).copied().flatten(),
            }
        }
        None
    }

    /// What was removed a moment ago has its name back until it is replaced, if it may be.
    pub fn bring_back_to_replace(&mut self, removed: Key) {
        if !is_protected(self.image(removed).mode) {
            self.bring_back(Some(removed));
        }
    }

    /// What was replaced has its name back, if it can still be had back and nobody has the name.
    pub fn bring_back(&mut self, behind: Option<Key>) {
        let Some(key) = behind else { return };
        let image = self.image(key);
        let is_restorable =
            image.status == Status::PendingDelete && image.origin == Some(Status::Active);
        if is_restorable && self.bearer(Status::Active, &image.name.clone()).is_none() {
            self.enter(key, Status::Active);
            self.change(key).origin = None;
        }
    }

    /// The daemon ends without a warning, and another one begins.
    pub fn crash(&mut self) {
        self.published.clear();
        let open = std::mem::take(&mut self.uploads);
        for status in [Status::Queued, Status::Saving] {
            for (key, upload) in &open {
                let Some(image) = self.images.get(key) else { continue };
                if image.status != status || upload.is_cancelled || upload.is_staging {
                    continue;
                }
                let (name, owner) = (image.name.clone(), image.owner);
                if upload.is_sealed {
                    match self.check_name(*key, &name, &[owner]) {
                        Ok(holder) => {
                            self.publish(*key, Data::Whole(upload.data.clone()), holder);
                        }
                        Err(_) => self.kill(*key, Some(upload.data.clone())),
                    }
                } else if status == Status::Saving {
                    self.kill(*key, None);
                } else if image.is_provisional {
                    self.images.remove(key);
                }
            }
        }
    }

    /// The daemon ends in order: what is sealed is published, other uploads have failed.
    pub fn restart(&mut self) {
        for key in self.uploads.keys().copied().collect::<Vec<Key>>() {
            if !self.uploads[&key].is_sealed {
                self.fail(key);
            }
            self.uploads.get_mut(&key).expect("open").holders = 1;
            self.close(key);
        }
        self.published.clear();
    }
}
