//! Files that lie elsewhere: neither a location nor a task gives out what its author could not read himself.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sps::lifecycle::Status;

use super::acts::{GROUP, MEMBER, OWNER, PEOPLE, ROOT, STRANGER, perform};
use super::model::{Subject, may_read};
use crate::support::{Sandbox, eventually};

/// A sandbox, and a folder of everybody's below which images may lie.
fn sandbox() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::unmounted(&["publish=all"]);
    let root = sandbox.file("lib");
    fs::create_dir(&root).expect("a folder");
    for folder in [&root, &sandbox.file("..")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let option = format!("location_root={}", root.display());
    let sandbox = sandbox.and(&option);
    sandbox.mount();
    (sandbox, root)
}

fn give(path: &Path, mode: u32) {
    chown(path, Some(OWNER.uid), Some(GROUP)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Files and folders of the owner and his group with bits of all kinds, and what the bits are that count.
fn sources(root: &Path) -> Vec<(PathBuf, Vec<u32>)> {
    let mut all = Vec::new();
    for mode in [0o600, 0o640, 0o644, 0o604, 0o040, 0o004, 0o444, 0o064] {
        let path = root.join(format!("file-{mode:o}"));
        fs::write(&path, format!("the secret of {mode:o}")).expect("a source");
        give(&path, mode);
        let link = root.join(format!("link-{mode:o}"));
        symlink(format!("file-{mode:o}"), &link).expect("a link");
        all.push((path, vec![mode]));
        all.push((link, vec![mode]));
        // The same below a folder that is to be gone through.
        for folder_mode in [0o700, 0o750, 0o705, 0o711] {
            let folder = root.join(format!("folder-{folder_mode:o}-{mode:o}"));
            fs::create_dir(&folder).expect("a folder");
            let path = folder.join("file");
            fs::write(&path, "a secret in a folder").expect("a source");
            give(&path, mode);
            give(&folder, folder_mode);
            // What counts of a folder is its x, which stands where r does after a shift.
            all.push((path, vec![mode, folder_mode << 2]));
        }
    }
    all
}

fn can_read(person: super::acts::Person, modes: &[u32]) -> bool {
    modes.iter().all(|mode| {
        let subject = Subject { status: Status::Active, uid: OWNER.uid, gid: GROUP, mode: *mode };
        may_read(person, subject)
    })
}

// semantics: location-refused mode-bits groups-count
#[test]
fn a_location_gives_nobody_what_he_could_not_read_himself() {
    let (sandbox, root) = sandbox();
    let sources = sources(&root);
    for person in PEOPLE {
        let mut acts = Vec::new();
        for (number, (path, _)) in sources.iter().enumerate() {
            let path = path.display();
            let name = format!("{}-{number}", person.uid);
            let at = |folder: &str| sandbox.path(&format!("{folder}/{name}")).display().to_string();
            let (link, queued) = (at("active"), format!("{}-set", at("queued")));
            acts.push(format!("read\t{path}"));
            acts.push(format!("link\t{path}\t{link}"));
            acts.push(format!("exclusive\t{queued}"));
            acts.push(format!("set\t{queued}\tlocations\t{path}"));
            acts.push(format!("read\t{link}"));
        }
        let answers = perform(person, &acts);
        for ((path, modes), answers) in sources.iter().zip(answers.chunks(5)) {
            let shown = format!("{} of {}", person.name, path.display());
            let may = can_read(person, modes);
            assert_eq!(answers[0] == 0, may, "the file itself: {shown}");
            let refused = if may { 0 } else { 13 };
            assert_eq!(answers[1], refused, "by a link: {shown}");
            assert_eq!((answers[2], answers[3]), (0, refused), "by an attribute: {shown}");
            // Its bits are such that nobody else reads it who could not before; a registered one is read.
            assert_eq!(answers[4], if may { 0 } else { 2 }, "the image: {shown}");
        }
    }
    // A private file does not become a public image by a link.
    let number = sources.iter().position(|(path, _)| path.ends_with("file-600")).expect("there");
    let image = sandbox.path(&format!("active/{}-{number}", OWNER.uid));
    assert_eq!(fs::metadata(image).expect("the owner's").mode() & 0o777, 0o600);
    // What was registered is read after a restart as it was before.
    let in_group = sources.iter().position(|(path, _)| path.ends_with("file-640")).expect("there");
    let path = sandbox.path(&format!("active/{}-{in_group}", MEMBER.uid));
    sandbox.remount();
    assert_eq!(fs::read_to_string(path).expect("readable"), "the secret of 640");
}

// semantics: import-path-refused groups-count
#[test]
fn an_import_gives_nobody_what_he_could_not_read_himself() {
    let (sandbox, root) = sandbox();
    let sources = sources(&root);
    let mut expected = Vec::new();
    for person in PEOPLE {
        let mut acts = Vec::new();
        for (number, (path, modes)) in sources.iter().enumerate() {
            let name = format!("{}-{number}", person.uid);
            let order = format!(
                r#"{{"type": "import", "input": {{"import_from": "{}", "image_properties": {{"name": "{name}"}}}}}}"#,
                path.display()
            );
            let task = sandbox.path(&format!("tasks/pending/{name}"));
            acts.push(format!("put\t{}\t{order}", task.display()));
            expected.push((name, can_read(person, modes), modes.clone(), person));
        }
        assert!(perform(person, &acts).iter().all(|answer| *answer == 0));
    }
    let ended = || {
        let finished = sandbox.names("tasks/success").len() + sandbox.names("tasks/failure").len();
        finished == expected.len()
    };
    eventually("all imports have ended", ended);
    let active = sandbox.names("active");
    for (name, may, modes, person) in expected {
        assert_eq!(active.contains(&name), may, "{name} of {} from {modes:?}", person.name);
        if !may {
            continue;
        }
        // Of who could not read the file, none can read the image.
        let found = fs::metadata(sandbox.path(&format!("active/{name}"))).expect("there");
        let (uid, gid, mode) = (found.uid(), found.gid(), found.mode());
        let subject = Subject { status: Status::Active, uid, gid, mode };
        // The owner of the source can have what he likes of it.
        let others =
            PEOPLE.into_iter().filter(|other| ![person.uid, OWNER.uid].contains(&other.uid));
        for other in others {
            let leaks = may_read(other, subject) && !can_read(other, &modes[..1]);
            assert!(!leaks, "{} reads {name} of {} from {modes:?}", other.name, person.name);
        }
    }
}

// semantics: convert-refused groups-count
#[test]
fn a_conversion_gives_nobody_what_he_could_not_read_himself() {
    let sandbox = Sandbox::with(&["publish=all"]);
    let modes = [0o600, 0o640, 0o644, 0o604, 0o060, 0o444];
    for mode in modes {
        let path = sandbox.path(&format!("active/source-{mode:o}"));
        fs::write(&path, vec![1; 4096]).expect("an image");
        give(&path, mode);
    }
    let mut expected = Vec::new();
    for person in PEOPLE {
        let order = |mode: &u32| {
            let name = format!("{}-{mode:o}", person.uid);
            let order = format!(
                r#"{{"type": "convert", "input": {{"image": "source-{mode:o}", "to": "qcow2", "name": "{name}"}}}}"#
            );
            format!("put\t{}\t{order}", sandbox.path(&format!("tasks/pending/{name}")).display())
        };
        let acts: Vec<String> = modes.iter().map(order).collect();
        for (mode, answer) in modes.iter().zip(perform(person, &acts)) {
            let may = can_read(person, &[*mode]);
            assert_eq!(answer, if may { 0 } else { 13 }, "{} from {mode:o}", person.name);
            if may {
                expected.push((format!("{}-{mode:o}", person.uid), *mode, person));
            }
        }
    }
    let ended = || sandbox.names("tasks/success").len() == expected.len();
    eventually("all conversions have ended", ended);
    assert_eq!(sandbox.names("tasks/failure"), Vec::<String>::new());
    for (name, mode, person) in expected {
        let found = fs::metadata(sandbox.path(&format!("active/{name}"))).expect("there");
        let subject = Subject {
            status: Status::Active,
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode(),
        };
        // The owner of the source can have what he likes of it.
        let others =
            PEOPLE.into_iter().filter(|other| ![person.uid, OWNER.uid].contains(&other.uid));
        for other in others {
            let leaks = may_read(other, subject) && !can_read(other, &[mode]);
            assert!(!leaks, "{} reads {name} of {}", other.name, person.name);
        }
    }
}

/// While a name below the root is turned from a readable file into a link to a secret and back, all the time.
// semantics: location-refused
#[test]
fn a_name_that_changes_under_a_registration_gives_nothing_away() {
    let (sandbox, root) = sandbox();
    fs::write(root.join("open"), "for all").expect("a source");
    fs::write(root.join("secret"), "for root").expect("a secret");
    fs::set_permissions(root.join("secret"), fs::Permissions::from_mode(0o600)).expect("chmod");
    fs::write(sandbox.file("outside"), "out of the root").expect("a source");
    let turning = root.join("turning");
    symlink("open", &turning).expect("a link");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for target in ["secret", "open", "../outside", "open"].into_iter().cycle() {
                if done.load(Ordering::Acquire) {
                    return;
                }
                let next = root.join("next");
                symlink(target, &next).expect("a link");
                fs::rename(&next, &turning).expect("a rename");
            }
        });
        let acts: Vec<String> = (0..400)
            .map(|number| {
                let name = sandbox.path(&format!("active/x-{number}"));
                format!("link\t{}\t{}", turning.display(), name.display())
            })
            .collect();
        let answers = perform(STRANGER, &acts);
        done.store(true, Ordering::Release);
        assert!(answers.iter().all(|answer| [0, 1, 13].contains(answer)), "{answers:?}");
        assert!(answers.contains(&0), "it was never the open one");
    });
    for name in sandbox.names("active") {
        // What is read is what was registered, or it is told that it changed.
        if let Ok(text) = fs::read_to_string(sandbox.path(&format!("active/{name}"))) {
            assert_eq!(text, "for all", "{name}");
        }
    }
}

