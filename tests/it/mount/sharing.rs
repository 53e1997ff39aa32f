//! What an NFS server and other users ask of the mount: nodes by their handles alone, after restarts too, and reading as
//! somebody else.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::{ALICE, BOB, Sandbox, digest_of, documented, pattern, text};

/// Does with handles what an NFS server does: `take PATH…` prints the handle of each, and `open MOUNT HANDLE…` prints of each
/// its inode number, its kind and what it holds, or what was answered instead.
const HANDLES: &str = r#"
import ctypes, errno, os, stat, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, O_PATH = -100, 0o10000000

def take(path):
    room = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), room, ctypes.byref(mount), 0) != 0:
        return errno.errorcode[ctypes.get_errno()]
    return room.raw[:8 + struct.unpack_from("I", room.raw)[0]].hex()

def opened(mount, handle, flags):
    fd = libc.open_by_handle_at(mount, ctypes.create_string_buffer(bytes.fromhex(handle)), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "")
    return fd

def look(mount, handle):
    try:
        fd = opened(mount, handle, O_PATH)
        about = os.fstat(fd)
        os.close(fd)
        kind = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}[stat.S_IFMT(about.st_mode)]
        held = "-"
        if kind != "link":
            fd = opened(mount, handle, os.O_RDONLY)
            if kind == "folder":
                held = ",".join(sorted(os.listdir(fd))) + " in " + str(os.stat("..", dir_fd=fd).st_ino)
            else:
                # `b3sum` is not everywhere: the test hashes what it is given.
                held = os.read(fd, 1 << 20).hex()
            os.close(fd)
        return f"{about.st_ino} {kind} {held}"
    except OSError as error:
        return errno.errorcode[error.errno]

if sys.argv[1] == "take":
    for path in sys.argv[2:]:
        print(take(path))
else:
    mount = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECTORY)
    for handle in sys.argv[3:]:
        print(look(mount, handle))
"#;

/// A sandbox and the tool for handles.
struct Server(Sandbox);

impl Server {
    fn of(sandbox: Sandbox) -> Self {
        fs::write(sandbox.file("handles.py"), HANDLES).expect("a script");
        Self(sandbox)
    }

    fn lines(&self, script: &str) -> Vec<String> {
        self.0.ok(script).lines().map(str::to_owned).collect()
    }

    /// The handles of paths in the mount.
    fn take(&self, paths: &[&str]) -> Vec<String> {
        let paths: Vec<String> = paths.iter().map(|path| format!("$M/{path}")).collect();
        let handles = self.lines(&format!("python3 $F/handles.py take {}", paths.join(" ")));
        assert!(handles.iter().all(|handle| handle.len() > 16), "{handles:?}");
        handles
    }

    /// What the nodes of handles are.
    fn open(&self, handles: &[String]) -> Vec<String> {
        self.lines(&format!("python3 $F/handles.py open $M {}", handles.join(" ")))
    }

    /// Has the kernel forget the nodes that nobody has open.
    fn forget(&self) {
        self.0.ok("sync $M; echo 2 > /proc/sys/vm/drop_caches");
    }

