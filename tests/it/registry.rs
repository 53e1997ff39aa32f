//! The contract of a registry, asked of every backend there is.

use std::sync::Arc;
use std::thread;

use sps::error::Error;
use sps::image::{
    Content, Details, Digest, DiskFormat, Image, ImageId, ImageName, ImageNumber, Moment,
    Ownership, Seal, StoreTime, Timestamp,
};
use sps::lifecycle::{Status, TaskEvent, TaskStatus};
use sps::registry::{
    Change, ClockMark, Draft, Durability, Key, Reclaim, Registry, SqliteRegistry, TRANSITIONS_KEPT,
    TaskChange, TaskKey, TaskTotal, Total, Transition,
};
use sps::task::{Task, TaskDraft, TaskId, TaskInput, TaskNumber, TaskResult};

/// Runs a case against a new registry of each kind.
fn each(case: impl Fn(&Arc<dyn Registry>)) {
    let directory = tempfile::tempdir().expect("a directory");
    let sqlite = SqliteRegistry::open(&directory.path().join("sps.db")).expect("a registry");
    case(&(Arc::new(sqlite) as Arc<dyn Registry>));
}

fn moment(at: i64) -> Moment {
    Moment {
        at: Timestamp::from_nanoseconds(at),
        age: StoreTime::from_nanoseconds(at.unsigned_abs() * 2),
    }
}

fn draft(name: &str) -> Draft {
    Draft {
        id: ImageId::random(),
        name: ImageName::new(name.as_bytes()).expect("a name"),
        status: Status::Queued,
        ownership: Ownership { uid: 1, gid: 2, mode: 0o640 },
        details: Details::default(),
        is_provisional: true,
        quota_images: None,
        by: 1,
        created: moment(1_000),
    }
}

fn seal(byte: u8) -> Seal {
    Seal {
        digest: Digest::from_bytes([byte; 32]),
        size_bytes: 10,
        allocated_bytes: 4096,
        format: DiskFormat::Raw,
        virtual_size_bytes: None,
    }
}

fn with_status(mut image: Image, status: Status, at: i64) -> Image {
    image.status = status;
    image.status_at = Timestamp::from_nanoseconds(at);
    image
}

fn reload(registry: &Arc<dyn Registry>, image: &Image) -> Image {
    registry.image(Key::Id(image.id)).expect("readable").expect("there")
}

#[test]
fn what_is_recorded_is_read_back_whole() {
    each(|registry| {
        let image = registry.create(draft("x")).expect("recorded");
        assert_eq!(reload(registry, &image), image);
        let mut changed = with_status(image.clone(), Status::PendingDelete, -5);
        changed.content = Content::Sealed(seal(7));
        changed.origin = Some(Status::Deactivated);
        changed.bound_digest = Some(seal(7).digest);
        changed.message = Some("why ' \" \n".into());
        changed.entered_at = StoreTime::from_nanoseconds(77);
        changed.is_provisional = false;
        changed.expected.size = Some(12);
        changed.name = ImageName::new("ü ~1".as_bytes()).expect("a name");
        registry.commit(Change::update(changed.clone()).durably()).expect("committed");
        changed.version += 1;
        assert_eq!(reload(registry, &image), changed);
        let by_number = registry.image(Key::Number(image.number)).expect("readable");
        assert_eq!(by_number, Some(changed));
    });
}

#[test]
fn a_commit_of_an_old_version_changes_nothing() {
    each(|registry| {
        let image = registry.create(draft("x")).expect("recorded");
        let other = registry.create(draft("y")).expect("recorded");
        registry.commit(Change::update(image.clone())).expect("committed");
        let mut both = Change::update(with_status(other.clone(), Status::Saving, 2));
        both.updates.push(image.clone());
        assert!(matches!(registry.commit(both), Err(Error::Conflict)));
        assert_eq!(reload(registry, &other), other, "all or nothing");
        let mut change = Change::update(image.clone());
        change.forgotten.append(&mut change.updates);
        assert!(matches!(registry.commit(change), Err(Error::Conflict)));
    });
}

