//! `sps verify`: data is read and hashed again.

use serde_json::json;

use super::arguments::VerifyArguments;
use super::view::View;
use super::{mounts, order, print, print_json};
use crate::error::{Error, Result};
use crate::text::bytes;

/// Runs the command.
///
/// # Errors
/// Something is damaged.
pub(super) fn run(arguments: &VerifyArguments) -> Result<()> {
    let root = mounts::mount_of(&arguments.path)?;
    let is_all = mounts::absolute(&arguments.path)? == root;
    let input = match View::of(&arguments.path) {
        Some(image) => json!({ "image": image.id }),
        None if is_all => json!({}),
        None => {
            return Err(Error::Usage(format!(
                "{} is neither an image nor a mount point",
                arguments.path.display()
            )));
        }
    };
    let done = order::carry_out(&root, "verify", &input)?;
    let (contents, damaged) = (done.counted("contents"), done.counted("damaged"));
    if arguments.json {
        print_json(&done.result)?;
    } else {
        let size = bytes(done.counted("size_bytes"));
        let noun = if contents == 1 { "content" } else { "contents" };
        print(&format!("{contents} {noun}, {size}: {damaged} damaged\n"))?;
    }
    match damaged {
        0 => Ok(()),
        _ => Err(Error::Damaged(format!(
            "it is withheld in {}: put a whole copy into the mount once more",
            root.join("deactivated").display()
        ))),
    }
}
