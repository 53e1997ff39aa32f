//! Writers that have closed their file and may still say by their exit status that they failed
//! (specification, section 2, Publishing, 6).
//!
//! A process can be watched by a descriptor of it, whoever's child it is. What was published for one that
//! ends badly within a few seconds is withdrawn. Its status is known before its parent has it, and whoever
//! looks at the image then waits until it is withdrawn.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::caller::{Ending, Pid};
use super::departures::Scope;
use super::mount::Mount;
use crate::image::{ImageId, ImageName, ImageNumber};

/// How long a writer is watched after its close.
const WATCHED: Duration = Duration::from_secs(5);

/// Writers that are watched at once; what comes beyond is not.
const WATCHES_MAX: usize = 1024;

/// Writers of one image that are watched at most.
const WRITERS_MAX: usize = 16;

/// How long whoever looks waits for a withdrawal under way.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// How often it is looked for what has expired, while there is anything.
const TICK: Duration = Duration::from_secs(1);

/// The shortest sleep: writers are let go of some at a time.
const BLINK: Duration = Duration::from_millis(100);

/// A process that has a file closed, and is watched.
pub(crate) struct Writer {
    pub(crate) process: Pid,
    pub(crate) descriptor: OwnedFd,
}

struct Watched {
    id: ImageId,
    number: ImageNumber,
    name: ImageName,
    writer: Arc<Writer>,
    until: Instant,
    /// Somebody is withdrawing the image.
    is_taken: bool,
}

#[derive(Default)]
struct State {
    /// Writers whose close was a vote, until the last close.
    voted: HashMap<ImageNumber, Vec<(Instant, Writer)>>,
    watched: Vec<Watched>,
    is_stopped: bool,
}

/// The writers that are watched. The mutex guards the lists alone.
pub(crate) struct Watch {
    state: Mutex<State>,
    changed: Condvar,
    bell: Option<OwnedFd>,
}

impl Default for Watch {
    fn default() -> Self {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .inspect_err(|error| log::error!("op=watch: no eventfd: {error}"))
            .ok();
        Self { state: Mutex::default(), changed: Condvar::new(), bell }
    }
}

impl Watch {
    /// Notes who wrote an image that was just voted for.
    pub(crate) fn voted(&self, number: ImageNumber, writers: Vec<Writer>) {
        let mut state = self.state.lock();
        let voted = state.voted.entry(number).or_default();
        // Of a process that votes again the last vote counts.
        voted.retain(|(_, before)| writers.iter().all(|new| new.process != before.process));
        let now = Instant::now();
        voted.extend(writers.into_iter().map(|writer| (now, writer)));
        voted.truncate(WRITERS_MAX);
    }

    /// The upload came to nothing.
    pub(crate) fn withdrawn(&self, number: ImageNumber) {
        self.state.lock().voted.remove(&number);
    }

    /// The image was published: its writers are watched from now on.
    pub(crate) fn published(&self, id: ImageId, number: ImageNumber, name: &ImageName) {
        let mut state = self.state.lock();
        let writers = state.voted.remove(&number).unwrap_or_default();
        let now = Instant::now();
        let mut is_new = false;
        for (closed_at, writer) in writers {
            let until = closed_at + WATCHED;
            if until <= now {
                continue;
            }
            if state.watched.len() >= WATCHES_MAX {
                log::debug!("image={id} op=watch: too many are watched already");
                return;
            }
            let known =
                state.watched.iter().rev().find(|watched| watched.writer.process == writer.process);
            // As long as it lives, no other process has its number.
            let known = known.filter(|watched| !watched.writer.has_ended());
            let known = known.map(|watched| Arc::clone(&watched.writer));
            is_new |= known.is_none();
            let (name, writer) = (name.clone(), known.unwrap_or_else(|| Arc::new(writer)));
            state.watched.push(Watched { id, number, name, writer, until, is_taken: false });
        }
        drop(state);
        if is_new {
            self.ring();
        }
    }

    /// Whether a process has just published the image.
    pub(crate) fn is_uploader(&self, number: ImageNumber, process: Option<Pid>) -> bool {
        let now = Instant::now();
        self.state.lock().watched.iter().any(|watched| {
            watched.number == number
                && Some(watched.writer.process) == process
                && watched.until > now
        })
    }

    /// Whether the writers of an image are watched.
    pub(crate) fn has(&self, number: ImageNumber) -> bool {
        self.state.lock().watched.iter().any(|watched| watched.number == number)
    }

    /// Lets go of an image: its writer has opened it again.
    pub(crate) fn forget(&self, number: ImageNumber) {
        self.state.lock().watched.retain(|watched| watched.number != number);
    }

    /// Whether a withdrawal is due that changes what a request looks at.
    pub(crate) fn concerns(&self, scope: &Scope) -> bool {
        let state = self.state.lock();
        if state.watched.iter().any(|watched| watched.is_taken && watched.concerns(scope)) {
            return true;
        }
        !ended(&state.writers(|watched| watched.concerns(scope))).is_empty()
    }

