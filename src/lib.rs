//! sps: an image store that is used with `cp`, `ls`, `mv` and `rm`.
//!
//! The modules in reading order, which is also their order from the ground up; each imports from those
//! before it only:
//!
//! - [`lifecycle`]: what may happen to an image; alone decides.
//! - [`image`]: what an image is. [`task`]: what a task is. [`failpoint`]: where the tests stop the daemon. `sys`: system calls.
//!   [`mountinfo`]: what is mounted where. `metrics`: what is counted and measured.
//! - [`error`]: what can go wrong, and one table of what it means to a caller. [`inspect`]: what a content
//!   is, from its bytes. [`text`]: how quantities read.
//! - [`registry`]: the records. [`store`]: the bytes. [`location`]: files that lie elsewhere.
//! - [`ingest`]: one upload: its digest and its seal.
//! - [`catalog`]: every verb of the product; the only place that pairs registry with store.
//! - [`tasks`]: who does what takes long.
//! - [`fs`]: the mount, through fuser.
//! - [`config`]: what the operator chose. [`cli`]: the commands.
//!
//! What always holds:
//!
//! - An active image has content, complete and durable, that never changes.
//! - A commit compares the version that was read.
//! - Every wait, queue, retry and buffer has a named bound.
//! - Calls go down once, values come up once: no floor holds a callback from above.
//!
//! Absent on purpose: a network, accounts of its own, and anything to administer.

pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod fs;
pub mod image;
pub mod ingest;
pub mod inspect;
pub mod lifecycle;
pub mod location;
mod metrics;
pub mod mountinfo;
pub mod registry;
pub mod store;
mod sys;
pub mod task;
pub mod tasks;
pub mod text;
