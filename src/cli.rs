//! The command line: one file a command, each of which builds the objects below and hands them down.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::lifecycle::Status;
use crate::text::{plain, plain_json};

mod backup;
mod bench;
mod fsck;
mod log_file;
mod ls;
mod mount;
mod mounts;
mod show;
mod umount;
mod view;

/// An image store that is used with cp, ls, mv and rm.
#[derive(Debug, Parser)]
#[command(name = "sps", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount a store. Returns when the mount is ready.
    #[command(after_help = "Example:\n  sps mount --store /srv/images /mnt/sps")]
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
    /// What measuring needs.
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Debug, Args)]
struct BackupArguments {
    /// The store.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    /// A new or empty directory.
    dest: PathBuf,
}

#[derive(Debug, Args)]
struct FsckArguments {
    /// The store.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Make records again that are missing, or all of them if sps.db is, from the manifests.
    #[arg(long)]
    rebuild: bool,
    /// Do not read the data, which takes as long as reading the whole store does.
    #[arg(long)]
    quick: bool,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Fill a store with small images, without mounting it.
    #[command(after_help = "Example:\n  sps bench fill --store /srv/full --images 1000000")]
    Fill(FillArguments),
}

#[derive(Debug, Args)]
struct FillArguments {
    /// Where the store is, or is to be.
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// How many images are made, named image-0000000.raw and so on.
    #[arg(long, value_name = "N")]
    images: u64,
    /// How many of them have content of their own; the others share it. All, if it is left out.
    #[arg(long, value_name = "N")]
    contents: Option<u64>,
    /// The size of each in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(8..=1 << 24))]
    size: u64,
}

#[derive(Debug, Args)]
struct MountArguments {
    /// Where images and their registry are kept; made if it is not there. Without it,
    /// $XDG_DATA_HOME/sps, or /var/lib/sps for root.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Stay in the foreground and log to standard error.
    #[arg(short, long)]
    foreground: bool,
    /// Options, separated by commas; may be given again.
    #[arg(short, value_name = "OPT,…")]
    options: Vec<String>,
    /// Say `ready` on standard output and go on in the background: for `sps mount` itself.
    #[arg(long, hide = true)]
    serve: bool,
    /// An empty directory.
    mountpoint: PathBuf,
}

#[derive(Debug, Args)]
struct UmountArguments {
    /// How long open files are waited for, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = umount::WAIT_MAX.as_secs())]
    wait: u64,
    /// Where the store is mounted.
    mountpoint: PathBuf,
}

#[derive(Debug, Args)]
struct LsArguments {
    /// Only images of this status.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    /// Where the store is mounted; may be left out when only one is.
    mountpoint: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArguments {
    /// Machine-readable output.
    #[arg(long)]
    json: bool,
    /// An image in a mount.
    path: PathBuf,
}

fn status(name: &str) -> std::result::Result<Status, String> {
    Status::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Status::ALL.into_iter().map(Status::name).collect();
        format!("the statuses are {}", names.join(", "))
    })
}

/// Runs what the arguments of this process ask for.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and are no failure. A closed terminal is not ours.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let outcome = match arguments.command {
        Command::Mount(arguments) => mount::run(&arguments),
        Command::Umount(arguments) => umount::run(&arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Bench(command) => bench::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sps: {}", plain(&error.to_string()));
            ExitCode::from(error.exit_status())
        }
    }
}

/// Writes a command's result to standard output. Whoever reads it may have gone away.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::io("write", "standard output", error)),
    }
}

/// Writes a command's result as JSON, in which nothing is hidden from whoever reads it on a terminal.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Error::Invalid(error.to_string()))?;
    print(&format!("{}\n", plain_json(&text)))
}
