//! What is typed: one table, of which help, manual pages and completions are made.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::umount;
use crate::lifecycle::{Status, TaskStatus};

/// An image store that is used with cp, ls, mv and rm.
#[derive(Debug, Parser)]
#[command(name = "sps", version, about, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mount a store. Returns when the mount is ready.
    #[command(after_help = format!(
        "Options for -o; docs/guide.md says what each means:\n{}\nExample:\n  sps mount --store /srv/images -o scrub_time=3d /mnt/sps",
        crate::config::described()
    ))]
    Mount(MountArguments),
    /// Unmount. Waits for uploads under way, 30 seconds at most if nothing else is said.
    #[command(after_help = "Example:\n  sps umount /mnt/sps")]
    Umount(UmountArguments),
    /// List images with their status, size, format and age.
    #[command(after_help = "Example:\n  sps ls --status killed")]
    Ls(LsArguments),
    /// Show all that is known of an image.
    #[command(after_help = "Example:\n  sps show /mnt/sps/active/debian-12.qcow2")]
    Show(ShowArguments),
    /// Copy a store while it is in use. The copy is a store itself.
    #[command(after_help = "Example:\n  sps backup --store /srv/images /backup/images-monday")]
    Backup(BackupArguments),
    /// Look a store through that is not mounted, and mend it. Exit status 1 when damage remains.
    #[command(after_help = "Example:\n  sps fsck --store /srv/images")]
    Fsck(FsckArguments),
    /// Say what an image is: tags, properties and the like.
    #[command(
        after_help = "Example:\n  sps set /mnt/sps/active/debian-12.qcow2 tags=lts,golden property.os=debian"
    )]
    Set(SetArguments),
    /// Copy files into a store, with their digests checked at the other end. A copy that broke off goes on where it was.
    #[command(after_help = "Example:\n  sps push debian-12.qcow2 ubuntu-24.04.qcow2 /mnt/sps")]
    Push(PushArguments),
    /// Copy an image out, and check its digest.
    #[command(after_help = "Example:\n  sps pull /mnt/sps/active/debian-12.qcow2 .")]
    Pull(PullArguments),
    /// Bring removed images back to where they were.
    #[command(after_help = "Example:\n  sps restore /mnt/sps/pending_delete/debian-12.qcow2")]
    Restore(RestoreArguments),
    /// Have the daemon take in a file below a location_root.
    #[command(after_help = "Example:\n  sps import /srv/images/debian-12.qcow2 /mnt/sps")]
    Import(ImportArguments),
    /// Read and hash an image again, or all of a mount. Exit status 1 when it is damaged.
    #[command(after_help = "Example:\n  sps verify /mnt/sps/active/debian-12.qcow2")]
    Verify(VerifyArguments),
    /// Purge what is due now.
    #[command(after_help = "Example:\n  sps scrub /mnt/sps")]
    Scrub(ScrubArguments),
    /// List tasks, with what came of them.
    #[command(after_help = "Example:\n  sps tasks --status failure /mnt/sps")]
    Tasks(TasksArguments),
    /// Tell what happens, as it happens.
    #[command(after_help = "Example:\n  sps watch /mnt/sps")]
    Watch(WatchArguments),
    /// Look whether all is there that sps needs, and say how to mend what is not. Exit status 1 when something must be.
    #[command(after_help = "Example:\n  sps doctor --store /srv/images")]
    Doctor(DoctorArguments),
    /// Write completions for a shell to standard output.
    #[command(after_help = "Example:\n  sps completions bash > /etc/bash_completion.d/sps")]
    Completions(CompletionsArguments),
    /// Write the manual page to standard output, or the pages of all commands into a folder.
    #[command(after_help = "Example:\n  sps man | man -l -")]
    Man(ManArguments),
    /// What measuring needs.
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Args)]
pub(super) struct SetArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// An image in a mount.
    pub(super) path: PathBuf,
    /// tags, min_disk, min_ram, property.KEY, name, visibility, protected; and before its data is there disk_format,
    /// expected_size and expected_{blake3,sha256,sha512,md5}. Without a value it is taken away.
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PushArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// What the image is called; without it, as the file is.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Files, or `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Where the store is mounted.
    pub(super) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct PullArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// An image in a mount.
    pub(super) path: PathBuf,
    /// A file that is made or replaced, a folder, or `-` for standard output.
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// Images in pending_delete.
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// What the image is called; without it, as the file is.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// The format that its content must have.
    #[arg(long, value_name = "FORMAT")]
    pub(super) disk_format: Option<String>,
    /// A file below a folder that the operator allows.
    pub(super) path: PathBuf,
    /// Where the store is mounted.
    pub(super) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// An image in a mount, or the mount.
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ScrubArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// Where the store is mounted.
    pub(super) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct TasksArguments {
    /// Only tasks of this status.
    #[arg(long, value_name = "STATUS", value_parser = one_of(TaskStatus::ALL.map(TaskStatus::name), TaskStatus::from_name))]
    pub(super) status: Option<TaskStatus>,
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// Where the store is mounted; may be left out when only one is.
    pub(super) mountpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct WatchArguments {
    /// A JSON object a line, as in .sps/events.jsonl.
    #[arg(long)]
    pub(super) json: bool,
    /// End when so many events were told.
    #[arg(long, value_name = "N")]
    pub(super) count: Option<u64>,
    /// Where the store is mounted; may be left out when only one is.
    pub(super) mountpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// The store; without it, where `sps mount` has it.
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell.
    pub(super) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// A folder for the pages of all commands.
    #[arg(value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BackupArguments {
    /// The store.
    #[arg(long, value_name = "DIR")]
    pub(super) store: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// A new or empty directory.
    pub(super) dest: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct FsckArguments {
    /// The store.
    #[arg(long, value_name = "DIR")]
    pub(super) store: PathBuf,
    /// Make records again that are missing, or all of them if sps.db is, from the manifests.
    #[arg(long)]
    pub(super) rebuild: bool,
    /// Do not read the data, which takes as long as reading the whole store does.
    #[arg(long)]
    pub(super) quick: bool,
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Fill a store with small images, without mounting it.
    #[command(after_help = "Example:\n  sps bench fill --store /srv/full --images 1000000")]
    Fill(FillArguments),
}

#[derive(Debug, Args)]
pub(super) struct FillArguments {
    /// Where the store is, or is to be.
    #[arg(long, value_name = "DIR")]
    pub(super) store: PathBuf,
    /// How many images are made, named image-0000000.raw and so on.
    #[arg(long, value_name = "N")]
    pub(super) images: u64,
    /// How many of them have content of their own; the others share it. All, if it is left out.
    #[arg(long, value_name = "N")]
    pub(super) contents: Option<u64>,
    /// The size of each in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(8..=1 << 24))]
    pub(super) size: u64,
}

#[derive(Debug, Args)]
pub(super) struct MountArguments {
    /// Where images and their registry are kept; made if it is not there. Without it,
    /// $XDG_DATA_HOME/sps, or /var/lib/sps for root.
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Stay in the foreground and log to standard error.
    #[arg(short, long)]
    pub(super) foreground: bool,
    /// Options, separated by commas; may be given again.
    #[arg(short, value_name = "OPT,…")]
    pub(super) options: Vec<String>,
    /// Say `ready` on standard output and go on in the background: for `sps mount` itself.
    #[arg(long, hide = true)]
    pub(super) serve: bool,
    /// An empty directory.
    pub(super) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct UmountArguments {
    /// How long open files are waited for, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = umount::WAIT_MAX.as_secs())]
    pub(super) wait: u64,
    /// Take it off at once: what is being uploaded is killed, and open readers read on where the kernel reads by itself.
    #[arg(long)]
    pub(super) force: bool,
    /// Say which process serves the mount: for `sps umount` itself, which would not come back from asking.
    #[arg(long, hide = true)]
    pub(super) ask: bool,
    /// Where the store is mounted.
    pub(super) mountpoint: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct LsArguments {
    /// Only images of this status.
    #[arg(long, value_name = "STATUS", value_parser = one_of(Status::ALL.map(Status::name), Status::from_name))]
    pub(super) status: Option<Status>,
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// Where the store is mounted; may be left out when only one is.
    pub(super) mountpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// Machine-readable output.
    #[arg(long)]
    pub(super) json: bool,
    /// An image in a mount.
    pub(super) path: PathBuf,
}

/// What is one of a few names.
fn one_of<const N: usize, T: Clone + Send + Sync + 'static>(
    names: [&'static str; N],
    from_name: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(move |name| from_name(&name).ok_or("unknown"))
}
