//! Operations done as somebody: one process a user, that does hundreds and says the error number of each.

use std::io::Write;
use std::process::{Command, Stdio};

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Person {
    pub name: &'static str,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'static [u32],
}

/// The group of the images.
pub const GROUP: u32 = 61_101;
/// A second group of the owner, which nobody else is in.
pub const SECOND_GROUP: u32 = 61_109;

pub const OWNER: Person =
    Person { name: "owner", uid: 61_101, gid: GROUP, groups: &[GROUP, SECOND_GROUP] };
pub const COLLEAGUE: Person =
    Person { name: "member by his group", uid: 61_102, gid: GROUP, groups: &[] };
pub const MEMBER: Person =
    Person { name: "member by a supplementary group", uid: 61_103, gid: 61_103, groups: &[GROUP] };
pub const STRANGER: Person = Person { name: "stranger", uid: 61_104, gid: 61_104, groups: &[] };
pub const ROOT: Person = Person { name: "root", uid: 0, gid: 0, groups: &[] };

/// All of them. The daemon's own user is root as well.
pub const PEOPLE: [Person; 5] = [OWNER, COLLEAGUE, MEMBER, STRANGER, ROOT];

/// How long all operations of one user may take, in seconds.
const PATIENCE: &str = "60";

/// Reads an operation a line, its words separated by tabs, and answers an error number a line; 0 is success.
const ACTOR: &str = r#"
import json, os, sys
uid, gid, groups = int(sys.argv[1]), int(sys.argv[2]), [int(g) for g in sys.argv[3].split(",") if g]
os.setgroups(groups); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid); os.umask(0o022)
def close(fd, data):
    try:
        if data: os.write(fd, data.encode())
    except BaseException:
        try: os.close(fd)
        except OSError: pass
        raise
    os.close(fd)
def read(p):
    fd = os.open(p, os.O_RDONLY)
    try: os.read(fd, 100)
    finally: os.close(fd)
acts = {
    "stat": lambda p: os.stat(p),
    "read": read,
    "write": lambda p: close(os.open(p, os.O_WRONLY), ""),
    "replace": lambda p, d: close(os.open(p, os.O_WRONLY | os.O_TRUNC), d),
    "exclusive": lambda p: close(os.open(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL), ""),
    "put": lambda p, d: close(os.open(p, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), d),
    "unlink": lambda p: os.unlink(p),
    "rename": lambda a, b: os.rename(a, b),
    "chmod": lambda p, m: os.chmod(p, int(m, 8)),
    "chown": lambda p, u, g: os.chown(p, int(u), int(g)),
    "utimens": lambda p: os.utime(p, (1000000000, 1000000000)),
    "touch": lambda p: os.utime(p),
    "set": lambda p, n, v: os.setxattr(p, "user.sps." + n, v.encode()),
    "drop": lambda p, n: os.removexattr(p, "user.sps." + n),
    "get": lambda p, n: os.getxattr(p, "user.sps." + n),
    "list": lambda p: os.listxattr(p),
    "truncate": lambda p, n: os.truncate(p, int(n)),
    "mkdir": lambda p: os.mkdir(p),
    "rmdir": lambda p: os.rmdir(p),
    "hardlink": lambda a, b: os.link(a, b),
    "set-foreign": lambda p, n: os.setxattr(p, n, b"\1" * 20),
    "link": lambda t, p: os.symlink(t, p),
    "mknod": lambda p, m: os.mknod(p, int(m, 8), os.makedev(1, 3)),
}
def escaped(act):
    return lambda *words: act(*[json.loads('"' + word + '"') for word in words])
for name in ("set", "link", "exclusive"): acts[name + "-escaped"] = escaped(acts[name])
for line in sys.stdin:
    words = line.rstrip("\n").split("\t")
    try:
        acts[words[0]](*words[1:])
        print(0)
    except OSError as error:
        print(error.errno)
"#;

/// Does the operations as a person, in their order. Answers the error number of each.
pub fn perform(person: Person, acts: &[String]) -> Vec<i32> {
    let groups: Vec<String> = person.groups.iter().map(u32::to_string).collect();
    let mut child = Command::new("timeout")
        .args(["-k", "5", PATIENCE, "python3", "-c", ACTOR])
        .args([person.uid.to_string(), person.gid.to_string(), groups.join(",")])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut input = child.stdin.take().expect("an input");
    let lines = acts.iter().map(|act| format!("{act}\n")).collect::<String>();
    let feeder = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("an end");
    let _ = feeder.join();
    assert!(output.status.success(), "the operations of {} ended: {}", person.name, output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let answers: Vec<i32> =
        said.lines().map(|line| line.parse().expect("an error number")).collect();
    assert_eq!(answers.len(), acts.len(), "{} did not do all", person.name);
    answers
}
