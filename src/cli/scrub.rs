//! `sps scrub`: what is due is purged now.

use serde_json::json;

use super::arguments::ScrubArguments;
use super::{order, print, print_json};
use crate::error::Result;

/// Runs the command.
pub(super) fn run(arguments: &ScrubArguments) -> Result<()> {
    let done = order::carry_out(&arguments.mountpoint, "scrub", &json!({}))?;
    if arguments.json {
        return print_json(&done.result);
    }
    print(&format!("{} images purged\n", done.counted("images")))
}
