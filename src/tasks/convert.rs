//! `convert`: an active image in another format, by `qemu-img`.
//!
//! It is given both files, both formats and nothing else; its time, its memory and what it writes are limited, and
//! what comes of it is inspected like any other image.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::Watch;
use crate::catalog::{Catalog, Conversion};
use crate::error::{Error, Result};
use crate::image::DiskFormat;
use crate::store::StoreFile;
use crate::task::{Convert, Task, TaskResult};

/// The memory that `qemu-img` may ask for, in bytes.
const MEMORY_BYTES_MAX: u64 = 4 << 30;

/// The time that it may take on a processor, in seconds.
const PROCESSOR_SECONDS_MAX: u64 = 4 * 3600;

/// How long it may take at least, and how much longer for each GiB of the disk.
const PATIENCE: Duration = Duration::from_secs(600);
const PATIENCE_A_GIB: Duration = Duration::from_secs(120);

/// How often it is looked how far it is.
const TICK: Duration = Duration::from_millis(100);

/// How much of what it says is kept.
const SAID_BYTES_MAX: u64 = 4096;

/// Converts an image.
pub(super) fn run(
    catalog: &Catalog,
    task: &Task,
    convert: &Convert,
    watch: &Watch<'_>,
) -> Result<TaskResult> {
    let image = catalog
        .convert(task, convert, watch, &|conversion, told| call(conversion, convert.to, told))?;
    Ok(TaskResult::Imported { image })
}

/// What `qemu-img` calls a format that it reads; none where there is nothing to convert.
fn source_name(format: DiskFormat) -> Option<&'static str> {
    match format {
        DiskFormat::Raw | DiskFormat::Gpt | DiskFormat::Mbr | DiskFormat::Iso => Some("raw"),
        DiskFormat::Luks | DiskFormat::Qed => None,
        DiskFormat::Qcow2
        | DiskFormat::Vmdk
        | DiskFormat::Vdi
        | DiskFormat::Vhd
        | DiskFormat::Vhdx => target_words(format).map(|(name, _)| name),
    }
}

/// What `qemu-img` calls a format that it writes, and how it is to write it.
fn target_words(format: DiskFormat) -> Option<(&'static str, &'static [&'static str])> {
    match format {
        DiskFormat::Raw => Some(("raw", &[])),
        DiskFormat::Qcow2 => Some(("qcow2", &[])),
        DiskFormat::Vmdk => Some(("vmdk", &["-o", "subformat=monolithicSparse"])),
        DiskFormat::Vdi => Some(("vdi", &[])),
        DiskFormat::Vhd => Some(("vpc", &["-o", "force_size=on"])),
        DiskFormat::Vhdx => Some(("vhdx", &[])),
        DiskFormat::Qed
        | DiskFormat::Luks
        | DiskFormat::Iso
        | DiskFormat::Gpt
        | DiskFormat::Mbr => None,
    }
}

/// The path by which another process opens a file that this one has.
fn path_of(file: &StoreFile) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_fd().as_raw_fd())
}

fn call(conversion: &Conversion, to: DiskFormat, told: &dyn Fn(u64) -> Result<()>) -> Result<()> {
    let cant = |what: DiskFormat| {
        Error::Rejected(format!(
            "{} can't be converted: there is no disk to be seen in it",
            what.name()
        ))
    };
    let from = source_name(conversion.from).ok_or_else(|| cant(conversion.from))?;
    let (name, words) = target_words(to).ok_or_else(|| cant(to))?;
    let mut command = Command::new("setpriv");
    command
        // It ends with the daemon, however that ends.
        .args(["--no-new-privs", "--pdeathsig", "KILL", "--", "prlimit"])
        .arg(format!("--as={MEMORY_BYTES_MAX}"))
        .arg(format!("--cpu={PROCESSOR_SECONDS_MAX}"))
        .arg(format!("--fsize={}", conversion.target_bytes_max))
        .args(["--core=0", "--", "qemu-img", "convert", "-U", "-f", from, "-O", name])
        .args(words)
        .args([path_of(&conversion.source), path_of(&conversion.target)])
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/local/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command.spawn().map_err(|error| missing(&error))?;
    let (status, said) = Running(child).wait(conversion, told)?;
    if status.success() {
        return Ok(());
    }
    if status.code() == Some(NOT_FOUND) {
        return Err(missing(&std::io::ErrorKind::NotFound.into()));
    }
    let said = said.lines().last().unwrap_or_default().trim().to_owned();
    Err(Error::Rejected(format!("qemu-img ended with {status}: {}", said.escape_debug())))
}

/// The exit status of a wrapper that did not find its program.
const NOT_FOUND: i32 = 127;

fn missing(error: &std::io::Error) -> Error {
    Error::Rejected(format!("qemu-img can't be run ({error}): apt install qemu-utils"))
}

/// A process that does not outlive the work.
struct Running(Child);

impl Running {
    /// Waits for its end; answers its status and what it said.
    fn wait(
        mut self,
        conversion: &Conversion,
        told: &dyn Fn(u64) -> Result<()>,
    ) -> Result<(ExitStatus, String)> {
        let failed = |error: std::io::Error| Error::io("wait for", "qemu-img", error);
        let gibs = u32::try_from(conversion.virtual_size_bytes >> 30).unwrap_or(u32::MAX);
        let patience = PATIENCE + PATIENCE_A_GIB.saturating_mul(gibs);
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().map_err(failed)? {
                let mut said = String::new();
                if let Some(errors) = self.0.stderr.take() {
                    // What it said is for people only.
                    let _ = errors.take(SAID_BYTES_MAX).read_to_string(&mut said);
                }
                return Ok((status, said));
            }
            if began.elapsed() > patience {
                return Err(Error::Rejected(format!(
                    "qemu-img did not end within {} seconds",
                    patience.as_secs()
                )));
            }
            told(conversion.target.allocated_bytes().unwrap_or(0))?;
            std::thread::sleep(TICK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may have ended by itself.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}
