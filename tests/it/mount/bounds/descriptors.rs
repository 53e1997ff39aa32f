//! Descriptors: ten thousand open files, and a daemon that has none left.

use std::fs;
use std::process::Command;

use super::{Puppet, descriptors};
use crate::support::{Sandbox, eventually, run, text};

/// Descriptors that a daemon may have open for itself that it had not at its start: connections to the registry.
const OWN: usize = 40;

/// Opens what is in `active/` again and again until an error, and says how often and which.
const OPENS_ALL: &str = "
names, files = os.listdir(M + '/active'), []
try:
    while len(files) < 20000: files.append(os.open(M + '/active/' + names[len(files) % len(names)], os.O_RDONLY))
except OSError as error: say('%d %d' % (len(files), error.errno))
wait()
for file in files: os.read(file, 10); os.close(file)
";

// semantics: open-files
#[test]
fn ten_thousand_files_are_open_at_once_and_all_is_given_back() {
    let sandbox = Sandbox::new();
    sandbox.ok("for n in $(seq 100); do echo $n > $M/active/$n; done; cat $M/active/* > /dev/null");
    let before = descriptors(&sandbox);
    let mut holder = Puppet::new(
        &sandbox,
        "
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
one = [os.open(M + '/active/1', os.O_RDONLY) for n in range(5000)]
many = [os.open(M + '/active/%d' % (n % 100 + 1), os.O_RDONLY) for n in range(5000)]
folders = [os.open(M + '/active', os.O_RDONLY) for n in range(200)]
say('open')
wait()
for n, file in enumerate(many): assert os.read(file, 10) == b'%d\\n' % (n % 100 + 1)
for file in one + many + folders: os.close(file)
say('closed')
wait()
",
    );
    assert_eq!(holder.hear(), "open");
    // Everybody else goes on.
    sandbox.ok("cp /etc/hostname $M/active/new; cmp /etc/hostname $M/active/new; ls -l $M/active > /dev/null
                cat $M/STATUS > /dev/null; rm $M/active/new; rm $M/active/7");
    holder.go_on();
    assert_eq!(holder.hear(), "closed");
    eventually("the daemon's descriptors are closed", || descriptors(&sandbox) <= before + OWN);
    holder.go_on();
    holder.end();
    sandbox.remount();
    sandbox.umount();
    sandbox.audit();
}

/// The daemon with a limit of its own.
fn with_limit(limit: usize) -> Sandbox {
    let sandbox = Sandbox::unmounted(&[]);
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={limit}:{limit}")).arg(env!("CARGO_BIN_EXE_sps"));
    command.args(["mount", "--store"]).arg(sandbox.store()).arg(sandbox.root());
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text(&output));
    sandbox
}

// semantics: open-files
#[test]
fn more_files_than_the_daemon_may_open_are_refused_and_nothing_is_lost() {
    let sandbox = with_limit(700);
    sandbox.ok("for n in $(seq 20); do echo $n > $M/active/$n; done");
    let mut writer = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/active/begun', os.O_WRONLY | os.O_CREAT)
os.write(file, b'one ')
say('begun')
wait()
os.write(file, b'two')
os.close(file)
say('closed')
wait()
",
    );
    assert_eq!(writer.hear(), "begun");
    let mut holder = Puppet::new(&sandbox, OPENS_ALL);
    let said = holder.hear();
    let (count, errno) = said.split_once(' ').expect("a count and a number");
    assert_eq!(errno, "23", "ENFILE");
    assert!(count.parse::<usize>().expect("a count") > 300, "{count}");
    // What is new is refused and leaves nothing; what is open goes on, and so does all that opens nothing.
    sandbox.fails("cp /etc/hostname $M/active/new", "Too many open files in system");
    sandbox.fails("cat $M/active/1", "Too many open files in system");
    sandbox.ok("ls -lR $M > /dev/null; grep -q active $M/STATUS; mv $M/active/20 $M/active/twenty; rm $M/active/19
                setfattr -n user.sps.tags -v gold $M/active/1; chmod 600 $M/active/2; touch -d 2001-01-01 $M/active/3");
    writer.go_on();
    assert_eq!(writer.hear(), "closed");
    assert!(sandbox.names("active").contains(&"begun".to_owned()));
    let all = r#"echo '{"type": "verify"}' | tee $M/tasks/pending/all"#;
    sandbox.bash(all);
    sandbox.bash(&all.replace("/all", "/again"));
    holder.go_on();
    holder.end();
    writer.go_on();
    writer.end();
    eventually("what was refused goes again", || {
        sandbox.bash("cp /etc/hostname $M/active/new").status.success()
    });
    assert_eq!(sandbox.names("deactivated"), Vec::<String>::new(), "nothing is damaged");
    assert_eq!(sandbox.ok("cat $M/active/begun"), "one two");
    assert_eq!(sandbox.names("active").len(), 21);
    sandbox.umount();
    sandbox.audit();
}

/// Not even one for itself.
// semantics: open-files
#[test]
fn a_daemon_without_any_descriptor_left_says_so_and_recovers() {
    let sandbox = Sandbox::new();
    sandbox.ok("for n in $(seq 20); do echo $n > $M/active/$n; done; cat $M/STATUS > /dev/null; ls -lR $M > /dev/null");
    let limit = |limit: usize| {
        let daemon = sandbox.daemon().expect("a daemon");
        sandbox.ok(&format!("prlimit --pid {daemon} --nofile={limit}:"));
    };
    let mut writer = Puppet::new(
        &sandbox,
        "
file = os.open(M + '/active/begun', os.O_WRONLY | os.O_CREAT)
os.write(file, b'one ')
say('begun')
wait()
try:
    os.write(file, b'two')
    os.close(file)
    say('0')
except OSError as error: say(str(error.errno))
wait()
",
    );
    assert_eq!(writer.hear(), "begun");
    // No number below this one is free for long: what is closed is not given out again.
    limit(3);
    sandbox.fails("cat $M/active/1", "Too many open files in system");
    sandbox.fails("cp /etc/hostname $M/active/new", "Too many open files in system");
    let verify = |name: &str| {
        let order = r#"{"type": "verify"}"#;
        fs::write(sandbox.path(&format!("tasks/pending/{name}")), order)
    };
    // It may be refused at once.
    let _ = verify("verify-1");
    writer.go_on();
    let answer = writer.hear();
    limit(20_000);
    // Whatever the writer was told is so.
    writer.go_on();
    writer.end();
    let has = |folder: &str| sandbox.names(folder).contains(&"begun".to_owned());
    match answer.as_str() {
        "0" => assert!(has("active"), "{:?}", sandbox.tree()),
        "23" => {
            eventually("it is killed", || has("killed"));
            let message = sandbox.attribute("killed/begun", "message").expect("a reason");
            assert!(message.contains("open files"), "{message}");
        }
        other => panic!("errno {other}"),
    }
    verify("verify-2").expect("a task");
    eventually("it is verified", || sandbox.names("tasks/success").contains(&"verify-2".into()));
    assert_eq!(sandbox.names("deactivated"), Vec::<String>::new(), "nothing is damaged");
    sandbox.ok("for n in $(seq 20); do test $(cat $M/active/$n) = $n; done; cp /etc/hostname $M/active/new");
    sandbox.umount();
    sandbox.audit();
}
