//! Writers that open again what they have just closed, and those that end by saying that they failed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::support::{Sandbox, eventually, text};

/// A vmdk with a file system in it.
const MAKE_VMDK: &str = "truncate -s 24M $F/fs.raw; mkfs.ext4 -q -F $F/fs.raw
    head -c 9000000 /dev/urandom | dd of=$F/fs.raw bs=1M seek=8 conv=notrunc status=none
    qemu-img convert -O vmdk $F/fs.raw $F/a.vmdk";

// semantics: reopen-own
#[test]
fn qemu_img_convert_ends_with_one_active_image_and_nothing_else() {
    let sandbox = Sandbox::new();
    sandbox.ok(MAKE_VMDK);
    for format in ["qcow2", "vmdk", "vdi", "raw", "vhdx"] {
        sandbox.ok(&format!(
            "qemu-img convert -O {format} $F/a.vmdk $M/active/a.{format}
             qemu-img compare -F {format} $F/a.vmdk $M/active/a.{format}"
        ));
        assert_eq!(sandbox.tree(), [format!("active/a.{format}")]);
        sandbox.ok(&format!(
            "rm $M/active/a.{format}; rm $M/pending_delete/a.{format}; rm $M/deleted/a.{format}"
        ));
    }
    sandbox.ok(
        "qemu-img convert -O qcow2 -c $F/a.vmdk $M/uploading/c && mv $M/uploading/c $M/active/; settled",
    );
    sandbox.ok("qemu-img compare $F/a.vmdk $M/active/c");
    sandbox.umount();
    sandbox.audit();
}

