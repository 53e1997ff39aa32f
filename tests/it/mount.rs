//! Every operation of the mount, with real tools on a real mount.

mod attributes;
mod convert;
mod create;
mod errors;
mod formats;
mod hostile;
mod listing;
mod locations;
mod metadata;
mod moves;
mod names;
mod pages;
mod permissions;
mod publish;
mod quota;
mod read;
mod remove;
mod reopen;
mod replace;
mod settled;
mod speed;
mod staging;
mod tasks;
mod time;
mod writers;
