//! Runs facts on a local file and on one of a mount, and compares.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec,
    Timestamps, Uid,
};
use rustix::io::Errno;

use super::Shown;
use super::differences::Difference;
use super::fact::{But, Fact, Said, Step, Time, User};
use crate::support::{ALICE, BOB, Memory, Sandbox, attribute, eventually};

/// A user who is in Alice's group.
const CAROL: u32 = 61_003;

/// When everything was last changed before a fact.
const BEFORE: i64 = 1_000_000_000;

/// What the file holds that is prepared.
const DIGITS: &[u8] = b"0123456789";

/// Where the facts run beside the local filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Staged,
    Sealed,
    ReadOnly,
}

/// A moment, as far as it can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    Now,
    At(i64, i64),
}

/// What is seen of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    kind: u32,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    links: u64,
    accessed: When,
    modified: When,
    /// Whether it is the one that was there before.
    is_same: bool,
    /// Whether it is, and its status time is another one.
    is_changed: bool,
    content: Option<Vec<u8>>,
}

/// What is seen of all that a fact is about.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    file: Option<Look>,
    other: Option<Look>,
    is_folder_changed: bool,
    /// Whether the folder has another mode or owner.
    is_folder_another: bool,
}

/// One of the two sides.
struct Side {
    folder: PathBuf,
    /// Where the link to a file is.
    link: Box<dyn Fn(usize) -> PathBuf + Sync>,
    is_mount: bool,
    /// The mode of the folder.
    bits: fs::Permissions,
}

impl Side {
    fn path(&self, number: usize, path: &str) -> PathBuf {
        if path == "." {
            return self.folder.clone();
        }
        let (first, rest) = path.split_once('/').map_or((path, None), |(a, b)| (a, Some(b)));
        let first = match first {
            "l" => (self.link)(number),
            "absent" => self.folder.join("absent"),
            _ => match first.strip_prefix('#') {
                Some(length) => self.folder.join("n".repeat(length.parse().expect("a number"))),
                None => self.folder.join(format!("{first}{number}")),
            },
        };
        rest.map_or(first.clone(), |rest| first.join(rest))
    }
}

fn seconds(at: i64) -> Timespec {
    Timespec { tv_sec: at, tv_nsec: 0 }
}

fn set_times(path: &Path) {
    let at = Timestamps { last_access: seconds(BEFORE), last_modification: seconds(BEFORE) };
    rustix::fs::utimensat(CWD, path, &at, AtFlags::empty()).expect("times");
}

