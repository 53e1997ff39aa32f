//! What is on the disk of the tests: for each file what is seen of it, what a power cut leaves of it, and the effects
//! that are in between.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The root directory.
pub const ROOT: u64 = 1;

/// How much is kept as one piece.
pub const PAGE: usize = 4096;

type Page = Arc<[u8; PAGE]>;

/// A file or a directory.
#[derive(Clone, Debug)]
pub struct Inode {
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: SystemTime,
    pub changed: SystemTime,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    File {
        pages: BTreeMap<u64, Page>,
        size: u64,
    },
    /// Each entry with its place in listings.
    Directory {
        entries: BTreeMap<String, (u64, u64)>,
    },
}

/// What was done, and is not known to be on the disk.
#[derive(Clone, Debug)]
pub enum Effect {
    Write {
        inode: u64,
        offset: u64,
        data: Arc<[u8]>,
    },
    Resize {
        inode: u64,
        size: u64,
    },
    Allocate {
        inode: u64,
        offset: u64,
        length: u64,
        keep_size: bool,
    },
    Punch {
        inode: u64,
        offset: u64,
        length: u64,
    },
    Attributes {
        inode: u64,
        mode: u32,
        owner: (u32, u32),
    },
    /// Names that one directory gets or loses in one step.
    Names {
        directory: u64,
        changes: Vec<(String, Option<u64>)>,
    },
}

impl Effect {
    /// The file or the directory whose fsync makes it durable.
    pub const fn inode(&self) -> u64 {
        match self {
            Self::Write { inode, .. }
            | Self::Resize { inode, .. }
            | Self::Allocate { inode, .. }
            | Self::Punch { inode, .. }
            | Self::Attributes { inode, .. } => *inode,
            Self::Names { directory, .. } => *directory,
        }
    }
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Lose,
    /// All.
    Keep,
    /// What was done up to some moment.
    Ordered,
    /// Of each effect all or nothing, and of a write some sectors.
    Scattered,
}

/// Numbers that look random and are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// Files and directories by number.
pub type Inodes = BTreeMap<u64, Inode>;

/// All that is on a disk.
#[derive(Clone, Debug)]
pub struct State {
    pub seen: Inodes,
    durable: Inodes,
    pub journal: Vec<Effect>,
    next: u64,
}

impl Inode {
    pub fn new(mode: u32, owner: (u32, u32), is_directory: bool) -> Self {
        let now = SystemTime::now();
        let kind = if is_directory {
            Kind::Directory { entries: BTreeMap::new() }
        } else {
            Kind::File { pages: BTreeMap::new(), size: 0 }
        };
        Self { mode, owner, modified: now, changed: now, kind }
    }

    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => *size,
            Kind::Directory { .. } => PAGE as u64,
        }
    }

    /// Pages that take room.
    pub fn pages(&self) -> u64 {
        match &self.kind {
            Kind::File { pages, .. } => pages.len() as u64,
            Kind::Directory { .. } => 0,
        }
    }

    pub fn entries(&self) -> Option<&BTreeMap<String, (u64, u64)>> {
        match &self.kind {
            Kind::Directory { entries } => Some(entries),
            Kind::File { .. } => None,
        }
    }

    /// The bytes at `offset`, up to the end of the file.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let Kind::File { pages, size } = &self.kind else { return Vec::new() };
        let end = size.min(&(offset + length as u64)).max(&offset).to_owned();
        let mut bytes = vec![0; (end - offset) as usize];
        for (number, page) in pages.range(offset / PAGE as u64..=end / PAGE as u64) {
            let start = number * PAGE as u64;
            let (from, to) = (start.max(offset), (start + PAGE as u64).min(end));
            if from < to {
                let part = &page[(from - start) as usize..(to - start) as usize];
                bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        bytes
    }

    /// The next byte of data, or of a hole, at or after `offset`.
    pub fn seek(&self, offset: u64, for_data: bool) -> Option<u64> {
        let Kind::File { pages, size } = &self.kind else { return None };
        if offset >= *size {
            return None;
        }
        let first = offset / PAGE as u64;
        if for_data {
            let number = *pages.range(first..).next()?.0;
            Some(offset.max(number * PAGE as u64)).filter(|at| at < size)
        } else {
            let mut number = first;
            while pages.contains_key(&number) {
                number += 1;
            }
            Some(offset.max(number * PAGE as u64).min(*size))
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let Kind::File { pages, size } = &mut self.kind else { return };
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let inside = (at % PAGE as u64) as usize;
            let count = rest.len().min(PAGE - inside);
            let page = pages.entry(at / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[inside..inside + count].copy_from_slice(&rest[..count]);
            at += count as u64;
            rest = &rest[count..];
        }
        *size = at.max(*size);
    }

    fn resize(&mut self, to: u64) {
        let Kind::File { pages, size } = &mut self.kind else { return };
        if to < *size {
            pages.split_off(&to.div_ceil(PAGE as u64));
            if let Some(page) = pages.get_mut(&(to / PAGE as u64)) {
                Arc::make_mut(page)[(to % PAGE as u64) as usize..].fill(0);
            }
        }
        *size = to;
    }

    fn allocate(&mut self, offset: u64, length: u64, keep_size: bool) {
        let Kind::File { pages, size } = &mut self.kind else { return };
        let zeros: Page = Arc::new([0; PAGE]);
        for number in offset / PAGE as u64..(offset + length).div_ceil(PAGE as u64) {
            pages.entry(number).or_insert_with(|| Arc::clone(&zeros));
        }
        if !keep_size {
            *size = (offset + length).max(*size);
        }
    }

    fn punch(&mut self, offset: u64, length: u64) {
        let Kind::File { pages, .. } = &mut self.kind else { return };
        let end = offset + length;
        let numbers: Vec<u64> = pages
            .range(offset / PAGE as u64..end.div_ceil(PAGE as u64))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let start = number * PAGE as u64;
            let (from, to) = (start.max(offset), (start + PAGE as u64).min(end));
            if to - from == PAGE as u64 {
                pages.remove(&number);
            } else if let Some(page) = pages.get_mut(&number) {
                Arc::make_mut(page)[(from - start) as usize..(to - start) as usize].fill(0);
            }
        }
    }
}

