//! The command line: one file a command, each of which builds the objects below and hands them down.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ContextValue;

use crate::error::{Error, Result};
use crate::text::{plain, plain_json};

mod arguments;
mod backup;
mod bench;
mod doctor;
mod each;
mod fsck;
mod helper;
mod import;
mod log_file;
mod ls;
mod manual;
mod mount;
mod mounts;
mod order;
mod pull;
mod push;
mod restore;
mod scrub;
mod service;
mod set;
mod show;
mod table;
mod tasks;
mod transfer;
mod umount;
mod verify;
mod view;
mod watch;

use arguments::{Arguments, Command};

/// Runs what the arguments of this process ask for.
#[must_use]
pub fn run() -> ExitCode {
    let mut words = std::env::args_os();
    let own = words.next().map(PathBuf::from).unwrap_or_default();
    let outcome = if own.file_name().is_some_and(|name| name == helper::NAME) {
        helper::parse(words).and_then(|asked| asked.map_or(Ok(()), |asked| mount::run(&asked)))
    } else {
        match Arguments::try_parse() {
            Ok(arguments) => carry_out(arguments.command),
            Err(mut error) => {
                quote(&mut error);
                // Help and version come this way too, and are no failure. A closed terminal is not ours.
                let _ = error.print();
                return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
            }
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sps: {}", plain(&error.to_string()));
            ExitCode::from(error.exit_status())
        }
    }
}

fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Mount(arguments) => mount::run(&arguments),
        Command::Umount(arguments) => umount::run(&arguments),
        Command::Ls(arguments) => ls::run(&arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Fsck(arguments) => fsck::run(&arguments),
        Command::Set(arguments) => set::run(&arguments),
        Command::Push(arguments) => push::run(&arguments),
        Command::Pull(arguments) => pull::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Scrub(arguments) => scrub::run(&arguments),
        Command::Tasks(arguments) => tasks::run(&arguments),
        Command::Watch(arguments) => watch::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::pages(&arguments),
        Command::Bench(command) => bench::run(&command),
    }
}

/// Makes of what was typed, which such an error repeats, what can be printed: a script types names of images.
fn quote(error: &mut clap::Error) {
    let mut shown = Vec::new();
    for (kind, value) in error.context() {
        if let ContextValue::String(text) = value {
            shown.push((kind, ContextValue::String(plain(text).into_owned())));
        }
    }
    for (kind, value) in shown {
        error.insert(kind, value);
    }
}

/// Writes a command's result to standard output. Whoever reads it may have gone away.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::io("write", "standard output", error)),
    }
}

/// Writes a command's result as JSON, in which nothing is hidden from whoever reads it on a terminal.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Error::Invalid(error.to_string()))?;
    print(&format!("{}\n", plain_json(&text)))
}
