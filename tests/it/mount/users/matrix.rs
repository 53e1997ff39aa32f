//! Every user, mode and status against every operation, a cell each.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::sync::Mutex;

use sps::lifecycle::Status;

use super::acts::{GROUP, OWNER, PEOPLE, Person, ROOT, SECOND_GROUP, perform};
use super::model::{Operation, Subject, changes_nothing, expected, takes_away};
use crate::support::{Sandbox, attribute, eventually, signal};

/// Bits of images in the statuses where they decide most; in others a few suffice.
const MODES: [u32; 9] = [0o600, 0o640, 0o644, 0o666, 0o604, 0o060, 0o602, 0o444, 0o1644];
const FEW_MODES: [u32; 5] = [0o600, 0o644, 0o666, 0o604, 0o1666];
const IMPORTING_MODES: [u32; 2] = [0o666, 0o1644];

/// Threads that make images: commits that come together share one disk flush.
const MAKERS: usize = 8;

/// Executors that a mount has: all are held up, so that images stay importing.
const EXECUTORS: usize = 4;

const DECLARED: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// What is done to each image, but for the moves.
const OPERATIONS: [Operation; 37] = {
    use Operation as O;
    [
        O::Stat,
        O::OpenToRead,
        O::OpenToWrite,
        O::Get,
        O::List,
        O::Make,
        O::SetFixed("id"),
        O::SetFixed("status"),
        O::SetFixed("size"),
        O::SetFixed("blake3"),
        O::SetFixed("message"),
        O::SetFixed("owner"),
        // Below no root that is allowed.
        O::SetFixed("locations"),
        O::Chmod,
        O::Chgrp,
        O::SetTime,
        O::Touch,
        O::Set("tags", "gold,lts"),
        O::Drop("tags"),
        O::Set("min_disk", "7"),
        O::Set("min_ram", "7"),
        O::Set("property.os", "linux"),
        O::Drop("property.os"),
        O::Declare("disk_format", "qcow2"),
        O::Declare("expected_size", "12345"),
        O::Declare("expected_blake3", DECLARED),
        O::Declare("expected_sha256", DECLARED),
        O::Unlink,
        O::Rename,
        O::RenameOnto(Status::Active),
        O::RenameOnto(Status::Uploading),
        O::RenameOnto(Status::Deactivated),
        O::RenameOnto(Status::PendingDelete),
        O::Replace,
        O::TakeName,
        O::Truncate,
        // It changes who governs: the last thing that is done to an image.
        O::Chown,
    ]
};

/// Attributes that change the bits, or the name: after all others.
const LATE: [Operation; 3] = {
    use Operation as O;
    [O::Set("visibility", "public"), O::Set("protected", "true"), O::Set("name", "")]
};

fn modes(status: Status) -> &'static [u32] {
    match status {
        Status::Active | Status::Queued | Status::Uploading => &MODES,
        Status::Importing => &IMPORTING_MODES,
        Status::Saving
        | Status::Deactivated
        | Status::Killed
        | Status::PendingDelete
        | Status::Deleted => &FEW_MODES,
    }
}

/// An image that is to be made, and by which its record is found whatever becomes of it.
#[derive(Clone, Debug)]
struct Made {
    name: String,
    subject: Subject,
    id: String,
}

/// One operation of one person on one image, and what it may answer.
struct Cell {
    image: usize,
    operation: Operation,
    act: String,
    expected: Vec<i32>,
}

/// All images, and what each person does.
#[derive(Default)]
struct Plan {
    images: Vec<(String, Subject)>,
    cells: BTreeMap<&'static str, Vec<Cell>>,
    /// Images on which nobody succeeds with a change.
    shared: Vec<usize>,
    /// Names of images of their own that people rename onto others.
    own: Vec<(String, Subject)>,
}

impl Plan {
    fn image(&mut self, subject: Subject) -> usize {
        self.images.push((format!("image-{}", self.images.len()), subject));
        self.images.len() - 1
    }

