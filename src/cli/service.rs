//! What a service manager is told, as sd_notify(3) has it: that the mount is ready, that it ends, and that it lives.

use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;

use super::mounts;
use crate::error::{Error, Result};

/// Tells that the mount is ready, and from then on that it answers, if that is asked for.
pub(super) fn ready(mount_point: &Path) -> Result<()> {
    let status = format!("mounted at {}", mount_point.display());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    let Some(limit) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let path = mount_point.to_owned();
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || watch(&path, limit / 2))
        .map(|_| ())
        .map_err(|error| Error::io("start thread", "watchdog", error))
}

/// Tells that it ends, and that this may take a while.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("waiting for what is open")]);
}

/// Asks the mount again and again. Any answer is one: a disk that fails is nothing that a restart mends.
fn watch(path: &Path, pause: Duration) {
    loop {
        if !mounts::is_dead(path) {
            tell(&[NotifyState::Watchdog]);
        }
        std::thread::sleep(pause);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("op=notify: {error}");
    }
}
