//! Mounting, serving and unmounting: the life of one connection to the kernel.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{BackgroundSession, Config, InitFlags, KernelConfig, MountOption, Session, SessionACL};
use rustix::thread::CapabilitySet;

use super::caller::MountIdentity;
use super::deadlines::Deadlines;
use super::epoch::Epoch;
use super::lane::Lane;
use super::mount::{Mount, Settings};
use super::requests::Requests;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::tasks::Executor;

/// The largest write or read in one request in bytes; the kernel caps it there as well.
const REQUEST_BYTES_MAX: u32 = 1 << 20;

/// Background requests the kernel may have waiting: a RELEASE must not queue behind reads.
const BACKGROUND_MAX: u16 = u16::MAX;

/// Filesystems of which one stands on another, below this one: the store's is not stacked itself, and
/// another may stand on the mount.
const STACK_DEPTH: u32 = 1;

/// Says to the kernel what the mount can do.
pub(super) fn negotiate(mount: &Mount, config: &mut KernelConfig) -> std::io::Result<()> {
    // Without it a truncating open could not be told from a truncate.
    config
        .add_capabilities(InitFlags::FUSE_ATOMIC_O_TRUNC)
        .map_err(|_| std::io::Error::from(rustix::io::Errno::NOSYS))?;
    let wanted = InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_READDIRPLUS_AUTO
        | InitFlags::FUSE_PARALLEL_DIROPS
        // An NFS server asks for nodes by their inode numbers, as `.`, when the kernel has forgotten them.
        | InitFlags::FUSE_EXPORT_SUPPORT;
    let offered = wanted & config.capabilities();
    let take = |config: &mut KernelConfig, capability: InitFlags| {
        config.capabilities().contains(capability) && config.add_capabilities(capability).is_ok()
    };
    if mount.settings.passthrough
        && may_pass_through()
        && take(config, InitFlags::FUSE_PASSTHROUGH)
        && config.set_max_stack_depth(STACK_DEPTH).is_ok()
    {
        mount.backings.offer(true);
        if Epoch::is_known_to(config.kernel_abi())
            && take(config, InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
        {
            mount.epoch.keep();
        }
    }
    config
        .add_capabilities(offered)
        .map_err(|_| ())
        .and_then(|()| config.set_max_write(REQUEST_BYTES_MAX).map_err(|_| ()))
        .and_then(|_| config.set_max_background(BACKGROUND_MAX).map_err(|_| ()))
        .map(|_| ())
        .map_err(|()| std::io::Error::from(rustix::io::Errno::INVAL))
}

/// Whether this process may name files that the kernel reads by itself.
fn may_pass_through() -> bool {
    let own = rustix::thread::capabilities(None);
    own.is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// How a mount is made.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// What `df` and `mount` show as its source.
    pub source: String,
    /// Users other than the mounting one may use it.
    pub allow_other: bool,
    /// Nothing may be written.
    pub read_only: bool,
    /// Threads that read requests.
    pub threads: usize,
    /// How long a request may take when the disk does not answer; none is for ever.
    pub disk_timeout: Option<Duration>,
}

/// A catalog that is mounted.
pub struct Mounted {
    session: BackgroundSession,
    mount: Arc<Mount>,
    deadlines: Arc<Deadlines>,
    threads: Vec<JoinHandle<()>>,
}

impl Mounted {
    /// Mounts `catalog` at `mount_point` and serves it. When this returns, the mount is ready.
    ///
    /// # Errors
    /// The kernel or `fusermount3` refuses.
    pub fn start(
        catalog: Catalog,
        settings: Settings,
        mount_point: &Path,
        options: &MountOptions,
    ) -> Result<Self> {
        let catalog = Arc::new(catalog);
        let tasks = Executor::start(Arc::clone(&catalog))?;
        let mount = Arc::new(Mount::new(catalog, tasks, settings));
        let deadlines = Arc::new(Deadlines::new(options.disk_timeout));
        let requests = Requests {
            mount: Arc::clone(&mount),
            lane: Lane::default(),
            deadlines: Arc::clone(&deadlines),
            threads: options.threads,
            working: AtomicUsize::new(0),
        };
        let session = Session::new(requests, mount_point, &config(options))
            .map_err(|error| Error::Store(mount_hint(mount_point, &error)))?;
        // Before the first request is served: a FLUSH needs to know which mount this is.
        match MountIdentity::of(mount_point) {
            Some(identity) => {
                // Nobody else sets it.
                let _ = mount.identity.set(identity);
            }
            None => {
                return Err(Error::Store(format!(
                    "{} is mounted, but not to be seen in /proc/self/mountinfo",
                    mount_point.display()
                )));
            }
        }
        mount.epoch.begin(session.as_fd(), session.notifier());
        let told = Arc::downgrade(&mount);
        mount.catalog.tell_commits(Box::new(move |images| {
            if let Some(mount) = told.upgrade() {
                mount.epoch.changed(images);
            }
        }));
        let session = session
            .spawn()
            .map_err(|error| Error::io("serve", PathBuf::from(mount_point), error))?;
        let threads = Self::start_threads(&mount, &deadlines)?;
        Ok(Self { session, mount, deadlines, threads })
    }

    fn start_threads(
        mount: &Arc<Mount>,
        deadlines: &Arc<Deadlines>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let spawn = |name: &str, work: fn(&Arc<Mount>, &Deadlines)| {
            let (mount, deadlines) = (Arc::clone(mount), Arc::clone(deadlines));
            std::thread::Builder::new()
                .name(name.into())
                .spawn(move || work(&mount, &deadlines))
                .map_err(|error| Error::io("start thread", name, error))
        };
        Ok(vec![
            spawn("watch", |mount, _| mount.watch.run(mount))?,
            spawn("epoch", |mount, _| mount.epoch.run())?,
            spawn("deadlines", |mount, deadlines| {
                let catalog = Arc::clone(&mount.catalog);
                deadlines.run(&move || catalog.try_disk());
            })?,
        ])
    }

    /// Waits until it is unmounted, and ends what was open.
    ///
    /// # Errors
    /// The connection to the kernel failed, or the registry does not take the last changes.
    pub fn wait(self) -> Result<()> {
        let ended = self.session.join();
        self.mount.watch.stop();
        self.mount.epoch.stop();
        self.deadlines.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a thread of the mount ended in a panic");
            }
        }
        self.mount.tasks.stop();
        self.mount.catalog.close()?;
        ended.map_err(|error| Error::io("serve", "the mount", error))
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.source.clone()),
        MountOption::CUSTOM("subtype=sps".into()),
        MountOption::DefaultPermissions,
        MountOption::NoDev,
        MountOption::NoSuid,
        if options.read_only { MountOption::RO } else { MountOption::RW },
    ];
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(options.threads);
    config.clone_fd = true;
    config
}

fn mount_hint(mount_point: &Path, error: &std::io::Error) -> String {
    let text = error.to_string();
    let hint = if text.contains("user_allow_other") {
        "put user_allow_other into /etc/fuse.conf, or mount without -o allow_other"
    } else if error.kind() == std::io::ErrorKind::NotFound {
        "is FUSE there? Try `modprobe fuse`, and `apt install fuse3` for an ordinary user"
    } else if error.kind() == std::io::ErrorKind::PermissionDenied {
        "you may neither open /dev/fuse nor use fusermount3: run as root, or install fuse3"
    } else {
        "see the log"
    };
    format!("can't mount at {}: {}: {hint}", mount_point.display(), text.trim())
}
