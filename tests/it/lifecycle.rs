//! The lifecycle, whole: every status with every event, and the picture of it in docs/.

use std::fmt::Write;
use std::path::PathBuf;

use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};
use sps::lifecycle::{
    Decision, Effect, Event, Reason, Status, Subject, TABLE, TASK_TABLE, TaskDecision, TaskEvent,
    TaskStatus, decide, decide_task,
};

/// Compares with a file of the tree; with `UPDATE_GOLDEN` set, writes it.
fn check_golden(path: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).expect("a golden file that can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        golden == found,
        "{} has drifted from the code: look at the change, then run the tests with UPDATE_GOLDEN=1",
        path.display()
    );
}

fn verdict(decision: Decision) -> String {
    match decision {
        Decision::Step(step) => {
            let effects: Vec<String> = step.effects.iter().map(|e| format!("{e:?}")).collect();
            format!("-> {} [{}]", step.to, effects.join(" "))
        }
        Decision::Already => "already".into(),
        Decision::Denied(Reason::NotInTable { .. }) => "denied".into(),
        Decision::Denied(Reason::Protected { .. }) => "denied: protected".into(),
    }
}

// semantics: transitions
#[test]
fn every_status_and_event_decides_as_the_golden_matrix_says() {
    let mut matrix = String::new();
    for status in Status::ALL {
        for event in Event::ALL {
            for protected in [false, true] {
                let decision = verdict(decide(Subject { status, protected }, event));
                let mark = if protected { " +t" } else { "" };
                writeln!(matrix, "{status}{mark} | {} | {decision}", event.name()).unwrap();
            }
        }
    }
    for status in TaskStatus::ALL {
        for event in TaskEvent::ALL {
            let decision = match decide_task(status, event) {
                TaskDecision::Step(to) => format!("-> {}", to.name()),
                TaskDecision::Already => "already".into(),
                TaskDecision::Denied => "denied".into(),
            };
            writeln!(matrix, "task {} | {} | {decision}", status.name(), event.name()).unwrap();
        }
    }
    check_golden("tests/it/lifecycle.golden", &matrix);
}

#[test]
fn no_pair_of_status_and_event_has_two_rows() {
    for (index, row) in TABLE.iter().enumerate() {
        let twin =
            TABLE.iter().skip(index + 1).find(|r| (r.from, r.event) == (row.from, row.event));
        assert!(twin.is_none(), "{:?} {:?}", row.from, row.event);
    }
}

#[test]
fn what_enters_active_takes_its_name_and_what_enters_deleted_gives_back_its_data() {
    for row in TABLE {
        let takes = row.effects.contains(&Effect::TakeName);
        assert_eq!(takes, row.to.has_unique_names(), "{row:?}");
        let forgets = row.effects.contains(&Effect::DropRecord);
        let reclaims = row.effects.contains(&Effect::Reclaim);
        if row.to == Status::Deleted && !forgets {
            assert!(reclaims, "{row:?}");
        }
        if row.to == Status::Queued {
            assert!(row.effects.contains(&Effect::ClearSize), "{row:?}");
        }
    }
}

#[test]
fn every_status_is_reached_from_queued_and_every_one_can_be_left() {
    let mut reached = vec![Status::Queued];
    while let Some(row) =
        TABLE.iter().find(|row| reached.contains(&row.from) && !reached.contains(&row.to))
    {
        reached.push(row.to);
    }
    for status in Status::ALL {
        assert!(reached.contains(&status), "{status} is never reached");
        assert!(TABLE.iter().any(|row| row.from == status), "{status} is a dead end");
    }
    for status in TaskStatus::ALL {
        let is_first = status == TaskStatus::Pending;
        assert!(is_first || TASK_TABLE.iter().any(|(_, _, to)| *to == status), "{status:?}");
    }
}

/// The diagram of image statuses in the language of Graphviz: an arrow for each two statuses, with all
/// its causes.
fn diagram() -> String {
    let mut dot = String::from("digraph image_status_transition {\n");
    for status in Status::ALL {
        writeln!(dot, "    {status} [label=\"{status}\"];").unwrap();
    }
    writeln!(dot, "    none [label=\"(none)\"];").unwrap();
    writeln!(dot, "    none -> queued [label=\"create\"];").unwrap();
    for from in Status::ALL {
        for to in Status::ALL {
            let rows = TABLE.iter().filter(|row| row.from == from && row.to == to);
            let causes: Vec<Event> = rows
                .filter(|row| !row.effects.contains(&Effect::DropRecord))
                .map(|row| row.event)
                .collect();
            // Where a delete does the same with delayed delete on and off, one is drawn.
            let has_delete = causes.contains(&Event::Delete);
            let drawn = causes.into_iter().filter(|e| !has_delete || *e != Event::DeleteNow);
            let causes: Vec<&str> = drawn.map(Event::name).collect();
            if !causes.is_empty() {
                writeln!(dot, "    {from} -> {to} [label=\"{}\"];", causes.join(",\\n")).unwrap();
            }
        }
    }
    writeln!(dot, "    deleted -> none [label=\"forget\"];").unwrap();
    dot + "}\n"
}

#[test]
fn the_diagram_in_docs_is_drawn_from_the_table() {
    let dot = diagram();
    check_golden("docs/image_status_transition.dot", &dot);
    let graph = DotParser::new(&dot).process().expect("a graph that parses");
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&graph);
    let mut picture = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut picture);
    check_golden("docs/image_status_transition.svg", &picture.finalize());
}