    fn add(&mut self, sandbox: &Sandbox, person: Person, image: usize, operation: Operation) {
        let (name, subject) = self.images[image].clone();
        let expected = expected(person, operation, subject);
        let folder = subject.status.name();
        let path = sandbox.path(&format!("{folder}/{name}")).display().to_string();
        let at = |other: &str| sandbox.path(other).display().to_string();
        let words: Vec<String> = match operation {
            Operation::Stat => vec!["stat".into(), path],
            Operation::OpenToRead => vec!["read".into(), path],
            Operation::OpenToWrite => vec!["write".into(), path],
            Operation::Replace => vec!["replace".into(), path, "other bytes".into()],
            Operation::Make => vec!["exclusive".into(), path],
            Operation::TakeName => {
                vec!["put".into(), at(&format!("queued/{name}")), "other bytes".into()]
            }
            Operation::Unlink => vec!["unlink".into(), path],
            Operation::Rename => {
                vec!["rename".into(), path, at(&format!("{folder}/{name}-renamed"))]
            }
            Operation::RenameOnto(from) => {
                let own = format!("own-{from}-{image}-{}", person.uid);
                let (uid, gid) = (person.uid, person.gid);
                self.own.push((own.clone(), Subject { status: from, uid, gid, mode: 0o644 }));
                vec!["rename".into(), at(&format!("{from}/{own}")), path]
            }
            Operation::Move(to) => vec!["rename".into(), path, at(&format!("{to}/{name}"))],
            Operation::Chmod => {
                vec!["chmod".into(), path, format!("{:o}", subject.mode ^ 0o010)]
            }
            Operation::Chown => vec!["chown".into(), path, "61104".into(), "-1".into()],
            Operation::Chgrp => {
                vec!["chown".into(), path, "-1".into(), SECOND_GROUP.to_string()]
            }
            Operation::SetTime => vec!["utimens".into(), path],
            Operation::Touch => vec!["touch".into(), path],
            Operation::Set("name", _) => {
                vec!["set".into(), path, "name".into(), format!("{name}-named")]
            }
            Operation::Set(key, value) | Operation::Declare(key, value) => {
                vec!["set".into(), path, key.into(), value.into()]
            }
            Operation::SetFixed(key) => vec!["set".into(), path, key.into(), "x".into()],
            Operation::Drop(key) => vec!["drop".into(), path, key.into()],
            Operation::Get => vec!["get".into(), path, "id".into()],
            Operation::List => vec!["list".into(), path],
            Operation::Truncate => vec!["truncate".into(), path, "3".into()],
        };
        let cell = Cell { image, operation, act: words.join("\t"), expected };
        self.cells.entry(person.name).or_default().push(cell);
    }
}

/// Every operation of every person on images of one status and mode.
fn plan_of(sandbox: &Sandbox, plan: &mut Plan, subject: Subject) {
    let moves = Status::ALL.into_iter().filter(|to| *to != subject.status).map(Operation::Move);
    let early = OPERATIONS.into_iter().filter(|operation| *operation != Operation::Chown);
    let all: Vec<Operation> = early.chain(moves).chain(LATE).chain([Operation::Chown]).collect();
    let shared = plan.image(subject);
    plan.shared.push(shared);
    for person in PEOPLE {
        // One image of this person's own to change, where he may, without taking it away.
        let mut changed = None;
        for operation in &all {
            let is_onto = matches!(operation, Operation::RenameOnto(_) | Operation::TakeName);
            if is_onto && subject.status != Status::Active {
                continue;
            }
            let succeeds = expected(person, *operation, subject).contains(&0);
            let image = if !succeeds || changes_nothing(*operation) {
                shared
            } else if takes_away(*operation) || *operation == Operation::Rename {
                plan.image(subject)
            } else {
                *changed.get_or_insert_with(|| plan.image(subject))
            };
            plan.add(sandbox, person, image, *operation);
            if succeeds && matches!(operation, Operation::Set("name", _)) {
                // It is found under another name from now on.
                changed = None;
            }
        }
    }
}

