//! The system calls that rustix lacks: the only unsafe code there is.

#![allow(unsafe_code, reason = "each block says why it is sound")]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

/// Starts to write a stretch of a file to the disk, without waiting for it: sync_file_range(2) with
/// `SYNC_FILE_RANGE_WRITE`. It promises nothing, and only leaves less to wait for later.
///
/// # Errors
/// The filesystem does not offer it, or failed.
pub(crate) fn start_write_back(file: &File, offset: u64, length: u64) -> std::io::Result<()> {
    let out_of_range = |_| std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let offset = i64::try_from(offset).map_err(out_of_range)?;
    let length = i64::try_from(length).map_err(out_of_range)?;
    // SAFETY: the descriptor is open as long as `file` is borrowed, and no memory is passed.
    let done = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Closes a file and answers what close(2) says, as whoever is told by it needs to know.
///
/// # Errors
/// The filesystem says that what was written is not good.
pub(crate) fn close(file: File) -> std::io::Result<()> {
    // SAFETY: the descriptor was this file's own, and nobody else has it.
    let done = unsafe { libc::close(file.into_raw_fd()) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What the kernel tells of a process: `struct pidfd_info` of `linux/pidfd.h`, as it was in Linux 6.15.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`: how the process ended.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xFF, 11, struct pidfd_info)` for the 64 bytes above.
const PIDFD_GET_INFO: libc::c_ulong = 0xc040_ff0b;

/// How a process that was waited for ended: its status as wait(2) has it. None while nobody has waited for
/// it.
///
/// # Errors
/// The kernel is older than Linux 6.15, or the descriptor is not one of a process.
pub(crate) fn exit_code(pidfd: BorrowedFd<'_>) -> std::io::Result<Option<i32>> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes no more than the 64
    // bytes that the number of the request names, which `info` has.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if done != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}
