//! The lifecycle, whole: every status with every event, and the picture of it in docs/.

use std::fmt::Write;
use std::path::PathBuf;

use sps::lifecycle::{
    Decision, Effect, Event, MOVES, Reason, Status, Subject, TABLE, TASK_TABLE, TaskDecision,
    TaskEvent, TaskStatus, decide, decide_move, decide_task,
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
        Decision::Denied(Reason::NotItsOrigin { .. }) => "denied: not its origin".into(),
        Decision::Denied(Reason::TooEarly { .. }) => "denied: too early".into(),
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
    for (from, to, event) in MOVES {
        let origins = [None, Some(Status::Active), Some(Status::Deactivated)];
        for (origin, protected) in origins.into_iter().flat_map(|o| [(o, false), (o, true)]) {
            let subject = Subject { status: *from, protected };
            let decision = verdict(decide_move(subject, origin, *event));
            let mark = if protected { " +t" } else { "" };
            let came = origin.map_or("", Status::name);
            writeln!(matrix, "mv {from}{mark} {to} | {came} | {decision}").unwrap();
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

/// Before an image is made, and after its record is dropped.
const NONE: &str = "(none)";

/// An arrow of the diagram, with all its causes.
struct Arrow {
    from: &'static str,
    to: &'static str,
    causes: Vec<&'static str>,
}

/// The arrows of the table: one for each two statuses.
fn arrows() -> Vec<Arrow> {
    let mut arrows = vec![Arrow { from: NONE, to: "queued", causes: vec!["create"] }];
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
                arrows.push(Arrow { from: from.name(), to: to.name(), causes });
            }
        }
    }
    arrows.push(Arrow { from: "deleted", to: NONE, causes: vec![Event::Forget.name()] });
    arrows
}

/// The diagram in the language of Graphviz.
fn dot() -> String {
    let mut dot = String::from("digraph image_status_transition {\n");
    for Arrow { from, to, causes } in arrows() {
        let label = causes.join(",\\n");
        writeln!(dot, "    \"{from}\" -> \"{to}\" [label=\"{label}\"];").unwrap();
    }
    dot + "}\n"
}

/// Where a status stands in the picture.
fn place(name: &str, is_end: bool) -> (f64, f64) {
    match name {
        "queued" => (110.0, 190.0),
        "saving" => (440.0, 80.0),
        "killed" => (660.0, 50.0),
        "uploading" => (110.0, 430.0),
        "importing" => (390.0, 340.0),
        "active" => (790.0, 200.0),
        "deactivated" => (1090.0, 200.0),
        "pending_delete" => (940.0, 420.0),
        "deleted" => (610.0, 560.0),
        _ if is_end => (860.0, 600.0),
        _ => (110.0, 50.0),
    }
}

/// The diagram as a picture: boxes where [`place`] says, arrows that bend away from their opposites.
fn svg() -> String {
    let mut svg = String::from(concat!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1200 640\" ",
        "font-family=\"sans-serif\" font-size=\"14\">\n",
        "<rect width=\"1200\" height=\"640\" fill=\"white\"/>\n",
        "<marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" ",
        "markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#456\"/></marker>\n",
    ));
    let mut labels = String::new();
    for Arrow { from, to, causes } in arrows() {
        let (start, end) = (place(from, false), place(to, true));
        let (dx, dy) = (end.0 - start.0, end.1 - start.1);
        let length = dx.hypot(dy);
        let bend = (
            start.0.midpoint(end.0) - dy / length * 64.0,
            start.1.midpoint(end.1) + dx / length * 64.0,
        );
        // From the edge of one box to the edge of the other.
        let edge = |at: (f64, f64)| {
            let (x, y) = (bend.0 - at.0, bend.1 - at.1);
            let scale = (62.0 / x.abs().max(0.1)).min(20.0 / y.abs().max(0.1));
            (at.0 + x * scale, at.1 + y * scale)
        };
        let ((x1, y1), (x2, y2)) = (edge(start), edge(end));
        writeln!(
            svg,
            "<path d=\"M{x1:.0} {y1:.0}Q{:.0} {:.0} {x2:.0} {y2:.0}\" fill=\"none\" stroke=\"#456\" \
             marker-end=\"url(#tip)\"/>",
            bend.0, bend.1
        )
        .unwrap();
        let middle = ((x1 + 2.0 * bend.0 + x2) / 4.0, (y1 + 2.0 * bend.1 + y2) / 4.0);
        for (line, cause) in causes.iter().enumerate() {
            writeln!(
                labels,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#234\" stroke=\"white\" \
                 stroke-width=\"4\" paint-order=\"stroke\" font-size=\"12\">{cause}</text>",
                middle.0,
                middle.1 + 4.0 + 14.0 * line as f64
            )
            .unwrap();
        }
    }
    let ends = [(NONE, false), (NONE, true)];
    for (name, is_end) in Status::ALL.into_iter().map(|s| (s.name(), false)).chain(ends) {
        let (x, y) = place(name, is_end);
        let fill = match name {
            "active" => "#cfe8cf",
            "killed" => "#f3d0d0",
            NONE => "white",
            _ => "#e4ebf3",
        };
        writeln!(
            svg,
            "<rect x=\"{:.0}\" y=\"{:.0}\" width=\"124\" height=\"40\" rx=\"8\" fill=\"{fill}\" \
             stroke=\"#456\"/><text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{name}</text>",
            x - 62.0,
            y - 20.0,
            y + 5.0
        )
        .unwrap();
    }
    svg + &labels + "</svg>\n"
}

#[test]
fn the_diagram_in_docs_is_drawn_from_the_table() {
    check_golden("docs/image_status_transition.dot", &dot());
    check_golden("docs/image_status_transition.svg", &svg());
}
