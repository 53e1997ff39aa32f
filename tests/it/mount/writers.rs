//! The matrix of writers: each tool, each way to end, and what becomes of the image.

use std::fs;

use crate::support::{Sandbox, text};

/// What must have become of the image `f`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// `active`, with the bytes of the source.
    Active,
    /// `active`, with these bytes.
    ActiveWith(&'static str),
    /// `killed`, with this in its message.
    Killed(&'static str),
}

use Outcome::{Active, ActiveWith, Killed};

/// Python that opens `$D/f` as `f` and has written the source to it.
macro_rules! python {
    ($end:literal) => {
        concat!(
            "python3 -c '\nimport os, signal, socket, sys, time\n",
            "f = open(os.environ[\"D\"] + \"/f\", \"wb\", buffering=0)\n",
            "data = open(os.environ[\"F\"] + \"/source\", \"rb\").read()\n",
            "f.write(data)\n",
            $end,
            "\n'"
        )
    };
}

/// A writer, what it runs (`$D` is the folder, `$F/source` the source), and what comes of it.
const WRITERS: &[(&str, &str, Outcome)] = &[
    ("cp", "cp $F/source $D/f", Active),
    ("cp -a", "cp -a $F/source $D/f", Active),
    ("mv", "cp $F/source $F/moving && mv $F/moving $D/f && ! test -e $F/moving", Active),
    ("dd", "dd if=$F/source of=$D/f bs=64k status=none", Active),
    ("dd fsync", "dd if=$F/source of=$D/f bs=1M conv=fsync status=none", Active),
    ("tee", "tee $D/f < $F/source > /dev/null", Active),
    ("tar", "cp $F/source $F/f && tar -C $F -cf $F/t.tar f && tar -C $D -xf $F/t.tar f", Active),
    ("curl", "curl -s -o $D/f file://$F/source", Active),
    ("redirection", "cat $F/source > $D/f", Active),
    ("subshell", "(head -c 1000000 $F/source; tail -c +1000001 $F/source) > $D/f", Active),
    ("braces", "{ head -c 100 $F/source; tail -c +101 $F/source; } > $D/f", Active),
    ("echo", "echo hello > $D/f", ActiveWith("hello\n")),
    (
        "exec 3>",
        "exec 3>$D/f; echo one >&3; /bin/echo two >&3; (echo three) >&3; exec 3>&-",
        ActiveWith("one\ntwo\nthree\n"),
    ),
    ("printf append", "{ printf a; printf b; printf c; } >> $D/f", ActiveWith("abc")),
    ("python", python!("f.close()"), Active),
    (
        "python dup",
        python!("g = os.dup(f.fileno()); f.close(); os.write(g, b\"\"); os.close(g)"),
        Active,
    ),
    (
        "child goes on writing",
        python!(
            "f.seek(0); f.truncate(0); f.write(b\"parent \")\n\
             r, w = os.pipe()\n\
             if os.fork() == 0:\n\
            \x20   os.close(w); os.read(r, 1)\n\
            \x20   f.write(b\"child\"); f.close(); os._exit(0)\n\
             os.close(r); f.close(); os.close(w); os.wait()"
        ),
        ActiveWith("parent child"),
    ),
    (
        "descriptor over a socket",
        python!(
            "f.seek(0); f.truncate(0); f.write(b\"sender \")\n\
             a, b = socket.socketpair()\n\
             if os.fork() == 0:\n\
            \x20   f.close(); a.close()\n\
            \x20   _, fds, _, _ = socket.recv_fds(b, 1, 1)\n\
            \x20   os.write(fds[0], b\"receiver\"); os.close(fds[0]); os._exit(0)\n\
             b.close(); socket.send_fds(a, [b\"x\"], [f.fileno()]); f.close(); os.wait()"
        ),
        ActiveWith("sender receiver"),
    ),
    ("_exit(0) without close", python!("os._exit(0)"), Active),
    ("_exit(3) without close", python!("os._exit(3)"), Killed("status 3")),
    ("SIGKILL", python!("os.kill(os.getpid(), signal.SIGKILL)"), Killed("SIGKILL")),
    ("SIGTERM", python!("os.kill(os.getpid(), signal.SIGTERM)"), Killed("SIGTERM")),
    (
        "SIGINT",
        python!(
            "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT); \
             time.sleep(9)"
        ),
        Killed("SIGINT"),
    ),
    ("SIGSEGV", python!("os.kill(os.getpid(), signal.SIGSEGV)"), Killed("SIGSEGV")),
    (
        "thread",
        python!(
            "import threading\n\
             t = threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGKILL))\n\
             t.start(); t.join(); time.sleep(9)"
        ),
        Killed("SIGKILL"),
    ),
    (
        "subshell that is killed between two halves",
        "(head -c 1000 $F/source; kill -9 $BASHPID; cat $F/source) > $D/f",
        Killed("SIGKILL"),
    ),
    (
        "second half that is killed",
        "(head -c 1000 $F/source; sh -c 'echo more; kill -9 $$'; true) > $D/f",
        Killed("SIGKILL"),
    ),
    ("holder that fails without writing", "(cat $F/source; sh -c 'exit 7'; true) > $D/f", Active),
];

/// Those that find the file again by its name, and so need `active/`.
const WRITERS_BY_NAME: &[(&str, &str, Outcome)] = &[
    ("install -m", "install -m 640 $F/source $D/f && test $(stat -c %a $D/f) = 640", Active),
    ("rsync -a", "rsync -a $F/source $D/f", Active),
    ("rsync --inplace", "rsync -a --inplace $F/source $D/f", Active),
];

const SOURCE_BYTES: usize = 3_000_001;

fn check(sandbox: &Sandbox, folder: &str, writer: &(&str, &str, Outcome)) {
    let (name, script, outcome) = writer;
    let script = format!("export D=$M/{folder}; {script}");
    let output = sandbox.bash(&script);
    let tree = sandbox.tree();
    let said = text(&output);
    match outcome {
        Active | ActiveWith(_) => {
            assert!(output.status.success(), "{name} into {folder}: {said}");
            assert_eq!(tree, ["active/f"], "{name} into {folder}: {said}");
            let expected = match outcome {
                ActiveWith(text) => text.as_bytes().to_vec(),
                _ => fs::read(sandbox.file("source")).expect("the source"),
            };
            let found = fs::read(sandbox.path("active/f")).expect("readable");
            assert!(found == expected, "{name} into {folder}: other bytes");
            assert_eq!(
                sandbox.attribute("active/f", "blake3"),
                Some(blake3::hash(&expected).to_string()),
                "{name} into {folder}"
            );
            sandbox.ok("rm $M/active/f && rm $M/pending_delete/f");
        }
        Killed(reason) => {
            assert_eq!(tree, ["killed/f"], "{name} into {folder}: {said}");
            let message = sandbox.attribute("killed/f", "message").expect("a reason");
            assert!(message.contains(reason), "{name} into {folder}: {message}");
            assert!(fs::read(sandbox.path("killed/f")).is_err(), "{name}: not readable");
            sandbox.ok("rm $M/killed/f");
        }
    }
    sandbox.ok("rm $M/deleted/f");
}

// semantics: close-publishes failed-writer-kills queued-door tools-active
#[test]
fn every_writer_into_active_has_its_outcome() {
    let sandbox = Sandbox::new();
    sandbox.source("source", SOURCE_BYTES);
    for writer in WRITERS.iter().chain(WRITERS_BY_NAME) {
        check(&sandbox, "active", writer);
    }
    sandbox.wait_for_reclaim(0);
    sandbox.umount();
    sandbox.audit();
}

// semantics: queued-door failed-writer-kills
#[test]
fn every_writer_into_queued_has_the_same_outcome() {
    let sandbox = Sandbox::new();
    sandbox.source("source", SOURCE_BYTES);
    for writer in WRITERS {
        check(&sandbox, "queued", writer);
    }
    sandbox.umount();
    sandbox.audit();
}

// The kernel cuts a name to fifteen bytes, which may be in the midst of a character.
#[test]
fn how_a_writer_ended_is_known_when_its_name_is_no_text() {
    let sandbox = Sandbox::new();
    let output = sandbox.bash(
        r#"s="$F/aaaaaaaaaaaaaaé"; printf '#!/bin/bash\nexec 3> $M/active/x; echo part >&3; exit 3\n' > "$s"
        chmod +x "$s"; "$s""#,
    );
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert_eq!(sandbox.tree(), ["killed/x"]);
    let message = sandbox.attribute("killed/x", "message");
    assert_eq!(message.as_deref(), Some("its writer exited with status 3"));
}

// semantics: write-after-vote
#[test]
fn an_upload_that_fails_after_a_first_close_goes_back_to_be_what_it_was() {
    let sandbox = Sandbox::with(&["on_failed_upload=queued"]);
    sandbox.ok("touch $M/queued/x; python3 -c '
import os, signal
path = os.environ[\"M\"] + \"/queued/x\"
f = os.open(path, os.O_WRONLY)
os.write(f, b\"part\")
told, tell = os.pipe()
child = os.fork()
if child == 0:
    os.read(told, 1)
    os.write(f, b\"more\")
    os.kill(os.getpid(), signal.SIGKILL)
os.close(f)
os.write(tell, b\".\")
os.waitpid(child, 0)'");
    crate::support::eventually("it has failed", || sandbox.tree() == ["queued/x"]);
    let message = sandbox.attribute("queued/x", "message").expect("a reason");
    assert!(message.contains("killed by SIGKILL"), "{message}");
    // Whoever opens it and writes nothing changes nothing.
    sandbox.ok("exec 3>> $M/queued/x; exec 3>&-; sleep 0.2; test -e $M/queued/x");
    sandbox.remount();
    sandbox.ok("echo whole > $M/queued/x; test \"$(cat $M/active/x)\" = whole");
}
