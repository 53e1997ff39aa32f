//! The folders: who may put images and tasks in, and what nobody does to them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use sps::lifecycle::Status;

use super::acts::{COLLEAGUE, GROUP, MEMBER, OWNER, PEOPLE, Person, ROOT, STRANGER, perform};
use crate::support::Sandbox;

const EPERM: i32 = 1;
const EACCES: i32 = 13;

/// Whether a person may put images in, by the word of `-o publish`.
fn publishes(person: Person, publish: &str) -> bool {
    let is_in_group = person.gid == GROUP || person.groups.contains(&GROUP);
    person.uid == 0 || publish == "all" || (publish == "group" && is_in_group)
}

// semantics: publish create-elsewhere task-who groups-count
#[test]
fn each_user_puts_in_what_the_mount_lets_him_at_the_doors_alone() {
    for publish in ["owner", "group", "all"] {
        let words = format!("publish={publish}");
        let gid = format!("gid={GROUP}");
        let mut options = vec![words.as_str()];
        options.extend((publish == "group").then_some(gid.as_str()));
        let sandbox = Sandbox::with(&options);
        for person in PEOPLE {
            let name = format!("by-{}", person.uid);
            let task =
                r#"{"type": "convert", "input": {"image": "none", "to": "raw", "name": "x"}}"#;
            let folders: Vec<&str> = Status::ALL.into_iter().map(Status::name).collect();
            let put = |folder: &&str| {
                format!(
                    "put\t{}\tbytes",
                    sandbox.path(&format!("{folder}/{name}-{folder}")).display()
                )
            };
            let mut acts: Vec<String> = folders.iter().map(put).collect();
            let tasks = ["pending", "processing", "success", "failure"];
            acts.extend(tasks.iter().map(|folder| {
                let path = sandbox.path(&format!("tasks/{folder}/{name}"));
                format!("put\t{}\t{task}", path.display())
            }));
            let answers = perform(person, &acts);
            let may = publishes(person, publish);
            for (folder, answer) in folders.iter().chain(&tasks).zip(answers) {
                let is_door = ["active", "queued", "uploading"].contains(folder);
                // The task names an image that is not there: it was written, and refused at its close.
                let expected = match (may, is_door, *folder) {
                    (false, ..) => EACCES,
                    (true, true, _) => 0,
                    (true, _, "pending") => 2,
                    (true, ..) => EPERM,
                };
                assert_eq!(answer, expected, "{publish}: {} in {folder}", person.name);
            }
            let expected: Vec<String> = ["active/active", "active/queued", "uploading/uploading"]
                .map(|made| made.replace('/', &format!("/{name}-")))
                .into_iter()
                .filter(|_| may)
                .collect();
            let tree = sandbox.tree().into_iter();
            let found: Vec<String> = tree.filter(|path| path.contains(&name)).collect();
            assert_eq!(found, expected, "{publish}: {}", person.name);
            if may {
                let found =
                    fs::metadata(sandbox.path(&format!("active/{name}-active"))).expect("his");
                assert_eq!((found.uid(), found.gid()), (person.uid, person.gid));
            }
        }
    }
}

