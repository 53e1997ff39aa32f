//! The file operations of the sequences, done to the mount and to the model.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use proptest::prelude::*;
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with, setxattr};
use sps::lifecycle::Status;

use super::{Rig, SHORTLY, SOURCES, wait_for_digest};
use crate::model::spec::{Data, Image, Key, ROOT, Refusal, UNUSABLE};
use crate::model::verbs::{Asked, fresh, ways_from};
use crate::support::{eventually, run};

const STEPS_MAX: usize = 16;

/// Few, so that they are taken often.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The folders in which images are made.
const DOORS: [Status; 3] = [Status::Active, Status::Queued, Status::Uploading];

const MODES: [u32; 4] = [0o644, 0o600, 0o666, 0o1644];

/// How a writer of its own process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It closes its file and exits with success.
    Well,
    /// It is killed while it has the file open.
    Killed,
    /// It exits with a failure while it has the file open.
    Failed,
    /// It closes its file and exits with a failure.
    ClosedThenFailed,
}

/// One operation. Whom it is about is drawn as a number, and taken from those that are there.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create { door: usize, name: usize },
    Overwrite { pick: usize },
    Open { pick: usize },
    Dup { pick: usize },
    Write { pick: usize, offset: usize, length: usize, letter: u8 },
    Truncate { pick: usize, size: usize },
    Close { pick: usize },
    Upload { name: usize, length: usize, letter: u8 },
    Writer { name: usize, length: usize, letter: u8, ending: Ending },
    Reopen { pick: usize },
    Rename { pick: usize, to: usize, name: Option<usize>, no_replace: bool },
    Unlink { pick: usize },
    Mode { pick: usize, mode: usize },
    Tags { pick: usize, tag: u8 },
    Expect { pick: usize, size: u64 },
    Locate { door: usize, name: usize, source: usize },
    AddLocation { pick: usize, source: usize },
    Verify,
    Restart,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let (pick, name, letter) = (0..64usize, 0..NAMES.len(), 0..4u8);
    let length = prop::sample::select(vec![1usize, 700, 4_096, 9_000]);
    let offset = prop::sample::select(vec![0usize, 0, 700, 6_000]);
    let size = prop::sample::select(vec![0usize, 0, 1, 700, 8_000]);
    let endings = vec![Ending::Well, Ending::Killed, Ending::Failed, Ending::ClosedThenFailed];
    let maybe = prop::bool::weighted(0.15);
    prop_oneof![
        5 => (0..DOORS.len(), name.clone()).prop_map(|(door, name)| Step::Create { door, name }),
        2 => pick.clone().prop_map(|pick| Step::Overwrite { pick }),
        3 => pick.clone().prop_map(|pick| Step::Open { pick }),
        2 => pick.clone().prop_map(|pick| Step::Dup { pick }),
        7 => (pick.clone(), offset, length.clone(), letter.clone())
            .prop_map(|(pick, offset, length, letter)| Step::Write { pick, offset, length, letter }),
        3 => (pick.clone(), size).prop_map(|(pick, size)| Step::Truncate { pick, size }),
        7 => pick.clone().prop_map(|pick| Step::Close { pick }),
        5 => (name.clone(), length.clone(), letter.clone())
            .prop_map(|(name, length, letter)| Step::Upload { name, length, letter }),
        5 => (name.clone(), prop::sample::select(vec![0usize, 1, 700, 4_000]), letter,
              prop::sample::select(endings))
            .prop_map(|(name, length, letter, ending)| Step::Writer { name, length, letter, ending }),
        2 => pick.clone().prop_map(|pick| Step::Reopen { pick }),
        12 => (pick.clone(), 0..64usize, prop::option::weighted(0.4, name.clone()), maybe)
            .prop_map(|(pick, to, name, no_replace)| Step::Rename { pick, to, name, no_replace }),
        5 => pick.clone().prop_map(|pick| Step::Unlink { pick }),
        2 => (pick.clone(), 0..MODES.len()).prop_map(|(pick, mode)| Step::Mode { pick, mode }),
        1 => (pick.clone(), 0..3u8).prop_map(|(pick, tag)| Step::Tags { pick, tag }),
        1 => (pick.clone(), prop::sample::select(vec![0u64, 700]))
            .prop_map(|(pick, size)| Step::Expect { pick, size }),
        2 => (0..2usize, name, 0..SOURCES.len())
            .prop_map(|(door, name, source)| Step::Locate { door, name, source }),
        1 => (pick, 0..SOURCES.len()).prop_map(|(pick, source)| Step::AddLocation { pick, source }),
        1 => Just(Step::Verify),
        1 => Just(Step::Restart),
        2 => Just(Step::Crash),
    ]
}

