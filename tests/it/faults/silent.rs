//! A disk that does not answer: nobody waits for it longer than `disk_timeout`, and when it answers again all goes on.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::disk::State;
use crate::disk::machine::{Door, Machine, put};
use crate::support::{attribute, eventually, run, text};

/// Longer than this nothing takes that may take a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// What people do with a mount.
const WORK: [&str; 14] = [
    "cp $F $M/active/x",
    "head -c 100 $F > $M/queued/y",
    "touch $M/queued/z",
    "truncate -s 0 $M/active/empty",
    "rm $M/active/b",
    "mv $M/active/c $M/active/d",
    "mv $M/active/e $M/deactivated/",
    "setfattr -n user.sps.tags -v t $M/active/a",
    "chmod 600 $M/active/a",
    "cp $F $M/uploading/u",
    "ls -l $M/active $M/queued $M/saving",
    "cat $M/STATUS",
    "cat $M/active/a",
    "printf '{\"type\": \"scrub\", \"input\": {}}' > $M/tasks/pending/s",
];

fn bash(machine: &Machine, script: &str) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["-k", "1", "40", "bash", "-c", script])
        .env("M", machine.root())
        .env("F", "/etc/services");
    command.stdin(Stdio::null());
    command
}

fn ok(machine: &Machine, script: &str) -> Output {
    let output = run(&mut bash(machine, &format!("set -e; {script}")));
    assert!(output.status.success(), "{script}: {}", text(&output));
    output
}

fn machine() -> Machine {
    let machine = Machine::boot(State::default(), &["disk_timeout=1s"]);
    for name in ["a", "b", "c", "e"] {
        put(&machine.path(&format!("active/{name}")), "old", Door::New, 50_000).expect("uploaded");
    }
    machine
}

// semantics: disk-hangs
#[test]
fn nobody_waits_for_long_for_a_disk_that_does_not_answer() {
    let mut machine = machine();
    machine.disk.freeze();
    let began = Instant::now();
    // Of each kind more than there are threads that read requests.
    let children: Vec<_> = (0..3)
        .flat_map(|_| WORK)
        .map(|work| {
            let mut command = bash(&machine, work);
            let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
            (work, child.expect("bash"))
        })
        .collect();
    let mut refused = 0;
    for (work, child) in children {
        let output = child.wait_with_output().expect("ended");
        assert!(began.elapsed() < PATIENCE, "{work} took {:?}", began.elapsed());
        if !output.status.success() {
            refused += usize::from(text(&output).contains("Input/output error"));
        }
    }
    assert!(refused > 10, "{refused} were told that the disk does not answer");
    machine.disk.thaw();
    eventually("the disk is asked again", || machine.path("active").join("a").exists());
    let again = "until cp $F $M/active/again; do sleep 0.1; done; cmp $F $M/active/again";
    ok(&machine, again);
    let log = std::fs::read_to_string(machine.store().join("sps.log")).expect("a log");
    assert!(log.contains("errno=5: the disk below does not answer for 1 s"), "{log}");
    eventually("what was under way ends", || ok(&machine, "ls $M/saving").stdout.is_empty());
    machine.settle();
    machine.stop();
    machine.audit();
}

#[test]
fn a_close_that_was_answered_for_the_disk_has_failed_though_the_disk_goes_on() {
    let mut machine = machine();
    // The writer closes when it is told to.
    let script = "exec 3> $M/active/x; cat $F >&3; echo; read -r _ < $GO; exec 3>&- || exit 7";
    let go = tempfile::tempdir().expect("a folder");
    let pipe = go.path().join("go");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("run").success());
    let mut command = bash(&machine, script);
    let mut writer = command.env("GO", &pipe).stderr(Stdio::piped()).spawn().expect("a writer");
    eventually("all is written", || {
        let written = std::fs::metadata("/etc/services").expect("stat").len();
        std::fs::metadata(machine.path("saving/x")).is_ok_and(|found| found.len() == written)
    });
    machine.disk.freeze();
    let began = Instant::now();
    std::fs::write(&pipe, "go\n").expect("told");
    writer.wait().expect("ended");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    machine.disk.thaw();
    eventually("it has failed", || machine.path("killed/x").exists());
    let why = attribute(&machine.path("killed/x"), "message").expect("a reason");
    assert!(why.contains("does not answer"), "{why}");
    assert!(!machine.path("active/x").exists());
    let metrics = std::fs::read_to_string(machine.path(".sps/metrics")).expect("a page");
    let late = metrics.lines().find_map(|line| line.strip_prefix("sps_late_answers_total "));
    assert!(late.is_some_and(|late| late != "0"), "{metrics}");
    assert!(metrics.contains("sps_errors_total{op=\"flush\",errno=\"EIO\"}"), "{metrics}");
    machine.settle();
    machine.stop();
    machine.audit();
}
