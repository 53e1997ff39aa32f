//! Every statement of the registry is shown to find what it asks for by an index, however many there are.

use std::collections::BTreeSet;
use std::sync::Mutex;

use rusqlite::Connection;
use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::SqliteRegistry;
use crate::image::{
    Content, Details, Digest, DiskFormat, IdPrefix, Image, ImageId, ImageName, ImageNumber, Moment,
    Ownership, Seal, StoreTime, Timestamp,
};
use crate::lifecycle::{Status, TaskStatus};
use crate::registry::{
    Change, ClockMark, Draft, Key, Reclaim, Registry, TaskChange, TaskKey, Transition,
};
use crate::task::{TaskDraft, TaskId, TaskInput, TaskNumber};

/// What was asked of any database in this process.
static STATEMENTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes what is asked of a connection.
pub(super) fn note(connection: &mut Connection) {
    let traced = connection.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(note_statement));
    traced.expect("a connection that can be traced");
}

fn note_statement(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(statement, _) = event {
        STATEMENTS.lock().expect("unpoisoned").insert(statement.sql().to_string());
    }
}

fn seal() -> Seal {
    Seal {
        digest: Digest::from_bytes([7; 32]),
        size_bytes: 10,
        allocated_bytes: 4096,
        format: DiskFormat::Raw,
        virtual_size_bytes: None,
    }
}

fn moment() -> Moment {
    Moment { at: Timestamp::from_nanoseconds(1), age: StoreTime::from_nanoseconds(1) }
}

fn ask_of_images(registry: &SqliteRegistry, image: &Image) {
    let (name, none) = (&image.name, ImageNumber::new(0));
    let prefix = ImageName::parse_listed(image.name.listed_as(image.id).as_bytes());
    let prefix: Option<IdPrefix> = prefix.expect("a listed name").1;
    registry.image(Key::Id(image.id)).expect("asked");
    registry.image(Key::Number(image.number)).expect("asked");
    for status in [Status::Active, Status::Queued] {
        registry.find(status, name, None).expect("asked");
        registry.find(status, name, prefix).expect("asked");
        registry.page(Some(status), none, 10).expect("asked");
        registry.names(Some(status), none, 10).expect("asked");
        registry.latest_told(status, 10).expect("asked");
        registry.due(status, StoreTime::from_nanoseconds(9), 10).expect("asked");
    }
    registry.page(None, none, 10).expect("asked");
    registry.names(None, none, 10).expect("asked");
    registry.is_shadowed(image).expect("asked");
    registry.unhashed(none, 10).expect("asked");
    registry.totals().expect("asked");
    registry.is_referenced(&seal().digest).expect("asked");
    registry.holders(&seal().digest, 10).expect("asked");
    registry.transitions().expect("asked");
    registry.reclaims(10).expect("asked");
    registry.outdated(10).expect("asked");
    registry.settle_outdated(&[(image.id, 1)]).expect("settled");
    registry.clock().expect("asked");
    registry.set_clock(ClockMark { lived: moment().age, at: moment().at }).expect("noted");
    registry.flush().expect("flushed");
}

fn ask_of_tasks(registry: &SqliteRegistry, id: TaskId, name: &ImageName) {
    let status = TaskStatus::Pending;
    let prefix = ImageName::parse_listed(name.listed_as(id.as_image_id()).as_bytes());
    registry.task(TaskKey::Number(TaskNumber::new(1))).expect("asked");
    registry.find_task(status, name, None).expect("asked");
    registry.find_task(status, name, prefix.expect("a listed name").1).expect("asked");
    registry.task_page(status, TaskNumber::new(0), 10).expect("asked");
    registry.task_total(status).expect("asked");
    registry.latest_tasks(status, 10).expect("asked");
    registry.tasks_due(status, StoreTime::from_nanoseconds(9), 10).expect("asked");
}

fn change(registry: &SqliteRegistry, image: &Image) {
    let id = image.id;
    let mut sealed = image.clone();
    sealed.status = Status::Active;
    sealed.content = Content::Sealed(seal());
    let mut change = Change::update(sealed);
    change.transitions.push(Transition {
        at: moment().at,
        id,
        name: image.name.clone(),
        from: Some(Status::Queued),
        to: Some(Status::Active),
        cause: "test".into(),
        uid: None,
    });
    change.reclaims.push(Reclaim { id, digest: seal().digest });
    change.outdated.push(id);
    let (task, name) = (TaskId::random(), image.name.clone());
    let draft = TaskDraft {
        id: task,
        name: name.clone(),
        ownership: image.ownership,
        input: TaskInput::Scrub,
        created: moment(),
    };
    change.tasks.push(TaskChange::Create(draft));
    registry.commit(change).expect("committed");
    ask_of_tasks(registry, task, &name);
    let kept = registry.task(TaskKey::Id(task)).expect("asked").expect("there");
    let mut change = Change::default();
    change.tasks.push(TaskChange::Update(kept));
    registry.commit(change).expect("committed");
    let kept = registry.task(TaskKey::Id(task)).expect("asked").expect("there");
    let image = registry.image(Key::Id(id)).expect("asked").expect("there");
    let mut change = Change::default();
    change.tasks.push(TaskChange::Forget(kept));
    change.forgotten.push(image);
    registry.commit(change).expect("committed");
    registry.settle(&[Reclaim { id, digest: seal().digest }]).expect("settled");
}

/// What may be read from its beginning: it has a row a status, or one, or it is read up to a limit.
fn may_be_scanned(step: &str, sql: &str) -> bool {
    let is_small = step.starts_with("SCAN totals") || step.starts_with("SCAN clock");
    let is_limited = ["transitions", "reclaims", "outdated"]
        .iter()
        .any(|table| step.starts_with(&format!("SCAN {table}")));
    let is_no_table = step.starts_with("SCAN CONSTANT ROW");
    is_small || is_no_table || (is_limited && sql.contains("LIMIT"))
}

#[test]
fn nothing_is_looked_for_without_an_index() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sps.db");
    let registry = SqliteRegistry::open(&path).expect("a registry");
    let draft = Draft {
        id: ImageId::random(),
        name: ImageName::new(b"x").expect("a name"),
        status: Status::Queued,
        ownership: Ownership { uid: 1, gid: 2, mode: 0o640 },
        details: Details::default(),
        is_provisional: false,
        quota_images: None,
        by: 1,
        created: moment(),
    };
    let image = registry.create(draft).expect("recorded");
    ask_of_images(&registry, &image);
    change(&registry, &image);
    let connection = Connection::open(&path).expect("a database");
    let statements = STATEMENTS.lock().expect("unpoisoned").clone();
    let is_asked = |sql: &&String| {
        ["SELECT", "UPDATE", "DELETE", "INSERT"].iter().any(|verb| sql.starts_with(verb))
    };
    let mut count = 0;
    for sql in statements.iter().filter(is_asked).filter(|sql| !sql.contains("sqlite_schema")) {
        let mut explained =
            connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        let mut steps = explained.raw_query();
        while let Some(step) = steps.next().expect("a plan") {
            let step: String = step.get("detail").expect("a detail");
            let is_scan = step.starts_with("SCAN") && !may_be_scanned(&step, sql);
            assert!(!is_scan && !step.contains("TEMP B-TREE"), "{step}: {sql}");
        }
        count += 1;
    }
    assert!(count >= 30, "only {count} statements were asked: {statements:#?}");
}