// semantics: no-other-files folders-ignore
#[test]
fn nobody_makes_links_or_changes_what_is_not_an_image() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let image = sandbox.path("active/x");
    fs::write(&image, "bytes").expect("an image");
    chown(&image, Some(OWNER.uid), Some(GROUP)).expect("chown");
    fs::set_permissions(&image, fs::Permissions::from_mode(0o666)).expect("chmod");
    let id = sandbox.attribute("active/x", "id").expect("an id");
    let at = |path: &str| sandbox.path(path).display().to_string();
    let state = || {
        let list = |path: &str| sandbox.names(path).join(" ");
        let modes = ["", "active", "tasks", "tasks/pending", "by-id", ".sps", "STATUS"]
            .map(|path| fs::metadata(sandbox.path(path)).expect("there").mode());
        (sandbox.tree(), list(""), list("tasks"), list("by-id"), list(".sps"), modes)
    };
    let before = state();
    for person in PEOPLE {
        let acts = [
            format!("mkdir\t{}", at("active/folder")),
            format!("mkdir\t{}", at("folder")),
            format!("rmdir\t{}", at("active")),
            format!("rmdir\t{}", at("tasks/failure")),
            format!("hardlink\t{}\t{}", at("active/x"), at("active/y")),
            format!("hardlink\t{}\t{}", at("active/x"), at("queued/x")),
            format!("link\t/etc/passwd\t{}", at("active/passwd")),
            format!("link\t/etc/passwd\t{}", at("by-id/passwd")),
            format!("exclusive\t{}", at("new")),
            format!("exclusive\t{}", at("by-id/new")),
            format!("exclusive\t{}", at(".sps/new")),
            format!("unlink\t{}", at("STATUS")),
            format!("unlink\t{}", at(".sps/status.json")),
            format!("unlink\t{}", at(&format!("by-id/{id}"))),
            format!("rename\t{}\t{}", at("active"), at("other")),
            format!("rename\t{}\t{}", at("STATUS"), at("active/STATUS")),
            format!("rename\t{}\t{}", at("active/x"), at("x")),
            format!("rename\t{}\t{}", at("active/x"), at("tasks/pending/x")),
            format!("rename\t{}\t{}", at(&format!("by-id/{id}")), at("active/by-id")),
            format!("replace\t{}\tforged", at("STATUS")),
            format!("replace\t{}\tforged", at(".sps/config.json")),
            format!("truncate\t{}\t0", at("STATUS")),
            format!("set\t{}\ttags\tx", at("active")),
            format!("set\t{}\ttags\tx", at("STATUS")),
            format!("set-foreign\t{}\tsecurity.capability", at("active/x")),
            format!("set-foreign\t{}\ttrusted.x", at("active/x")),
            format!("set-foreign\t{}\tsystem.posix_acl_access", at("active/x")),
            format!("set-foreign\t{}\tuser.other", at("active/x")),
        ];
        for (act, answer) in acts.iter().zip(perform(person, &acts)) {
            assert_ne!(answer, 0, "{}: {act}", person.name);
            assert!(
                [EPERM, EACCES, 16, 22, 39, 95].contains(&answer),
                "{}: {act}: {answer}",
                person.name
            );
        }
        assert_eq!(state(), before, "{}", person.name);
        // Accepted from the mounting user, and ignored.
        let acts = [format!("chmod\t{}\t777", at("")), format!("chown\t{}\t0\t0", at("active"))];
        let expected = if person.uid == 0 { 0 } else { EPERM };
        assert_eq!(perform(person, &acts), [expected, expected], "{}", person.name);
        assert_eq!(state(), before, "{}", person.name);
    }
}

/// His group lets him write the image whose name he takes, and what he was told at his close holds.
// semantics: name-of-others groups-count closed-survives
#[test]
fn a_member_may_take_a_name_also_when_the_daemon_dies_before_it_is_published() {
    for (person, mode, may) in [
        (MEMBER, 0o660, true),
        (COLLEAGUE, 0o660, true),
        (STRANGER, 0o660, false),
        (MEMBER, 0o606, false),
        (COLLEAGUE, 0o606, false),
        (STRANGER, 0o606, true),
        (ROOT, 0o600, true),
    ] {
        let sandbox = Sandbox::with(&["publish=all"]);
        let image = sandbox.path("active/x");
        fs::write(&image, "old").expect("an image");
        chown(&image, Some(OWNER.uid), Some(GROUP)).expect("chown");
        fs::set_permissions(&image, fs::Permissions::from_mode(mode)).expect("chmod");
        sandbox.umount();
        assert!(sandbox.mount_failing_at("vote.recorded"));
        let put = format!("put\t{}\tnew", sandbox.path("queued/x").display());
        let answer = perform(person, &[put])[0];
        let shown = format!("{} with {mode:o}: {answer}", person.name);
        if may {
            // The daemon died on him: he was told nothing.
            assert_ne!(answer, EACCES, "{shown}");
            let _ = Command::new("umount").arg("-l").arg(sandbox.root()).status();
            sandbox.recover();
            assert_eq!(fs::read_to_string(&image).expect("readable"), "new", "{shown}");
            assert_eq!(sandbox.tree(), ["active/x", "pending_delete/x"], "{shown}");
        } else {
            assert_eq!(answer, EACCES, "{shown}");
            assert_eq!(fs::read_to_string(&image).expect("readable"), "old", "{shown}");
            assert_eq!(sandbox.tree(), ["active/x", "killed/x"], "{shown}");
        }
    }
}
