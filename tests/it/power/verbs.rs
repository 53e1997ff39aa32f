//! What is done while the power is cut, and what may be found afterwards.

use std::io::Write;

use rustix::fs::XattrFlags;

use super::{Found, Work};
use crate::disk::machine::{Door, close, content, put};
use crate::support::{attribute, eventually};

/// Something that somebody asks of the mount.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) moments: u32,
    /// The moments of the cuts are between the first write and the commit.
    pub(super) is_upload: bool,
    /// The store is made by it.
    pub(super) is_first: bool,
    pub(super) work: fn(&Work),
    pub(super) check: fn(&Found),
}

const fn upload(name: &'static str, moments: u32, work: fn(&Work), check: fn(&Found)) -> Verb {
    Verb { name, moments, is_upload: true, is_first: false, work, check }
}

const fn other(name: &'static str, moments: u32, work: fn(&Work), check: fn(&Found)) -> Verb {
    Verb { name, moments, is_upload: false, is_first: false, work, check }
}

/// How much is written at once.
const PIECE: usize = 50_000;

/// Every verb that changes something.
pub(super) const VERBS: [Verb; 24] = [
    upload("four at once", 12, four_at_once, |found| {
        for (name, content, told) in AT_ONCE {
            found.is(&format!("active/{name}"), &[Some(content), absent(found, told)]);
            found.only_in(name, &["active", "killed", "queued"]);
        }
    }),
    other(
        "import task",
        5,
        |work| {
            let from = work.files.join("located");
            let task = format!(
                r#"{{"type": "import", "input": {{"import_from": "{}", "image_properties": {{"name": "new"}}}}}}"#,
                from.display()
            );
            make_task(work, task.as_bytes());
        },
        |found| {
            if found.was_told("task") {
                let path = found.root.join("active/new");
                eventually("it is imported", || std::fs::read(&path).is_ok());
                assert_eq!(std::fs::read(&path).expect("there"), content("small"));
            }
        },
    ),
    upload(
        "new",
        20,
        |work| _ = work.put("active/new", "new", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "new");
        },
    ),
    upload(
        "one write",
        16,
        |work| _ = work.put("active/new", "small", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "small");
        },
    ),
    upload(
        "big",
        20,
        |work| _ = work.put("active/new", "big", Door::New, 1 << 20),
        |found| {
            uploaded(found, "new", "big");
        },
    ),
    upload(
        "sparse",
        16,
        |work| _ = work.put("active/new", "sparse", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "sparse");
        },
    ),
    upload(
        "twice",
        12,
        |work| _ = work.put("active/new", "kept", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "kept");
        },
    ),
    upload(
        "replace",
        24,
        |work| _ = work.put("active/target", "new", Door::Replace, PIECE),
        replaced,
    ),
    upload("reopen", 16, reopen, |found| {
        found.only_in("new", &["active", "killed", "queued"]);
        let half = if found.was_told("closed") { Some("reopened") } else { Some("small") };
        found.is("active/new", &[Some("reopened"), half.filter(|_| true), absent(found, "closed")]);
    }),
    upload(
        "stage and import",
        24,
        |work| {
            if work.put("uploading/more", "new", Door::New, PIECE) {
                work.rename("uploading/more", "active/more");
            }
        },
        |found| {
            found.only_in("more", &["uploading", "active", "queued"]);
            found.is("active/more", &[Some("new"), absent(found, "renamed")]);
        },
    ),
    other(
        "import",
        12,
        |work| _ = work.rename("uploading/staged", "active/staged"),
        |found| {
            found.only_in("staged", &["uploading", "active"]);
            found.is("active/staged", &[Some("staged"), absent(found, "renamed")]);
            found.is("uploading/staged", &[Some("staged"), None]);
            assert!(!found.folders("staged").is_empty(), "what was staged is gone");
        },
    ),
    other(
        "remove",
        3,
        |work| {
            work.told("removed", std::fs::remove_file(work.path("active/target")));
        },
        |found| {
            let is_removed = found.folders("target") == ["pending_delete"];
            assert!(is_removed || found.at("active/target") == Some("old"), "it is gone");
        },
    ),
    other(
        "restore",
        3,
        |work| _ = work.rename("pending_delete/trash", "active/trash"),
        |found| {
            found.is("active/trash", &[Some("trash"), absent(found, "renamed")]);
            found.only_in("trash", &["active", "pending_delete"]);
        },
    ),
    other(
        "purge",
        3,
        |work| {
            work.told("removed", std::fs::remove_file(work.path("pending_delete/trash")));
        },
        |found| {
            // What was removed may be back: nothing is lost by that.
            found.only_in("trash", &["deleted", "pending_delete"]);
        },
    ),
    other(
        "purge and upload again",
        3,
        |work| {
            work.told("removed", std::fs::remove_file(work.path("active/target")));
            work.told("removed", std::fs::remove_file(work.path("pending_delete/target")));
            work.put("active/target", "old", Door::New, PIECE);
        },
        |found| {
            found.is("active/target", &[Some("old"), absent(found, "closed")]);
        },
    ),
    other(
        "attributes",
        4,
        |work| {
            for (what, name, value) in
                [("tags", "user.sps.tags", "a,b"), ("os", "user.sps.property.os", "x")]
            {
                let path = work.path("active/target");
                let set = rustix::fs::setxattr(&path, name, value.as_bytes(), XattrFlags::empty());
                work.told(what, set.map_err(Into::into));
            }
        },
        |found| {
            let path = found.root.join("active/target");
            for (what, name, value) in [("tags", "tags", "a,b"), ("os", "property.os", "x")] {
                let there = attribute(&path, name).filter(|value| !value.is_empty());
                let is_there = there.as_deref() == Some(value);
                assert!(
                    is_there || (there.is_none() && !found.was_told(what)),
                    "{name} is {there:?}"
                );
            }
        },
    ),
    other(
        "chmod",
        1,
        |work| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            work.told("chmod", std::fs::set_permissions(work.path("active/target"), mode));
        },
        |found| found.is("active/target", &[Some("old")]),
    ),
    other(
        "create",
        3,
        |work| {
            let made = std::fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(work.path("queued/new"));
            work.told("closed", made.and_then(close));
        },
        |found| {
            found.only_in("new", &["queued"]);
            assert!(!found.was_told("closed") || found.at("queued/new").is_some(), "it is gone");
        },
    ),
    other(
        "task",
        3,
        |work| {
            let task = br#"{"type": "verify", "input": {}}"#;
            make_task(work, task);
        },
        |found| {
            // It is nowhere while it goes from one folder to another.
            if found.was_told("task") {
                eventually("the task is there", || tasks(&found.root) == 1);
            }
        },
    ),
    other(
        "rename",
        3,
        |work| _ = work.rename("active/target", "active/renamed"),
        |found| {
            let before = found.at("active/target") == Some("old");
            let after = found.at("active/renamed") == Some("old");
            assert!(before != after && (after || !found.was_told("renamed")), "it has one name");
        },
    ),
    other(
        "rename onto",
        3,
        |work| _ = work.rename("active/target", "active/kept2"),
        |found| {
            let after = found.at("active/kept2") == Some("old");
            assert!(after || !found.was_told("renamed"), "it has its name");
        },
    ),
    other(
        "locate",
        3,
        |work| {
            let target = work.files.join("located");
            work.told("located", std::os::unix::fs::symlink(target, work.path("active/located")));
        },
        |found| {
            found.is("active/located", &[Some("small"), absent(found, "located")]);
            found.only_in("located", &["active", "queued"]);
        },
    ),
    other(
        "deactivate",
        3,
        |work| _ = work.rename("active/target", "deactivated/target"),
        |found| {
            let wanted: &[&str] = if found.was_told("renamed") {
                &["deactivated"]
            } else {
                &["active", "deactivated"]
            };
            found.only_in("target", wanted);
            assert_eq!(found.folders("target").len(), 1);
        },
    ),
    Verb {
        name: "first mount",
        moments: 8,
        is_upload: false,
        is_first: true,
        work: |work| _ = work.put("active/new", "new", Door::New, PIECE),
        check: |found| uploaded(found, "new", "new"),
    },
];

