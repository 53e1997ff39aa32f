//! What is done while the power is cut, and what may be found afterwards.

use rustix::fs::XattrFlags;

use super::{Found, Work};
use crate::disk::machine::{Door, close};
use crate::support::{attribute, names_in};

/// Something that somebody asks of the mount.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) cuts: u32,
    /// The cuts are between the first write and the commit.
    pub(super) is_upload: bool,
    /// The store is made by it.
    pub(super) is_first: bool,
    pub(super) work: fn(&Work),
    pub(super) check: fn(&Found),
}

const fn upload(name: &'static str, cuts: u32, work: fn(&Work), check: fn(&Found)) -> Verb {
    Verb { name, cuts, is_upload: true, is_first: false, work, check }
}

const fn other(name: &'static str, cuts: u32, work: fn(&Work), check: fn(&Found)) -> Verb {
    Verb { name, cuts, is_upload: false, is_first: false, work, check }
}

/// How much is written at once.
const PIECE: usize = 50_000;

/// Every verb that changes something.
pub(super) const VERBS: [Verb; 22] = [
    upload(
        "new",
        96,
        |work| _ = work.put("active/new", "new", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "new");
        },
    ),
    upload(
        "one write",
        48,
        |work| _ = work.put("active/new", "small", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "small");
        },
    ),
    upload(
        "big",
        96,
        |work| _ = work.put("active/new", "big", Door::New, 1 << 20),
        |found| {
            uploaded(found, "new", "big");
        },
    ),
    upload(
        "sparse",
        48,
        |work| _ = work.put("active/new", "sparse", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "sparse");
        },
    ),
    upload(
        "twice",
        40,
        |work| _ = work.put("active/new", "kept", Door::New, PIECE),
        |found| {
            uploaded(found, "new", "kept");
        },
    ),
    upload(
        "replace",
        96,
        |work| _ = work.put("active/target", "new", Door::Replace, PIECE),
        replaced,
    ),
    upload("reopen", 32, reopen, |found| {
        found.only_in("new", &["active", "killed", "queued"]);
        let half = if found.was_told("closed") { Some("reopened") } else { Some("small") };
        found.is("active/new", &[Some("reopened"), half.filter(|_| true), absent(found, "closed")]);
    }),
    upload(
        "stage and import",
        60,
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
        8,
        |work| {
            work.told("removed", std::fs::remove_file(work.path("active/target")));
        },
        |found| {
            let is_removed = found.folders("target") == ["pending_delete"];
            assert!(is_removed || !found.was_told("removed"), "it is back");
            assert!(is_removed || found.at("active/target") == Some("old"), "it is gone");
        },
    ),
    other(
        "restore",
        8,
        |work| _ = work.rename("pending_delete/trash", "active/trash"),
        |found| {
            found.is("active/trash", &[Some("trash"), absent(found, "renamed")]);
            found.only_in("trash", &["active", "pending_delete"]);
        },
    ),
    other(
        "purge",
        12,
        |work| {
            work.told("removed", std::fs::remove_file(work.path("pending_delete/trash")));
        },
        |found| {
            let wanted: &[&str] = if found.was_told("removed") {
                &["deleted"]
            } else {
                &["deleted", "pending_delete"]
            };
            found.only_in("trash", wanted);
        },
    ),
    other(
        "purge and upload again",
        8,
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
        8,
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
        4,
        |work| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            work.told("chmod", std::fs::set_permissions(work.path("active/target"), mode));
        },
        |found| found.is("active/target", &[Some("old")]),
    ),
    other(
        "create",
        6,
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
        8,
        |work| {
            let task = br#"{"type": "verify", "input": {}}"#;
            let made = std::fs::write(work.path("tasks/pending/check"), task);
            // What is a task at its close is listed, or done, by now.
            let is_told = made.is_ok() && tasks(&work.root) == 1;
            work.told(
                "task",
                is_told.then_some(()).ok_or_else(|| std::io::ErrorKind::Other.into()),
            );
        },
        |found| {
            assert!(!found.was_told("task") || tasks(&found.root) == 1, "the task is gone");
        },
    ),
    other(
        "rename",
        8,
        |work| _ = work.rename("active/target", "active/renamed"),
        |found| {
            let before = found.at("active/target") == Some("old");
            let after = found.at("active/renamed") == Some("old");
            assert!(before != after && (after || !found.was_told("renamed")), "it has one name");
        },
    ),
    other(
        "rename onto",
        6,
        |work| _ = work.rename("active/target", "active/kept2"),
        |found| {
            let after = found.at("active/kept2") == Some("old");
            assert!(after || !found.was_told("renamed"), "it has its name");
        },
    ),
    other(
        "locate",
        8,
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
        6,
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
        cuts: 16,
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
    if work.told(
        "half",
        crate::disk::machine::put(&work.path("active/new"), "small", Door::New, PIECE),
    ) {
        work.put("active/new", "reopened", Door::Again, PIECE);
    }
}

fn tasks(root: &std::path::Path) -> usize {
    let folders = ["pending", "processing", "success", "failure"];
    folders.iter().map(|folder| names_in(&root.join("tasks").join(folder)).len()).sum()
}
