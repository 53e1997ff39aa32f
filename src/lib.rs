//! sps.
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
pub mod registry;
pub mod store;
pub mod text;