#[test]
fn one_active_image_has_a_name_and_it_changes_hands_in_one_commit() {
    each(|registry| {
        let old = registry.create(draft("x")).expect("recorded");
        let new = registry.create(draft("x")).expect("recorded");
        registry
            .commit(Change::update(with_status(old.clone(), Status::Active, 2)))
            .expect("committed");
        let taken = Change::update(with_status(new.clone(), Status::Active, 3));
        assert!(matches!(registry.commit(taken), Err(Error::Conflict)));
        let old = reload(registry, &old);
        let mut swap = Change::update(with_status(old, Status::PendingDelete, 3));
        swap.updates.push(with_status(new.clone(), Status::Active, 3));
        registry.commit(swap).expect("committed");
        let name = ImageName::new(b"x").expect("a name");
        let holder = registry.find(Status::Active, &name, None).expect("readable");
        assert_eq!(holder.map(|image| image.id), Some(new.id));
    });
}

#[test]
fn images_are_found_listed_and_counted() {
    each(|registry| {
        let made: Vec<Image> =
            (0..5).map(|_| registry.create(draft("x")).expect("recorded")).collect();
        for (image, at) in made.iter().zip([30, 50, 10, 20, 40]) {
            let mut image = with_status(image.clone(), Status::Killed, at);
            image.content = Content::Sealed(seal(1));
            // What nothing is told of is no news, however new it is.
            image.message = (at != 40).then(|| "why".into());
            registry.commit(Change::update(image)).expect("committed");
        }
        let name = ImageName::new(b"x").expect("a name");
        let newest = registry.find(Status::Killed, &name, None).expect("readable").expect("there");
        assert_eq!(newest.id, made[1].id);
        for image in &made {
            let prefix = Some(image.id.prefix());
            let found = registry.find(Status::Killed, &name, prefix).expect("readable");
            assert_eq!(found.map(|image| image.id), Some(image.id));
        }
        let page = registry.page(Some(Status::Killed), made[0].number, 3).expect("readable");
        let listed: Vec<(ImageId, bool)> =
            page.iter().map(|listed| (listed.image.id, listed.is_shadowed)).collect();
        assert_eq!(listed, [(made[1].id, false), (made[2].id, true), (made[3].id, true)]);
        assert_eq!(registry.page(None, ImageNumber::new(0), 100).expect("readable").len(), 5);
        let latest = registry.latest_told(Status::Killed, 2).expect("readable");
        let latest: Vec<ImageId> = latest.iter().map(|image| image.id).collect();
        assert_eq!(latest, [made[1].id, made[0].id]);
        let total = Total { status: Status::Killed, images: 5, size_bytes: 50 };
        assert!(registry.totals().expect("readable").contains(&total));
    });
}

#[test]
fn a_content_is_referenced_as_long_as_a_record_holds_it() {
    each(|registry| {
        let image = registry.create(draft("x")).expect("recorded");
        let digest = seal(9).digest;
        assert!(!registry.is_referenced(&digest).expect("readable"));
        let mut held = image.clone();
        held.content = Content::Sealed(seal(9));
        registry.commit(Change::update(held)).expect("committed");
        assert!(registry.is_referenced(&digest).expect("readable"));
        let mut gone = reload(registry, &image);
        gone.content = Content::Gone(seal(9));
        let reclaim = Reclaim { id: image.id, digest };
        let mut change = Change::update(gone);
        change.reclaims.push(reclaim);
        registry.commit(change).expect("committed");
        assert!(!registry.is_referenced(&digest).expect("readable"));
        assert_eq!(registry.reclaims(10).expect("readable"), [reclaim]);
        registry.settle(&[reclaim]).expect("struck out");
        assert!(registry.reclaims(10).expect("readable").is_empty());
    });
}

