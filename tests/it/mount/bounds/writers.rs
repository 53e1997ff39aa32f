//! Writers: many at once, stopped, interrupted all the time, and such as were cut off.

use std::fs;
use std::os::unix::process::CommandExt;

use super::Puppet;
use crate::support::{Sandbox, eventually, pattern, run, signal, text};

/// Writers at once.
const WRITERS: usize = 64;

// semantics: close-publishes never-slow
#[test]
fn sixty_four_writers_at_once_lose_nothing() {
    let sandbox = Sandbox::new();
    for number in 0..WRITERS {
        sandbox.source(&format!("s-{number}"), 300_000 + number * 4099);
    }
    sandbox.ok(&format!(
        "for n in $(seq 0 {}); do dd if=$F/s-$n of=$M/active/x-$n bs=7k status=none & all=\"$all $!\"; done
         ls -l $M/saving > /dev/null || true; for one in $all; do wait $one || exit 1; done",
        WRITERS - 1
    ));
    assert_eq!(sandbox.names("active").len(), WRITERS);
    for number in 0..WRITERS {
        let name = format!("s-{number}");
        let found = fs::read(sandbox.path(&format!("active/x-{number}"))).expect("readable");
        assert!(found == pattern(&name, 300_000 + number * 4099), "{name}");
    }
    sandbox.umount();
    sandbox.audit();
}

/// Signals every half a millisecond, with a handler that has no SA_RESTART.
// semantics: interrupted
#[test]
fn a_writer_and_a_reader_that_are_interrupted_all_the_time_lose_and_double_nothing() {
    let sandbox = Sandbox::new();
    sandbox.source("a", 6_000_000);
    let script = "
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, True)
source = open(F + '/a', 'rb').read()
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for size in (1000, 65536, 1 << 20, len(source)):
    path, at = M + '/active/x-%d' % size, 0
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    while at < len(source): at += os.write(file, source[at:at + size])
    os.fsync(file)
    assert os.pread(file, 100, 5000) == source[5000:5100]
    os.close(file)
    file, found = os.open(path, os.O_RDONLY), b''
    while True:
        piece = os.read(file, size)
        if not piece: break
        found += piece
    os.close(file)
    assert found == source, size
    os.rename(path, path + '-kept'); os.listdir(M + '/active'); os.stat(path + '-kept')
    os.setxattr(path + '-kept', 'user.sps.tags', b'gold')
    assert os.path.exists(M + '/active/x-%d-kept' % size)
signal.setitimer(signal.ITIMER_REAL, 0, 0)
say('done')
";
    let mut writer = Puppet::new(&sandbox, script);
    assert_eq!(writer.hear(), "done");
    writer.end();
    assert_eq!(sandbox.names("active").len(), 4);
    assert_eq!(sandbox.names("killed"), Vec::<String>::new());
    sandbox.umount();
    sandbox.audit();
}

// semantics: umount-drains
#[test]
fn a_stopped_writer_holds_up_nobody_and_umount_names_it() {
    let sandbox = Sandbox::new();
    let mut writer = sandbox
        .bash_command("exec 3>$M/active/x; echo one >&3; kill -STOP $$; echo two >&3; exec 3>&-")
        .process_group(0)
        .spawn()
        .expect("a writer");
    let pid = writer.id();
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    };
    eventually("it is stopped", is_stopped);
    sandbox.ok("timeout 20 bash -c 'cp /etc/hostname $M/active/other; ls -l $M/saving $M/active; cat $M/STATUS
                rm $M/active/other; echo other > $M/active/x2'");
    assert_eq!(sandbox.names("saving"), ["x"]);
    let output = run(sandbox.sps().args(["umount", "--wait", "1"]).arg(sandbox.root()));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&pid.to_string()) && said.contains("bash"), "{said}");
    signal(i32::try_from(pid).expect("a pid"), "CONT");
    assert!(writer.wait().expect("an end").success());
    assert_eq!(sandbox.ok("cat $M/active/x"), "one\ntwo\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: cut-off-busy
#[test]
fn what_a_writer_that_was_cut_off_still_has_open_is_busy_to_others() {
    let sandbox = Sandbox::new();
    let mut writer = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/uploading/x', os.O_WRONLY | os.O_CREAT)
os.write(file, b'old')
say('written')
wait()
try: os.write(file, b'more'); say('0')
except OSError as error: say(str(error.errno))
wait()
try: os.close(file); say('0')
except OSError as error: say(str(error.errno))
wait()
",
    );
    assert_eq!(writer.hear(), "written");
    sandbox.ok("mv $M/uploading/x $M/queued/");
    sandbox.fails("echo new > $M/queued/x", "Device or resource busy");
    writer.go_on();
    assert_eq!(writer.hear(), "125", "ECANCELED");
    writer.go_on();
    assert_eq!(writer.hear(), "125", "ECANCELED");
    assert_eq!(sandbox.tree(), ["queued/x"]);
    eventually("its last close is done", || {
        sandbox.bash("echo new > $M/queued/x").status.success()
    });
    assert_eq!(sandbox.ok("cat $M/active/x"), "new\n");
    writer.go_on();
    writer.end();
    // The other way round: one who has a queued image open that is staged meanwhile.
    sandbox.ok("touch $M/queued/y");
    let mut writer = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/queued/y', os.O_WRONLY)
say('open')
wait()
try: os.write(file, b'more'); say('0')
except OSError as error: say(str(error.errno))
wait()
",
    );
    assert_eq!(writer.hear(), "open");
    sandbox.ok("mv $M/queued/y $M/uploading/");
    sandbox.fails("echo new > $M/uploading/y", "Device or resource busy");
    writer.go_on();
    assert_eq!(writer.hear(), "125", "ECANCELED");
    writer.go_on();
    writer.end();
    eventually("its last close is done", || {
        sandbox.bash("echo new > $M/uploading/y").status.success()
    });
    sandbox.ok("mv $M/uploading/y $M/active/; settled");
    assert_eq!(sandbox.ok("cat $M/active/y"), "new\n");
    sandbox.umount();
    sandbox.audit();
}

// semantics: retry-queued
#[test]
fn the_reason_of_a_failed_upload_goes_when_it_is_tried_again() {
    let sandbox = Sandbox::with(&["on_failed_upload=queued"]);
    sandbox.bash("exec 3>$M/active/x; echo part >&3; kill -9 $$");
    eventually("it is queued again", || sandbox.names("queued") == ["x"]);
    assert!(sandbox.attribute("queued/x", "message").is_some());
    let mut writer = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/queued/x', os.O_WRONLY)
os.write(file, b'again')
say('written')
wait()
os.close(file)
",
    );
    assert_eq!(writer.hear(), "written");
    assert_eq!(sandbox.names("saving"), ["x"]);
    assert_eq!(sandbox.attribute("saving/x", "message"), None);
    writer.go_on();
    writer.end();
    assert_eq!(sandbox.names("active"), ["x"]);
}
