//! Attributes of an image: what people say of it, what they declare before it comes, and its digests.

use std::process::Command;

use crate::support::{ALICE, Sandbox, eventually, text};

fn digest_of(sandbox: &Sandbox, tool: &str, name: &str) -> String {
    let path = sandbox.file(name);
    let output = Command::new(tool).arg(path).output().expect("the tool runs");
    let line = String::from_utf8(output.stdout).expect("text");
    line.split(' ').next().expect("a digest").to_owned()
}

// semantics: tags-properties
#[test]
fn tags_and_properties_are_listed_and_kept_in_every_status() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a; touch $M/queued/q; echo t > $M/active/t; rm $M/active/t");
    for path in ["active/a", "queued/q", "pending_delete/t"] {
        assert_eq!(sandbox.ok(&format!("getfattr -d $M/{path}")), "");
        sandbox.ok(&format!(
            "setfattr -n user.sps.tags -v 'lts, gold,lts' $M/{path}
             setfattr -n user.sps.min_disk -v 20 $M/{path}
             setfattr -n user.sps.min_ram -v 512 $M/{path}
             setfattr -n user.sps.property.os_distro -v größe $M/{path}
             setfattr -n user.sps.property.empty $M/{path}"
        ));
    }
    sandbox.kill_daemon();
    sandbox.recover();
    for path in ["active/a", "queued/q", "pending_delete/t"] {
        let listed = sandbox.ok(&format!("getfattr -e text -d --absolute-names $M/{path}"));
        let mut lines: Vec<&str> = listed.lines().filter(|line| line.contains('=')).collect();
        lines.sort_unstable();
        let expected = [
            "user.sps.min_disk=\"20\"",
            "user.sps.min_ram=\"512\"",
            "user.sps.property.empty=\"\"",
            "user.sps.property.os_distro=\"größe\"",
            "user.sps.tags=\"lts,gold\"",
        ];
        assert_eq!(lines, expected, "{path}");
        sandbox.ok(&format!(
            "for name in tags min_disk property.empty; do setfattr -x user.sps.$name $M/{path}; done"
        ));
        assert_eq!(sandbox.attribute(path, "tags"), None);
        assert_eq!(sandbox.ok(&format!("getfattr $M/{path} | grep -c user.sps")), "2\n");
        sandbox
            .fails(&format!("setfattr -x user.sps.property.empty $M/{path}"), "No such attribute");
        sandbox.fails(&format!("setfattr -x user.sps.tags $M/{path}"), "No such attribute");
    }
}

// semantics: attribute-limits
#[test]
fn what_is_too_long_or_too_many_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::with(&["publish=all"]);
    sandbox.ok("echo a > $M/active/a; chmod 666 $M/active/a");
    sandbox.ok(
        "for i in $(seq 128); do setfattr -n user.sps.property.$i -v x $M/active/a || exit 1; done",
    );
    for (script, word) in [
        ("setfattr -n user.sps.property.more -v x $M/active/a", "No space left"),
        ("setfattr -n user.sps.tags -v $(seq -s, 129) $M/active/a", "No space left"),
        ("setfattr -n user.sps.tags -v a,,b $M/active/a", "Invalid argument"),
        ("setfattr -n user.sps.tags -v 0sgIA= $M/active/a", "Invalid argument"),
        ("setfattr -n user.sps.min_disk -v -1 $M/active/a", "Invalid argument"),
        ("setfattr -n user.sps.min_ram -v much $M/active/a", "Invalid argument"),
        ("setfattr -n user.sps.min_ram $M/active/a", "Invalid argument"),
        ("setfattr -n user.sps.property. -v x $M/active/a", "Invalid argument"),
        ("setfattr -n user.sps.colour -v x $M/active/a", "not permitted"),
        ("setfattr -n user.colour -v x $M/active/a", "not supported"),
        ("setfattr -n user.sps.sha256 -v x $M/active/a", "not permitted"),
    ] {
        sandbox.fails(script, word);
    }
    sandbox.ok("setfattr -n user.sps.property.5 -v y $M/active/a");
    let long = "x".repeat(65_536);
    let path = sandbox.path("active/a");
    let set = |value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&path, "user.sps.property.7", value, flags)
    };
    set(long.as_bytes()).expect("64 KiB");
    assert_eq!(set(format!("{long}x").as_bytes()), Err(rustix::io::Errno::TOOBIG));
    assert_eq!(sandbox.attribute("active/a", "property.7"), Some(long));
    let create =
        rustix::fs::setxattr(&path, "user.sps.tags", b"a", rustix::fs::XattrFlags::REPLACE);
    assert_eq!(create, Err(rustix::io::Errno::NODATA));
    let replace =
        rustix::fs::setxattr(&path, "user.sps.property.5", b"a", rustix::fs::XattrFlags::CREATE);
    assert_eq!(replace, Err(rustix::io::Errno::EXIST));
    let output = sandbox.bash_as(ALICE, "setfattr -n user.sps.tags -v mine $M/active/a");
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    assert_eq!(sandbox.attribute("active/a", "property.5").as_deref(), Some("y"));
}

