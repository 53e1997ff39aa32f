//! The command line, each command on a real mount.

mod force;
mod help;
mod orders;
mod service;
mod transfer;
