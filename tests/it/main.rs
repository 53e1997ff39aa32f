//! The tests of sps that need more than a module: contracts, real mounts, crashes, and the tree itself.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    missing_docs,
    reason = "a test fails by panicking, and tells its story in one function"
)]

mod backup;
mod cli;
mod command;
mod crash;
mod day;
mod disk;
mod faults;
mod fsck;
mod images;
mod ingest;
mod inspect;
mod lessons;
mod lifecycle;
mod model;
mod mount;
mod posix;
mod power;
mod registry;
mod semantics;
mod store;
mod stress;
mod support;
mod tidy;
mod tries;
mod verbs;
