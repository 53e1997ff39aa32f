//! The daemon's log. Lines are written by a thread of their own: the log may lie on the very disk that does not answer,
//! and nothing else waits for that.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::config::Options;
use crate::error::{Error, Result};
use crate::text::plain;

/// What is logged when nothing is chosen.
const LEVEL: &str = "info,fuser=error";

/// Lines that wait to be written at most; those beyond are counted.
const LINES_MAX: usize = 10_000;

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// What is logged is written when this is dropped, if the disk takes it.
pub(super) struct Logging(Log);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Logs to standard error, or to a file, until what it answers is dropped.
pub(super) fn start(options: &Options, file: Option<&Path>) -> Result<Logging> {
    let environment = std::env::var("RUST_LOG").ok();
    let filter = options.log.clone().or(environment).unwrap_or_else(|| LEVEL.to_owned());
    let target: Box<dyn Write + Send> = match file {
        Some(path) => Box::new(open(path)?),
        None => Box::new(std::io::stderr()),
    };
    let log = Log::default();
    let writer = log.clone();
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.serve(target))
        .map_err(|error| Error::io("start thread", "log", error))?;
    let mut logger = env_logger::Builder::new();
    let is_journal = file.is_none() && is_journal();
    logger.parse_filters(&filter).format(move |line, record| {
        let (at, level) = (line.timestamp_millis(), record.level());
        // What others wrote stands in it: a record is one line, whatever that was.
        let told = record.args().to_string();
        if is_journal {
            // The journal has the time, and takes the level from the line, as sd-daemon(3) has it.
            return writeln!(line, "<{}>{}: {}", priority(level), record.target(), plain(&told));
        }
        writeln!(line, "[{at} {level:<5} {}] {}", record.target(), plain(&told))
    });
    logger.target(env_logger::Target::Pipe(Box::new(log.clone())));
    logger.try_init().map_err(|error| Error::Usage(format!("log: {error}")))?;
    Ok(Logging(log))
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    lost: u64,
    is_writing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    added: Condvar,
    written: Condvar,
}

/// Where the lines of the log go.
#[derive(Clone, Default)]
struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Returns when what was logged is written, or the disk does not take it.
    fn finish(&self) {
        let mut state = self.shared.state.lock();
        while state.is_writing || !state.lines.is_empty() {
            if self.shared.written.wait_for(&mut state, LAST_LINES).timed_out() {
                return;
            }
        }
    }

    fn serve(&self, mut target: Box<dyn Write + Send>) {
        let mut state = self.shared.state.lock();
        loop {
            let mut lines: Vec<u8> = state.lines.drain(..).flatten().collect();
            if state.lost > 0 {
                let told = format!("[{} lines of the log were lost]\n", state.lost);
                lines.extend(told.into_bytes());
                state.lost = 0;
            }
            if lines.is_empty() {
                self.shared.written.notify_all();
                self.shared.added.wait(&mut state);
                continue;
            }
            state.is_writing = true;
            drop(state);
            // There is nobody to tell that the log can't be written.
            let _ = target.write_all(&lines).and_then(|()| target.flush());
            state = self.shared.state.lock();
            state.is_writing = false;
        }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut state = self.shared.state.lock();
        if state.lines.len() < LINES_MAX {
            state.lines.push_back(line.to_vec());
        } else {
            state.lost += 1;
        }
        drop(state);
        self.shared.added.notify_one();
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether standard error goes to the journal of the system, which says so by the numbers of what it gave.
fn is_journal() -> bool {
    let Ok(told) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|own| told == format!("{}:{}", own.st_dev, own.st_ino))
}

/// The priority of a level, as syslog(3) counts.
const fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io("open", path, error))
}
