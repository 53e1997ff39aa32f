//! The command line: what it does, and what it says when it can't.

use std::fs::{self, File};
use std::io::Write;

use crate::support::{ALICE, Sandbox, eventually, run, text};

#[test]
fn what_keeps_a_store_from_being_mounted_is_said_in_one_line_with_what_to_do() {
    let sandbox = Sandbox::unmounted(&[]);
    let mnt = sandbox.root();
    // (what is done first, what is said)
    let cases: [(&str, &str); 8] = [
        ("rmdir $M", "mkdir -p"),
        ("touch $M", "not a directory"),
        ("rm $M; mkdir $M; touch $M/x", "not empty"),
        ("rm $M/x; mkdir $S; touch $S/mine", "is not a store"),
        ("rm -r $S; touch $S", "choose a directory"),
        ("rm $S; mkdir $S; echo nonsense > $S/sps.db", "can't be used as a registry"),
        ("rm -r $S; mkdir -p $S/manifests; touch $S/manifests/x.json", "put sps.db back"),
        ("rm -r $S; mkdir $S; echo 'colour = 3' > $S/config.toml", "no option colour"),
    ];
    for (script, word) in cases {
        sandbox.ok(script);
        let (said, status) = sandbox.try_mount();
        assert!(said.contains(word), "{script}: {said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{script}: {said}");
        assert!(said.starts_with("sps: "), "{script}: {said}");
        assert_eq!(status, if word.contains("option") { 2 } else { 1 }, "{script}: {said}");
        assert!(sandbox.daemon().is_none());
    }
    sandbox.ok("rm -r $S");
    sandbox.mount();
    let (said, status) = sandbox.try_mount();
    assert!(said.contains("already") && said.contains("umount") && status == 1, "{said}");
    assert!(mnt.join("active").exists());
}

// semantics: mount-twice
#[test]
fn a_store_has_one_daemon_and_the_second_is_told_who_has_it() {
    let sandbox = Sandbox::new();
    let other = sandbox.file("other");
    fs::create_dir(&other).expect("a mount point");
    let mut mount = sandbox.sps();
    let output = run(mount.arg("mount").arg("--store").arg(sandbox.store()).arg(&other));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let pid = sandbox.daemon().expect("a daemon");
    assert!(said.contains(&format!("in use by process {pid}")), "{said}");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.umount();
    sandbox.ok("python3 -c 'import os, sqlite3; sqlite3.connect(os.environ[\"S\"] + \"/sps.db\").execute(\"pragma user_version = 99\")'");
    let (said, status) = sandbox.try_mount();
    assert!(said.contains("use a newer sps") && status == 1, "{said}");
}

#[test]
fn an_ordinary_user_without_the_right_is_told_what_to_do() {
    let sandbox = Sandbox::unmounted(&[]);
    let program = env!("CARGO_BIN_EXE_sps");
    // The program itself must be within the user's reach.
    fs::copy(program, sandbox.file("sps")).expect("a copy");
    sandbox.ok(&format!(
        "chmod 755 $F $F/sps; mkdir $F/m $F/none; chown {ALICE} $F/m; chmod 700 $F/none"
    ));
    let output = sandbox.bash_as(ALICE, "$F/sps mount --store $F/none/s $F/m");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    // With no FUSE to be had it says so, and never leaves a mount behind.
    let hidden = "unshare -m bash -c 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && exec $F/sps mount --store $F/s $F/m'";
    let output = sandbox.bash(hidden);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("modprobe fuse"), "{}", text(&output));
}

#[test]
fn an_ordinary_user_mounts_through_the_helper() {
    /// Debian's `nobody`: the helper wants a user that has a name.
    const NOBODY: u32 = 65_534;
    let sandbox = Sandbox::unmounted(&[]);
    fs::copy(env!("CARGO_BIN_EXE_sps"), sandbox.file("sps")).expect("a copy");
    sandbox.ok(&format!("chmod 755 $F $F/sps; mkdir $F/home $F/home/m; chown -R {NOBODY} $F/home"));
    let script = "cd $F/home && export HOME=$F/home && $F/sps mount m && echo hello > m/active/x && \
                  cat m/active/x && ls m/by-id && (sh -c 'echo part; kill -9 $$' > m/active/k; true) && \
                  ls m/killed && rm m/active/x && rm m/pending_delete/x && rm m/deleted/x && ! ls m/deleted | grep . && \
                  $F/sps umount m && test -f $F/home/.local/share/sps/sps.db";
    let output = sandbox.bash_as(NOBODY, script);
    sandbox.bash("umount -l $F/home/m");
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("hello") && said.contains("\nk\n"), "{said}");
}

// semantics: dead-mount
#[test]
fn a_dead_mount_is_cleared_by_mount_and_by_umount() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a");
    sandbox.kill_daemon();
    assert!(fs::read_dir(sandbox.root()).is_err(), "the mount is dead");
    let (said, status) = sandbox.try_mount();
    assert!(said.contains("cleared the dead mount") && status == 0, "{said}");
    assert_eq!(sandbox.tree(), ["active/a"]);
    sandbox.kill_daemon();
    sandbox.umount();
    assert!(fs::read_dir(sandbox.root()).is_ok(), "the mount is gone");
}