// semantics: details-carried
#[test]
fn what_is_said_of_an_image_goes_along_with_it_and_over_to_what_replaces_it() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 100_000);
    sandbox.ok("cp $F/x $M/active/a
                setfattr -n user.sps.tags -v gold $M/active/a
                setfattr -n user.sps.property.k -v v $M/active/a
                cp -a $M/active/a $M/active/copy
                rsync -aX $M/active/a $M/active/synced
                cp $M/active/a $M/active/plain");
    for name in ["copy", "synced"] {
        assert_eq!(sandbox.attribute(&format!("active/{name}"), "tags").as_deref(), Some("gold"));
        assert_eq!(
            sandbox.attribute(&format!("active/{name}"), "property.k").as_deref(),
            Some("v")
        );
    }
    assert_eq!(sandbox.attribute("active/plain", "tags"), None);
    for how in [
        "echo new > $M/active/a",
        "rm $M/active/a; cp $F/x $M/active/a",
        "mv $M/active/a $M/active/b; mv $M/active/b $M/active/a",
    ] {
        sandbox.ok(how);
        let tags = sandbox.attribute("active/a", "tags");
        let is_same_process = !how.starts_with("rm");
        assert_eq!(tags.as_deref(), is_same_process.then_some("gold"), "{how}");
        if !is_same_process {
            sandbox.ok("setfattr -n user.sps.tags -v gold $M/active/a");
        }
    }
}

// semantics: round-trip
#[test]
fn archives_and_copies_carry_everything_out_and_into_another_mount() {
    let sandbox = Sandbox::new();
    let other = Sandbox::new();
    sandbox.source("x", 300_000);
    let target = other.path("active").display().to_string();
    let out = sandbox.file("out").display().to_string();
    sandbox.ok(&format!(
        "umask 022; cp $F/x $M/active/a; cp $F/x $M/active/'b c'
         chmod 640 $M/active/a; chown {ALICE}:{ALICE} $M/active/a; touch -d 2001-02-03 $M/active/a
         setfattr -n user.sps.tags -v gold,lts $M/active/a
         setfattr -n user.sps.property.k -v 'v w' $M/active/a
         setfattr -n user.sps.min_ram -v 9 $M/active/a"
    ));
    let state = |sandbox: &Sandbox| {
        sandbox.ok("cd $M/active && for f in *; do
            stat -c '%n %a %u %g %s %Y' \"$f\"; sha256sum \"$f\"; getfattr -d \"$f\"; done")
    };
    let before = state(&sandbox);
    for how in [
        format!("rsync -aHAX $M/active/ {target}/"),
        format!("cp -a $M/active/. {target}/"),
        format!(
            "tar -C $M/active --xattrs -cf - . | tar -C {target} --xattrs --xattrs-include='user.sps.*' -xpf -"
        ),
        format!("rsync -aHAX $M/active/ {out}/ && rsync -aHAX {out}/ {target}/ && rm -r {out}"),
        format!("cp -a $M/active {out} && cp -a {out}/. {target}/ && rm -r {out}"),
    ] {
        sandbox.ok(&how);
        assert_eq!(state(&other), before, "{how}");
        assert_eq!(state(&sandbox), before, "the source is as it was: {how}");
        other.ok("rm $M/active/*");
    }
}

