//! The power is cut in the middle of every verb: a daemon and its store on a disk that forgets what was not synced. What was
//! answered is there afterwards, what was not is whole or not there, and the store agrees with itself.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::disk::machine::{Door, Machine, put};
use crate::disk::{Cut, Op, State};
use crate::support::eventually;

mod verbs;

use verbs::{VERBS, Verb};

/// How many cuts there are at least, and what share of them in an upload, in percent.
const CUTS_MIN: usize = 500;
const UPLOADS_MIN: usize = 80;

/// How many machines there are at a time.
const MACHINES: usize = 4;

/// How long what goes on after a verb is waited for.
const AFTERMATH: Duration = Duration::from_millis(150);

/// Who does a verb, and what he was told.
struct Work {
    root: PathBuf,
    files: PathBuf,
    told: RefCell<Vec<&'static str>>,
}

impl Work {
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Notes what was answered with success. Answers whether it was.
    fn told<T>(&self, what: &'static str, answer: std::io::Result<T>) -> bool {
        if answer.is_ok() {
            self.told.borrow_mut().push(what);
        }
        answer.is_ok()
    }

    fn put(&self, path: &str, content: &str, door: Door, piece: usize) -> bool {
        self.told("closed", put(&self.path(path), content, door, piece))
    }

    fn rename(&self, from: &str, to: &str) -> bool {
        self.told("renamed", std::fs::rename(self.path(from), self.path(to)))
    }
}

/// What is found after a cut, and what had been answered before.
struct Found {
    tree: BTreeMap<String, String>,
    told: Vec<&'static str>,
    root: PathBuf,
}

impl Found {
    fn was_told(&self, what: &str) -> bool {
        self.told.contains(&what)
    }

    fn at(&self, path: &str) -> Option<&str> {
        self.tree.get(path).map(String::as_str)
    }

    /// In which folders there is an image of that name.
    fn folders(&self, name: &str) -> Vec<&str> {
        let split = self.tree.keys().filter_map(|path| path.split_once('/'));
        split
            .filter(|(_, found)| found.split('~').next() == Some(name))
            .map(|(folder, _)| folder)
            .collect()
    }

    /// An image is nowhere but in these folders.
    fn only_in(&self, name: &str, allowed: &[&str]) {
        let folders = self.folders(name);
        assert!(folders.iter().all(|folder| allowed.contains(folder)), "{name} is in {folders:?}");
    }

    /// A path has one of these contents, or is not there where that is allowed.
    fn is(&self, path: &str, allowed: &[Option<&str>]) {
        assert!(allowed.contains(&self.at(path)), "{path} is {:?}", self.at(path));
    }
}

/// What the verbs begin with: some images of each kind, all on the disk.
fn base() -> State {
    let mut machine = Machine::boot(State::default(), &[]);
    for (path, content) in [
        ("active/kept", "kept"),
        ("active/target", "old"),
        ("active/trash", "trash"),
        ("uploading/staged", "staged"),
    ] {
        put(&machine.path(path), content, Door::New, 1 << 20).expect("uploaded");
    }
    std::fs::remove_file(machine.path("active/trash")).expect("removed");
    machine.stop();
    machine.audit();
    machine.disk.left(Cut::Keep, 0)
}

/// Where and how the power is cut.
#[derive(Clone, Copy, Debug)]
struct Moment {
    after: u64,
    cut: Cut,
    seed: u64,
}

/// The part of a verb's changes that is of interest: from the first write of an upload to its commit, or all.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: u64,
    end: u64,
}

impl Span {
    fn of(verb: &Verb, done: &[(Op, String)]) -> Self {
        let count = done.len() as u64;
        if !verb.is_upload {
            return Self { begin: 0, end: count + count / 8 };
        }
        let is_data = |(op, path): &(Op, String)| *op == Op::Write && path.contains("/staging/");
        let begin = done.iter().position(is_data).expect("the first write") as u64;
        let is_commit = |(_, path): &(Op, String)| path.ends_with("/sps.db-wal");
        let end = done.iter().rposition(is_commit).expect("the commit") as u64;
        Self { begin: begin + 1, end }
    }

    fn moment(self, index: u32, count: u32) -> Moment {
        let length = self.end.saturating_sub(self.begin);
        Moment {
            after: self.begin + u64::from(index) * length / u64::from(count.max(1)),
            cut: Cut::ALL[index as usize % Cut::ALL.len()],
            seed: u64::from(index),
        }
    }
}

/// A machine on which a verb is about to be done.
fn prepared(verb: &Verb, base: &State, files: &Path) -> Machine {
    let root = format!("location_root={}", files.display());
    let state = if verb.is_first { State::default() } else { base.clone() };
    Machine::with(state, &[&root, "publish=all"])
}

