//! Tasks of others: who may read and remove them, and what one may order of somebody else's image.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use sps::lifecycle::Status;

use super::acts::{GROUP, OWNER, PEOPLE, Person, perform};
use super::matrix::{hold_up_executors, make};
use super::model::{Subject, may_read};
use crate::support::{Sandbox, attribute, eventually};

/// One task a person: what is done to one does not show in another's.
fn orders(sandbox: &Sandbox, folder_name: &str) -> Vec<(Person, String)> {
    let order = |person: Person| {
        let name = format!("{folder_name}-{}", person.uid);
        (person, name)
    };
    let all: Vec<(Person, String)> = PEOPLE.into_iter().map(order).collect();
    let text = r#"{"type": "verify", "input": {"image": "IMAGE"}}"#;
    let path = sandbox.path(&format!("active/{folder_name}"));
    fs::write(&path, folder_name).expect("an image");
    chown(&path, Some(OWNER.uid), Some(GROUP)).expect("chown");
    let acts: Vec<String> = all
        .iter()
        .map(|(_, name)| {
            let task = sandbox.path(&format!("tasks/pending/{name}"));
            format!("put\t{}\t{}", task.display(), text.replace("IMAGE", folder_name))
        })
        .collect();
    assert!(perform(OWNER, &acts).iter().all(|answer| *answer == 0));
    all
}

/// Everybody reads the owner's tasks; he and root alone remove them, and nobody a running one.
fn check(sandbox: &Sandbox, folder: &str, tasks: &[(Person, String)], is_running: bool) {
    for (person, name) in tasks {
        let path = sandbox.path(&format!("tasks/{folder}/{name}"));
        let path = path.display();
        let acts = [
            format!("stat\t{path}"),
            format!("read\t{path}"),
            format!("write\t{path}"),
            format!("truncate\t{path}\t0"),
            format!("set\t{path}\ttags\tx"),
            format!("rename\t{path}\t{path}-2"),
            format!("unlink\t{path}"),
        ];
        let before = fs::read_to_string(path.to_string()).expect("a record");
        let answers = perform(*person, &acts);
        let shown = format!("{} on {folder}/{name}: {answers:?}", person.name);
        assert_eq!(answers[..2], [0, 0], "{shown}");
        assert_eq!(answers[2..4], [13, 13], "{shown}");
        assert!([1, 13].contains(&answers[4]), "{shown}");
        assert_eq!(answers[5], 1, "{shown}");
        let may = person.uid == 0 || person.uid == OWNER.uid;
        let removal = match (may, is_running) {
            (true, false) => 0,
            (true, true) => 16,
            (false, _) => 13,
        };
        assert_eq!(answers[6], removal, "{shown}");
        let after = fs::read_to_string(path.to_string()).ok();
        assert_eq!(after.is_some(), removal != 0, "{shown}");
        assert!(removal == 0 || after.as_deref() == Some(&before), "{shown}");
    }
}

// semantics: task-who task-remove
#[test]
fn tasks_are_read_by_all_and_removed_by_their_author_and_root() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let done = orders(&sandbox, "done");
    eventually("they are done", || sandbox.names("tasks/success").len() == done.len());
    check(&sandbox, "success", &done, false);
    let _held = hold_up_executors(&sandbox);
    for name in sandbox.names("tasks/processing") {
        let tasks: Vec<(Person, String)> =
            PEOPLE.into_iter().map(|person| (person, name.clone())).collect();
        // Root's own: the owner of the images is as good as any other.
        let (_, strangers): (Vec<_>, Vec<_>) =
            tasks.into_iter().partition(|(person, _)| person.uid == OWNER.uid);
        check(&sandbox, "processing", &strangers, true);
    }
    let pending = orders(&sandbox, "waiting");
    check(&sandbox, "pending", &pending, false);
    // What was cancelled is a failure, and the same holds for that.
    let cancelled: Vec<(Person, String)> = PEOPLE
        .into_iter()
        .zip(sandbox.names("tasks/failure").into_iter().cycle())
        .filter(|(person, _)| person.uid != 0 && person.uid != OWNER.uid)
        .collect();
    assert!(!cancelled.is_empty());
    check(&sandbox, "failure", &cancelled, false);
}

// semantics: task-who convert-refused
#[test]
fn nobody_has_another_users_image_verified_or_converts_what_he_can_not_read() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let _held = hold_up_executors(&sandbox);
    let mut images = Vec::new();
    let mut open = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| *status != Status::Importing) {
        for mode in [0o600, 0o640, 0o644, 0o604, 0o1644] {
            let name = format!("{status}-{mode:o}");
            let subject = Subject { status, uid: OWNER.uid, gid: GROUP, mode };
            open.extend(make(&sandbox, &name, subject));
            let path = sandbox.path(&format!("{status}/{name}"));
            let id = attribute(&path, "id").expect("an id");
            images.push((subject, id));
        }
    }
    for person in PEOPLE {
        let mut acts = Vec::new();
        for (number, (_, id)) in images.iter().enumerate() {
            let path = sandbox.path(&format!("tasks/pending/{}-{number}", person.uid));
            let path = path.display();
            let verify = format!(r#"{{"type": "verify", "input": {{"image": "{id}"}}}}"#);
            let convert = format!(
                r#"{{"type": "convert", "input": {{"image": "{id}", "to": "raw", "name": "new"}}}}"#
            );
            acts.push(format!("put\t{path}\t{verify}"));
            acts.push(format!("put\t{path}-c\t{convert}"));
        }
        for kind in [r#"{"type": "verify"}"#, r#"{"type": "scrub"}"#] {
            let path = sandbox.path(&format!("tasks/pending/{}-all-{}", person.uid, acts.len()));
            acts.push(format!("put\t{}\t{kind}", path.display()));
        }
        let before = sandbox.names("tasks/pending").len();
        let answers = perform(person, &acts);
        let accepted = answers.iter().filter(|answer| **answer == 0).count();
        assert_eq!(sandbox.names("tasks/pending").len(), before + accepted, "{}", person.name);
        let governs = person.uid == 0 || person.uid == OWNER.uid;
        for ((subject, _), answers) in images.iter().zip(answers.chunks(2)) {
            let shown = format!("{} on {subject:?}", person.name);
            assert_eq!(answers[0], if governs { 0 } else { 13 }, "verify: {shown}");
            let may_convert = match subject.status {
                Status::Active => may_read(person, *subject),
                Status::Deactivated => person.uid == 0,
                _ => false,
            };
            assert_eq!(answers[1], if may_convert { 0 } else { 13 }, "convert: {shown}");
        }
        let refused = if person.uid == 0 { 0 } else { 13 };
        assert_eq!(answers[answers.len() - 2..], [refused, refused], "{}", person.name);
    }
    let modes = fs::metadata(sandbox.path("tasks/pending")).expect("there").permissions().mode();
    assert_eq!(modes & 0o1777, 0o777);
    drop(open);
}