impl Default for State {
    fn default() -> Self {
        let root = BTreeMap::from([(ROOT, Inode::new(0o755, (0, 0), true))]);
        Self { seen: root.clone(), durable: root, journal: Vec::new(), next: ROOT + 1 }
    }
}

impl State {
    /// Makes a file or a directory with that name.
    pub fn make(&mut self, directory: u64, name: &str, inode: Inode) -> u64 {
        let number = self.next;
        self.next += 1;
        // It is there, empty, before its name is.
        self.durable.insert(number, inode.clone());
        self.seen.insert(number, inode);
        self.note(Effect::Names { directory, changes: vec![(name.to_owned(), Some(number))] });
        number
    }

    /// Does it, as whoever looks sees it.
    pub fn note(&mut self, effect: Effect) {
        let place = self.next;
        self.next += 1;
        apply(&mut self.seen, &effect, place);
        if let Some(inode) = self.seen.get_mut(&effect.inode()) {
            inode.changed = SystemTime::now();
            inode.modified = inode.changed;
        }
        self.journal.push(effect);
    }

    /// Makes all durable that was done to a file, or the names of a directory.
    pub fn sync(&mut self, number: u64) {
        let journal = std::mem::take(&mut self.journal);
        for effect in journal {
            if effect.inode() == number {
                self.next += 1;
                apply(&mut self.durable, &effect, self.next);
            } else {
                self.journal.push(effect);
            }
        }
    }

    /// A sync that failed: what was written goes on to be seen, and no later sync makes it durable, as the kernel takes
    /// the pages for clean. The names of a directory are tried again.
    pub fn fail_sync(&mut self, number: u64) {
        self.journal
            .retain(|effect| effect.inode() != number || matches!(effect, Effect::Names { .. }));
    }

    /// Room that is taken, in bytes.
    pub fn used(&self) -> u64 {
        self.seen.values().map(Inode::pages).sum::<u64>() * PAGE as u64
    }

    /// How many names a file has.
    pub fn links(&self, number: u64) -> u32 {
        let names = self.seen.values().filter_map(Inode::entries).flat_map(BTreeMap::values);
        names.filter(|(inode, _)| *inode == number).count() as u32
    }

    /// Drops the data of what has no name, if nobody has it open.
    pub fn forget(&mut self, number: u64) {
        if number != ROOT && self.links(number) == 0 {
            self.seen.remove(&number);
        }
    }

    /// What is left after the power was cut.
    pub fn left(&self, cut: Cut, seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut left = if cut == Cut::Keep { self.seen.clone() } else { self.durable.clone() };
        let kept = match cut {
            Cut::Lose | Cut::Keep => 0,
            Cut::Ordered => dice.below(self.journal.len() as u64 + 1) as usize,
            Cut::Scattered => self.journal.len(),
        };
        for (place, effect) in (self.next..).zip(self.journal.iter().take(kept)) {
            match (cut, effect) {
                (Cut::Scattered, Effect::Write { inode, offset, data }) => {
                    tear(&mut left, &mut dice, (*inode, *offset), data);
                }
                (Cut::Scattered, _) if dice.below(2) == 0 => {}
                _ => apply(&mut left, effect, place),
            }
        }
        let next = self.next + self.journal.len() as u64;
        // The index of the log is made anew by whoever is first.
        for inode in left.values_mut() {
            if let Kind::Directory { entries } = &mut inode.kind {
                entries.retain(|name, _| !name.ends_with("-shm"));
            }
        }
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(directory) = open.pop() {
            let entries = left.get(&directory).and_then(Inode::entries).into_iter().flatten();
            for (_, (inode, _)) in entries {
                if reached.insert(*inode) {
                    open.push(*inode);
                }
            }
        }
        left.retain(|number, _| reached.contains(number));
        Self { seen: left.clone(), durable: left, journal: Vec::new(), next }
    }

