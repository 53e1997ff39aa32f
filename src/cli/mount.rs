//! `sps mount`: opens a store, mounts it, and serves it until it is unmounted.
//!
//! To go to the background the command starts itself again and waits for one word on a pipe; so what goes
//! wrong before the mount is ready is told to the person who typed it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::arguments::MountArguments;
use super::mounts::{self, Unmount};
use super::{log_file, service, umount};
use crate::catalog::{Catalog, Parts, SystemTimeSource};
use crate::config::{Options, Publish};
use crate::error::{Error, Result};
use crate::fs::{MountOptions, Mounted, Settings};
use crate::location::Locations;
use crate::registry::SqliteRegistry;
use crate::store::{LocalStore, OpenOptions};
use crate::text::plain;

/// What the daemon says when the mount can be used.
const READY: &str = "ready\n";

/// How long a daemon that was killed is given to let go of its mount.
const DYING_MAX: Duration = Duration::from_secs(1);

/// How often that is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs the command.
pub(super) fn run(arguments: &MountArguments) -> Result<()> {
    let store = store_path(arguments.store.as_deref())?;
    if std::fs::metadata(&store).is_ok_and(|found| !found.is_dir()) {
        let shown = store.display();
        return Err(Error::Store(format!("{shown} is a file: choose a directory with --store")));
    }
    let mount_point = mounts::absolute(&arguments.mountpoint)?;
    let is_root = rustix::process::geteuid().is_root();
    let options = Options::new(is_root).resolve(
        &store.join("config.toml"),
        text_variables(),
        &arguments.options,
    )?;
    if store.starts_with(&mount_point) {
        let (store, mount_point) = (store.display(), mount_point.display());
        return Err(Error::Usage(format!(
            "the store {store} would lie below its own mount {mount_point}: choose another place for one of them"
        )));
    }
    prepare_mount_point(&mount_point)?;
    if !arguments.serve {
        say_what_may_be_mistaken(&store, &options);
    }
    if arguments.foreground || arguments.serve {
        serve(&store, &mount_point, &options, arguments.serve)
    } else {
        serve_in_background(arguments, &store, &mount_point)
    }
}

/// What can be served, and is told of as it is seldom meant.
fn say_what_may_be_mistaken(store: &Path, options: &Options) {
    let say = |told: String| eprintln!("sps: {}", plain(&told));
    if store.parent().is_some_and(|parent| !parent.exists()) {
        say(format!("{} is not there: a new store is made", store.display()));
    }
    for root in options.location_roots.iter().filter(|root| !root.is_dir()) {
        say(format!("location_root={}: no such folder", root.display()));
    }
}

/// The variables that are text: others can't be options.
fn text_variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}

pub(super) fn store_path(given: Option<&Path>) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/sps"),
        None => match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
            (Some(data), _) if !data.is_empty() => PathBuf::from(data).join("sps"),
            (_, Some(home)) => PathBuf::from(home).join(".local/share/sps"),
            (_, None) => return Err(Error::Usage("where is the store? Say --store DIR".into())),
        },
    };
    std::path::absolute(&path).map_err(|error| Error::io("find", &path, error))
}

fn prepare_mount_point(path: &Path) -> Result<()> {
    let shown = path.display();
    if has_died(path)? {
        return match mounts::unmount(path, UnmountFlags::DETACH) {
            Ok(()) => {
                eprintln!("sps: cleared the dead mount at {}", plain(&shown.to_string()));
                Ok(())
            }
            Err(Unmount::Busy) => {
                Err(Error::Busy(format!("{shown} has a dead mount that is busy")))
            }
            Err(Unmount::Failed(error)) => Err(error),
        };
    }
    if mounts::mount_points()?.iter().any(|mounted| mounted == path) {
        return Err(Error::Busy(format!(
            "a store is mounted at {shown} already: `sps umount {shown}` first, or choose another"
        )));
    }
    let metadata = std::fs::metadata(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Error::Store(format!("{shown} is not there: mkdir -p {shown}"))
        } else {
            Error::Store(format!("{shown}: {error}: choose a directory of your own"))
        }
    })?;
    if !metadata.is_dir() {
        return Err(Error::Store(format!("{shown} is not a directory: mount on an empty one")));
    }
    let mut entries = std::fs::read_dir(path).map_err(|error| {
        Error::Store(format!("{shown}: {error}: choose a directory of your own"))
    })?;
    if entries.next().is_some() {
        return Err(Error::Store(format!("{shown} is not empty: mount on an empty directory")));
    }
    Ok(())
}