// semantics: import-path-refused
#[test]
fn a_file_that_grows_while_it_is_imported_is_no_image() {
    let (sandbox, root) = sandbox();
    for is_sparse in [false, true] {
        let path = root.join("growing");
        let file = fs::File::create(&path).expect("a source");
        let (length, step) = if is_sparse { (1 << 31, 1 << 20) } else { (96 << 20, 1) };
        if is_sparse {
            file.set_len(length).expect("a length");
        } else {
            fs::write(&path, vec![5; usize::try_from(length).expect("a length")]).expect("bytes");
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for more in 1_u64.. {
                    if done.load(Ordering::Acquire) {
                        return;
                    }
                    file.set_len(length + more * step).expect("it grows");
                    std::thread::yield_now();
                }
            });
            let order = format!(
                r#"{{"type": "import", "input": {{"import_from": "{}"}}}}"#,
                path.display()
            );
            fs::write(sandbox.path("tasks/pending/t"), order).expect("a task");
            let failed = || sandbox.names("tasks/failure") == ["t"];
            let succeeded = || sandbox.names("tasks/success") == ["t"];
            eventually("it has ended", || failed() || succeeded());
            done.store(true, Ordering::Release);
        });
        let record = fs::read_to_string(sandbox.path("tasks/failure/t")).expect("a failure");
        assert!(record.contains("changed while it was read"), "{record}");
        assert_eq!(sandbox.names("active"), Vec::<String>::new());
        let message = sandbox.attribute("queued/growing", "message").expect("a reason");
        assert!(message.contains("changed while it was read"), "{message}");
        assert_eq!(
            perform(ROOT, &[format!("unlink\t{}", sandbox.path("queued/growing").display())]),
            [0]
        );
        sandbox.ok("rm $M/tasks/failure/t");
    }
    sandbox.wait_for_reclaim(0);
}
