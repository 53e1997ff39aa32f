//! A real mount against the model: files that are opened, written and closed, writers that are killed, daemons
//! that end in order and not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use sps::lifecycle::Status;

use super::run_sequences;
use super::spec::{Key, Model, Rules, Seen};
use crate::support::{Sandbox, digest_of, eventually, names_in};

mod steps;

use steps::sequence;

const SEQUENCES: u32 = 40;
const SHRINKS_MAX: u32 = 200;

/// For how long what the same process does counts as one replacement: a little less than the five seconds of the
/// specification, so that a machine that stands still in between decides nothing.
const SHORTLY: Duration = Duration::from_secs(4);

/// Files that images may lie in.
const SOURCES: [(&str, usize); 2] = [("one", 700), ("two", 5_000)];

/// A descriptor of this process.
struct Descriptor {
    key: Key,
    file: File,
    /// Which open it comes from: what is copied of one is one upload's holder together.
    open: usize,
}

/// A mount, and the model of it.
struct Rig {
    sandbox: Sandbox,
    model: Model,
    descriptors: Vec<Descriptor>,
    opens: usize,
    /// What this process removed from `active/`, and when.
    vacancies: BTreeMap<String, (Key, Instant)>,
    /// What this process has published, and when.
    own: BTreeMap<Key, Instant>,
    tasks: usize,
}

impl Rig {
    fn new(rules: Rules) -> Self {
        let mut options = Vec::new();
        if !rules.delayed_delete {
            options.push("delayed_delete=no");
        }
        if rules.retry_failed_upload {
            options.push("on_failed_upload=queued");
        }
        let sandbox = Sandbox::unmounted(&options);
        let root = sandbox.file("");
        let sandbox = sandbox.and(&format!("location_root={}", root.display()));
        for (name, size) in SOURCES {
            fs::write(sandbox.file(name), vec![name.as_bytes()[0]; size]).expect("a source");
        }
        sandbox.mount();
        Self {
            sandbox,
            model: Model::new(rules),
            descriptors: Vec::new(),
            opens: 0,
            vacancies: BTreeMap::new(),
            own: BTreeMap::new(),
            tasks: 0,
        }
    }

    /// The path by which an image is listed.
    fn path(&self, key: Key) -> std::path::PathBuf {
        let status = self.model.image(key).status.name();
        self.sandbox.path(&format!("{status}/{}", self.model.listed(key)))
    }

    /// The id of the one image that the model does not know.
    fn new_id(&self) -> String {
        let known: BTreeSet<&String> = self.model.images.values().map(|image| &image.id).collect();
        let all = names_in(&self.sandbox.path("by-id"));
        let mut new = all.into_iter().filter(|id| !known.contains(id));
        let id = new.next().expect("a new image");
        assert_eq!(new.next(), None, "one image is new");
        id
    }

    fn opened(&mut self, key: Key, file: File) {
        self.opens += 1;
        self.descriptors.push(Descriptor { key, file, open: self.opens });
    }

    /// Closes a descriptor: with the last one of the process the upload is decided.
    fn close(&mut self, index: usize) {
        let Descriptor { key, file, open } = self.descriptors.remove(index);
        drop(file);
        if self.descriptors.iter().any(|other| other.open == open) {
            return;
        }
        self.model.close(key);
        if self.model.published.contains_key(&key) {
            self.own.insert(key, Instant::now());
        }
    }

    fn close_all(&mut self) {
        while !self.descriptors.is_empty() {
            self.close(0);
        }
    }

    fn restart(&mut self) {
        self.close_all();
        self.model.restart();
        self.sandbox.remount();
        self.own.clear();
        self.vacancies.clear();
    }

    fn crash(&mut self) {
        self.sandbox.kill_daemon();
        self.descriptors.clear();
        self.model.crash();
        self.sandbox.recover();
        self.own.clear();
        self.vacancies.clear();
    }

    fn compare(&self) {
        let mut all = Vec::new();
        for status in Status::ALL {
            for name in self.sandbox.names(status.name()) {
                all.push(self.seen(status, name));
            }
        }
        all.sort();
        assert_eq!(all, self.model.seen(), "left is the mount, right is the model");
        let links: Vec<String> = names_in(&self.sandbox.path("by-id"));
        let mut ids: Vec<String> = all.iter().map(|seen| seen.id.clone()).collect();
        ids.sort();
        assert_eq!(links, ids, "by-id");
        for seen in &all {
            let target = fs::read_link(self.sandbox.path(&format!("by-id/{}", seen.id)));
            let expected = format!("../{}/{}", seen.status, seen.listed);
            assert_eq!(target.expect("a link"), Path::new(&expected));
        }
    }

    fn seen(&self, status: Status, listed: String) -> Seen {
        let path = format!("{}/{listed}", status.name());
        let attribute = |name: &str| self.sandbox.attribute(&path, name);
        let stat = fs::symlink_metadata(self.sandbox.path(&path)).expect("what is listed is there");
        assert_eq!(attribute("status").as_deref(), Some(status.name()), "{path}");
        let tags = attribute("tags").unwrap_or_default();
        Seen {
            status: status.name(),
            id: attribute("id").expect("an id"),
            size: stat.size(),
            digest: attribute("blake3"),
            content: self.content(&path),
            has_message: attribute("message").is_some(),
            owner: stat.uid(),
            mode: stat.permissions().mode() & 0o7777,
            tags: tags.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            location: attribute("locations"),
            listed,
        }
    }

    /// The digest of what can be read of an image; none where it can't be opened, for the right reason.
    fn content(&self, path: &str) -> Option<String> {
        let mut file = match File::open(self.sandbox.path(path)) {
            Ok(file) => file,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{path}");
                return None;
            }
        };
        let mut data = Vec::new();
        file.read_to_end(&mut data).expect("readable");
        Some(digest_of(&data))
    }

    fn end(mut self) {
        self.close_all();
        self.compare();
        self.sandbox.umount();
        self.sandbox.audit();
    }
}

fn wait_for_digest(path: &Path) {
    eventually("the digest of a location is known", || {
        crate::support::attribute(path, "blake3").is_some()
    });
}

#[test]
fn a_mount_does_what_the_specification_says() {
    run_sequences("mount", (SEQUENCES, SHRINKS_MAX), &sequence(), |(delayed, retry, steps)| {
        let rules = Rules { delayed_delete: *delayed, retry_failed_upload: *retry };
        let mut rig = Rig::new(rules);
        for step in steps {
            rig.take(step);
            rig.compare();
        }
        rig.end();
    });
}