    /// The file or directory at a path.
    pub fn find(&self, path: &str) -> Option<&Inode> {
        let mut number = ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            number = self.seen.get(&number)?.entries()?.get(name)?.0;
        }
        self.seen.get(&number)
    }

    /// Writes all that is below a path to a directory of another filesystem.
    pub fn copy_out(&self, path: &str, to: &Path) -> std::io::Result<()> {
        let mut open: Vec<(&Inode, PathBuf)> =
            self.find(path).map(|inode| (inode, to.to_owned())).into_iter().collect();
        while let Some((inode, to)) = open.pop() {
            match &inode.kind {
                Kind::Directory { entries } => {
                    std::fs::create_dir_all(&to)?;
                    let found = entries.iter().filter_map(|(name, (number, _))| {
                        Some((self.seen.get(number)?, to.join(name)))
                    });
                    open.extend(found);
                }
                Kind::File { pages, size } => {
                    let file = std::fs::File::create(&to)?;
                    for (number, page) in pages {
                        file.write_all_at(&**page, number * PAGE as u64)?;
                    }
                    file.set_len(*size)?;
                }
            }
        }
        Ok(())
    }

    /// The names of all files below a path.
    pub fn files(&self, path: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&Inode> = self.find(path).into_iter().collect();
        while let Some(entries) = open.pop().and_then(Inode::entries) {
            for (name, (number, _)) in entries {
                match self.seen.get(number) {
                    Some(inode) if inode.entries().is_some() => open.push(inode),
                    Some(_) => drop(found.insert(name.clone())),
                    None => {}
                }
            }
        }
        found
    }

    /// The numbers of all files whose path is wanted.
    pub fn numbers(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<u64> {
        let mut found = Vec::new();
        let mut open = vec![(ROOT, String::new())];
        while let Some((number, path)) = open.pop() {
            match self.seen.get(&number).map(|inode| &inode.kind) {
                Some(Kind::Directory { entries }) => {
                    let inside = entries.iter();
                    open.extend(
                        inside.map(|(name, (number, _))| (*number, format!("{path}/{name}"))),
                    );
                }
                Some(Kind::File { .. }) if is_wanted(&path) => found.push(number),
                Some(Kind::File { .. }) | None => {}
            }
        }
        found
    }

    /// The bytes of the file at a path.
    pub fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.find(path).map(|inode| inode.read(0, inode.size() as usize))
    }
}

fn apply(inodes: &mut Inodes, effect: &Effect, place: u64) {
    let Some(inode) = inodes.get_mut(&effect.inode()) else { return };
    match effect {
        Effect::Write { offset, data, .. } => inode.write(*offset, data),
        Effect::Resize { size, .. } => inode.resize(*size),
        Effect::Allocate { offset, length, keep_size, .. } => {
            inode.allocate(*offset, *length, *keep_size);
        }
        Effect::Punch { offset, length, .. } => inode.punch(*offset, *length),
        Effect::Attributes { mode, owner, .. } => {
            (inode.mode, inode.owner) = (*mode, *owner);
        }
        Effect::Names { changes, .. } => {
            let Kind::Directory { entries } = &mut inode.kind else { return };
            for (name, to) in changes {
                match to {
                    Some(number) => entries.insert(name.clone(), (*number, place)),
                    None => entries.remove(name),
                };
            }
        }
    }
}

/// Writes all of it, nothing, or some sectors.
fn tear(inodes: &mut Inodes, dice: &mut Dice, (number, offset): (u64, u64), data: &[u8]) {
    let Some(inode) = inodes.get_mut(&number) else { return };
    match dice.below(3) {
        0 => {}
        1 => inode.write(offset, data),
        _ => {
            let sector = if dice.below(2) == 0 { 512 } else { PAGE as u64 };
            let mut at = offset;
            let end = offset + data.len() as u64;
            while at < end {
                let next = ((at / sector + 1) * sector).min(end);
                if dice.below(2) == 0 {
                    inode.write(at, &data[(at - offset) as usize..(next - offset) as usize]);
                }
                at = next;
            }
        }
    }
}