/// Whether it may not be there: it must, when that was answered.
fn absent(found: &Found, told: &str) -> Option<&'static str> {
    found.was_told(told).then_some("there")
}

fn uploaded(found: &Found, name: &str, content: &str) {
    let path = format!("active/{name}");
    found.is(&path, &[Some(content), absent(found, "closed")]);
    found.only_in(name, &["active", "killed", "queued"]);
}

fn replaced(found: &Found) {
    found.is("active/target", &[Some("new"), absent(found, "closed").or(Some("old"))]);
    found.only_in("target", &["active", "killed", "pending_delete"]);
    if found.at("active/target") == Some("new") {
        assert!(found.at("pending_delete/target").is_some(), "what was replaced is gone");
    }
}

/// Closes a file and opens it again to write it anew, as `qemu-img convert` does.
fn reopen(work: &Work) {
    if work.told("half", put(&work.path("active/new"), "small", Door::New, PIECE)) {
        work.put("active/new", "reopened", Door::Again, PIECE);
    }
}

/// How many tasks there are; none when nobody answers.
fn tasks(root: &std::path::Path) -> usize {
    let folders = ["pending", "processing", "success", "failure"];
    let listed = |folder| std::fs::read_dir(root.join("tasks").join(folder));
    folders.into_iter().filter_map(|folder| listed(folder).ok()).map(Iterator::count).sum()
}

/// Writes a task; it is asked for when its close has answered.
fn make_task(work: &Work, task: &[u8]) {
    let made = std::fs::File::create(work.path("tasks/pending/check"));
    let written = made.and_then(|mut file| file.write_all(task).map(|()| file));
    work.told("task", written.and_then(close));
}

/// What is uploaded at once, and what is answered then.
const AT_ONCE: [(&str, &str, &str); 4] =
    [("a", "new", "a"), ("b", "small", "b"), ("c", "kept", "c"), ("d", "new", "d")];

/// Uploads whose commits share a sync of the disk; two of them have the same content.
fn four_at_once(work: &Work) {
    let answers: Vec<_> = std::thread::scope(|scope| {
        let uploads = AT_ONCE.map(|(name, content, told)| {
            let path = work.path(&format!("active/{name}"));
            (told, scope.spawn(move || put(&path, content, Door::New, PIECE)))
        });
        uploads.map(|(told, upload)| (told, upload.join().expect("no panic"))).into()
    });
    for (told, answer) in answers {
        work.told(told, answer);
    }
}
