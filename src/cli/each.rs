//! One command for several paths: one that fails does not keep the others.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{print, print_json};
use crate::error::{Error, Result};
use crate::text::plain;

/// Does something with each, and prints what came of it: a line each, or an array of all.
///
/// # Errors
/// The one that failed, or how many of several were `not_done`.
pub(super) fn each<T: Serialize>(
    paths: &[PathBuf],
    is_json: bool,
    not_done: &str,
    work: impl Fn(&Path) -> Result<T>,
    line: impl Fn(&T) -> String,
) -> Result<()> {
    let mut all = Vec::new();
    let mut outcome = Ok(());
    for path in paths {
        match work(path) {
            Ok(done) => {
                if !is_json {
                    print(&line(&done))?;
                }
                all.push(done);
            }
            Err(error) => {
                if paths.len() > 1 {
                    let path = path.display().to_string();
                    eprintln!("sps: {}: {}", plain(&path), plain(&error.to_string()));
                }
                outcome = outcome.and(Err(error));
            }
        }
    }
    if is_json {
        print_json(&all)?;
    }
    outcome.map_err(|error| match paths.len() {
        1 => error,
        count => Error::Rejected(format!("{} of {count} {not_done}", count - all.len())),
    })
}