/// Makes an image of a status, by the ways that people have. What must stay open is answered.
pub fn make(sandbox: &Sandbox, name: &str, subject: Subject) -> Option<File> {
    let at = |folder: Status| sandbox.path(&format!("{folder}/{name}"));
    let write = |folder: Status| fs::write(at(folder), format!("the bytes of {name}"));
    let go = |from: Status, to: Status| fs::rename(at(from), at(to)).expect("a move");
    let mut open = None;
    match subject.status {
        Status::Queued => drop(File::create_new(at(Status::Queued)).expect("a queued image")),
        Status::Uploading => write(Status::Uploading).expect("a staged image"),
        Status::Active => write(Status::Active).expect("an active image"),
        Status::Saving => {
            let mut file = File::create_new(at(Status::Active)).expect("an upload");
            file.write_all(name.as_bytes()).expect("a first byte");
            open = Some(file);
        }
        Status::Importing => {
            write(Status::Uploading).expect("a staged image");
            go(Status::Uploading, Status::Active);
        }
        Status::Deactivated => {
            write(Status::Active).expect("an active image");
            go(Status::Active, Status::Deactivated);
        }
        Status::Killed => {
            let mut file = File::create_new(at(Status::Active)).expect("an upload");
            file.write_all(name.as_bytes()).expect("a first byte");
            go(Status::Saving, Status::Killed);
        }
        Status::PendingDelete => {
            write(Status::Active).expect("an active image");
            fs::remove_file(at(Status::Active)).expect("a removal");
        }
        Status::Deleted => {
            drop(File::create_new(at(Status::Queued)).expect("a queued image"));
            go(Status::Queued, Status::Deleted);
        }
    }
    let path = at(subject.status);
    chown(&path, Some(subject.uid), Some(subject.gid)).expect("chown");
    fs::set_permissions(&path, fs::Permissions::from_mode(subject.mode)).expect("chmod");
    open
}

/// Makes all images: the more at once, the fewer disk flushes.
fn make_all(sandbox: &Sandbox, images: &[(String, Subject)]) -> (Vec<Made>, Vec<File>) {
    let made = Mutex::new(Vec::new());
    let open = Mutex::new(Vec::new());
    let next = Mutex::new(images.iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..MAKERS {
            scope.spawn(|| {
                loop {
                    let Some((index, (name, subject))) = next.lock().expect("a lock").next() else {
                        return;
                    };
                    let kept = make(sandbox, name, *subject);
                    open.lock().expect("a lock").extend(kept);
                    let path = sandbox.path(&format!("{}/{name}", subject.status));
                    let id = attribute(&path, "id").expect("an id");
                    let image = Made { name: name.clone(), subject: *subject, id };
                    made.lock().expect("a lock").push((index, image));
                }
            });
        }
    });
    let mut made = made.into_inner().expect("a lock");
    made.sort_by_key(|(index, _)| *index);
    (made.into_iter().map(|(_, image)| image).collect(), open.into_inner().expect("a lock"))
}

/// All of an image that somebody could have changed.
fn snapshot(sandbox: &Sandbox, image: &Made) -> String {
    let link = sandbox.path(&format!("by-id/{}", image.id));
    let target = fs::read_link(&link).expect("a link");
    let found = fs::metadata(&link).expect("an image");
    let attributes: Vec<String> = [
        "blake3",
        "name",
        "status",
        "tags",
        "min_disk",
        "min_ram",
        "property.os",
        "disk_format",
        "visibility",
        "protected",
        "message",
        "expected_size",
        "expected_blake3",
        "expected_sha256",
        "owner",
        "size",
    ]
    .into_iter()
    .map(|key| format!("{key}={:?}", attribute(&link, key)))
    .collect();
    format!(
        "{} uid={} gid={} mode={:o} size={} mtime={} {}",
        target.display(),
        found.uid(),
        found.gid(),
        found.mode(),
        found.len(),
        found.mtime_nsec(),
        attributes.join(" ")
    )
}

