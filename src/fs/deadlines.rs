//! How long a request may take. When the disk below does not answer, whoever asked is answered EIO at the kernel's device,
//! in place of the thread that hangs on it.
//!
//! A request that takes long is not late as long as the disk answers: it has much to do. So a request that is half its
//! time old has the disk tried, by a thread that nobody waits for; and only while that hangs, too, its time runs out. As
//! long as it hangs, whoever asks is answered soon.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fuser::Errno;
use parking_lot::{Condvar, Mutex};

use super::answer;
use crate::error::Error;
use crate::metrics::{self, Operation};

/// How often the requests are looked at, and at most how late one is answered.
const TICKS: u32 = 8;
const TICK_MAX: Duration = Duration::from_secs(2);

/// What requests come by.
const DEVICE: &str = "/dev/fuse";

/// What is done when a request is answered in somebody's place.
type Farewell = Box<dyn FnOnce(Error) + Send>;

/// A request that is worked on.
struct Running {
    op: &'static str,
    since: Instant,
    farewell: Option<Farewell>,
}

/// A trial of the disk that is under way.
struct Trial {
    since: Instant,
    is_over: Arc<AtomicBool>,
}

/// The requests that are worked on, and how long each may take.
#[derive(Default)]
pub(crate) struct Deadlines {
    /// None: for ever.
    limit: Option<Duration>,
    running: Mutex<HashMap<u64, Running>>,
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

/// A request that is due. Whoever works on it keeps this until it is answered.
pub(super) struct Due {
    deadlines: Option<Arc<Deadlines>>,
    unique: u64,
    /// Notes how long it took, when this is dropped.
    _operation: Operation,
}

impl Drop for Due {
    fn drop(&mut self) {
        if let Some(deadlines) = &self.deadlines {
            deadlines.running.lock().remove(&self.unique);
        }
    }
}

impl Due {
    /// Has something done if it is answered in the place of who works on it.
    pub(super) fn or_else(self, farewell: impl FnOnce(Error) + Send + 'static) -> Self {
        if let Some(deadlines) = &self.deadlines
            && let Some(running) = deadlines.running.lock().get_mut(&self.unique)
        {
            running.farewell = Some(Box::new(farewell));
        }
        self
    }
}

impl Deadlines {
    /// No request takes longer than `limit` when the disk does not answer.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Notes a request that came just now.
    pub(super) fn begin(self: &Arc<Self>, op: &'static str, unique: u64) -> Due {
        let deadlines = self.limit.map(|_| {
            let running = Running { op, since: Instant::now(), farewell: None };
            self.running.lock().insert(unique, running);
            Arc::clone(self)
        });
        Due { deadlines, unique, _operation: Operation::begin(op) }
    }

    /// Answers what is late, until it is stopped. `try_disk` returns when the disk has answered.
    pub(super) fn run(&self, try_disk: &(impl Fn() + Clone + Send + 'static)) {
        let Some(limit) = self.limit else { return };
        let mut trial = None;
        let mut is_stopped = self.is_stopped.lock();
        while !*is_stopped {
            self.stopped.wait_for(&mut is_stopped, tick(limit));
            self.look(limit, &mut trial, try_disk);
        }
    }

    /// Ends [`run`](Self::run).
    pub(super) fn stop(&self) {
        *self.is_stopped.lock() = true;
        self.stopped.notify_all();
    }

    fn look(
        &self,
        limit: Duration,
        trial: &mut Option<Trial>,
        try_disk: &(impl Fn() + Clone + Send + 'static),
    ) {
        let now = Instant::now();
        let is_old = |running: &Running| now - running.since >= limit / 2;
        match trial {
            None if self.running.lock().values().any(is_old) => *trial = start(try_disk),
            None => {}
            Some(Trial { is_over, .. }) if is_over.load(Ordering::Acquire) => {
                // The disk answers: what is old has much to do, and its time begins anew.
                *trial = None;
                self.running.lock().values_mut().for_each(|running| running.since = now);
            }
            // It is known now: who asks from now on is told soon, as others may wait for his folder.
            Some(Trial { since, .. }) if now - *since >= limit / 2 => self.answer_late(now, limit),
            Some(_) => {}
        }
    }

    fn answer_late(&self, now: Instant, limit: Duration) {
        let late: Vec<(u64, Running)> = {
            let mut running = self.running.lock();
            running.extract_if(|_, running| now - running.since >= tick(limit)).collect()
        };
        let silence = Error::Silent(limit.as_secs_f64());
        let devices = devices().unwrap_or_else(|error| {
            log::error!("op=deadline: {error}");
            Vec::new()
        });
        for (unique, running) in late {
            let op = running.op;
            metrics::answered_late();
            if let Some(farewell) = running.farewell {
                farewell(silence.clone());
            }
            if let Err(errno) = answer::answer(op, || Err::<(), _>(silence.clone())) {
                answer_late(&devices, unique, errno);
            }
        }
    }
}

fn tick(limit: Duration) -> Duration {
    (limit / TICKS).min(TICK_MAX)
}

/// The descriptors by which requests come to this process: each is answered by its own.
fn devices() -> std::io::Result<Vec<OwnedFd>> {
    let own = rustix::process::getpid();
    let own = rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty())?;
    let mut devices = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(number) = number
            && std::fs::read_link(&path).is_ok_and(|target| target == Path::new(DEVICE))
        {
            let flags = rustix::process::PidfdGetfdFlags::empty();
            // It may just have been closed.
            devices.extend(rustix::process::pidfd_getfd(&own, number, flags).ok());
        }
    }
    Ok(devices)
}

/// Answers a request in the place of who works on it.
fn answer_late(devices: &[OwnedFd], unique: u64, errno: Errno) {
    /// The length of a `fuse_out_header`: its length, the error, and which request it answers.
    const LENGTH: u32 = 16;
    let mut answer = LENGTH.to_ne_bytes().to_vec();
    answer.extend((-errno.code()).to_ne_bytes());
    answer.extend(unique.to_ne_bytes());
    for device in devices {
        match rustix::io::write(device, &answer) {
            Ok(_) => return,
            // It came by another.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => log::debug!("op=deadline: {error}"),
        }
    }
}

/// Tries the disk from a thread that nobody waits for.
fn start(try_disk: &(impl Fn() + Clone + Send + 'static)) -> Option<Trial> {
    let is_over = Arc::new(AtomicBool::new(false));
    let (told, try_disk) = (Arc::clone(&is_over), try_disk.clone());
    let spawned = std::thread::Builder::new().name("disk".into()).spawn(move || {
        try_disk();
        told.store(true, Ordering::Release);
    });
    match spawned {
        Ok(_) => Some(Trial { since: Instant::now(), is_over }),
        Err(error) => {
            log::warn!("op=deadline: no thread: {error}");
            None
        }
    }
}
