//! A sandbox for each test: a store, a mount, and what is asked of them. Dropping it leaves nothing.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use sps::image::{Content, ImageNumber};
use sps::lifecycle::Status;
use sps::registry::{Registry, SqliteRegistry};
use tempfile::TempDir;

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user that is not root, and a second one.
pub const ALICE: u32 = 61_001;
/// The second user.
pub const BOB: u32 = 61_002;

/// A store and where it is mounted.
pub struct Sandbox {
    directory: TempDir,
    options: Vec<String>,
}

impl Sandbox {
    /// A mounted, empty store.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// A mounted, empty store, with options of `-o`.
    pub fn with(options: &[&str]) -> Self {
        let sandbox = Self::unmounted(options);
        sandbox.mount();
        sandbox
    }

    /// A sandbox that is not mounted yet.
    pub fn unmounted(options: &[&str]) -> Self {
        Self::below(&std::env::temp_dir(), options)
    }

    /// The same, in a folder.
    pub fn below(folder: &Path, options: &[&str]) -> Self {
        let named = tempfile::Builder::new().prefix("sps-it-").tempdir_in(folder);
        let directory = named.expect("a directory");
        // Other users come through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), open).expect("chmod");
        fs::create_dir(directory.path().join("mnt")).expect("a mount point");
        fs::create_dir(directory.path().join("files")).expect("a folder for sources");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { directory, options }
    }

    /// The same, with one more option of `-o`.
    pub fn and(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// The folder that has all of it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// A path in the mount.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// A path beside the mount, for sources.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("files").join(name)
    }

    /// Makes a source with `size` bytes that are not alike.
    pub fn source(&self, name: &str, size: usize) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, pattern(name, size)).expect("a source");
        path
    }

    /// The `sps` command.
    pub fn sps(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sps"));
        command.env_remove("RUST_LOG");
        command
    }

    fn mount_command(&self) -> Command {
        let mut command = self.sps();
        command.arg("mount").arg("--store").arg(self.store());
        for option in &self.options {
            command.args(["-o", option]);
        }
        command.arg(self.root());
        command
    }

    /// Mounts the store.
    pub fn mount(&self) {
        let output = run(&mut self.mount_command());
        assert!(output.status.success(), "mount: {}", text(&output));
    }

    /// Mounts the store with a failpoint set; answers whether the mount became ready.
    pub fn mount_failing_at(&self, failpoint: &str) -> bool {
        const { assert!(cfg!(feature = "failpoints"), "build the tests with --features failpoints") };
        run(self.mount_command().env("FAILPOINT", failpoint)).status.success()
    }

    /// Mounts the store with a daemon that notes in a file by which failpoints it comes.
    pub fn mount_tracing(&self, trace: &Path) {
        let output = run(self.mount_command().env("FAILPOINT_TRACE", trace));
        assert!(output.status.success(), "mount: {}", text(&output));
    }

    /// Tries to mount, and answers what was said and the exit status.
    pub fn try_mount(&self) -> (String, i32) {
        let output = run(&mut self.mount_command());
        (text(&output), output.status.code().unwrap_or(-1))
    }

    /// Unmounts, draining.
    pub fn umount(&self) {
        let output = run(self.sps().arg("umount").arg(self.root()));
        assert!(output.status.success(), "umount: {}", text(&output));
    }

    /// Unmounts and mounts again.
    pub fn remount(&self) {
        self.umount();
        self.mount();
    }

    /// The daemon's process number, if it lives.
    pub fn daemon(&self) -> Option<i32> {
        let pid: i32 = fs::read_to_string(self.store().join("lock")).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let store = self.store();
        let store = store.as_os_str().as_encoded_bytes();
        command.split(|byte| *byte == 0).any(|word| word == store).then_some(pid)
    }

    /// Kills the daemon with SIGKILL and waits until it is gone.
    pub fn kill_daemon(&self) {
        let pid = self.daemon().expect("a daemon that lives");
        signal(pid, "KILL");
        self.wait_for_daemons_end();
    }

    /// Waits until no daemon has the store.
    pub fn wait_for_daemons_end(&self) {
        eventually("the daemon ends", || self.daemon().is_none());
    }

    /// Mounts again after the daemon died.
    pub fn recover(&self) {
        self.wait_for_daemons_end();
        self.mount();
    }

    /// What a folder lists, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        names_in(&self.path(folder))
    }

    /// Where every image is, as `status/name`, sorted.
    pub fn tree(&self) -> Vec<String> {
        let listed = |status: Status| {
            let names = self.names(status.name()).into_iter();
            names.map(move |name| format!("{status}/{name}"))
        };
        let mut tree: Vec<String> = Status::ALL.into_iter().flat_map(listed).collect();
        tree.sort();
        tree
    }

    /// An attribute of sps.
    pub fn attribute(&self, path: &str, name: &str) -> Option<String> {
        attribute(&self.path(path), name)
    }

    /// Runs a script with bash; `$M` is the mount, `$F` the folder of sources, `$S` the store, `$SPS` the command.
    pub fn bash(&self, script: &str) -> Output {
        run(&mut self.bash_command(script))
    }

    /// The same, not yet started.
    pub fn bash_command(&self, script: &str) -> Command {
        /// Waits until no import is under way: `mv` does not wait for long.
        const SETTLED: &str =
            "settled() { until test -z \"$(ls $M/importing)\"; do sleep 0.02; done; }; ";
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("{SETTLED}{script}")])
            .env("M", self.root())
            .env("F", self.directory.path().join("files"))
            .env("S", self.store())
            .env("SPS", env!("CARGO_BIN_EXE_sps"))
            .env("LC_ALL", "C")
            .current_dir("/");
        command
    }

    /// Runs a script as another user.
    pub fn bash_as(&self, user: u32, script: &str) -> Output {
        run(self.bash_command(script).uid(user).gid(user))
    }

    /// Runs a script of which each command must succeed.
    pub fn ok(&self, script: &str) -> String {
        let output = self.bash(&format!("set -e; {script}"));
        assert!(output.status.success(), "{script}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Asserts that a script fails and that what it says has `word` in it.
    pub fn fails(&self, script: &str, word: &str) {
        let output = self.bash(script);
        assert!(!output.status.success(), "{script} should fail");
        assert!(text(&output).contains(word), "{script}: {}", text(&output));
    }

    /// Waits until the store holds no more than what its images have.
    pub fn wait_for_reclaim(&self, blobs: usize) {
        eventually("data is given back", || count_files(&self.store().join("blobs")) == blobs);
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.store().join("sps.log")).unwrap_or_default()
    }

    /// Checks the store of a daemon that has ended: every status is true, every record has its
    /// data, and every file belongs to a record.
    pub fn audit(&self) {
        self.wait_for_daemons_end();
        audit(&self.store());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Whatever the test left open must not keep the mount.
        let _ = Command::new("umount").arg("-l").arg(self.root()).stderr(Stdio::null()).status();
        if let Some(pid) = self.daemon() {
            signal(pid, "KILL");
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(12).collect();
            eprintln!("--- end of the daemon's log, the latest first\n{}", lines.join("\n"));
        }
    }
}

