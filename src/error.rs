//! What can go wrong, and one table of what each means to a caller.
//!
//! Every failure of the product is an [`Error`]. [`Error::errno`] is the only place where a failure
//! becomes an error number (specification, section 6). Errors can be cloned: the first one of an upload
//! is kept and given to each later caller.

use std::path::Path;

use crate::image::{DetailFault, NameFault};
use crate::lifecycle::Reason;

/// An operation that did not succeed: what failed, on what.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The lifecycle or protection forbids it.
    #[error("{0}")]
    Denied(Reason),
    /// The mount does not offer this operation here.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The status does not let the data be read, or the caller lacks permission.
    #[error("{0}")]
    NoPermission(&'static str),
    /// The name breaks a rule.
    #[error("bad name: {0}")]
    BadName(NameFault),
    /// A value or a flag makes no sense.
    #[error("invalid: {0}")]
    Invalid(String),
    /// The name is taken.
    #[error("the name is taken")]
    Exists,
    /// There is nothing of that name.
    #[error("no such image")]
    NotFound,
    /// It is in use.
    #[error("{0}")]
    Busy(String),
    /// There is nothing at or after the offset.
    #[error("there is nothing at or after the offset")]
    BeyondEnd,
    /// It is not copied here: read and write it.
    #[error("it is to be read and written")]
    CantCopy,
    /// The handle does not do this.
    #[error("the file is not open for that")]
    BadHandle,
    /// The image was removed while it was being written.
    #[error("the image was removed while it was being written")]
    Cancelled,
    /// The work was stopped, and can be gone on with.
    #[error("the work was stopped, and is gone on with later")]
    Interrupted,
    /// The process that wrote the image failed.
    #[error("{0}")]
    WriterFailed(String),
    /// The upload did not pass its checks.
    #[error("{0}")]
    Rejected(String),
    /// The data on the disk is not what the registry says.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk below did not answer for so many seconds.
    #[error("the disk below does not answer for {0} s: look after it")]
    Silent(f64),
    /// Attributes outside `user.sps.` are not kept.
    #[error("only attributes that begin with user.sps. are kept")]
    ForeignAttribute,
    /// There is no such attribute, or it is not known yet.
    #[error("no such attribute, or not known yet")]
    NoAttribute,
    /// There are as many already as there may be.
    #[error("{0}")]
    TooMany(&'static str),
    /// A value is larger than it may be.
    #[error("it has at most 64 KiB")]
    TooBig,
    /// The image is longer than one may be.
    #[error("an image has at most {0} bytes here: see image_size_cap")]
    TooLarge(u64),
    /// The image alone is more than all together may be.
    #[error("an image of {0} bytes is over the quota by itself: raise the quota")]
    NeverFits(u64),
    /// All images together are more than they may be.
    #[error("over quota: {0}: remove some and purge them, or raise the quota")]
    OverQuota(String),
    /// As many files are open as the daemon can have.
    #[error(
        "too many files are open: the limit of open files (ulimit -n) of the daemon is reached"
    )]
    TooManyOpen,
    /// The buffer of the caller is too small for the attribute.
    #[error("the attribute is larger than the buffer")]
    Range,
    /// A system call on a file of the store failed.
    #[error("{op} {what}: {source}{}", advice(*source))]
    Io {
        /// The operation.
        op: &'static str,
        /// The file, relative to the store where it lies in one.
        what: String,
        /// What the system said.
        source: rustix::io::Errno,
    },
    /// The registry could not do it.
    #[error("registry: {what}")]
    Registry {
        /// What it said.
        what: String,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// The record changed between reading and writing, again and again.
    #[error("the record kept changing under the operation")]
    Conflict,
    /// The store is not one that can be used.
    #[error("{0}")]
    Store(String),
    /// Data that lies elsewhere is not what it was.
    #[error("{0}")]
    SourceChanged(String),
    /// Look the name up again: it belongs to another image now.
    #[error("the name belongs to another image now")]
    Stale,
    /// What was typed is not understood.
    #[error("{0}")]
    Usage(String),
    /// A handler failed in a way that is a fault of sps itself.
    #[error("internal fault in {0}")]
    Fault(&'static str),
}

/// The result of an operation of sps.
pub type Result<T> = std::result::Result<T, Error>;

/// What is to be done about a failure of the system, where that is always the same.
const fn advice(source: rustix::io::Errno) -> &'static str {
    match source {
        rustix::io::Errno::NOSPC => ": free space there, and do it again",
        rustix::io::Errno::NOTCONN => ": its daemon has died: mount it again with `sps mount`",
        _ => "",
    }
}

impl Error {
    /// A failed system call `op` on the file `what`.
    pub fn io(op: &'static str, what: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        let source: std::io::Error = source.into();
        let errno = rustix::io::Errno::from_io_error(&source).unwrap_or(rustix::io::Errno::IO);
        Self::Io { op, what: what.as_ref().display().to_string(), source: errno }
    }

