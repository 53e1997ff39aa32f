//! The system calls that rustix lacks: the only unsafe code there is.

#![allow(unsafe_code, reason = "each block says why it is sound")]

use std::fs::File;
use std::os::fd::AsRawFd;

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