#[test]
fn commits_of_many_threads_are_all_made_once() {
    each(|registry| {
        let image = registry.create(draft("x")).expect("recorded");
        thread::scope(|scope| {
            for thread in 0..8 {
                let registry = Arc::clone(registry);
                let id = image.id;
                scope.spawn(move || {
                    for _ in 0..50 {
                        loop {
                            let mut image =
                                registry.image(Key::Id(id)).expect("readable").expect("there");
                            image.ownership.mode += 1;
                            let durability = if thread % 2 == 0 {
                                Durability::Durable
                            } else {
                                Durability::Transient
                            };
                            let change = Change { durability, ..Change::update(image) };
                            match registry.commit(change) {
                                Ok(()) => break,
                                Err(Error::Conflict) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(reload(registry, &image).ownership.mode, 0o640 + 400);
        registry.flush().expect("flushed");
    });
}

#[test]
fn a_database_that_is_not_ours_or_newer_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let foreign = directory.path().join("foreign.db");
    let connection = rusqlite::Connection::open(&foreign).expect("a database");
    connection.execute_batch("CREATE TABLE t (x)").expect("a table");
    drop(connection);
    let error = SqliteRegistry::open(&foreign).err().expect("refused");
    assert!(error.to_string().contains("not a registry"), "{error}");
    let newer = directory.path().join("newer.db");
    drop(SqliteRegistry::open(&newer).expect("a registry"));
    let connection = rusqlite::Connection::open(&newer).expect("a database");
    connection.pragma_update(None, "user_version", 99).expect("newer");
    drop(connection);
    let error = SqliteRegistry::open(&newer).err().expect("refused");
    assert!(error.to_string().contains("use a newer sps"), "{error}");
    let text = directory.path().join("text.db");
    std::fs::write(&text, "this is no database, however long it may be ".repeat(50)).expect("text");
    assert!(SqliteRegistry::open(&text).is_err());
}

#[test]
fn what_time_ends_is_found_when_it_is_due_and_what_is_protected_never() {
    each(|registry| {
        for (name, age, mode) in [("a", 30, 0o640), ("b", 10, 0o640), ("c", 5, 0o1640)] {
            let mut image = registry.create(draft(name)).expect("recorded");
            image.status = Status::PendingDelete;
            image.ownership.mode = mode;
            image.entered_at = StoreTime::from_nanoseconds(age);
            registry.commit(Change::update(image)).expect("committed");
        }
        let due = |until| -> Vec<String> {
            let found = registry.due(Status::PendingDelete, StoreTime::from_nanoseconds(until), 9);
            found.expect("readable").iter().map(|image| image.name.to_string()).collect()
        };
        assert!(due(9).is_empty());
        assert_eq!(due(10), ["b"]);
        assert_eq!(due(1000), ["b", "a"]);
        let active = registry.due(Status::Active, StoreTime::from_nanoseconds(1000), 9);
        assert!(active.expect("readable").is_empty());
    });
}

#[test]
fn tasks_are_recorded_changed_found_and_forgotten() {
    each(|registry| {
        let draft = |name: &str| TaskDraft {
            id: TaskId::random(),
            name: ImageName::new(name.as_bytes()).expect("a name"),
            ownership: Ownership { uid: 5, gid: 6, mode: 0o444 },
            input: TaskInput::Scrub,
            created: moment(9),
        };
        let (first, second) = (draft("t"), draft("t"));
        let tasks = [&first, &second].map(|draft| TaskChange::Create(draft.clone()));
        registry.commit(Change { tasks: tasks.to_vec(), ..Change::default() }).expect("committed");
        let task = registry.task(TaskKey::Id(first.id)).expect("readable").expect("there");
        assert_eq!(task.status, TaskStatus::Pending);
        let mut begun = task.stepped(TaskEvent::Start, moment(20)).expect("it may begin");
        begun.message = Some("why".into());
        begun.progress = 7;
        begun.result = Some(TaskResult::Scrubbed { images: 3 });
        begun.expires_at = Some(Timestamp::from_nanoseconds(99));
        let update = |task: &Task| Change {
            tasks: vec![TaskChange::Update(task.clone())],
            ..Change::default()
        };
        registry.commit(update(&begun)).expect("committed");
        assert!(matches!(registry.commit(update(&begun)), Err(Error::Conflict)), "an old version");
        begun.version += 1;
        let found = registry.task(TaskKey::Number(begun.number)).expect("readable");
        assert_eq!(found, Some(begun.clone()));
        let none = TaskNumber::new(0);
        let pending = registry.task_page(TaskStatus::Pending, none, 9).expect("readable");
        assert_eq!(pending.len(), 1);
        assert_eq!(pending[0].task.id, second.id);
        let total = |status| registry.task_total(status).expect("readable");
        let waiting = TaskTotal { tasks: 1, oldest_at: Some(second.created.at) };
        assert_eq!(total(TaskStatus::Pending), waiting);
        let working = TaskTotal { tasks: 1, oldest_at: Some(begun.status_at) };
        assert_eq!(total(TaskStatus::Processing), working);
        assert_eq!(total(TaskStatus::Failure), TaskTotal { tasks: 0, oldest_at: None });
        let found = registry.find_task(TaskStatus::Processing, &begun.name, None);
        assert_eq!(found.expect("readable"), Some(begun.clone()));
        let prefix = Some(second.id.as_image_id().prefix());
        let found = registry.find_task(TaskStatus::Pending, &second.name, prefix);
        assert_eq!(found.expect("readable").map(|task| task.id), Some(second.id));
        let due = |until| {
            let until = StoreTime::from_nanoseconds(until);
            registry.tasks_due(TaskStatus::Processing, until, 9).expect("readable").len()
        };
        assert_eq!((due(39), due(40)), (0, 1));
        let tasks = vec![TaskChange::Forget(begun.clone())];
        registry.commit(Change { tasks, ..Change::default() }).expect("committed");
        assert_eq!(registry.task(TaskKey::Id(begun.id)).expect("readable"), None);
    });
}

#[test]
fn transitions_are_remembered_in_their_order_and_the_oldest_go() {
    each(|registry| {
        let image = registry.create(draft("x")).expect("recorded");
        let count = u64::from(TRANSITIONS_KEPT) + 300;
        for number in 0..count {
            let transition = Transition {
                at: Timestamp::from_nanoseconds(i64::try_from(number).expect("small")),
                id: image.id,
                name: image.name.clone(),
                from: Some(Status::Queued),
                to: None,
                cause: "a test".into(),
                uid: Some(1),
            };
            let transitions = vec![transition];
            registry.commit(Change { transitions, ..Change::default() }).expect("committed");
        }
        let kept = registry.transitions().expect("readable");
        assert_eq!(kept.len(), TRANSITIONS_KEPT as usize);
        assert!(kept.windows(2).all(|pair| pair[0].at < pair[1].at));
        let last = kept.last().expect("one").at.as_nanoseconds();
        assert_eq!(last.unsigned_abs(), count - 1);
    });
}

#[test]
fn the_clock_is_noted_and_the_holders_of_a_content_are_found() {
    each(|registry| {
        assert_eq!(registry.clock().expect("readable"), None);
        for lived in [5, 9] {
            let mark = ClockMark {
                lived: StoreTime::from_nanoseconds(lived),
                at: Timestamp::from_nanoseconds(-3),
            };
            registry.set_clock(mark).expect("noted");
            assert_eq!(registry.clock().expect("readable"), Some(mark));
        }
        for name in ["a", "b"] {
            let mut image = registry.create(draft(name)).expect("recorded");
            image.content = Content::Sealed(seal(3));
            registry.commit(Change::update(image)).expect("committed");
        }
        let holders =
            |byte, limit| registry.holders(&seal(byte).digest, limit).expect("readable").len();
        assert_eq!((holders(3, 9), holders(3, 1), holders(4, 9)), (2, 1, 0));
    });
}

#[test]
fn the_log_begins_anew_however_much_is_written_without_a_pause() {
    const WAL_BYTES_MAX: u64 = 512 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sps.db");
    let registry = SqliteRegistry::open(&path).expect("a registry");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    registry.create(draft("x")).expect("recorded");
                }
            });
        }
    });
    // All that was written comes to several times as much.
    let log = std::fs::metadata(path.with_extension("db-wal")).expect("a log").len();
    assert!(log < WAL_BYTES_MAX, "{} MiB", log >> 20);
}