pub(super) fn sequence() -> impl Strategy<Value = (bool, bool, Vec<Step>)> {
    let steps = prop::collection::vec(step(), 8..STEPS_MAX);
    (prop::bool::weighted(0.85), prop::bool::weighted(0.2), steps)
}

/// Bytes by a letter: the last one is of what nobody may use.
fn bytes(letter: u8, length: usize) -> Vec<u8> {
    if letter == 3 {
        let mark = UNUSABLE.iter().copied().chain(std::iter::repeat(b'q'));
        return mark.take(length.max(4)).collect();
    }
    vec![b'a' + letter; length]
}

/// Both did it, or both refused for the same reason. Answers what came of it.
fn same<A, B>(mount: Result<A, impl Into<io::Error>>, model: Result<B, Refusal>) -> Option<(A, B)> {
    match (mount.map_err(Into::into), model) {
        (Ok(mount), Ok(model)) => Some((mount, model)),
        (Err(mount), Err(model)) => {
            assert_eq!(mount.raw_os_error(), Some(model), "{mount}: the model gives another");
            None
        }
        (Ok(_), Err(model)) => panic!("done, and the model refuses it with {model}"),
        (Err(mount), Ok(_)) => panic!("refused, and the model does it: {mount}"),
    }
}

impl Rig {
    pub(super) fn take(&mut self, step: &Step) {
        match *step {
            Step::Create { door, name } => self.create(DOORS[door], NAMES[name]),
            Step::Overwrite { pick } => {
                let Some(old) = self.pick(pick, |image| image.status == Status::Active) else {
                    return;
                };
                self.overwrite(old);
            }
            Step::Open { pick } => self.open_again(pick),
            Step::Dup { .. } | Step::Write { .. } | Step::Truncate { .. } | Step::Close { .. } => {
                self.through_descriptor(step);
            }
            Step::Upload { name, length, letter } => {
                let before = self.descriptors.len();
                match self.model.bearer(Status::Active, NAMES[name]) {
                    Some(old) => self.overwrite(old),
                    None => self.create(Status::Active, NAMES[name]),
                }
                if self.descriptors.len() > before {
                    self.write(before, 0, &bytes(letter, length));
                    self.close(before);
                }
            }
            Step::Writer { name, length, letter, ending } => {
                let data = if length == 0 { Vec::new() } else { bytes(letter, length) };
                self.writer(NAMES[name], &data, ending);
            }
            Step::Reopen { pick } => self.reopen(pick),
            Step::Rename { .. }
            | Step::Unlink { .. }
            | Step::Mode { .. }
            | Step::Tags { .. }
            | Step::Expect { .. }
            | Step::AddLocation { .. } => self.alter(step),
            Step::Locate { door, name, source } => self.locate(DOORS[door], NAMES[name], source),
            Step::Verify => self.verify(),
            Step::Restart => self.restart(),
            Step::Crash => self.crash(),
        }
    }

    fn pick(&self, pick: usize, fits: impl Fn(&Image) -> bool) -> Option<Key> {
        let keys: Vec<Key> = self
            .model
            .images
            .iter()
            .filter(|(_, image)| fits(image))
            .map(|(key, _)| *key)
            .collect();
        keys.get(pick % keys.len().max(1)).copied()
    }