    /// Waits for the withdrawals that concern a request, doing those that nobody does yet.
    pub(crate) fn settle(&self, mount: &Mount, scope: &Scope) {
        self.withdraw(mount);
        let deadline = Instant::now() + WAIT_MAX;
        let mut state = self.state.lock();
        while state.watched.iter().any(|watched| watched.is_taken && watched.concerns(scope)) {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// Ends the thread that watches.
    pub(crate) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.ring();
    }

    /// Watches, until it is stopped.
    pub(crate) fn run(&self, mount: &Mount) {
        while !self.state.lock().is_stopped {
            self.withdraw(mount);
            while let Some(opened) = mount.claims.expired() {
                mount.release(opened.handle);
            }
            self.wait(mount);
        }
    }

    /// Wakes the thread that watches: there is something new.
    pub(crate) fn ring(&self) {
        if let Some(bell) = &self.bell {
            // A bell that rings already is enough.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }

    /// Waits until a writer ends, somebody rings, or it is time to look for what has expired.
    fn wait(&self, mount: &Mount) {
        let Some(bell) = &self.bell else {
            std::thread::sleep(TICK);
            return;
        };
        let (writers, next): (Vec<Arc<Writer>>, Option<Instant>) = {
            let state = self.state.lock();
            (state.writers(|_| true), state.watched.iter().map(|watched| watched.until).min())
        };
        let is_idle = writers.is_empty() && mount.claims.is_empty();
        let mut all = vec![PollFd::new(bell, PollFlags::IN)];
        all.extend(writers.iter().map(|writer| PollFd::new(&writer.descriptor, PollFlags::IN)));
        let left = next.map_or(TICK, |until| until.saturating_duration_since(Instant::now()));
        let left = left.clamp(BLINK, TICK);
        let tick = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        // Whatever ended the wait, it is looked at anew.
        let _ = poll(&mut all, (!is_idle).then_some(&tick));
        let _ = rustix::io::read(bell, &mut [0; 8]);
    }

    /// Withdraws what writers that ended badly have published, and lets go of those that ended well or
    /// have been watched long enough.
    fn withdraw(&self, mount: &Mount) {
        while let Some((id, writer)) = self.take_ended() {
            let reason = writer.ending().failure();
            if let Some(reason) = &reason {
                let reason = format!("{reason} right after closing it");
                match mount.catalog.withdraw(id, &reason) {
                    Ok(true) => log::warn!("image={id} op=withdraw: {reason}"),
                    Ok(false) => {}
                    Err(error) => {
                        log::error!("image={id} op=withdraw errno={}: {error}", error.errno());
                    }
                }
            }
            // What has failed once need not be watched for the other writers.
            let is_done = |watched: &Watched| {
                watched.id == id && (reason.is_some() || Arc::ptr_eq(&watched.writer, &writer))
            };
            self.state.lock().watched.retain(|watched| !is_done(watched));
            self.changed.notify_all();
        }
    }

    fn take_ended(&self) -> Option<(ImageId, Arc<Writer>)> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let all = ended(&state.writers(|watched| !watched.is_taken));
        let has_ended = |writer: &Arc<Writer>| all.iter().any(|ended| Arc::ptr_eq(ended, writer));
        state.watched.retain(|watched| {
            watched.is_taken || watched.until > now || has_ended(&watched.writer)
        });
        let ended = state
            .watched
            .iter_mut()
            .find(|watched| !watched.is_taken && has_ended(&watched.writer))?;
        ended.is_taken = true;
        Some((ended.id, Arc::clone(&ended.writer)))
    }
}

impl State {
    /// The writers of some that are watched, each once.
    fn writers(&self, is_wanted: impl Fn(&Watched) -> bool) -> Vec<Arc<Writer>> {
        let mut known = HashSet::new();
        let wanted = self.watched.iter().filter(|watched| is_wanted(watched));
        wanted
            .map(|watched| &watched.writer)
            .filter(|writer| known.insert(Arc::as_ptr(writer)))
            .map(Arc::clone)
            .collect()
    }
}

/// Those of some writers that have ended.
fn ended(writers: &[Arc<Writer>]) -> Vec<Arc<Writer>> {
    let mut all: Vec<_> =
        writers.iter().map(|writer| PollFd::new(&writer.descriptor, PollFlags::IN)).collect();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if all.is_empty() || poll(&mut all, Some(&now)).is_ok_and(|ready| ready == 0) {
        return Vec::new();
    }
    let is_ended = |one: &PollFd<'_>| !one.revents().is_empty();
    writers.iter().zip(&all).filter(|(_, one)| is_ended(one)).map(|(w, _)| Arc::clone(w)).collect()
}

impl Watched {
    fn concerns(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Any => true,
            Scope::Name(name) => self.name == *name,
            Scope::Id(id) => self.id == *id,
            Scope::Number(number) => self.number == *number,
            Scope::Nothing => false,
        }
    }
}

impl Writer {
    fn has_ended(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut watched = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    fn ending(&self) -> Ending {
        self.process.ending_of(self.descriptor.as_fd())
    }
}