/// A sandbox whose store is on a small filesystem of its own, that can be filled. Whatever fails, that goes.
pub struct SmallDisk(pub Sandbox);

impl SmallDisk {
    /// A mounted store on `mebibytes`, with options of `-o`.
    pub fn new(mebibytes: u32, options: &[&str]) -> Self {
        let disk = Self(Sandbox::unmounted(options));
        let size = format!("mkdir $S && mount -t tmpfs -o size={mebibytes}m,mode=700 none $S");
        disk.0.ok(&size);
        disk.0.mount();
        disk
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        self.0.bash("dd if=/dev/zero of=$S/sps.log.old bs=4k status=none 2>/dev/null; true");
    }

    /// Gives it back.
    pub fn free(&self) {
        self.0.ok("rm -f $S/sps.log.old");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.0.bash("umount -l $M; umount -l $S");
    }
}

/// A folder in memory, for tests that ask much of a disk that may forget all afterwards. Whatever fails, that goes.
pub struct Memory(TempDir);

impl Memory {
    /// Makes one.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("sps-it-").tempdir().expect("a directory");
        let path = directory.path();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "none"])
            .arg(path)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "a filesystem in memory");
        Self(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Checks a store that no daemon has.
pub fn audit(store: &Path) {
    let registry = SqliteRegistry::open(&store.join("sps.db")).expect("a registry");
    let page = registry.page(None, ImageNumber::new(0), 1_000_000).expect("records");
    let mut blobs = std::collections::BTreeSet::new();
    let mut manifests = std::collections::BTreeSet::new();
    let mut staged = std::collections::BTreeSet::new();
    for listed in page {
        let image = listed.image;
        assert_ne!(image.status, Status::Saving, "{} is stuck in saving", image.name);
        assert_ne!(image.status, Status::Importing, "{} is stuck in importing", image.name);
        assert!(!image.is_provisional, "{} is nothing by itself", image.name);
        match image.content {
            Content::Sealed(seal) => {
                let digest = seal.digest.to_string();
                let path = store.join("blobs").join(&digest[..2]).join(&digest);
                let mut hasher = blake3::Hasher::new();
                let size = fs::metadata(&path).expect("the data of a record").len();
                hasher.update_mmap_or_read(&path);
                assert_eq!(size, seal.size_bytes, "{}", image.name);
                assert_eq!(hasher.finalize().to_string(), digest, "{}", image.name);
                blobs.insert(digest);
                manifests.insert(format!("{}.json", image.id));
            }
            Content::Staged => panic!("{} is {} and staged", image.name, image.status),
            // What is staged is worked on in place, and may not be there yet.
            Content::Absent if image.status.is_staging() => {
                staged.insert(image.id.to_string());
            }
            Content::Absent | Content::Located(_) | Content::Gone(_) => {}
        }
    }
    let found: std::collections::BTreeSet<String> = names_in(&store.join("blobs"))
        .into_iter()
        .flat_map(|folder| names_in(&store.join("blobs").join(folder)))
        .collect();
    assert_eq!(found, blobs, "files without a record, or records without a file");
    let strays: Vec<String> =
        names_in(&store.join("staging")).into_iter().filter(|id| !staged.contains(id)).collect();
    assert_eq!(strays, Vec::<String>::new(), "staging");
    let found: std::collections::BTreeSet<String> =
        names_in(&store.join("manifests")).into_iter().collect();
    assert_eq!(found, manifests, "manifests");
    assert!(registry.reclaims(1).expect("reclaims").is_empty(), "data still to be given back");
}

/// Reads a file into a hasher.
trait UpdateFromFile {
    fn update_mmap_or_read(&mut self, path: &Path);
}

impl UpdateFromFile for blake3::Hasher {
    fn update_mmap_or_read(&mut self, path: &Path) {
        let file = fs::File::open(path).expect("a readable file");
        self.update_reader(file).expect("readable data");
    }
}

/// The value of `user.sps.NAME`.
pub fn attribute(path: &Path, name: &str) -> Option<String> {
    let mut buffer = vec![0; 65_536];
    let length = rustix::fs::getxattr(path, format!("user.sps.{name}"), &mut buffer).ok()?;
    buffer.truncate(length);
    String::from_utf8(buffer).ok()
}

/// The names in a folder, sorted.
pub fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The seed of what is random, and by what its amount is multiplied: `SOAK_SEED` and `SOAK_FACTOR` in the
/// environment make the long form, without them it is short and always the same.
pub fn long_form() -> (u64, u32) {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
    };
    let factor = number("SOAK_FACTOR").map_or(1, |factor| factor.clamp(1, 1_000_000) as u32);
    (number("SOAK_SEED").unwrap_or(2_026), factor)
}

