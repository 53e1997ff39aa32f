//! The power is cut in the middle of every verb: a daemon and its store on a disk that forgets what was not synced. What was
//! answered is there afterwards, what was not is whole or not there, and the store agrees with itself.
//!
//! `SOAK_SEED=7` cuts at other moments and keeps other parts, `SOAK_FACTOR=10` at ten times as many, and `POWER_VERB=big` does
//! one verb alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::disk::machine::{Door, Machine, put, rename};
use crate::disk::{Cut, Op, State};
use crate::support::eventually;

mod lost;
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
        self.told("renamed", rename(&self.path(from), &self.path(to)))
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
    wait_for_rest(&machine);
    let log = machine.log();
    assert!(!log.contains(" ERROR "), "nothing fails, and the log tells of it:\n{log}");
    machine.stop();
    machine.audit();
    machine.disk.left(Cut::Keep, 0)
}

/// Where the power is cut, and how: the same moment is looked at in several ways.
#[derive(Clone, Debug)]
struct Moment {
    after: u64,
    cuts: Vec<(Cut, u64)>,
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
            // A little of what the daemon does by itself afterwards, too.
            return Self { begin: 0, end: count + 2 };
        }
        let is_data = |(op, path): &(Op, String)| *op == Op::Write && path.contains("/staging/");
        let begin = done.iter().position(is_data).expect("the first write") as u64;
        let is_commit = |(_, path): &(Op, String)| path.ends_with("/sps.db-wal");
        let end = done.iter().rposition(is_commit).expect("the commit") as u64;
        Self { begin: begin + 1, end }
    }

    fn moment(self, verb: &Verb, (index, moments): (u64, u64), seed: u64) -> Moment {
        // A store that is made has most of its changes before there is anything in it.
        let tail = Self { begin: self.end.saturating_sub(80), ..self };
        let span = if verb.is_first && index % 2 == 1 { tail } else { self };
        let length = span.end.saturating_sub(span.begin);
        // Another seed cuts between the moments of this one, too.
        let after = span.begin + (index * length + seed % length.max(1)) / moments;
        let seed = (seed << 32) + index * 16;
        let mut cuts = vec![(Cut::Lose, 0), (Cut::Ordered, seed), (Cut::Scattered, seed)];
        if verb.is_upload {
            cuts.extend([(Cut::Keep, seed), (Cut::Scattered, seed + 1)]);
        }
        Moment { after, cuts }
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
    let log = machine.log();
    assert!(!log.contains(" ERROR "), "nothing fails, and the log tells of it:\n{log}");
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
struct Context<'a>(&'a Verb, &'a Moment, RefCell<String>);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(verb, moment, told) = self;
            eprintln!(
                "--- {} with the power cut after {}: {}",
                verb.name,
                moment.after,
                told.borrow()
            );
        }
    }
}

/// Does a verb until the power is cut, and checks what comes up from what can be left.
fn survive(verb: &Verb, base: &State, files: &Path, moment: &Moment) {
    let context = Context(verb, moment, RefCell::default());
    let mut machine = prepared(verb, base, files);
    let work = Work { root: machine.root(), files: files.to_owned(), told: RefCell::default() };
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
    let state = machine.disk.state();
    drop(machine);
    for (cut, seed) in &moment.cuts {
        *context.2.borrow_mut() = format!("{cut:?} {seed}, told {:?}", work.told.borrow());
        let mut left = state.left(*cut, *seed);
        if *cut == Cut::Keep {
            // And it is cut again while the daemon settles that.
            left = cut_again(left, files, *seed);
        }
        check(verb, left, &work, &context);
    }
}

/// Starts the daemon, cuts the power while it settles what it finds, and answers what is left.
fn cut_again(left: State, files: &Path, seed: u64) -> State {
    let root = format!("location_root={}", files.display());
    let mut machine = Machine::with(left, &[&root, "publish=all"]);
    machine.disk.cut_after(seed / 16 % 20);
    if machine.start().is_ok() {
        wait_for_rest(&machine);
    }
    machine.cut();
    machine.disk.left(Cut::Scattered, seed)
}

/// Starts the daemon on what is left, and checks all of it.
fn check(verb: &Verb, left: State, work: &Work, context: &Context<'_>) {
    let options = format!("location_root={}", work.files.display());
    let mut machine = Machine::boot(left, &[&options, "publish=all"]);
    machine.settle();
    let found = found(&machine, work);
    let cut = context.2.borrow().clone();
    *context.2.borrow_mut() = format!("{cut}, found {:?}", found.tree);
    if !verb.is_first {
        found.is("active/kept", &[Some("kept")]);
    }
    (verb.check)(&found);
    machine.stop();
    machine.audit();
}

// semantics: closed-survives mv-survives staging-survives never-stuck
#[test]
fn whatever_was_answered_before_a_power_cut_is_there_after_it() {
    let began = Instant::now();
    let only = std::env::var("POWER_VERB").ok();
    let number = |name, usual| std::env::var(name).map_or(usual, |n| n.parse().expect("a number"));
    let (seed, factor) = (number("SOAK_SEED", 2_026), number("SOAK_FACTOR", 1).clamp(1, 1000));
    let is_wanted = |verb: &&Verb| only.as_deref().is_none_or(|only| only == verb.name);
    let verbs: Vec<&Verb> = VERBS.iter().filter(is_wanted).collect();
    let base = base();
    let files = tempfile::Builder::new().prefix("sps-power-").tempdir().expect("a directory");
    let located = crate::disk::machine::content("small");
    std::fs::write(files.path().join("located"), located).expect("a file elsewhere");
    let rehearsed = each_at_once(&verbs, |verb| rehearse(verb, &base, files.path()));
    let spans = verbs.iter().zip(rehearsed);
    let work: Vec<(&Verb, Moment)> = spans
        .flat_map(|(verb, span)| {
            let span = span.unwrap_or_else(|| panic!("{} fails uncut", verb.name));
            let moments = u64::from(verb.moments) * factor;
            (0..moments).map(move |index| (*verb, span.moment(verb, (index, moments), seed)))
        })
        .collect();
    let count = |is_counted: fn(&Verb) -> bool| -> usize {
        let counted = work.iter().filter(|(verb, _)| is_counted(verb));
        counted.map(|(_, moment)| moment.cuts.len()).sum()
    };
    let (all, uploads) = (count(|_| true), count(|verb| verb.is_upload));
    if only.is_none() {
        assert!(all >= CUTS_MIN && uploads * 100 >= all * UPLOADS_MIN, "{uploads} of {all}");
    }
    let outcomes = each_at_once(&work, |(verb, moment)| survive(verb, &base, files.path(), moment));
    let failed = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    eprintln!("{all} cuts, {uploads} of them in an upload, in {:?}", began.elapsed());
    assert_eq!(failed, 0, "of {} moments", work.len());
}

/// Does the work of all items, a few at a time. None is answered for one that panics.
fn each_at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<Option<R>> {
    let next = AtomicUsize::new(0);
    let done = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::AcqRel);
                    let Some(item) = items.get(index) else { break };
                    let caught = std::panic::AssertUnwindSafe(|| work(item));
                    let outcome = std::panic::catch_unwind(caught).ok();
                    done.lock().push((index, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