/// Does a verb without a cut, and answers which changes it made.
fn rehearse(verb: &Verb, base: &State, files: &Path) -> Span {
    let mut machine = prepared(verb, base, files);
    if verb.is_first {
        machine.start().expect("ready");
    } else {
        machine.start().expect("ready");
        wait_for_rest(&machine);
        machine.disk.take_done();
    }
    let work = Work { root: machine.root(), files: files.to_owned(), told: RefCell::default() };
    (verb.work)(&work);
    machine.settle();
    let found = found(&machine, &work);
    assert!(!found.told.is_empty(), "{} does nothing", verb.name);
    (verb.check)(&found);
    wait_for_rest(&machine);
    let span = Span::of(verb, &machine.disk.take_done());
    machine.stop();
    machine.audit();
    span
}

/// Waits until the daemon does nothing by itself any more.
fn wait_for_rest(machine: &Machine) {
    let seen = RefCell::new((machine.disk.changes(), Instant::now()));
    eventually("the disk rests", || {
        let mut seen = seen.borrow_mut();
        if machine.disk.changes() != seen.0 {
            *seen = (machine.disk.changes(), Instant::now());
        }
        seen.1.elapsed() > Duration::from_millis(20)
    });
}

fn found(machine: &Machine, work: &Work) -> Found {
    Found { tree: machine.tree(), told: work.told.borrow().clone(), root: machine.root() }
}

/// Says where it was when a check fails.
struct Told<'a>(&'a Verb, Moment, RefCell<String>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {} with the power cut at {:?}: {}",
                self.0.name,
                self.1,
                self.2.borrow()
            );
        }
    }
}

/// Does a verb with a cut, and checks what comes up.
fn survive(verb: &Verb, base: &State, files: &Path, moment: Moment) {
    let mut machine = prepared(verb, base, files);
    let work = Work { root: machine.root(), files: files.to_owned(), told: RefCell::default() };
    let context = Told(verb, moment, RefCell::default());
    if verb.is_first {
        machine.disk.cut_after(moment.after);
    }
    if machine.start().is_ok() {
        if !verb.is_first {
            machine.disk.cut_after(moment.after);
        }
        (verb.work)(&work);
        let ended = Instant::now();
        eventually("the cut", || machine.disk.is_off() || ended.elapsed() > AFTERMATH);
    }
    machine.cut();
    let left = machine.disk.left(moment.cut, moment.seed);
    let root = machine.root();
    drop(machine);
    *context.2.borrow_mut() = format!("told {:?}", work.told.borrow());
    let options = format!("location_root={}", files.display());
    let mut machine = Machine::boot(left, &[&options, "publish=all"]);
    machine.settle();
    let found = found(&machine, &work);
    *context.2.borrow_mut() = format!("told {:?}, found {:?}", found.told, found.tree);
    if !verb.is_first {
        found.is("active/kept", &[Some("kept")]);
    }
    assert!(!root.join("active").exists(), "the old mount is gone");
    (verb.check)(&found);
    machine.stop();
    machine.audit();
}

// semantics: closed-survives never-stuck
#[test]
fn whatever_was_answered_before_a_power_cut_is_there_after_it() {
    let began = Instant::now();
    let only = std::env::var("POWER_VERB").ok();
    let verbs: Vec<&Verb> =
        VERBS.iter().filter(|verb| only.as_deref().is_none_or(|only| only == verb.name)).collect();
    let base = base();
    let files = tempfile::Builder::new().prefix("sps-power-").tempdir().expect("a directory");
    std::fs::write(files.path().join("located"), crate::disk::machine::content("small"))
        .expect("a file elsewhere");
    let work: Vec<(&Verb, Moment)> = std::thread::scope(|scope| {
        let (base, files) = (&base, files.path());
        let spans =
            verbs.into_iter().map(|verb| (verb, scope.spawn(move || rehearse(verb, base, files))));
        let spans: Vec<_> = spans.collect();
        spans
            .into_iter()
            .flat_map(|(verb, span)| {
                let span = span.join().unwrap_or_else(|_| panic!("{} fails uncut", verb.name));
                (0..verb.cuts).map(move |index| (verb, span.moment(index, verb.cuts)))
            })
            .collect()
    });
    if only.is_none() {
        let uploads = work.iter().filter(|(verb, _)| verb.is_upload).count();
        assert!(work.len() >= CUTS_MIN && uploads * 100 >= work.len() * UPLOADS_MIN);
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(|| {
                while let Some((verb, moment)) = work.get(next.fetch_add(1, Ordering::AcqRel)) {
                    let cut = || survive(verb, &base, files.path(), *moment);
                    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(cut)).is_err() {
                        failed.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    eprintln!("{} cuts in {:?}", work.len(), began.elapsed());
    assert_eq!(failed, 0, "of {} cuts", work.len());
}
