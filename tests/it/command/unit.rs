//! The systemd unit, as far as it can be used where no systemd runs: its lines for real, with the variables, the
//! capabilities and the socket that systemd would give. `systemd-analyze verify` reads it in the test of the package.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::service::told;
use crate::support::{Sandbox, run, signal, text};

struct Unit(Vec<(String, String)>);

impl Unit {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/sps@.service");
        let text = std::fs::read_to_string(path).expect("the unit");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let settings = lines.filter_map(|line| line.split_once('='));
        Self(settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("the unit has no {name}")).1
    }

    /// The words of a command: `${NAME}` is one word, whatever is in it, as systemd.service(5) has it.
    fn words(&self, name: &str, variables: &BTreeMap<&str, String>) -> Vec<String> {
        let words = self.get(name).split(' ').map(|word| {
            match word.strip_prefix("${").and_then(|word| word.strip_suffix('}')) {
                Some(variable) => variables.get(variable).cloned().unwrap_or_default(),
                None => word.replace("/usr/bin/sps", env!("CARGO_BIN_EXE_sps")),
            }
        });
        words.collect()
    }
}

fn variables(sandbox: &Sandbox) -> BTreeMap<&'static str, String> {
    let example = include_str!("../../../packaging/images.conf.example");
    let places = BTreeMap::from([("STORE", sandbox.store()), ("MOUNTPOINT", sandbox.root())]);
    let lines = example.lines().filter(|line| !line.starts_with('#'));
    let named = lines.filter_map(|line| line.split_once('=')).map(|(name, value)| {
        let place = places.get(name).map(|path| path.display().to_string());
        (name, place.unwrap_or_else(|| value.to_owned()))
    });
    named.collect()
}

/// Starts what the unit starts, under what it may do.
fn start(sandbox: &Sandbox, unit: &Unit, socket: &Path) -> Child {
    let capabilities = unit.get("CapabilityBoundingSet").to_lowercase();
    let set: Vec<String> =
        capabilities.split(' ').map(|name| name.replacen("cap_", "+", 1)).collect();
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--bounding-set", &format!("-all,{}", set.join(","))]);
    command.args(unit.words("ExecStart", &variables(sandbox)));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "400000");
    let log = std::fs::File::options().append(true).create(true).open(sandbox.file("journal"));
    let log = log.expect("a file");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("setpriv")
}

#[test]
fn what_the_unit_says_serves_the_store_stops_cleanly_and_comes_back_after_a_crash() {
    let unit = Unit::read();
    let sandbox = Sandbox::unmounted(&[]);
    let path = sandbox.file("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    sandbox.source("x", 300_000);

    let mut first = start(&sandbox, &unit, &path);
    told(&socket, "READY=1");
    sandbox.ok("cp $F/x $M/active/x && cmp $F/x $M/active/x && cp $F/x $M/uploading/half");
    // Who does not come to an end is told of, also with these capabilities.
    sandbox.bash(
        "bash -c 'cat $F/x; exit 3' > $M/active/y; (echo half; kill -9 $BASHPID) > $M/active/z",
    );
    assert!(sandbox.names("killed").contains(&"z".to_owned()), "{:?}", sandbox.tree());
    // Others read through the mount.
    assert!(sandbox.bash_as(crate::support::ALICE, "cmp $F/x $M/active/x").status.success());
    told(&socket, "WATCHDOG=1");

    signal(i32::try_from(first.id()).expect("a number"), "KILL");
    assert!(!first.wait().expect("ended").success());
    let mut second = start(&sandbox, &unit, &path);
    told(&socket, "READY=1");
    sandbox.ok("cmp $F/x $M/active/x");
    let journal = std::fs::read_to_string(sandbox.file("journal")).expect("a journal");
    assert!(journal.contains("cleared the dead mount"), "{journal}");

    // ExecStop, with a reader that is waited for.
    let mut reader =
        sandbox.bash_command("exec 3< $M/active/x; echo > $F/opened; read -t 0.3 <> <(:); true");
    let mut reader = reader.spawn().expect("a reader");
    crate::support::eventually("it is open", || sandbox.file("opened").exists());
    let words = unit.words("ExecStop", &variables(&sandbox));
    let stop = run(Command::new(&words[0]).args(&words[1..]));
    assert!(stop.status.success(), "{}", text(&stop));
    assert!(reader.wait().expect("ended").success());
    assert!(second.wait().expect("ended").success());

    // SIGTERM does the same.
    let mut third = start(&sandbox, &unit, &path);
    told(&socket, "READY=1");
    signal(i32::try_from(third.id()).expect("a number"), "TERM");
    told(&socket, "STOPPING=1");
    assert!(third.wait().expect("ended").success());
    sandbox.audit();
}

#[test]
fn the_unit_makes_no_mount_namespace_and_waits_for_readiness() {
    let unit = Unit::read();
    assert_eq!(unit.get("Type"), "notify");
    assert_eq!(unit.get("Restart"), "on-failure");
    // Each of these gives a service a mount namespace, or takes /dev/fuse away: see systemd.exec(5).
    for (name, value) in &unit.0 {
        let is_apart = name.starts_with("Private") || name.starts_with("Protect");
        let is_rebuilt =
            name.ends_with("Paths") || name.starts_with("Bind") || name.starts_with("Root");
        let takes_away = name == "MountFlags" || name == "DevicePolicy" || name == "DynamicUser";
        assert!(!is_apart && !is_rebuilt && !takes_away, "{name}={value}");
    }
}