// semantics: expected-digest
#[test]
fn an_upload_that_is_not_what_was_declared_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 3_000_000);
    for (tool, name) in
        [("sha256sum", "sha256"), ("sha512sum", "sha512"), ("md5sum", "md5"), ("b3sum", "blake3")]
    {
        let digest = digest_of(&sandbox, tool, "x");
        sandbox.ok(&format!(
            "touch $M/queued/good; setfattr -n user.sps.expected_{name} -v {} $M/queued/good
             cat $F/x > $M/queued/good",
            digest.to_uppercase()
        ));
        assert_eq!(sandbox.attribute("active/good", name), Some(digest.clone()), "known at once");
        // Declared when a part has come already, and of a copy inside the mount.
        sandbox.ok(&format!(
            "exec 3> $M/active/late; head -c 1000000 $F/x >&3
             setfattr -n user.sps.expected_{name} -v {digest} $M/saving/late
             tail -c +1000001 $F/x >&3; exec 3>&-
             touch $M/queued/copy; setfattr -n user.sps.expected_{name} -v {digest} $M/queued/copy
             cp $M/active/good $M/queued/copy"
        ));
        assert_eq!(sandbox.attribute("active/late", name), Some(digest.clone()));
        assert_eq!(sandbox.attribute("active/copy", name), Some(digest.clone()));
        let other = digest.replace(|digit| digit != '1', "1");
        for put in ["cat $F/x", "cp $M/active/good /dev/stdout"] {
            sandbox.fails(
                &format!(
                    "touch $M/queued/bad; setfattr -n user.sps.expected_{name} -v {other} $M/queued/bad
                     {put} | dd of=$M/queued/bad status=none"
                ),
                "Input/output error",
            );
            let message = sandbox.attribute("killed/bad", "message").expect("a reason");
            assert!(message.contains(name) && message.contains("declared"), "{message}");
            sandbox.ok("rm $M/killed/bad");
        }
        sandbox.fails(
            &format!("touch $M/queued/z; setfattr -n user.sps.expected_{name} -v 12 $M/queued/z"),
            "Invalid argument",
        );
        sandbox.fails(
            &format!("setfattr -n user.sps.expected_{name} -v {digest} $M/active/good"),
            "not permitted",
        );
        sandbox.ok("rm $M/active/* $M/queued/z; rm $M/pending_delete/*");
    }
}

// semantics: expected-format
#[test]
fn content_that_contradicts_its_declared_format_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("qemu-img create -q -f qcow2 $F/q 10M
                touch $M/queued/q; setfattr -n user.sps.disk_format -v qcow2 $M/queued/q");
    assert_eq!(sandbox.attribute("queued/q", "disk_format").as_deref(), Some("qcow2"));
    sandbox.ok("cat $F/q > $M/queued/q");
    assert_eq!(sandbox.attribute("active/q", "disk_format").as_deref(), Some("qcow2"));
    sandbox.ok("touch $M/queued/r; setfattr -n user.sps.disk_format -v raw $M/queued/r");
    sandbox.fails("dd if=$F/q of=$M/queued/r status=none", "Input/output error");
    let message = sandbox.attribute("killed/r", "message").expect("a reason");
    assert!(message.contains("declared as raw"), "{message}");
    sandbox
        .fails("touch $M/queued/s; setfattr -n user.sps.disk_format -v doc $M/queued/s", "Invalid");
}

// semantics: digest-asked
#[test]
fn a_digest_that_is_asked_for_is_computed_once_and_kept() {
    let sandbox = Sandbox::new();
    sandbox.source("x", 20_000_000);
    sandbox.ok("cp $F/x $M/active/x");
    for (tool, name) in [("sha256sum", "sha256"), ("sha512sum", "sha512"), ("md5sum", "md5")] {
        sandbox.fails(&format!("getfattr -n user.sps.{name} $M/active/x"), "No such attribute");
        let digest = digest_of(&sandbox, tool, "x");
        eventually("the digest is there", || {
            sandbox.attribute("active/x", name).is_some_and(|known| known == digest)
        });
    }
    sandbox.remount();
    assert_eq!(sandbox.attribute("active/x", "md5"), Some(digest_of(&sandbox, "md5sum", "x")));
    sandbox.ok("echo y > $M/active/x");
    assert_eq!(sandbox.attribute("active/x", "md5"), None, "another content has another digest");
}
