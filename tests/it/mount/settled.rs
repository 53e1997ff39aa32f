//! Whoever looks after `close` has returned sees the outcome, whatever thread reads the request.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Sandbox, names_in};

/// How many uploads a thread makes.
const ROUNDS: usize = 150;

/// Whoever looks after a close sees the outcome, or has waited for it as long as is promised.
fn seen(name: &str, look: impl Fn() -> bool) {
    let began = Instant::now();
    if look() {
        return;
    }
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(500), "{name} is not seen after {waited:?}");
    eprintln!("{name} took longer than {waited:?}");
    crate::support::eventually("it is seen", look);
}

// semantics: close-publishes
#[test]
fn right_after_close_every_way_of_looking_sees_the_outcome() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    thread::scope(|scope| {
        for worker in 0..6 {
            let root = root.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let name = format!("w{worker}-{round}");
                    let path = root.join("active").join(&name);
                    let mut file = File::create(&path).expect("a new image");
                    file.write_all(name.as_bytes()).expect("written");
                    drop(file);
                    match round % 4 {
                        0 => seen(&name, || {
                            fs::read(&path).is_ok_and(|read| read == name.as_bytes())
                        }),
                        1 => seen(&name, || {
                            names_in(&root.join("active")).contains(&name)
                                && !names_in(&root.join("saving")).contains(&name)
                        }),
                        2 => seen(&name, || {
                            let gone = fs::metadata(root.join("saving").join(&name));
                            gone.is_err()
                                && fs::metadata(&path)
                                    .is_ok_and(|stat| stat.len() == name.len() as u64)
                        }),
                        _ => {
                            seen(&name, || path.exists());
                            let page = fs::read_to_string(root.join("STATUS")).expect("a page");
                            assert!(!page.contains(&format!("  {name}\n")), "{page}");
                            let id = crate::support::attribute(&path, "id").expect("an id");
                            let link = fs::read_link(root.join("by-id").join(id)).expect("a link");
                            assert_eq!(link.to_string_lossy(), format!("../active/{name}"));
                        }
                    }
                }
            });
        }
    });
    sandbox.umount();
    sandbox.audit();
}

#[test]
fn a_file_that_an_unknown_holds_is_shown_as_saving_after_a_second() {
    let sandbox = Sandbox::new();
    let mut file = File::create(sandbox.path("active/x")).expect("a new image");
    file.write_all(b"data").expect("written");
    // A descriptor that is on its way over a socket is in nobody's table.
    let (near, far) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    let fds = [file.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(
        &near,
        &[std::io::IoSlice::new(b"x")],
        &mut control,
        rustix::net::SendFlags::empty(),
    )
    .expect("sent");
    drop(file);
    let began = Instant::now();
    assert_eq!(sandbox.names("saving"), ["x"], "nobody known holds it, and yet it is held");
    let waited = began.elapsed();
    assert!(waited > Duration::from_millis(500), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    // Nobody waits for it a second time.
    let began = Instant::now();
    assert_eq!(sandbox.names("active"), Vec::<String>::new());
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    drop((near, far));
    crate::support::eventually("it is active", || sandbox.tree() == ["active/x"]);
}

#[test]
fn a_file_that_execve_closes_does_not_hang_its_process() {
    let sandbox = Sandbox::new();
    // The kernel holds locks of the process during execve, and waits there for the answer to FLUSH.
    let script = "timeout -s KILL 10 python3 -c '
import os
f = os.open(os.environ[\"M\"] + \"/active/x\", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)
os.write(f, b\"data\")
os.execv(\"/bin/cat\", [\"cat\", os.environ[\"M\"] + \"/active/x\"])
'";
    assert_eq!(sandbox.ok(script), "data");
    sandbox.umount();
    sandbox.audit();
}