/// Python that publishes `x` in as many opens as it is told, and says so; then it waits.
const OPENS: &str = "python3 -c '
import os, sys
path = os.environ[\"M\"] + \"/active/x\"
opens = int(sys.argv[1])
for number in range(opens):
    flags = os.O_RDWR | (os.O_CREAT | os.O_TRUNC if number == 0 else 0)
    f = os.open(path, flags, 0o644)
    if number == 0: os.ftruncate(f, 0)
    else: os.pwrite(f, b\"part %d \" % number, number * 100)
    os.close(f)
if sys.argv[2] == \"open\": f = os.open(path, os.O_RDWR)
print(\"ready\", flush=True)
sys.stdin.read()
'";

// semantics: reopen-fails watch-close
#[test]
fn a_writer_that_is_killed_at_any_of_its_opens_leaves_what_was_there_before() {
    let sandbox = Sandbox::new();
    sandbox.source("old", 100_000);
    for old in [false, true] {
        for opens in 1..=3 {
            for state in ["open", "closed"] {
                sandbox.bash("rm -f $M/*/x*; rm -f $M/*/x*; rm -f $M/*/x*; rm -f $M/*/x*");
                assert_eq!(sandbox.tree(), Vec::<String>::new());
                if old {
                    sandbox.ok("cp $F/old $M/active/x");
                }
                let mut writer = sandbox
                    .bash_command(&format!("exec {OPENS} {opens} {state}"))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("a writer");
                let mut line = String::new();
                let output = writer.stdout.take().expect("its output");
                BufReader::new(output).read_line(&mut line).expect("it says so");
                assert_eq!(line, "ready\n", "{old} {opens} {state}");
                if state == "open" && old {
                    // The one that was there has its name back, while the new one is written again.
                    sandbox.ok("cmp $F/old $M/active/x");
                }
                writer.kill().expect("killed");
                writer.wait().expect("ended");
                let expected: Vec<&str> = if old { vec!["x"] } else { vec![] };
                assert_eq!(sandbox.names("active"), expected, "{old} {opens} {state}");
                if old {
                    sandbox.ok("cmp $F/old $M/active/x");
                }
                assert_eq!(sandbox.names("pending_delete"), Vec::<String>::new());
            }
        }
    }
    sandbox.umount();
    sandbox.audit();
}

// semantics: reopen-own open-for-writing
#[test]
fn only_the_process_that_has_just_published_an_image_opens_it_again() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo data > $M/active/x");
    sandbox.fails("echo more >> $M/active/x", "Permission denied");
    let id = sandbox.attribute("active/x", "id");
    sandbox.ok("python3 -c '
import os
path = os.environ[\"M\"] + \"/active/y\"
f = os.open(path, os.O_CREAT | os.O_WRONLY); os.write(f, b\"one two\"); os.close(f)
one = os.open(path, os.O_RDONLY)
f = os.open(path, os.O_RDWR); os.pwrite(f, b\"TWO\", 4); os.close(f)
assert os.pread(one, 99, 0) == b\"one two\", \"who has it open reads on\"
'");
    assert_eq!(sandbox.ok("cat $M/active/y"), "one TWO");
    assert_eq!(sandbox.tree(), ["active/x", "active/y"]);
    assert_eq!(sandbox.attribute("active/x", "id"), id);
    sandbox.umount();
    sandbox.audit();
}

// semantics: open-for-writing
#[test]
fn a_loop_device_falls_back_to_reading() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 8M $F/fs; mkfs.ext4 -q -F $F/fs; cp $F/fs $M/active/fs");
    sandbox.ok("mkdir $F/inner; mount -o loop $M/active/fs $F/inner; ls $F/inner | grep lost
                umount $F/inner");
}

/// Writers that close their file and then fail: what they run, and what is said of it.
const FAILING: [(&str, &str, &str); 4] = [
    (
        "python that raises",
        "python3 -c '
import os
with open(os.environ[\"M\"] + \"/active/x\", \"wb\") as f: f.write(b\"part\")
raise SystemExit(\"broken\")'",
        "exited with status 1",
    ),
    (
        "curl that is cut off",
        "curl -s --noproxy '*' -o $M/active/x http://127.0.0.1:$PORT/x",
        "exited with status 18",
    ),
    ("cp from a bad disk", "LD_PRELOAD= cp $F/bad/x $M/active/x", "exited with status 1"),
    (
        "one that is killed right after",
        "python3 -c '
import os
with open(os.environ[\"M\"] + \"/active/x\", \"wb\") as f: f.write(b\"part\")
os.kill(os.getpid(), 9)'",
        "killed by SIGKILL",
    ),
];

/// A server that promises a megabyte and sends ten bytes.
fn cut_off_server() -> (u16, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let serve = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 4096];
            // Whatever is asked for.
            let _ = std::io::Read::read(&mut stream, &mut request);
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n0123456789";
            stream.write_all(head.as_bytes()).expect("sent");
        }
    });
    (port, serve)
}

/// A folder in which reading a file fails half way: a second mount whose data is damaged below it.
fn bad_disk(sandbox: &Sandbox) {
    // A filesystem on a loop device whose backing file is cut off under it.
    sandbox.ok("mkdir $F/bad; truncate -s 96M $F/disk; mkfs.ext4 -q -F -b 4096 $F/disk
         mount -o loop $F/disk $F/bad; head -c 60000000 /dev/urandom > $F/bad/x
         umount $F/bad; mount -o loop,ro $F/disk $F/bad; truncate -s 50M $F/disk");
}

// semantics: watch-close
#[test]
fn a_writer_that_fails_right_after_its_close_has_its_image_withdrawn() {
    let sandbox = Sandbox::new();
    let (port, serve) = cut_off_server();
    bad_disk(&sandbox);
    sandbox.source("old", 50_000);
    for old in [false, true] {
        for (name, script, reason) in FAILING {
            if old {
                sandbox.ok("cp $F/old $M/active/x");
            }
            let output = sandbox.bash(&format!("PORT={port}; {script}"));
            assert!(!output.status.success(), "{name} should fail");
            // Whoever looks sees the outcome.
            let tree = sandbox.tree();
            let mut expected = vec!["deactivated/x".to_owned()];
            if old {
                expected.insert(0, "active/x".into());
                sandbox.ok("cmp $F/old $M/active/x");
            }
            assert_eq!(tree, expected, "{name}: {}", text(&output));
            let message = sandbox.attribute("deactivated/x", "message").expect("a reason");
            assert!(message.contains(reason), "{name}: {message}");
            assert!(sandbox.ok("cat $M/STATUS").contains(reason), "{name}");
            sandbox.ok("rm -f $M/active/x; rm $M/deactivated/x; rm -f $M/pending_delete/*");
            sandbox.ok("rm -f $M/deleted/*; rm -f $M/deleted/*");
        }
    }
    sandbox.ok("umount $F/bad");
    serve.join().expect("served");
    // What was good after all is given out again.
    sandbox.bash(FAILING[0].1);
    sandbox.ok("mv $M/deactivated/x $M/active/ && cat $M/active/x");
    assert_eq!(sandbox.attribute("active/x", "message"), None);
    sandbox.umount();
    sandbox.audit();
}

// semantics: watch-close
#[test]
fn qemu_img_that_fails_leaves_nothing_active() {
    let sandbox = Sandbox::new();
    bad_disk(&sandbox);
    let output = sandbox.bash("qemu-img convert -f raw -O qcow2 $F/bad/x $M/active/x");
    assert!(!output.status.success(), "{}", text(&output));
    assert_eq!(sandbox.names("active"), Vec::<String>::new());
    sandbox.ok("umount $F/bad");
    sandbox.umount();
    sandbox.audit();
}

// semantics: watch-ends
#[test]
fn a_writer_is_not_watched_for_ever_and_nothing_of_the_watch_is_left() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon().expect("a daemon");
    let descriptors = || {
        let all = fs::read_dir(format!("/proc/{daemon}/fd")).expect("a process").flatten();
        let links = all.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
    };
    assert_eq!(descriptors(), 0);
    let begun = std::time::Instant::now();
    // One that fails six seconds after its close is none that fails right after it.
    let mut writer = sandbox
        .bash_command("echo data > $M/active/x; sleep 6.5; exit 1")
        .spawn()
        .expect("a writer");
    for round in 0..200 {
        fs::write(sandbox.path(&format!("active/y{round}")), b"data").expect("written");
    }
    assert!(descriptors() > 0 || begun.elapsed().as_secs() > 4, "they are watched");
    assert!(!writer.wait().expect("ended").success());
    assert!(sandbox.names("active").contains(&"x".to_owned()));
    assert_eq!(sandbox.names("deactivated"), Vec::<String>::new());
    eventually("nothing is watched any more", || descriptors() == 0);
    // One that succeeds is let go at once.
    sandbox.ok("cp /etc/hostname $M/active/z");
    assert!(File::open(sandbox.path("active/z")).is_ok());
}

/// Python that publishes `$M/active/x` with its argument as content, says so, and ends with status 1 when it
/// is told to.
const FAILS_LATER: &str = "exec python3 -c '
import os, sys
f = open(os.environ[\"M\"] + \"/active/x\", \"w\"); f.write(sys.argv[1]); f.close()
print(\"ready\", flush=True)
sys.stdin.read()
os._exit(1)'";

// semantics: watch-close
#[test]
fn of_two_writers_that_fail_after_one_another_neither_image_comes_back() {
    let sandbox = Sandbox::new();
    for order in [[0, 1], [1, 0]] {
        sandbox.ok("echo good > $M/active/x");
        let mut writers: Vec<std::process::Child> = ["first", "second"]
            .map(|name| {
                let mut writer = sandbox
                    .bash_command(&format!("{FAILS_LATER} {name}"))
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("a writer");
                let mut line = String::new();
                let output = writer.stdout.take().expect("its output");
                BufReader::new(output).read_line(&mut line).expect("it says so");
                writer
            })
            .into();
        for index in order {
            drop(writers[index].stdin.take());
            assert!(!writers[index].wait().expect("ended").success());
            sandbox.names("active");
        }
        assert_eq!(sandbox.ok("cat $M/active/x"), "good\n", "{order:?}");
        sandbox.bash("rm -f $M/*/x*; rm -f $M/*/x*; rm -f $M/*/x*; rm -f $M/*/x*");
        assert_eq!(sandbox.tree(), Vec::<String>::new());
    }
    // One that was removed before its writer failed comes back withheld.
    let script = FAILS_LATER.replace("sys.stdin.read()", "os.unlink(f.name)");
    assert!(!sandbox.bash(&format!("{script} part")).status.success());
    eventually("it is noted", || sandbox.attribute("pending_delete/x", "message").is_some());
    sandbox.fails("mv $M/pending_delete/x $M/active/", "not permitted");
    sandbox.ok("mv $M/pending_delete/x $M/deactivated/");
    sandbox.umount();
    sandbox.audit();
}

// semantics: watch-close
#[test]
fn each_of_two_writers_of_one_image_is_watched() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/queued/z; mkfifo $F/open $F/go $F/a $F/b");
    // Both have it open before either writes; the one that closes first fails after the other has closed.
    let first = "exec 3<>$M/queued/z; echo > $F/open; read < $F/go; printf one >&3; exec 3>&-
                 echo > $F/a; read < $F/b; exit 1";
    let mut first = sandbox.bash_command(first).spawn().expect("a writer");
    sandbox.ok("read < $F/open; exec 4<>$M/queued/z; echo > $F/go; read < $F/a
                python3 -c 'import os; os.pwrite(4, b\"two\", 3)'; exec 4>&-");
    assert_eq!(sandbox.ok("cat $M/active/z"), "onetwo");
    sandbox.ok("echo > $F/b");
    assert!(!first.wait().expect("ended").success());
    assert_eq!(sandbox.tree(), ["deactivated/z"]);
}