    fn inode(&self, path: &str) -> u64 {
        fs::symlink_metadata(self.0.path(path)).expect("it is there").ino()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// semantics: handles
#[test]
fn a_handle_finds_its_node_after_a_restart() {
    let server = Server::of(Sandbox::new());
    let sandbox = &server.0;
    sandbox.source("a", 70_000);
    sandbox.ok("cp $F/a $M/active/a; echo b > $M/active/b");
    sandbox.ok(r#"echo '{"type":"scrub","input":{}}' > $M/tasks/pending/t; until test -e $M/tasks/success/t; do sleep 0.02; done"#);
    let id = sandbox.attribute("active/a", "id").expect("an id");
    let link = format!("by-id/{id}");
    // What is listed is known to the kernel afterwards: so the folders come last, and the root behind them.
    let paths = [
        "active/a",
        "tasks/success/t",
        ".sps/config.json",
        link.as_str(),
        "tasks/success",
        "tasks",
        "by-id",
        ".sps",
        "active",
        "",
    ];
    let inodes = paths.map(|path| server.inode(path));
    let task = fs::read(sandbox.path("tasks/success/t")).expect("a task");
    let config = fs::read(sandbox.path(".sps/config.json")).expect("a page");
    let handles = server.take(&paths);
    let expected = |at: usize| match paths[at] {
        "active" => "folder a,b in 1".to_owned(),
        "tasks" => "folder failure,pending,processing,success in 1".into(),
        "tasks/success" => format!("folder t in {}", server.inode("tasks")),
        ".sps" => "folder config.json,events.jsonl,metrics,status.json in 1".into(),
        "by-id" => {
            let names = sandbox.names("by-id").join(",");
            format!("folder {names} in 1")
        }
        "active/a" => format!("file {}", hex(&pattern("a", 70_000))),
        "tasks/success/t" => format!("file {}", hex(&task)),
        ".sps/config.json" => format!("file {}", hex(&config)),
        path if path == link => "link -".into(),
        _ => String::new(),
    };
    let must_be_found = |when: &str| {
        let found = server.open(&handles);
        for (at, path) in paths.iter().enumerate() {
            // The root stands in what the mount stands in, or in itself: that is the kernel's.
            let (inode, rest) = found[at].split_once(' ').unwrap_or((&found[at], ""));
            assert_eq!(inode, inodes[at].to_string(), "{path} {when}");
            assert!(path.is_empty() || rest == expected(at), "{path} {when}: {rest:.200}");
        }
    };
    must_be_found("at once");
    server.forget();
    must_be_found("when the kernel has forgotten it");
    sandbox.remount();
    must_be_found("after a restart");
    sandbox.kill_daemon();
    sandbox.ok("umount -l $M");
    sandbox.recover();
    server.forget();
    must_be_found("after the daemon was killed");
    assert_eq!(server.take(&paths), handles, "they are the same");
}

// semantics: handles
#[test]
fn a_handle_follows_its_image_and_is_stale_when_that_is_forgotten() {
    let server = Server::of(Sandbox::new());
    let sandbox = &server.0;
    sandbox.ok("echo one > $M/active/a; echo two > $M/active/b");
    let handles = server.take(&["active/a", "active/b"]);
    let inode = server.inode("active/a");
    let (found, other) =
        (format!("{inode} file {}", hex(b"one\n")), server.open(&handles)[1].clone());
    let must_be = |first: &str, when: &str| {
        assert_eq!(server.open(&handles), [first, other.as_str()], "{when}");
        server.forget();
        assert_eq!(server.open(&handles), [first, other.as_str()], "{when}, looked up again");
    };
    must_be(&found, "at first");
    sandbox.ok("mv $M/active/a $M/active/c");
    must_be(&found, "renamed");
    sandbox.ok("mv $M/active/c $M/deactivated/c");
    must_be(&found, "deactivated, to root");
    sandbox.ok("mv $M/deactivated/c $M/active/; rm $M/active/c");
    must_be("EACCES", "removed: as by its path");
    sandbox.ok("mv $M/pending_delete/c $M/active/c");
    must_be(&found, "restored");
    sandbox.ok("rm $M/active/c; rm $M/pending_delete/c");
    must_be("EACCES", "purged: as by its path");
    sandbox.ok("rm $M/deleted/c");
    must_be("ESTALE", "forgotten");
    // No number is given twice.
    sandbox.ok("echo three > $M/active/a");
    must_be("ESTALE", "with another of its name");
    sandbox.remount();
    must_be("ESTALE", "after a restart");
}

// semantics: handles
#[test]
fn a_handle_of_what_was_replaced_never_reads_its_successor() {
    let server = Server::of(Sandbox::new());
    let sandbox = &server.0;
    sandbox.ok("echo one > $M/active/a");
    let old = server.take(&["active/a"]);
    sandbox.ok("echo two > $M/active/a");
    server.forget();
    assert_eq!(server.open(&old), ["EACCES"], "as in pending_delete/, where it is");
    let new = server.open(&server.take(&["active/a"]));
    assert!(new[0].ends_with(&hex(b"two\n")), "{new:?}");
}

// semantics: other-users
#[test]
fn qemu_reads_as_another_user() {
    let sandbox = Sandbox::new();
    sandbox.source("data", 1 << 20);
    sandbox.ok("qemu-img convert -f raw -O qcow2 $F/data $F/base.qcow2; chmod 644 $F/base.qcow2; cp $F/base.qcow2 $M/active/base");
    sandbox.ok("chmod 777 $F");
    let as_bob = format!("setpriv --reuid {BOB} --regid {BOB} --clear-groups --inh-caps=-all");
    let info = sandbox.ok(&format!("{as_bob} qemu-img info --output=json $M/active/base"));
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!((&info["format"], &info["virtual-size"]), (&"qcow2".into(), &(1 << 20).into()));
    sandbox.ok(&format!(
        "{as_bob} qemu-img convert -O raw $M/active/base $F/raw && cmp $F/raw $F/data"
    ));
    // An overlay that is his own, above an image that is not.
    sandbox.ok(&format!(
        "{as_bob} qemu-img create -q -f qcow2 -F qcow2 -b $M/active/base $F/over && \
         {as_bob} qemu-io -c 'write -P 7 0 4096' $F/over && \
         {as_bob} qemu-img convert -O raw $F/over $F/mixed && {as_bob} qemu-img check -q $F/over"
    ));
    let mixed = fs::read(sandbox.file("mixed")).expect("converted");
    let mut expected = pattern("data", 1 << 20);
    expected[..4096].fill(7);
    assert_eq!(digest_of(&mixed), digest_of(&expected));
    // What is not for others to read is not, and what is written is not his.
    sandbox.ok("chmod 600 $M/active/base");
    let refused = sandbox.bash(&format!("{as_bob} qemu-img info $M/active/base"));
    assert!(!refused.status.success() && text(&refused).contains("Permission denied"));
    assert!(!sandbox.bash_as(ALICE, "echo x > $M/active/base").status.success());
}

#[test]
fn a_machine_goes_on_with_the_image_that_it_was_made_on() {
    let sandbox = Sandbox::new();
    sandbox.source("data", 1 << 20);
    sandbox.ok("qemu-img convert -f raw -O qcow2 $F/data $M/active/debian-12.qcow2");
    let documented = documented("by-id/$id").replace("/mnt/sps", "$M");
    sandbox.ok(&documented.replace("/var/lib/libvirt/images", "$F"));
    sandbox.ok("head -c 1M /dev/zero > $F/zero && qemu-img convert -f raw -O qcow2 $F/zero $F/new && cp $F/new $M/active/debian-12.qcow2");
    sandbox.ok("qemu-img convert -O raw $M/active/debian-12.qcow2 $F/raw && cmp $F/raw $F/zero");
    // It was removed: the machine does not begin, rather than with another's data.
    sandbox.fails("qemu-img convert -O raw $F/web1.qcow2 $F/raw", "Permission denied");
    sandbox.ok("mv $M/pending_delete/debian-12.qcow2 $M/active/yesterday.qcow2");
    sandbox.ok("qemu-img convert -O raw $F/web1.qcow2 $F/raw && cmp $F/raw $F/data");
}

// semantics: other-users
#[test]
fn without_allow_other_nobody_else_reads() {
    let sandbox = Sandbox::with(&["allow_other=no"]);
    sandbox.ok("echo a > $M/active/a");
    let refused = sandbox.bash_as(ALICE, "cat $M/active/a");
    assert!(!refused.status.success() && text(&refused).contains("Permission denied"));
    assert_eq!(sandbox.ok("cat $M/active/a"), "a\n");
}
