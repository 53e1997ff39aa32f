//! The command line, each command on a real mount.

mod apart;
mod errors;
mod force;
mod guide;
mod help;
mod log;
mod mistakes;
mod orders;
mod package;
mod service;
mod shapes;
mod systemd;
mod transfer;
