//! Bounds: many handles, few descriptors, slow, stopped and interrupted users, and a daemon that dies under a guest.

mod descriptors;
mod endings;
mod readers;
mod writers;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::Sandbox;

/// A Python process that does something, says a line, and goes on when it is told to.
struct Puppet {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Puppet {
    /// Starts a script; `say` answers a line, `wait` waits for one.
    fn new(sandbox: &Sandbox, script: &str) -> Self {
        const HEAD: &str = "
import errno, mmap, os, resource, signal, sys, time
M, F = os.environ['M'], os.environ['F']
def say(text): print(text, flush=True)
def wait():
    if not sys.stdin.readline(): os._exit(0)
";
        // Whatever it waits for, it does not wait for ever.
        let mut child = Command::new("timeout")
            .args(["-k", "1", "240", "python3", "-c", &format!("{HEAD}{script}")])
            .env("M", sandbox.root())
            .env("F", sandbox.file(""))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let input = child.stdin.take().expect("an input");
        let output = BufReader::new(child.stdout.take().expect("an output"));
        Self { child, input, output }
    }

    /// The next line that it says; an empty one when it has ended.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        writeln!(self.input, "go on").expect("it listens");
    }

    /// Waits until it has ended, well.
    fn end(mut self) {
        let status = self.child.wait().expect("an end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many descriptors the daemon has open.
fn descriptors(sandbox: &Sandbox) -> usize {
    let daemon = sandbox.daemon().expect("a daemon");
    fs::read_dir(format!("/proc/{daemon}/fd")).expect("its descriptors").count()
}

/// How much memory the daemon has, in KiB.
fn memory(sandbox: &Sandbox) -> u64 {
    let daemon = sandbox.daemon().expect("a daemon");
    let status = fs::read_to_string(format!("/proc/{daemon}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
