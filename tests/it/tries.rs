//! How often a task is tried: an executor that dies counts, and one that stops as the mount ends does not.

use sps::catalog::{Catalog, Parts, Policy, SystemTimeSource};
use sps::image::{ImageName, User};
use sps::lifecycle::TaskStatus;
use sps::location::Locations;
use sps::registry::SqliteRegistry;
use sps::store::{LocalStore, OpenOptions};
use sps::task::{ATTEMPTS_MAX, Order, TaskId};

fn catalog(store: &std::path::Path) -> Catalog {
    let local = LocalStore::open(store, OpenOptions::default()).expect("a store");
    let registry = SqliteRegistry::open(&local.registry_path()).expect("a registry");
    let parts = Parts {
        registry: Box::new(registry),
        store: Box::new(local),
        locations: Locations::new(Vec::new(), store.to_owned()),
        time: Box::new(SystemTimeSource),
    };
    Catalog::open(parts, Policy::default()).expect("a catalog")
}

/// Begins the only task, and gives it back.
fn try_once(catalog: &Catalog, id: TaskId, has_died: bool) -> TaskStatus {
    let task = catalog.begin_task().expect("readable").expect("a task");
    assert_eq!(task.id, id);
    catalog.retry_task(id, has_died).expect("written");
    catalog.task(id).expect("readable").expect("a task").status
}

#[test]
fn a_task_that_an_end_of_the_mount_interrupts_is_not_tried_less_often_for_it() {
    let folder = tempfile::tempdir().expect("a directory");
    let catalog = catalog(&folder.path().join("store"));
    let author = User { uid: 0, gid: 0, groups: Vec::new() };
    let name = ImageName::new(b"s").expect("a name");
    let id = catalog.order(Order::Scrub, name, &author).expect("ordered");
    for _ in 0..2 * ATTEMPTS_MAX {
        assert_eq!(try_once(&catalog, id, false), TaskStatus::Pending);
    }
    for _ in 1..ATTEMPTS_MAX {
        assert_eq!(try_once(&catalog, id, true), TaskStatus::Pending);
    }
    assert_eq!(try_once(&catalog, id, true), TaskStatus::Failure);
    catalog.close().expect("closed");
}
