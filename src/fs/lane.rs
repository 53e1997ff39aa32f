//! Threads for what may wait: a close, a flush, a look-up that waits for a RELEASE.
//!
//! Each piece of work gets a thread at once, up to a bound, and never stands behind another that waits:
//! a look-up may be waiting for the very RELEASE that comes after it. Pools that let a few pieces queue
//! for an idle thread are no use here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Threads at most; work beyond that waits for one.
const THREADS_MAX: usize = 1024;

/// How long a thread without work is kept.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    idle: usize,
    threads: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    added: Condvar,
}

/// The threads, and the work that waits for one.
#[derive(Clone, Default)]
pub(super) struct Lane {
    shared: Arc<Shared>,
}

impl Lane {
    /// Does `work` in another thread.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        state.queue.push_back(Box::new(work));
        let is_short = state.queue.len() > state.idle;
        if !is_short || state.threads >= THREADS_MAX {
            drop(state);
            self.shared.added.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let lane = self.clone();
        let spawned = std::thread::Builder::new().name("lane".into()).spawn(move || lane.serve());
        if let Err(error) = spawned {
            log::error!("op=lane: no thread: {error}");
            let mut state = self.shared.state.lock();
            state.threads -= 1;
            // With no thread at all nobody else would come for it.
            let work = if state.threads == 0 { state.queue.pop_back() } else { None };
            drop(state);
            if let Some(work) = work {
                work();
            }
        }
    }

    fn serve(&self) {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                work();
                state = self.shared.state.lock();
                continue;
            }
            state.idle += 1;
            let waited = self.shared.added.wait_for(&mut state, IDLE_MAX);
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_that_waits_for_later_work_does_not_keep_it_waiting() {
        let lane = Lane::default();
        for _ in 0..20 {
            let together = Arc::new(Barrier::new(50));
            let (done, all) = mpsc::channel();
            for _ in 0..50 {
                let (together, done) = (Arc::clone(&together), done.clone());
                lane.run(move || {
                    together.wait();
                    // The test may have given up.
                    let _ = done.send(());
                });
            }
            for _ in 0..50 {
                all.recv_timeout(Duration::from_secs(10)).expect("all run at once");
            }
        }
    }
}
