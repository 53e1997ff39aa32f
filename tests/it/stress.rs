//! Many at once, for a while: nothing fails that should not, nothing is slow, nothing is stuck.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Sandbox, names_in, run};

/// Processes that work at random.
const WORKERS: usize = 8;

/// What no metadata operation may take.
const SLOW: Duration = Duration::from_secs(1);

/// How long a rename may hold its folders: a quarter of a second, and what a machine under load adds.
const HELD: Duration = Duration::from_millis(500);

/// What the daemon may have resident.
const RESIDENT_BYTES_MAX: u64 = 128 << 20;

fn seconds() -> u64 {
    std::env::var("STRESS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// A worker runs as a process of its own: this test binary with its own test name.
#[test]
fn worker_of_the_stress_test() {
    let Ok(root) = std::env::var("STRESS_ROOT") else {
        return;
    };
    let seed: u64 = std::env::var("STRESS_SEED").expect("a seed").parse().expect("a number");
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut random = Random(seed);
    let mut slowest = (Duration::ZERO, "none");
    let mut count = 0u64;
    while Instant::now() < until {
        let began = Instant::now();
        let (what, is_metadata, outcome) = step(Path::new(&root), &mut random);
        let took = began.elapsed();
        if let Err(error) = outcome {
            let errno = error.raw_os_error().unwrap_or(0);
            // Others take and remove the same names: anything else is a fault.
            let fine = [libc::ENOENT, libc::EACCES, libc::ECANCELED, libc::EEXIST, libc::EBUSY];
            assert!(fine.contains(&errno), "{what}: {error}");
        }
        if is_metadata && took > slowest.0 {
            slowest = (took, what);
        }
        count += 1;
    }
    println!("worker {seed}: {count} operations, slowest metadata {slowest:?}");
    assert!(slowest.0 < SLOW, "{slowest:?}");
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn step(root: &Path, random: &mut Random) -> (&'static str, bool, std::io::Result<()>) {
    let name = |random: &mut Random| format!("n{}", random.below(30));
    let active = root.join("active");
    match random.below(12) {
        0..=3 => {
            let path = active.join(name(random));
            let size = random.below(300_000) as usize;
            let outcome = File::create(&path).and_then(|mut file| {
                let data = vec![random.below(256) as u8; size];
                file.write_all(&data)
            });
            ("upload", false, outcome)
        }
        4 => {
            let path = root.join("queued").join(name(random));
            let made = OpenOptions::new().write(true).create(true).truncate(false).open(path);
            ("touch", false, made.map(|_| ()))
        }
        5 => {
            let (from, to) = (active.join(name(random)), active.join(name(random)));
            ("rename", true, fs::rename(from, to))
        }
        6 => ("unlink", true, fs::remove_file(active.join(name(random)))),
        7 => {
            let folders = ["saving", "pending_delete", "queued", "killed", "deleted"];
            let folder = root.join(folders[random.below(5) as usize]);
            let names = fs::read_dir(&folder).map(|all| {
                all.flatten()
                    .map(|entry| entry.file_name())
                    .filter(|name| name.to_string_lossy().starts_with('n'))
                    .take(40)
                    .collect::<Vec<_>>()
            });
            let outcome = names.and_then(|names| {
                let index = random.below(40) as usize;
                names.get(index).map_or(Ok(()), |name| fs::remove_file(folder.join(name)))
            });
            ("unlink elsewhere", false, outcome)
        }
        8 => ("stat", true, fs::metadata(active.join(name(random))).map(|_| ())),
        9 => ("status", false, fs::read_to_string(root.join("STATUS")).map(|_| ())),
        _ => {
            let mut data = Vec::new();
            let read = File::open(active.join(name(random)))
                .and_then(|mut file| file.read_to_end(&mut data));
            // Each upload has one byte repeated: a mixture was torn.
            let whole = data.windows(2).all(|pair| pair[0] == pair[1]);
            assert!(whole, "an image that is half another");
            ("read", false, read.map(|_| ()))
        }
    }
}

fn resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn eight_processes_at_random_beside_a_large_upload_fail_and_stall_nowhere() {
    let sandbox = Sandbox::new();
    let program = std::env::current_exe().expect("this program");
    let workers: Vec<_> = (1..=WORKERS)
        .map(|seed| {
            Command::new(&program)
                .args(["--exact", "stress::worker_of_the_stress_test", "--nocapture"])
                .env("STRESS_ROOT", sandbox.root())
                .env("STRESS_SEED", (seed * 7919).to_string())
                .stdout(File::create(sandbox.file(&format!("worker{seed}"))).expect("a file"))
                .stderr(File::create(sandbox.file(&format!("errors{seed}"))).expect("a file"))
                .spawn()
                .expect("a worker")
        })
        .collect();
    let size = 4usize << 30;
    let upload = format!("head -c {size} /dev/zero | tr '\\0' x > $M/active/large");
    sandbox.ok(&upload);
    let daemon = sandbox.daemon().expect("a daemon");
    for (index, worker) in workers.into_iter().enumerate() {
        let output = worker.wait_with_output().expect("a worker's end");
        let said = |kind: &str| {
            fs::read_to_string(sandbox.file(&format!("{kind}{}", index + 1))).unwrap_or_default()
        };
        assert!(output.status.success(), "{}{}", said("worker"), said("errors"));
        let told = said("worker");
        eprintln!("{}", told.lines().find(|line| line.starts_with("worker")).unwrap_or_default());
    }
    let resident = resident_bytes(daemon);
    eprintln!("resident: {} MiB", resident >> 20);
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB resident", resident >> 20);
    assert_eq!(fs::metadata(sandbox.path("active/large")).expect("there").len(), size as u64);
    assert_eq!(names_in(&sandbox.path("saving")), Vec::<String>::new());
    sandbox.umount();
    sandbox.audit();
}

#[test]
fn a_large_image_and_many_small_reads_leave_the_daemon_small() {
    let sandbox = Sandbox::new();
    let size = 4u64 << 30;
    sandbox.ok(&format!("head -c {size} /dev/zero | tr '\\0' x > $M/active/large"));
    let file = File::open(sandbox.path("active/large")).expect("readable");
    let mut random = Random(99);
    let mut buffer = [0; 4096];
    for _ in 0..100_000 {
        let offset = random.below(size / 4096) * 4096;
        file.read_exact_at(&mut buffer, offset).expect("readable");
        assert!(buffer.iter().all(|byte| *byte == b'x'));
    }
    let resident = resident_bytes(sandbox.daemon().expect("a daemon"));
    eprintln!("resident: {} MiB", resident >> 20);
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB resident", resident >> 20);
    drop(file);
    assert!(run(sandbox.sps().arg("umount").arg(sandbox.root())).status.success());
}

/// How often each metadata operation is measured beside an import and an upload.
const ROUNDS: usize = 100;

/// Bytes of a file, not alike from one page to the next and quick to make.
fn write_dense(path: &Path, size_bytes: u64) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let mut block = crate::support::pattern("dense", 1 << 20);
    for number in 0..size_bytes >> 20 {
        for page in block.chunks_mut(4096) {
            page[..8].copy_from_slice(&number.to_le_bytes());
        }
        file.write_all(&block)?;
    }
    Ok(())
}

fn gibibytes() -> u64 {
    std::env::var("STRESS_GIB").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// One round of metadata operations; answers the slowest of them.
fn metadata_round(sandbox: &Sandbox, round: usize) -> (Duration, &'static str) {
    let mut slowest = (Duration::ZERO, "none");
    let mut timed = |what: &'static str, work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        slowest = slowest.max((began.elapsed(), what));
    };
    for status in sps::lifecycle::Status::ALL {
        let folder = sandbox.path(status.name());
        timed("ls -l", &mut || {
            for name in names_in(&folder) {
                // It may go on to another folder meanwhile.
                let _ = fs::symlink_metadata(folder.join(name));
            }
        });
    }
    timed("cat STATUS", &mut || {
        let page = fs::read_to_string(sandbox.path("STATUS")).expect("a page");
        assert!(page.contains("IMAGES"));
    });
    let queued = sandbox.path(&format!("queued/q{round}"));
    let renamed = sandbox.path(&format!("queued/r{round}"));
    let small = sandbox.path(&format!("active/s{round}"));
    let mut made = None;
    timed("create", &mut || made = Some(File::create(&queued).expect("made")));
    drop(made);
    timed("rename", &mut || fs::rename(&queued, &renamed).expect("renamed"));
    timed("unlink", &mut || fs::remove_file(&renamed).expect("removed"));
    fs::write(&small, b"small").expect("written");
    timed("rename in active", &mut || {
        fs::rename(&small, sandbox.path("active/small")).expect("renamed");
    });
    timed("unlink in active", &mut || {
        fs::remove_file(sandbox.path("active/small")).expect("removed");
    });
    slowest
}

// semantics: never-slow
#[test]
fn a_hundred_rounds_of_metadata_beside_a_large_import_and_upload_are_never_slow() {
    let sandbox = Sandbox::new();
    let size_bytes = gibibytes() << 30;
    write_dense(&sandbox.path("uploading/big"), size_bytes).expect("staged");
    let upload = sandbox.path("active/other");
    std::thread::scope(|scope| {
        let upload = scope.spawn(|| write_dense(&upload, size_bytes));
        let import = scope.spawn(|| {
            let began = Instant::now();
            fs::rename(sandbox.path("uploading/big"), sandbox.path("active/big")).expect("moved");
            began.elapsed()
        });
        let mut slowest = (Duration::ZERO, "none");
        let mut rounds = 0;
        while rounds < ROUNDS || !upload.is_finished() {
            slowest = slowest.max(metadata_round(&sandbox, rounds));
            rounds += 1;
        }
        let moved = import.join().expect("moved");
        upload.join().expect("ended").expect("uploaded");
        eprintln!("{rounds} rounds, slowest {slowest:?}; mv took {moved:?}");
        assert!(slowest.0 < SLOW, "{slowest:?}");
        assert!(moved < HELD, "mv held the folders for {moved:?}");
    });
    // A last close is waited for a second at most, and may take longer beside that.
    crate::support::eventually("both are there", || sandbox.names("active") == ["big", "other"]);
    for name in ["big", "other"] {
        let stat = fs::metadata(sandbox.path(&format!("active/{name}"))).expect("there");
        assert_eq!(stat.len(), size_bytes);
    }
    let digests = ["big", "other"]
        .map(|name| crate::support::attribute(&sandbox.path(&format!("active/{name}")), "blake3"));
    assert_eq!(digests[0], digests[1], "the same bytes");
    sandbox.ok("rm $M/active/big $M/active/other");
    sandbox.umount();
}
