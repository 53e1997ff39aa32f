//! Tasks that a command writes into a mount and waits for.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mounts;
use crate::error::{Error, Result};
use crate::lifecycle::TaskStatus;
use crate::sys;

/// How often a task is looked after.
const PAUSE: Duration = Duration::from_millis(50);

/// What is said of a task, as its file has it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Record {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) owner: u32,
    pub(super) input: Value,
    pub(super) result: Option<Value>,
    pub(super) message: Option<String>,
    pub(super) progress: Value,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    pub(super) expires_at: Option<String>,
    pub(super) attempts: u32,
}

impl Record {
    /// Reads the file of a task. None when it is gone, or goes on to another status at this moment.
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// A number in its result.
    pub(super) fn counted(&self, name: &str) -> u64 {
        self.result.as_ref().and_then(|result| result.get(name)?.as_u64()).unwrap_or(0)
    }
}

/// Has a mount do a task, and waits for its end.
///
/// # Errors
/// It is refused, or could not go on.
pub(super) fn carry_out(root: &Path, kind: &str, input: &Value) -> Result<Record> {
    mounts::mounted_at(root)?;
    let name = format!("{kind}-{}-{}", std::process::id(), crate::catalog::now().as_nanoseconds());
    let path = root.join("tasks/pending").join(&name);
    let failed = |error: std::io::Error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => {
            Error::Invalid("the daemon refuses this task: its log says why".into())
        }
        _ => Error::io("write", &path, error),
    };
    let mut file = File::create(&path).map_err(failed)?;
    let text = serde_json::json!({ "type": kind, "input": input }).to_string();
    file.write_all(text.as_bytes()).map_err(failed)?;
    sys::close(file).map_err(failed)?;
    loop {
        let ended = [TaskStatus::Success, TaskStatus::Failure]
            .into_iter()
            .find_map(|status| Record::read(&root.join("tasks").join(status.name()).join(&name)));
        match ended {
            Some(Record { status, message, .. }) if status == TaskStatus::Failure.name() => {
                let why = message.unwrap_or_else(|| "it does not say why".into());
                return Err(Error::Rejected(format!("the task failed: {why}")));
            }
            Some(done) => return Ok(done),
            None if mounts::is_dead(root) => {
                return Err(Error::Store(format!(
                    "the daemon of {} has died: mount it again, and the task goes on",
                    root.display()
                )));
            }
            None => std::thread::sleep(PAUSE),
        }
    }
}