    /// The error number that a caller of the mount gets (specification, section 6).
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Denied(_) | Self::Forbidden(_) => libc::EPERM,
            Self::NoPermission(_) => libc::EACCES,
            Self::BadName(NameFault::TooLong) => libc::ENAMETOOLONG,
            Self::BadName(
                NameFault::NotAName
                | NameFault::Character
                | NameFault::Reserved
                | NameFault::LooksLikeId,
            )
            | Self::Invalid(_)
            | Self::Usage(_)
            | Self::Store(_) => libc::EINVAL,
            Self::Exists => libc::EEXIST,
            Self::NotFound => libc::ENOENT,
            Self::Busy(_) | Self::Conflict | Self::Interrupted => libc::EBUSY,
            Self::Stale | Self::SourceChanged(_) => libc::ESTALE,
            Self::BeyondEnd => libc::ENXIO,
            Self::CantCopy => libc::EXDEV,
            Self::BadHandle => libc::EBADF,
            Self::Cancelled => libc::ECANCELED,
            Self::WriterFailed(_)
            | Self::Rejected(_)
            | Self::Damaged(_)
            | Self::Silent(_)
            | Self::Fault(_) => libc::EIO,
            Self::ForeignAttribute => libc::EOPNOTSUPP,
            Self::NoAttribute => libc::ENODATA,
            Self::TooMany(_) => libc::ENOSPC,
            Self::TooBig => libc::E2BIG,
            Self::TooLarge(_) => libc::EFBIG,
            Self::NeverFits(_) | Self::OverQuota(_) => libc::EDQUOT,
            Self::TooManyOpen => libc::ENFILE,
            Self::Range => libc::ERANGE,
            Self::Registry { is_full: true, .. } => libc::ENOSPC,
            Self::Registry { is_full: false, .. } => libc::EIO,
            Self::Io { source, .. } => Self::passed_on(*source),
        }
    }

    /// Which failures of the filesystem below are the caller's own: the rest are EIO to him.
    fn passed_on(source: rustix::io::Errno) -> i32 {
        const OWN: [i32; 6] =
            [libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::EOPNOTSUPP, libc::ENXIO, libc::EINVAL];
        let errno = source.raw_os_error();
        if [libc::EMFILE, libc::ENFILE].contains(&errno) {
            // It is the daemon that has too many, and not the caller.
            return libc::ENFILE;
        }
        if OWN.contains(&errno) { errno } else { libc::EIO }
    }

    /// Whether an upload to which this happened can't be whole any more. What the filesystem below does
    /// not offer changed nothing, and tools go on without it.
    #[must_use]
    pub fn spoils_upload(&self) -> bool {
        let errno = self.errno();
        errno != libc::EOPNOTSUPP && errno != libc::EINVAL
    }

    /// Whether there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.errno() == libc::ENOSPC
    }

    /// Whether it would go if something else were purged.
    #[must_use]
    pub fn wants_room(&self) -> bool {
        let is_hopeless = matches!(self, Self::NeverFits(_));
        self.is_full() || (self.errno() == libc::EDQUOT && !is_hopeless)
    }

    /// Whether reading sealed data failed because of the data: it is gone, or the disk does not give it.
    #[must_use]
    pub const fn tells_of_damage(&self) -> bool {
        const GONE: rustix::io::Errno = rustix::io::Errno::NOENT;
        const BAD: rustix::io::Errno = rustix::io::Errno::IO;
        matches!(self, Self::Damaged(_) | Self::Io { source: GONE | BAD, .. })
    }

    /// Whether an operator must look: the rest is a caller's mistake or was coped with.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        let is_ours = matches!(
            self,
            Self::Io { .. }
                | Self::Registry { .. }
                | Self::Damaged(_)
                | Self::Silent(_)
                | Self::Fault(_)
        );
        is_ours && (self.errno() == libc::EIO || self.errno() == libc::ENOSPC)
    }

    /// The status with which the command line exits: 2 for what was typed wrongly, else 1.
    #[must_use]
    pub const fn exit_status(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}

impl From<NameFault> for Error {
    fn from(fault: NameFault) -> Self {
        Self::BadName(fault)
    }
}

impl From<DetailFault> for Error {
    fn from(fault: DetailFault) -> Self {
        match fault {
            DetailFault::Malformed(told) => Self::Invalid(told),
            DetailFault::TooMany(told) => Self::TooMany(told),
            DetailFault::TooLong => Self::TooBig,
        }
    }
}

impl From<Reason> for Error {
    fn from(reason: Reason) -> Self {
        Self::Denied(reason)
    }
}

/// What the error numbers of [`Error::errno`] are called.
#[must_use]
pub const fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::EINVAL => "EINVAL",
        libc::EEXIST => "EEXIST",
        libc::ENOENT => "ENOENT",
        libc::EBUSY => "EBUSY",
        libc::ESTALE => "ESTALE",
        libc::ENXIO => "ENXIO",
        libc::EXDEV => "EXDEV",
        libc::EBADF => "EBADF",
        libc::ECANCELED => "ECANCELED",
        libc::EIO => "EIO",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ENODATA => "ENODATA",
        libc::ENOSPC => "ENOSPC",
        libc::E2BIG => "E2BIG",
        libc::EFBIG => "EFBIG",
        libc::EDQUOT => "EDQUOT",
        libc::ENFILE => "ENFILE",
        libc::ERANGE => "ERANGE",
        _ => "other",
    }
}