/// The BLAKE3 of some bytes, in hex digits.
pub fn digest_of(data: &[u8]) -> String {
    blake3::hash(data).to_string()
}

/// How many files there are below a folder.
pub fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| {
        entries
            .flatten()
            .map(|entry| {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    count_files(&entry.path())
                } else {
                    1
                }
            })
            .sum()
    })
}

/// Bytes that are not alike, the same for the same name.
pub fn pattern(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The block of code in docs/operations.md that has `word` in it, as it stands there.
pub fn documented(word: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = fs::read_to_string(path).expect("the documents");
    let mut blocks = text.split("\n```").skip(1).step_by(2);
    let block = blocks.find(|block| block.contains(word)).expect("it stands there");
    block.split_once('\n').expect("a block of code").1.to_owned()
}

/// Runs a command to its end. What it leaves running must not keep the test waiting for its output.
pub fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// All that a command said.
pub fn text(output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    said.concat()
}

/// Sends a signal to a process.
pub fn signal(pid: i32, name: &str) {
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    let signal = match name {
        "KILL" => rustix::process::Signal::KILL,
        "TERM" => rustix::process::Signal::TERM,
        "INT" => rustix::process::Signal::INT,
        "STOP" => rustix::process::Signal::STOP,
        "CONT" => rustix::process::Signal::CONT,
        other => panic!("signal {other}"),
    };
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits for a condition, and fails when it does not come.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain waited until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
