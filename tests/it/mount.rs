//! Every operation of the mount, with real tools on a real mount.

mod attributes;
mod create;
mod errors;
mod listing;
mod names;
mod permissions;
mod publish;
mod read;
mod remove;
mod settled;
mod writers;