/// Where an operation that succeeded leaves the image.
fn place_after(image: &Made, operation: Operation) -> Option<String> {
    let (status, name) = (image.subject.status, &image.name);
    let to = |status: Status| Some(format!("../{status}/{name}"));
    match operation {
        Operation::Unlink => match status {
            Status::Active | Status::Deactivated => to(Status::PendingDelete),
            Status::Deleted => None,
            _ => to(Status::Deleted),
        },
        Operation::Replace | Operation::TakeName | Operation::RenameOnto(_) => match status {
            Status::Active => to(Status::PendingDelete),
            Status::Queued => to(Status::Active),
            _ => to(status),
        },
        Operation::Truncate if status == Status::Queued => to(Status::Active),
        Operation::Truncate => to(status),
        Operation::Rename => Some(format!("../{status}/{name}-renamed")),
        Operation::Move(target) => to(target),
        _ => Some(String::new()),
    }
}

fn check_outcome(sandbox: &Sandbox, image: &Made, operation: Operation) {
    if !takes_away(operation) && operation != Operation::Rename {
        return;
    }
    let link = sandbox.path(&format!("by-id/{}", image.id));
    let settled = || {
        let found = fs::read_link(&link).ok().map(|target| target.display().to_string());
        // What had the name may have been the newer one there.
        let found = found.map(|target| target.split('~').next().unwrap_or_default().to_owned());
        found == place_after(image, operation)
    };
    eventually(&format!("{operation:?} on {:?} is done", image.subject), settled);
}

/// Processes that the executors wait for. They do not outlive the test, wherever they were stopped.
pub struct HeldUp(Vec<i32>);

impl Drop for HeldUp {
    fn drop(&mut self) {
        self.0.iter().for_each(|pid| signal(*pid, "KILL"));
    }
}

/// Holds up every executor by the `qemu-img` that it waits for, as long as what is answered is kept.
#[must_use]
pub fn hold_up_executors(sandbox: &Sandbox) -> HeldUp {
    fs::write(sandbox.path("active/to-convert"), vec![7; 32 << 20]).expect("an image");
    let daemon = sandbox.daemon().expect("a daemon");
    let children = || {
        let threads = fs::read_dir(format!("/proc/{daemon}/task")).expect("threads");
        let children = threads
            .flatten()
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let all: String = children.collect();
        all.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect::<Vec<i32>>()
    };
    let mut held = HeldUp(Vec::new());
    for number in 0..64 {
        let name = format!("hold-{number}");
        let order = format!(
            r#"{{"type": "convert", "input": {{"image": "to-convert", "to": "qcow2", "name": "{name}"}}}}"#
        );
        fs::write(sandbox.path(&format!("tasks/pending/{name}")), order).expect("a task");
        let is_done = || sandbox.names("tasks/success").contains(&name);
        let caught = Mutex::new(None);
        eventually("a conversion begins", || {
            let new = children().into_iter().find(|pid| !held.0.contains(pid));
            if let Some(pid) = new {
                signal(pid, "STOP");
                *caught.lock().expect("a lock") = Some(pid);
            }
            new.is_some() || is_done()
        });
        // One that was stopped too late has ended, and its executor is free.
        held.0.extend(caught.into_inner().expect("a lock"));
        held.0.retain(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.contains(") T ")
        });
        if held.0.len() == EXECUTORS {
            return held;
        }
    }
    panic!("the executors were too fast to be held up");
}