// semantics: umount-drains
#[test]
fn umount_waits_for_an_upload_and_names_who_keeps_it() {
    let sandbox = Sandbox::new();
    let mut writer = sandbox
        .bash_command("exec 3>$M/active/x; echo one >&3; read -t 2 < <(sleep 9); echo two >&3")
        .spawn()
        .expect("a writer");
    eventually("it is being written", || sandbox.names("saving") == ["x"]);
    sandbox.umount();
    writer.wait().expect("ended");
    sandbox.mount();
    assert_eq!(sandbox.ok("cat $M/active/x"), "one\ntwo\n");
    // One that does not end is named, and the mount stays.
    let file = File::open(sandbox.path("active/x")).expect("readable");
    let output = run(sandbox.sps().args(["umount", "--wait", "1"]).arg(sandbox.root()));
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let own = std::process::id().to_string();
    assert!(said.contains("stays mounted") && said.contains(&own), "{said}");
    drop(file);
    assert_eq!(sandbox.tree(), ["active/x"]);
    // A signal to the daemon does the same as umount.
    crate::support::signal(sandbox.daemon().expect("a daemon"), "TERM");
    sandbox.wait_for_daemons_end();
    sandbox.audit();
}

#[test]
fn an_upload_that_the_end_of_the_mount_cuts_off_is_settled() {
    let sandbox = Sandbox::new();
    let mut file = File::create(sandbox.path("active/x")).expect("a new image");
    file.write_all(b"part").expect("written");
    sandbox.ok("umount -l $M");
    drop(file);
    sandbox.wait_for_daemons_end();
    sandbox.mount();
    assert_eq!(sandbox.tree(), ["active/x"], "its writer closed it well");
}

#[test]
fn ls_and_show_tell_of_images_for_people_and_for_programs() {
    let sandbox = Sandbox::new();
    sandbox.ok("head -c 2048 /dev/zero > $M/active/zeros; touch $M/queued/q");
    let root = sandbox.root();
    let ls = |words: &[&str]| {
        let output = run(sandbox.sps().arg("ls").args(words).arg(&root));
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let table = ls(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("STATUS"), "{table}");
    assert!(lines[2].starts_with("active  2.0 KiB  2.0 KiB  raw"), "{table}");
    assert!(!ls(&["--status", "queued"]).contains("zeros"));
    let json: serde_json::Value = serde_json::from_str(&ls(&["--json"])).expect("JSON");
    assert_eq!(json[1]["name"], "zeros");
    assert_eq!(json[1]["size"], 2048);
    let show = |path: &str, word: &str| {
        let output = run(sandbox.sps().arg("show").arg(word).arg(root.join(path)));
        (text(&output), output.status.code())
    };
    let (said, status) = show("active/zeros", "--json");
    assert_eq!(status, Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(json["blake3"], blake3::hash(&[0; 2048]).to_string());
    sandbox.ok("setfattr -n user.sps.tags -v lts,gold $M/active/zeros; setfattr -n user.sps.min_ram -v 512 $M/active/zeros
                setfattr -n user.sps.property.os -v 'a\tb' $M/active/zeros");
    let output = text(&run(sandbox.sps().arg("show").arg(root.join("active/zeros"))));
    for word in [
        "size         2.0 KiB (2048 bytes)",
        "virtual_size 2.0 KiB",
        "tags         lts,gold",
        "512 MiB",
        "property.os  a\\tb",
    ] {
        assert!(output.contains(word), "{word}: {output}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&show("active/zeros", "--json").0).expect("JSON");
    assert_eq!(json["virtual_size"], 2048);
    assert_eq!(json["tags"], serde_json::json!(["lts", "gold"]));
    assert_eq!(json["properties"]["os"], "a\tb");
    assert_eq!(show("active/none", "--json").1, Some(1));
    assert_eq!(show("active", "--json").1, Some(2));
    for words in [&["ls", "--status", "nonsense"][..], &["unheard-of"], &["show"]] {
        assert_eq!(run(sandbox.sps().args(words)).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn the_foreground_serves_until_it_is_interrupted_and_logs_to_standard_error() {
    let sandbox = Sandbox::unmounted(&[]);
    let errors = File::create(sandbox.file("errors")).expect("a file");
    let mut daemon = sandbox
        .sps()
        .args(["mount", "-f", "-o", "log=info", "--store"])
        .arg(sandbox.store())
        .arg(sandbox.root())
        .stderr(errors)
        .spawn()
        .expect("a daemon");
    eventually("it is mounted", || sandbox.path("active").exists());
    sandbox.ok("echo a > $M/active/a");
    crate::support::signal(i32::try_from(daemon.id()).expect("a process"), "INT");
    assert!(daemon.wait().expect("ended").success());
    let said = fs::read_to_string(sandbox.file("errors")).expect("a log");
    assert!(said.contains("to=active") && said.contains("is unmounted"), "{said}");
    sandbox.audit();
}

#[test]
fn what_the_guide_shows_works_a_moved_store_an_overlay_and_options_from_variables() {
    let sandbox = Sandbox::unmounted(&[]);
    let mut mount = sandbox.sps();
    mount.arg("mount").arg("--store").arg(sandbox.store()).arg(sandbox.root());
    assert!(run(mount.env("SPS_PUBLISH", "all")).status.success());
    assert_eq!(sandbox.ok("stat -c %a $M/active"), "777\n");
    sandbox.ok("qemu-img create -q -f qcow2 $F/d.qcow2 64M; cp $F/d.qcow2 $M/active/");
    sandbox.ok("qemu-img create -q -f qcow2 -b $M/active/d.qcow2 -F qcow2 $F/overlay.qcow2");
    sandbox.ok("qemu-img check -q $F/overlay.qcow2; qemu-img info $M/active/d.qcow2 | grep -q 64");
    sandbox.umount();
    sandbox.ok("cp -a $S $F/moved; rm -r $S; mv $F/moved $S");
    sandbox.mount();
    sandbox.ok("cmp $F/d.qcow2 $M/active/d.qcow2");
    sandbox.umount();
    sandbox.audit();
}
