//! Closes that were answered and whose RELEASE is still on its way.
//!
//! The kernel sends a RELEASE in the background: whoever looks right after `close` returned would see
//! the time before it. So an answered FLUSH with no known holder left is noted here, and look-ups and
//! listings wait for the RELEASE, a second at most (specification, section 2, Publishing, 4).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::catalog::UploadSession;
use crate::image::{ImageId, ImageName, ImageNumber};

/// How long a RELEASE is waited for: below the second that the specification gives, as the rest of the
/// request takes time as well. After that somebody unknown holds the file, and it is shown as it is.
const WAIT_MAX: Duration = Duration::from_millis(750);

/// What a request is about to look at.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Anything: a listing, or the status screen.
    Any,
    /// Images of a name.
    Name(ImageName),
    /// One image.
    Id(ImageId),
    /// One image, by number.
    Number(ImageNumber),
    /// Nothing that an upload changes.
    Nothing,
}

struct Departure {
    serial: u64,
    session: Arc<UploadSession>,
    /// The handles that were closed: the upload ends only when that is all of them.
    handles: HashSet<u64>,
    name: ImageName,
    until: Instant,
}

/// The RELEASEs that are expected. The mutex guards the map alone.
#[derive(Default)]
pub(crate) struct Departures {
    expected: Mutex<Expected>,
    changed: Condvar,
}

#[derive(Default)]
struct Expected {
    /// What the next departure is numbered by.
    next: u64,
    departures: HashMap<ImageNumber, Departure>,
}

impl Departures {
    /// Notes that a RELEASE of this handle of an upload is on its way.
    pub(crate) fn expect(&self, session: &Arc<UploadSession>, handle: u64, name: ImageName) {
        let now = Instant::now();
        let until = now + WAIT_MAX;
        let mut expected = self.expected.lock();
        // Whoever waits for a first close goes on waiting when a copy of the descriptor is closed as well. One whose
        // RELEASE did not come in time is held, by a mapping for instance: while it is, no later close is the last.
        let (serial, mut handles) = match expected.departures.remove(&session.number()) {
            Some(before) if before.until > now => (before.serial, before.handles),
            Some(_) | None => (expected.next, HashSet::new()),
        };
        expected.next += 1;
        handles.insert(handle);
        let session = Arc::clone(session);
        let departure = Departure { serial, session, handles, name, until };
        expected.departures.insert(departure.session.number(), departure);
    }

    /// Notes that the RELEASE came, or that the file turned out to be held.
    pub(crate) fn settle(&self, number: ImageNumber, handle: u64) {
        let mut expected = self.expected.lock();
        let Some(departure) = expected.departures.get_mut(&number) else { return };
        departure.handles.remove(&handle);
        if departure.handles.is_empty() {
            expected.departures.remove(&number);
        }
        drop(expected);
        self.changed.notify_all();
    }

    /// Whether a RELEASE is on its way that changes what a request looks at.
    pub(crate) fn concerns(&self, scope: &Scope) -> bool {
        let now = Instant::now();
        let expected = self.expected.lock();
        expected.last_of(scope, expected.next).is_some_and(|until| until > now)
    }

    /// Whether a RELEASE is on its way that may change what has a name.
    pub(crate) fn may_change(&self, name: &ImageName) -> bool {
        let expected = self.expected.lock();
        expected.departures.values().any(|departure| departure.name == *name)
    }

    /// Waits until no RELEASE of an image is on its way, until `deadline` at most.
    pub(crate) fn wait_until(&self, number: ImageNumber, deadline: Instant) {
        let mut expected = self.expected.lock();
        while expected.departures.get(&number).is_some_and(Departure::is_last) {
            if self.changed.wait_until(&mut expected, deadline).timed_out() {
                return;
            }
        }
    }

    /// Waits until no RELEASE that concerns `scope` is on its way, a second at most: those that come
    /// on their way meanwhile are not waited for.
    pub(crate) fn wait(&self, scope: &Scope) {
        let mut expected = self.expected.lock();
        let before = expected.next;
        while let Some(until) = expected.last_of(scope, before) {
            if self.changed.wait_until(&mut expected, until).timed_out() {
                return;
            }
        }
    }
}

impl Departure {
    /// Whether nobody has the upload open whose RELEASE is not on its way as well.
    fn is_last(&self) -> bool {
        self.session.handles() as usize <= self.handles.len()
    }
}

impl Expected {
    /// When the last of the RELEASEs that concern `scope` and were noted before a number is given up.
    fn last_of(&self, scope: &Scope, before: u64) -> Option<Instant> {
        self.departures
            .iter()
            .filter(|(_, departure)| departure.serial < before && departure.is_last())
            .filter(|(number, departure)| match scope {
                Scope::Any => true,
                Scope::Name(name) => departure.name == *name,
                Scope::Id(id) => departure.session.id() == *id,
                Scope::Number(wanted) => *number == wanted,
                Scope::Nothing => false,
            })
            .map(|(_, departure)| departure.until)
            .max()
    }
}