fn own(path: &Path, mode: u32) {
    std::os::unix::fs::chown(path, Some(ALICE), Some(ALICE)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    set_times(path);
}

/// Which file it is, and its status time.
type Identity = (u64, (i64, i64));

fn identity(path: &Path) -> Option<Identity> {
    let stat = fs::symlink_metadata(path).ok()?;
    Some((stat.ino(), (stat.ctime(), stat.ctime_nsec())))
}

fn look(path: &Path, before: Option<Identity>) -> Option<Look> {
    let stat = fs::symlink_metadata(path).ok()?;
    let when = |at: i64, nanoseconds| match at {
        BEFORE if nanoseconds == 0 => When::Before,
        // No fact sets one of these years.
        1_700_000_000..3_000_000_000 => When::Now,
        _ => When::At(at, nanoseconds),
    };
    Some(Look {
        kind: stat.mode() & libc::S_IFMT,
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        size: stat.len(),
        links: stat.nlink(),
        accessed: when(stat.atime(), stat.atime_nsec()),
        modified: when(stat.mtime(), stat.mtime_nsec()),
        is_same: before.is_some_and(|before| before.0 == stat.ino()),
        is_changed: before.is_some_and(|(inode, at)| {
            inode == stat.ino() && at != (stat.ctime(), stat.ctime_nsec())
        }),
        content: (stat.is_file() && stat.len() < 1 << 20).then(|| fs::read(path).ok()).flatten(),
    })
}

/// Acts as a user, in this thread alone.
fn become_user(user: User) {
    let id = match user {
        User::Root => return,
        User::Owner => ALICE,
        User::Member => CAROL,
        User::Stranger => BOB,
    };
    let group = if user == User::Member { ALICE } else { id };
    rustix::thread::set_thread_groups(&[Gid::from_raw(group)]).expect("groups");
    let gid = Some(Gid::from_raw(id));
    rustix::thread::set_thread_res_gid(gid, gid, gid).expect("a group");
    let uid = Some(Uid::from_raw(id));
    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("a user");
}

/// What a fact holds while it runs.
#[derive(Default)]
struct Hands {
    file: Option<OwnedFd>,
    program: Option<Child>,
}

impl Drop for Hands {
    fn drop(&mut self) {
        if let Some(program) = &mut self.program {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

fn timestamps(accessed: Option<Time>, modified: Option<Time>) -> Timestamps {
    let one = |time: Option<Time>| match time {
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Some(Time::Now) => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Some(Time::At(tv_sec, tv_nsec)) => Timespec { tv_sec, tv_nsec },
    };
    Timestamps { last_access: one(accessed), last_modification: one(modified) }
}

/// truncate(2), which rustix does not have.
fn truncate(path: &Path, length: i64) -> Result<(), Errno> {
    let script = "import os, sys
try: os.truncate(sys.argv[1], int(sys.argv[2]))
except OSError as error: sys.exit(error.errno)";
    let mut python = Command::new("python3");
    python.args(["-I", "-S", "-c", script]).arg(path).arg(length.to_string());
    match python.current_dir("/").status().expect("python3").code() {
        Some(0) => Ok(()),
        code => Err(Errno::from_raw_os_error(code.expect("a status"))),
    }
}

fn ids(uid: Option<u32>, gid: Option<u32>) -> (Option<Uid>, Option<Gid>) {
    (uid.map(Uid::from_raw), gid.map(Gid::from_raw))
}

/// Does one step.
fn take(hands: &mut Hands, step: &Step, at: &dyn Fn(&str) -> PathBuf) -> Result<u64, Errno> {
    let file = || hands.file.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF);
    let mode = Mode::from_raw_mode;
    match *step {
        Step::Open(path, flags, bits) => {
            hands.file = None;
            let flags = OFlags::from_bits_retain(flags.cast_unsigned());
            hands.file = Some(rustix::fs::open(at(path), flags, mode(bits))?);
        }
        Step::Close => hands.file = None,
        Step::Read(offset, length) => {
            return Ok(rustix::io::pread(file()?, &mut vec![0; length][..], offset)? as u64);
        }
        Step::Write(offset, data) => return Ok(rustix::io::pwrite(file()?, data, offset)? as u64),
        Step::Append(data) => return Ok(rustix::io::write(file()?, data)? as u64),
        Step::Resize(length) => rustix::fs::ftruncate(file()?, length.cast_unsigned())?,
        Step::ResizeAt(path, length) => truncate(&at(path), length)?,
        Step::Allocate(how, offset, length) => {
            let how = FallocateFlags::from_bits_retain(how);
            rustix::fs::fallocate(file()?, how, offset, length)?;
        }
        Step::Sync => rustix::fs::fsync(file()?)?,
        Step::Links => return Ok(rustix::fs::fstat(file()?)?.st_nlink as u64),
        Step::Chmod(path, bits) => rustix::fs::chmod(at(path), mode(bits))?,
        Step::ChmodOpen(bits) => rustix::fs::fchmod(file()?, mode(bits))?,
        Step::Chown(path, uid, gid) => {
            let (uid, gid) = ids(uid, gid);
            rustix::fs::chown(at(path), uid, gid)?;
        }
        Step::ChownLink(path, uid, gid) => {
            let (uid, gid) = ids(uid, gid);
            rustix::fs::chownat(CWD, at(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Step::Times(path, accessed, modified) => {
            let times = timestamps(accessed, modified);
            rustix::fs::utimensat(CWD, at(path), &times, AtFlags::empty())?;
        }
        Step::TimesOpen(accessed, modified) => {
            rustix::fs::futimens(file()?, &timestamps(accessed, modified))?;
        }
        Step::Access(path, what) => {
            let what = Access::from_bits_retain(what);
            rustix::fs::accessat(CWD, at(path), what, AtFlags::EACCESS)?;
        }
        Step::Rename(from, to, flags) => {
            let flags = RenameFlags::from_bits_retain(flags);
            rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags)?;
        }
        Step::Unlink(path) => rustix::fs::unlink(at(path))?,
        Step::Rmdir(path) => rustix::fs::rmdir(at(path))?,
        Step::Mkdir(path) => rustix::fs::mkdir(at(path), mode(0o755))?,
        Step::Link(from, to) => rustix::fs::link(at(from), at(to))?,
        Step::Symlink(target, path) => rustix::fs::symlink(target, at(path))?,
        Step::Node(path, kind) => {
            let kind = FileType::from_raw_mode(kind);
            rustix::fs::mknodat(CWD, at(path), kind, mode(0o644), rustix::fs::makedev(1, 3))?;
        }
        Step::ReadLink(path) => {
            return Ok(u64::from(!rustix::fs::readlink(at(path), Vec::new())?.is_empty()));
        }
        Step::Execute(path) => {
            let mut command = Command::new(at(path));
            command.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
            let error = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
            hands.program = Some(command.spawn().map_err(error)?);
        }
    }
    Ok(0)
}

/// Runs a fact on one side; answers what was said, and what was seen before and after.
fn run(side: &Side, number: usize, fact: &Fact) -> (Vec<Said>, Option<Sight>, Sight) {
    let (file, other) = (side.path(number, "f"), side.path(number, "g"));
    let times = (identity(&file), identity(&other));
    // A mount keeps the time of its folders, and one that is read-only has no other.
    let at = Timestamps { last_access: seconds(BEFORE), last_modification: seconds(BEFORE) };
    let _ = rustix::fs::utimensat(CWD, &side.folder, &at, AtFlags::empty());
    if !side.is_mount {
        let _ = fs::set_permissions(&side.folder, side.bits.clone());
    }
    let folder = || fs::metadata(&side.folder).expect("a folder");
    let folder_before = folder();
    let whose = |folder: &fs::Metadata| (folder.mode(), folder.uid(), folder.gid());
    let sight = || Sight {
        file: look(&file, times.0),
        other: look(&other, times.1),
        is_folder_changed: folder().mtime() != folder_before.mtime(),
        is_folder_another: whose(&folder()) != whose(&folder_before),
    };
    // On a local filesystem it would be seen in the time of access.
    let before = side.is_mount.then(sight);
    let said = std::thread::scope(|scope| {
        let acting = scope.spawn(|| {
            become_user(fact.by);
            let mut hands = Hands::default();
            let at = |path: &str| side.path(number, path);
            let mut answer = |step| take(&mut hands, step, &at).map_err(Errno::raw_os_error);
            fact.steps.iter().map(&mut answer).collect()
        });
        acting.join().expect("the calls were made")
    });
    (said, before, sight())
}

/// What a mount shows where a local filesystem shows this, by what holds of every file of a mount.
fn as_on_a_mount(local: &Sight, shown: &mut Shown) -> Sight {
    let mut note = |difference| *shown.entry(difference).or_default() += 1;
    let mut expected = local.clone();
    if local.is_folder_changed {
        note(Difference::FolderTime);
        expected.is_folder_changed = false;
    }
    if local.is_folder_another {
        note(Difference::Folders);
        expected.is_folder_another = false;
    }
    for look in [&mut expected.file, &mut expected.other] {
        let Some(look) = look else { continue };
        if look.is_changed && look.is_same {
            note(Difference::StatusTime);
            look.is_changed = false;
        }
        if look.mode & 0o6000 != 0 {
            note(Difference::SetId);
            look.mode &= 0o1777;
        }
        if look.accessed != look.modified {
            note(Difference::AccessTime);
            look.accessed = look.modified;
        }
    }
    expected
}

/// Makes what the facts are about in the folder of a side.
fn prepare(side: &Side, facts: &[Fact]) {
    for (number, fact) in facts.iter().enumerate() {
        for name in ["f", "g"] {
            let path = side.path(number, name);
            if name == "f" && fact.is_program {
                fs::copy("/bin/sleep", &path).expect("a program");
            } else if name == "f" || fact.has_other {
                fs::write(&path, DIGITS).expect("a file");
            } else {
                continue;
            }
            own(&path, fact.mode);
        }
    }
}

/// Makes the images by another process: this one could open them again for a while.
fn publish(sandbox: &Sandbox, side: &Side, facts: &[Fact]) {
    let mut script = String::from("set -e; cd $M/active; ");
    let mut made = Vec::new();
    for (number, fact) in facts.iter().enumerate() {
        let source = if fact.is_program { "cat /bin/sleep" } else { "printf 0123456789" };
        script.push_str(&format!("{source} > f{number}; "));
        made.push((side.path(number, "f"), fact.mode));
        if fact.has_other {
            script.push_str(&format!("printf 0123456789 > g{number}; "));
            made.push((side.path(number, "g"), fact.mode));
        }
    }
    sandbox.ok(&script);
    for (path, mode) in made {
        own(&path, mode);
    }
}

/// Runs all facts, and answers how many show each difference. Any other is a failure.
pub fn trials(place: Place, facts: &[Fact]) -> Shown {
    let memory = Memory::new();
    let mut sandbox = Sandbox::with(&["publish=all"]);
    let status = if place == Place::Staged { "uploading" } else { "active" };
    let (root, folder) = (sandbox.root(), sandbox.path(status));
    let image = folder.clone();
    let bits = fs::metadata(&folder).expect("a folder").permissions();
    let local = Side {
        folder: memory.path().join("folder"),
        link: Box::new({
            let folder = memory.path().join("folder");
            move |number| folder.join(format!("l{number}"))
        }),
        is_mount: false,
        bits: bits.clone(),
    };
    let mount = Side {
        folder: folder.clone(),
        link: Box::new(move |number| {
            let id = attribute(&image.join(format!("f{number}")), "id").expect("an id");
            root.join("by-id").join(id)
        }),
        is_mount: true,
        bits: bits.clone(),
    };
    fs::create_dir(&local.folder).expect("a folder");
    fs::set_permissions(&local.folder, bits).expect("chmod");
    prepare(&local, facts);
    for number in 0..facts.len() {
        let link = (local.link)(number);
        std::os::unix::fs::symlink(format!("f{number}"), link).expect("a link");
    }
    match place {
        Place::Staged => prepare(&mount, facts),
        Place::Sealed | Place::ReadOnly => publish(&sandbox, &mount, facts),
    }
    if place == Place::ReadOnly {
        sandbox.umount();
        sandbox = sandbox.and("ro");
        sandbox.mount();
        sandbox.ok(&format!("mount -o remount,ro {}", memory.path().display()));
    }
    // What changes from now on has another time.
    let made = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    eventually("the clock goes on", || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        (now.tv_sec, now.tv_nsec) > (made.tv_sec, made.tv_nsec)
    });
    let mut shown = Shown::new();
    let mut faults = Vec::new();
    for (number, fact) in facts.iter().enumerate() {
        let (said, _, seen) = run(&local, number, fact);
        let (answers, before, found) = run(&mount, number, fact);
        let before = before.expect("it was looked");
        let mut note = |difference| *shown.entry(difference).or_default() += 1;
        let (said, expected) = match &fact.but {
            But::Nothing => (said, Some(as_on_a_mount(&seen, &mut shown))),
            But::Refuses(difference, answers) => {
                assert_ne!(&said, answers, "{}: it is no difference", fact.says);
                note(*difference);
                (answers.clone(), Some(before))
            }
            But::Does(difference, answers) => {
                let as_expected = as_on_a_mount(&seen, &mut Shown::new());
                let is_one = said != *answers || as_expected != found;
                assert!(is_one, "{}: it is no difference", fact.says);
                note(*difference);
                (answers.clone(), None)
            }
        };
        if said != answers {
            faults.push(format!("{} ({:?}): {said:?}, and here {answers:?}", fact.says, fact.by));
        } else if let Some(expected) = expected.filter(|expected| *expected != found) {
            faults.push(format!("{} ({:?}): {expected:?}, and here {found:?}", fact.says, fact.by));
        }
    }
    assert!(faults.is_empty(), "{} facts:\n{}", faults.len(), faults.join("\n"));
    sandbox.umount();
    sandbox.audit();
    shown
}