/// Whether a mount is there whose daemon died. One that was killed just now takes a moment to let go.
fn has_died(path: &Path) -> Result<bool> {
    let deadline = Instant::now() + DYING_MAX;
    loop {
        if mounts::is_dead(path) {
            return Ok(true);
        }
        if !mounts::mount_points()?.iter().any(|mounted| mounted == path)
            || Instant::now() >= deadline
        {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Starts this program again as the daemon, and waits until it is ready or has failed.
fn serve_in_background(arguments: &MountArguments, store: &Path, mount_point: &Path) -> Result<()> {
    let program = std::env::current_exe().map_err(|error| Error::io("find", "sps", error))?;
    let mut command = Command::new(program);
    command.args(["mount", "--serve", "--store"]).arg(store);
    for words in &arguments.options {
        command.arg("-o").arg(words);
    }
    let mut daemon = command
        .arg("--")
        .arg(mount_point)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::io("start", "the daemon", error))?;
    let mut said = String::new();
    if let Some(mut output) = daemon.stdout.take() {
        output
            .read_to_string(&mut said)
            .map_err(|error| Error::io("hear from", "the daemon", error))?;
    }
    if said == READY {
        return Ok(());
    }
    let status = daemon.wait().map_err(|error| Error::io("wait for", "the daemon", error))?;
    match status.code() {
        // It has said why on the same standard error.
        Some(code) => std::process::exit(code.max(1)),
        None => Err(Error::Store(format!(
            "the daemon ended before the mount was ready ({status}): see {}",
            store.join("sps.log").display()
        ))),
    }
}

fn serve(store: &Path, mount_point: &Path, options: &Options, is_background: bool) -> Result<()> {
    raise_descriptors();
    let open = OpenOptions { any_filesystem: options.any_filesystem, ..OpenOptions::default() };
    let local = LocalStore::open(store, open)?;
    let _log = log_file::start(options, is_background.then(|| store.join("sps.log")).as_deref())?;
    let registry = SqliteRegistry::open(&local.registry_path())?;
    let real = store.canonicalize().map_err(|error| Error::io("find", store, error))?;
    let parts = Parts {
        registry: Box::new(registry),
        store: Box::new(local),
        locations: Locations::new(options.location_roots.clone(), real),
        time: Box::new(SystemTimeSource),
    };
    let catalog = Catalog::open(parts, options.policy)?;
    let mounted =
        Mounted::start(catalog, settings(options), mount_point, &mount_options(options, store))?;
    log::info!("op=mount: {} is mounted at {}", store.display(), mount_point.display());
    unmount_on_signal(mount_point)?;
    service::ready(mount_point)?;
    if is_background {
        go_to_background()?;
    }
    mounted.wait()?;
    log::info!("op=umount: {} is unmounted", mount_point.display());
    Ok(())
}

/// Each open image takes a descriptor: as many as this process may have.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("op=mount: the limit of open files stays as it is: {error}");
    }
}

fn settings(options: &Options) -> Settings {
    let own_gid = rustix::process::getegid().as_raw();
    Settings {
        uid: rustix::process::geteuid().as_raw(),
        gid: options.gid.unwrap_or(own_gid),
        folder_mode: match options.publish {
            Publish::Owner => 0o755,
            Publish::Group => 0o775,
            Publish::All => 0o777,
        },
        passthrough: options.passthrough,
        config: options.to_json(),
    }
}

fn mount_options(options: &Options, store: &Path) -> MountOptions {
    // A comma in the source would be taken for the end of the option.
    let source = store.to_str().filter(|source| !source.contains([',', '\\', '\n']));
    MountOptions {
        source: source.unwrap_or("sps").to_owned(),
        allow_other: options.allow_other,
        read_only: options.read_only,
        threads: options.threads,
        disk_timeout: options.disk_timeout,
    }
}

/// Tells the parent that the mount is ready, and lets go of its terminal.
fn go_to_background() -> Result<()> {
    let failed = |error| Error::io("go to", "the background", error);
    rustix::process::setsid().map_err(|error| failed(error.into()))?;
    let mut parent = std::io::stdout();
    parent.write_all(READY.as_bytes()).and_then(|()| parent.flush()).map_err(failed)?;
    let nothing = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdin(&nothing).map_err(|error| failed(error.into()))?;
    rustix::stdio::dup2_stdout(&nothing).map_err(|error| failed(error.into()))?;
    rustix::stdio::dup2_stderr(&nothing).map_err(|error| failed(error.into()))
}

/// An end that is asked for by a signal drains as `sps umount` does.
fn unmount_on_signal(mount_point: &Path) -> Result<()> {
    let failed = |error| Error::io("watch", "signals", error);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let path = mount_point.to_owned();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in &mut signals {
                log::info!("op=umount: signal {signal}, draining");
                service::stopping();
                match umount::drain(&path, umount::WAIT_MAX, None) {
                    Ok(()) => return,
                    Err(error) => log::error!("op=umount: {error}"),
                }
            }
        })
        .map(|_| ())
        .map_err(failed)
}