fn run_matrix(statuses: &[Status]) -> usize {
    let sandbox = Sandbox::with(&["publish=all"]);
    let _held = statuses.contains(&Status::Importing).then(|| hold_up_executors(&sandbox));
    let mut plan = Plan::default();
    for status in statuses {
        for mode in modes(*status) {
            let subject = Subject { status: *status, uid: OWNER.uid, gid: GROUP, mode: *mode };
            plan_of(&sandbox, &mut plan, subject);
        }
    }
    make_all(&sandbox, &plan.own);
    let (made, open) = make_all(&sandbox, &plan.images);
    for image in &plan.shared {
        // What could be taken off.
        let link = sandbox.path(&format!("by-id/{}", made[*image].id)).display().to_string();
        let acts = ["tags\tlts", "property.os\tbsd"].map(|set| format!("set\t{link}\t{set}"));
        assert_eq!(perform(ROOT, &acts), [0, 0]);
    }
    let before: Vec<String> =
        plan.shared.iter().map(|image| snapshot(&sandbox, &made[*image])).collect();
    let mut count = 0;
    let mut faults = Vec::new();
    for person in PEOPLE {
        let cells = &plan.cells[person.name];
        let acts: Vec<String> = cells.iter().map(|cell| cell.act.clone()).collect();
        count += acts.len();
        for (cell, answer) in cells.iter().zip(perform(person, &acts)) {
            let image = &made[cell.image];
            if !cell.expected.contains(&answer) {
                let Subject { status, mode, .. } = image.subject;
                let operation = cell.operation;
                faults.push(format!(
                    "{}: {operation:?} on {status} {mode:o}: {answer}, not {:?}",
                    person.name, cell.expected
                ));
            } else if answer == 0 {
                check_outcome(&sandbox, image, cell.operation);
            }
        }
        for (image, before) in plan.shared.iter().zip(&before) {
            let now = snapshot(&sandbox, &made[*image]);
            if now != *before {
                faults.push(format!("{} changed\n  {before}\nto\n  {now}", person.name));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count} cells:\n{}", faults.len(), faults.join("\n"));
    drop(open);
    count
}

// semantics: owner-governs mode-bits
#[test]
fn each_user_may_do_to_an_image_that_is_coming_what_the_specification_says() {
    let count = run_matrix(&[Status::Queued, Status::Saving, Status::Uploading]);
    assert!(count > 4_000, "{count} cells");
}

// semantics: owner-governs mode-bits importing-unreadable
#[test]
fn each_user_may_do_to_an_image_that_is_importing_what_the_specification_says() {
    let count = run_matrix(&[Status::Importing]);
    assert!(count > 400, "{count} cells");
}

// semantics: owner-governs mode-bits deactivate others-unreadable
#[test]
fn each_user_may_do_to_an_active_image_what_the_specification_says() {
    let count = run_matrix(&[Status::Active, Status::Deactivated]);
    assert!(count > 2_000, "{count} cells");
}

// semantics: owner-governs mode-bits rm-forgets others-unreadable protected-record
#[test]
fn each_user_may_do_to_an_image_that_is_gone_what_the_specification_says() {
    let count = run_matrix(&[Status::Killed, Status::PendingDelete, Status::Deleted]);
    assert!(count > 2_000, "{count} cells");
}

/// Set-user-ID and set-group-ID bits mean nothing on an image, and are not kept where they could.
// semantics: no-setid no-other-files
#[test]
fn no_image_has_effective_set_id_bits_and_none_is_a_device() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let root = sandbox.root().display().to_string();
    let line = table.lines().find(|line| line.contains(&format!(" {root} "))).expect("the mount");
    assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    for person in [OWNER, ROOT] {
        let at = |name: &str| sandbox.path(name).display().to_string();
        let path = at("active/tool");
        let acts = [
            format!("put\t{path}\tbytes"),
            format!("chmod\t{path}\t7755"),
            format!("mknod\t{}\t104755", at("queued/made")),
            format!("mknod\t{}\t20666", at("queued/null")),
            format!("mknod\t{}\t60666", at("active/disk")),
            format!("mknod\t{}\t10666", at("queued/pipe")),
            format!("mknod\t{}\t140666", at("queued/socket")),
        ];
        assert_eq!(perform(person, &acts)[..3], [0, 0, 0], "{}", person.name);
        assert!(perform(person, &acts[3..]).iter().all(|answer| *answer == 1), "{}", person.name);
        let mode = |name: &str| fs::metadata(sandbox.path(name)).expect("there").mode() & 0o7777;
        assert_eq!(mode("active/tool"), 0o1755, "{}", person.name);
        assert_eq!(mode("queued/made"), 0o755, "{}", person.name);
        sandbox.ok("chmod -t $M/active/tool; rm $M/active/tool $M/queued/made");
        assert_eq!(sandbox.names("queued"), Vec::<String>::new());
    }
}