    /// What this process removed a moment ago under a name. None too where it was so long ago that it is not
    /// certain whether it counts; then nothing is made.
    fn vacancy(&self, name: &str) -> Result<Option<Key>, ()> {
        match self.vacancies.get(name) {
            None => Ok(None),
            Some((removed, at)) if at.elapsed() < SHORTLY => Ok(Some(*removed)),
            Some(_) => Err(()),
        }
    }

    fn create(&mut self, door: Status, name: &str) {
        let path = self.sandbox.path(&format!("{}/{name}", door.name()));
        let Ok(vacancy) = self.vacancy(name) else { return };
        let made =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path);
        if self.model.bearer(door, name).is_some() {
            assert_eq!(made.map(drop).map_err(|e| e.raw_os_error()), Err(Some(libc::EEXIST)));
            return;
        }
        let file = made.expect("made");
        let status = if door == Status::Uploading { door } else { Status::Queued };
        let new = fresh(self.new_id(), name, status, ROOT, 0o644);
        let new = match vacancy.filter(|_| door == Status::Active) {
            None => new,
            Some(removed) => {
                self.vacancies.remove(name);
                let tags = self.model.images.get(&removed).map(|old| old.tags.clone());
                if tags.is_some() {
                    self.model.bring_back_to_replace(removed);
                }
                Image { tags: tags.unwrap_or_default(), is_provisional: true, ..new }
            }
        };
        let key = self.model.create(new);
        self.model.open(key, ROOT);
        self.opened(key, file);
    }

    fn overwrite(&mut self, old: Key) {
        let opened = OpenOptions::new().write(true).truncate(true).open(self.path(old));
        let id = if opened.is_ok() { self.new_id() } else { String::new() };
        if let Some((file, key)) = same(opened, self.model.replace(old, id)) {
            self.model.open(key, ROOT);
            self.opened(key, file);
        }
    }

    /// Opens what is queued or staged, to write it.
    fn open_again(&mut self, pick: usize) {
        let may = [Status::Queued, Status::Uploading];
        let Some(key) = self.pick(pick, |image| may.contains(&image.status)) else { return };
        // Who was cut off has it open still: nobody joins him.
        if self.model.upload(key).is_some_and(|upload| upload.is_cancelled) {
            return;
        }
        let file = OpenOptions::new().read(true).write(true).open(self.path(key)).expect("opened");
        self.model.open(key, ROOT);
        self.opened(key, file);
    }

    fn through_descriptor(&mut self, step: &Step) {
        let (Step::Dup { pick }
        | Step::Write { pick, .. }
        | Step::Truncate { pick, .. }
        | Step::Close { pick }) = *step
        else {
            unreachable!("it is through a descriptor")
        };
        if self.descriptors.is_empty() {
            return;
        }
        let index = pick % self.descriptors.len();
        match *step {
            Step::Dup { .. } => {
                let from = &self.descriptors[index];
                let (key, open) = (from.key, from.open);
                let file = from.file.try_clone().expect("a copy");
                self.descriptors.push(super::Descriptor { key, file, open });
            }
            Step::Write { offset, length, letter, .. } => {
                self.write(index, offset, &bytes(letter, length));
            }
            Step::Truncate { size, .. } => {
                let done = self.descriptors[index].file.set_len(size as u64);
                let modelled = self.model.truncate(self.descriptors[index].key, size);
                if modelled == Err(libc::ECANCELED) {
                    // Where nothing is left of the image the kernel may say so by itself.
                    assert!(done.is_err(), "cut off");
                } else {
                    same(done, modelled);
                }
            }
            _ => self.close(index),
        }
    }

    fn write(&mut self, index: usize, offset: usize, data: &[u8]) {
        let descriptor = &self.descriptors[index];
        let done = descriptor.file.write_all_at(data, offset as u64);
        same(done, self.model.write(descriptor.key, offset, data));
    }

    /// A shell that writes to `active/NAME`, and ends so.
    fn writer(&mut self, name: &str, data: &[u8], ending: Ending) {
        // To others than its remover a name that was removed is there for a moment longer.
        if self.vacancies.contains_key(name) {
            return;
        }
        let text = String::from_utf8_lossy(data).replace('\0', "\\000");
        let end = match ending {
            Ending::Well => "exec 3>&-; exit 0",
            Ending::Killed => "kill -9 $$",
            Ending::Failed => "exit 3",
            Ending::ClosedThenFailed => "exec 3>&-; exit 1",
        };
        let script = format!("umask 022; exec 3>\"$1\" || exit 9; printf %b \"$2\" >&3; {end}");
        let path = self.sandbox.path(&format!("active/{name}"));
        let key = match self.model.bearer(Status::Active, name) {
            None => Ok(None),
            Some(old) => self.model.replace(old, String::new()).map(Some),
        };
        let output = run(Command::new("sh").args(["-c", &script, "sh"]).arg(path).arg(text));
        let Ok(key) = key else {
            assert_ne!(output.status.code(), Some(0), "the image is protected");
            return;
        };
        let key = key.unwrap_or_else(|| {
            self.model.create(fresh(String::new(), name, Status::Queued, ROOT, 0o644))
        });
        self.model.open(key, ROOT);
        if !data.is_empty() {
            self.model.write(key, 0, data).expect("written");
        }
        if [Ending::Killed, Ending::Failed].contains(&ending) {
            self.model.fail(key);
        }
        self.model.close(key);
        if ending == Ending::ClosedThenFailed && self.model.published.contains_key(&key) {
            self.model.withdraw(key);
        }
        if self.model.images.contains_key(&key) {
            let id = self.new_id();
            self.model.images.get_mut(&key).expect("there").id = id;
        }
    }

    /// Opens again for writing what is active: only this process may, and only what it has just published.
    fn reopen(&mut self, pick: usize) {
        let Some(old) = self.pick(pick, |image| image.status == Status::Active) else { return };
        let published = self.own.get(&old).copied();
        if published.is_some_and(|at| at.elapsed() > SHORTLY) {
            return;
        }
        let opened = OpenOptions::new().read(true).write(true).open(self.path(old));
        let is_own = published.is_some() && matches!(self.model.image(old).data, Data::Whole(_));
        if !is_own {
            assert_eq!(opened.map(drop).map_err(|e| e.raw_os_error()), Err(Some(libc::EACCES)));
            return;
        }
        let gone = self.model.image(old).id.clone();
        let id = if opened.is_ok() { self.new_id() } else { String::new() };
        if let Some((file, key)) = same(opened, self.model.reopen(old, id, ROOT)) {
            assert!(
                !self.sandbox.path(&format!("by-id/{gone}")).exists(),
                "as if it had never been"
            );
            self.opened(key, file);
        }
    }

    fn alter(&mut self, step: &Step) {
        let (Step::Rename { pick, .. }
        | Step::Unlink { pick }
        | Step::Mode { pick, .. }
        | Step::Tags { pick, .. }
        | Step::Expect { pick, .. }
        | Step::AddLocation { pick, .. }) = *step
        else {
            unreachable!("it alters something")
        };
        let is_queued = matches!(step, Step::AddLocation { .. });
        let fits = |image: &Image| !is_queued || image.status == Status::Queued;
        let Some(key) = self.pick(pick, fits) else { return };
        let path = self.path(key);
        match *step {
            Step::Rename { to, name, no_replace, .. } => {
                let own = self.model.image(key).name.clone();
                let name = name.map_or(own, |name| NAMES[name].to_owned());
                self.rename(key, to, Asked { name: &name, no_replace, by: ROOT });
            }
            Step::Unlink { .. } => {
                let image = self.model.image(key).clone();
                let done = fs::remove_file(&path);
                let is_done = same(done, self.model.unlink(key, ROOT)).is_some();
                if image.status == Status::Active {
                    self.vacancies.remove(&image.name);
                    if is_done {
                        self.vacancies.insert(image.name, (key, Instant::now()));
                    }
                }
            }
            Step::Mode { mode, .. } => {
                let mode = MODES[mode];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
                self.model.images.get_mut(&key).expect("there").mode = mode;
            }
            Step::Tags { tag, .. } => {
                let text = ["t", "u", "t,u"][usize::from(tag)];
                let done = setxattr(&path, "user.sps.tags", text.as_bytes(), XattrFlags::empty());
                let tags = text.split(',').map(str::to_owned).collect();
                same(done, self.model.tag(key, ROOT, tags));
            }
            Step::Expect { size, .. } => {
                let (name, value) = ("user.sps.expected_size", size.to_string());
                let done = setxattr(&path, name, value.as_bytes(), XattrFlags::empty());
                same(done, self.model.declare_at_once(key, size));
            }
            Step::AddLocation { source, .. } => {
                let (file, data) = self.source(source);
                let value = file.to_string_lossy().into_owned();
                let name = "user.sps.locations";
                let done = setxattr(&path, name, value.as_bytes(), XattrFlags::empty());
                let added = self.model.add_location(key, &value, data, ROOT);
                if same(done, added).is_some() {
                    wait_for_digest(&self.path(key));
                }
            }
            _ => unreachable!("it alters something"),
        }
    }

    fn source(&self, source: usize) -> (PathBuf, Vec<u8>) {
        let (name, size) = SOURCES[source];
        (self.sandbox.file(name), vec![name.as_bytes()[0]; size])
    }

    /// Renames to another folder, or within: mostly where the lifecycle lets it, now and then anywhere.
    fn rename(&mut self, key: Key, to: usize, asked: Asked<'_>) {
        let from = self.model.image(key).status;
        let mut ways = ways_from(from);
        ways.push(from);
        let all = if to.is_multiple_of(5) { &Status::ALL[..] } else { &ways[..] };
        let to = all[(to / 5) % all.len()];
        let source = self.path(key);
        let target = self.sandbox.path(&format!("{}/{}", to.name(), asked.name));
        if source == target {
            // The kernel knows that nothing is to be done.
            return;
        }
        let flags = if asked.no_replace { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let is_taken = self.model.bearer(to, asked.name).is_some();
        let done = renameat_with(CWD, &source, CWD, &target, flags);
        if asked.no_replace && is_taken {
            // The kernel looks before it asks.
            assert_eq!(done, Err(rustix::io::Errno::EXIST));
        } else if from == to {
            same(done, self.model.rename(key, asked));
        } else if (from, to) == (Status::Uploading, Status::Active) {
            if let Err(refusal) = self.model.begin_import(key, asked) {
                same(done, Err::<(), Refusal>(refusal));
                return;
            }
            let folder = self.sandbox.path("importing");
            eventually("the import ends", || crate::support::names_in(&folder).is_empty());
            if self.model.end_import(key).is_ok() {
                done.expect("it has become active");
            }
        } else {
            same(done, self.model.relocate(key, to, asked));
        }
    }

    fn locate(&mut self, door: Status, name: &str, source: usize) {
        let (file, data) = self.source(source);
        let path = self.sandbox.path(&format!("{}/{name}", door.name()));
        let done = symlink(&file, &path);
        if self.model.bearer(door, name).is_some() {
            assert_eq!(done.map_err(|e| e.raw_os_error()), Err(Some(libc::EEXIST)));
            return;
        }
        let before = self.model.clone();
        let id = if done.is_ok() { self.new_id() } else { String::new() };
        let key = self.model.create(fresh(id, name, Status::Queued, ROOT, 0o644));
        let located = self.model.add_location(key, &file.to_string_lossy(), data, ROOT);
        match same(done, located) {
            Some(_) => wait_for_digest(&self.path(key)),
            None => self.model = before,
        }
    }

    /// Has everything read again: all of it is as it was.
    fn verify(&mut self) {
        self.tasks += 1;
        let name = format!("verify{}", self.tasks);
        let order = self.sandbox.path(&format!("tasks/pending/{name}"));
        fs::write(order, r#"{"type": "verify", "input": {}}"#).expect("ordered");
        let done = self.sandbox.path(&format!("tasks/success/{name}"));
        eventually("all is verified", || File::open(&done).is_ok());
        let record = fs::read_to_string(&done).expect("a record");
        let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
        assert_eq!(record["result"]["damaged"], 0, "{record}");
    }
}
