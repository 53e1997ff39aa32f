//! `sps completions` and `sps man`: made of the same table as the help.

use clap::CommandFactory;

use super::arguments::{Arguments, CompletionsArguments, ManArguments};
use super::print;
use crate::error::{Error, Result};

/// Writes completions for a shell.
pub(super) fn completions(arguments: &CompletionsArguments) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "sps", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Writes the manual page, or those of all commands.
pub(super) fn pages(arguments: &ManArguments) -> Result<()> {
    match &arguments.folder {
        Some(folder) => clap_mangen::generate_to(Arguments::command(), folder)
            .map_err(|error| Error::io("write", folder, error)),
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Arguments::command())
                .render(&mut text)
                .map_err(|error| Error::io("write", "the manual page", error))?;
            print(&String::from_utf8_lossy(&text))
        }
    }
}
