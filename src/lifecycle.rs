//! What may happen to an image and to a task, and nothing else.
//!
//! One table holds every transition (specification, section 1). [`decide`] reads it and answers with
//! a step, with "it is so already", or with a named reason; nobody else compares statuses to permit
//! something. This module knows no time, no storage and no caller.
//!
//! ```text
//!            create           first data          close, nothing failed
//!   (none) ────────▶ queued ────────────▶ saving ────────────────────▶ active ◀──▶ deactivated
//!                    │   ▲                  │ upload failed               │ delete       │
//!              stage │   │ import failed    ▼                            ▼              │
//!                    ▼   │                killed              pending_delete ◀──────────┘
//!                uploading ──▶ importing ──▶ active                │    ▲ restore: back to
//!                                                                  ▼    │ where it came from
//!                                    any but active ──delete──▶ deleted ──forget──▶ (none)
//! ```

use std::fmt;

mod event;
mod movement;
mod status;
mod table;
mod task;

pub use event::Event;
pub use movement::{MOVES, Move, decide_move, moved};
pub use status::{Access, Status};
pub use table::{Row, TABLE};
pub use task::{TASK_TABLE, TaskDecision, TaskEvent, TaskRow, TaskStatus, decide_task};

/// What a transition does beyond setting the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Whoever writes this image is cut off: the next write fails.
    CancelWriter,
    /// The data is given back: staged data at once, sealed data when no other image has it.
    Reclaim,
    /// Size and virtual size are unknown again.
    ClearSize,
    /// The name changes hands: who bore it in this status is deleted in the same step.
    TakeName,
    /// The status is remembered, to restore to.
    RememberOrigin,
    /// The id never serves other bytes from now on.
    BindDigest,
    /// The record goes.
    DropRecord,
}

/// A transition that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The status the image has afterwards.
    pub to: Status,
    /// What else must be done, all of it or nothing.
    pub effects: &'static [Effect],
}

/// Why a transition may not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The table has no such row.
    NotInTable {
        /// The status the image has.
        from: Status,
        /// What was asked for.
        event: Event,
    },
    /// The image is protected, and what was asked for removes or replaces it.
    Protected {
        /// What was asked for.
        event: Event,
    },
    /// The image came to the trash from another status than the one it is to be restored to.
    NotItsOrigin {
        /// What was asked for.
        event: Event,
    },
    /// The image is kept in the trash for a time that has not passed.
    TooEarly {
        /// What was asked for.
        event: Event,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInTable { from, event } => {
                write!(f, "{} is not possible for an image that is {from}", event.name())
            }
            Self::Protected { event } => {
                write!(
                    f,
                    "{} is refused: the image is protected (chmod -t takes that off)",
                    event.name()
                )
            }
            Self::NotItsOrigin { event } => write!(
                f,
                "{} is refused: an image goes back to where it was removed from",
                event.name()
            ),
            Self::TooEarly { event } => {
                write!(f, "{} is refused: min_trash_time has not passed", event.name())
            }
        }
    }
}

/// The answer to "may this happen?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes: do this.
    Step(Step),
    /// The image is in the status that the event leads to; nothing is to be done.
    Already,
    /// No.
    Denied(Reason),
}

/// What of an image a decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its status.
    pub status: Status,
    /// Whether it is protected from removal.
    pub protected: bool,
}

/// Says whether `event` may happen to `subject`, and what it does.
#[must_use]
pub fn decide(subject: Subject, event: Event) -> Decision {
    let Subject { status, protected } = subject;
    match TABLE.iter().find(|row| row.from == status && row.event == event) {
        Some(_) if protected && event.removes() => Decision::Denied(Reason::Protected { event }),
        Some(row) => Decision::Step(Step { to: row.to, effects: row.effects }),
        None if event.is_fulfilled_by(status) => Decision::Already,
        None => Decision::Denied(Reason::NotInTable { from: status, event }),
    }
}
