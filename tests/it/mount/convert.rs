//! The task that makes an image in another format.

use std::fs;

use crate::support::{ALICE, BOB, Sandbox, eventually, text};

fn order(image: &str, to: &str, name: &str) -> String {
    let task = format!(
        r#"{{"type": "convert", "input": {{"image": "{image}", "to": "{to}", "name": "{name}"}}}}"#
    );
    // A shell's own echo does not look at what close says.
    format!("cat > $M/tasks/pending/c-{name} <<< '{task}'")
}

/// What a task came to that has ended.
fn ended(sandbox: &Sandbox, name: &str) -> (bool, String) {
    let name = format!("c-{name}");
    let is_there = |folder: &str| sandbox.names(folder).contains(&name);
    eventually("the task ends", || is_there("tasks/success") || is_there("tasks/failure"));
    let is_done = is_there("tasks/success");
    let folder = if is_done { "success" } else { "failure" };
    let record = sandbox.path(&format!("tasks/{folder}/{name}"));
    (is_done, fs::read_to_string(record).expect("a record"))
}

// semantics: convert
#[test]
fn an_image_is_made_in_every_format_and_holds_the_same_disk() {
    let sandbox = Sandbox::unmounted(&[]);
    let root = sandbox.file("lib");
    fs::create_dir(&root).expect("a folder");
    let sandbox = sandbox.and(&format!("location_root={}", root.display()));
    sandbox.mount();
    sandbox.ok("truncate -s 20M $F/disk; mkfs.ext4 -q $F/disk; qemu-img convert -O qcow2 $F/disk $F/lib/q; cp $F/disk $M/active/raw
                setfattr -n user.sps.tags -v gold $M/active/raw");
    let mut from = "raw".to_owned();
    for to in ["qcow2", "vmdk", "vdi", "vhd", "vhdx", "raw"] {
        let name = format!("as-{to}");
        sandbox.ok(&order(&from, to, &name));
        let (is_done, record) = ended(&sandbox, &name);
        assert!(is_done, "{from} to {to}: {record}");
        let path = format!("active/{name}");
        assert_eq!(sandbox.attribute(&path, "disk_format").as_deref(), Some(to));
        assert_eq!(sandbox.attribute(&path, "virtual_size").as_deref(), Some("20971520"));
        assert_eq!(sandbox.attribute(&path, "tags").as_deref(), Some("gold"));
        let id = sandbox.attribute(&path, "id").expect("an id");
        assert!(record.contains(&id), "the result names it: {record}");
        let format = if to == "vhd" { "vpc" } else { to };
        sandbox.ok(&format!("qemu-img compare -f raw -F {format} $F/disk $M/{path}"));
        from = name;
    }
    // What lies elsewhere may be written to meanwhile: a copy is converted, and nothing is left of it.
    sandbox.ok(&order("qcow-elsewhere", "raw", "from-elsewhere")
        .replace("cat >", "ln -s $F/lib/q $M/active/qcow-elsewhere; cat >"));
    let (is_done, record) = ended(&sandbox, "from-elsewhere");
    assert!(is_done, "{record}");
    sandbox.ok("qemu-img compare -f raw -F raw $F/disk $M/active/from-elsewhere");
    assert_eq!(fs::read_dir(sandbox.store().join("staging")).expect("there").count(), 0);
    // By its id, as its author, onto a name that is his to replace.
    let id = sandbox.attribute("active/as-qcow2", "id").expect("an id");
    sandbox.ok(&order(&id, "vdi", "as-raw"));
    eventually("it is replaced", || {
        sandbox.attribute("active/as-raw", "disk_format").as_deref() == Some("vdi")
    });
}

// semantics: convert-refused
#[test]
fn what_can_not_be_converted_is_refused_with_the_reason_and_leaves_nothing() {
    let sandbox = Sandbox::with(&["publish=all", "image_size_cap=30M"]);
    sandbox.ok("echo a > $M/active/a; chmod 600 $M/active/a
                qemu-img create -q -f luks --object secret,id=s,data=pw -o key-secret=s,iter-time=10 $F/l 5M
                cp $F/l $M/active/l; head -c 29M /dev/urandom > $F/r; qemu-img convert -O qcow2 -c $F/r $F/q
                qemu-img create -q -f qcow2 $F/big 200M; qemu-io -c 'write -P 7 0 190M' $F/big > /dev/null
                qemu-img convert -c -O qcow2 $F/big $M/active/big");
    for (image, to, name, word) in [
        ("a", "doc", "x", "Invalid argument"),
        ("a", "iso", "x", "Invalid argument"),
        ("a", "raw", "x~12345678", "Invalid argument"),
        ("gone", "raw", "x", "No such file"),
    ] {
        sandbox.fails(&order(image, to, name), word);
    }
    sandbox.fails(
        r#"cat > $M/tasks/pending/t <<< '{"type": "convert", "input": {"image": "a"}}'"#,
        "Invalid argument",
    );
    let output = sandbox.bash_as(BOB, &order("a", "raw", "x"));
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    assert!(sandbox.names("tasks/pending").is_empty());
    for (image, to, name, word) in
        [("l", "raw", "y", "luks can't be converted"), ("big", "raw", "z", "qemu-img ended")]
    {
        sandbox.ok(&order(image, to, name));
        let (is_done, record) = ended(&sandbox, name);
        assert!(!is_done && record.contains(word), "{record}");
        eventually("it came to nothing", || !sandbox.names("importing").contains(&name.to_owned()));
        let message = sandbox.attribute(&format!("queued/{name}"), "message").expect("a reason");
        assert!(message.contains(word), "{message}");
        assert!(!sandbox.names("active").contains(&name.to_owned()));
    }
    let staging = fs::read_dir(sandbox.store().join("staging")).expect("there").count();
    assert_eq!(staging, 0, "what was half made is gone");
    let output = sandbox.bash_as(ALICE, "echo b > $M/active/b");
    assert!(output.status.success());
    assert!(sandbox.bash_as(ALICE, &order("b", "qcow2", "c")).status.success());
    assert!(ended(&sandbox, "c").0);
    assert_eq!(sandbox.ok("stat -c %u $M/active/c").trim(), ALICE.to_string());
}

// semantics: convert-again
#[test]
fn a_conversion_that_a_crash_ended_is_done_again() {
    let sandbox = Sandbox::new();
    sandbox.ok("head -c 300M /dev/urandom > $F/r; cp $F/r $M/active/r");
    sandbox.ok(&order("r", "qcow2", "q"));
    eventually("it has begun", || sandbox.names("importing") == ["q"]);
    sandbox.kill_daemon();
    sandbox.recover();
    let (is_done, record) = ended(&sandbox, "q");
    assert!(is_done, "{record}");
    sandbox.ok("qemu-img compare -f raw -F qcow2 $F/r $M/active/q");
}
