//! The statuses of a task, and its transition table.

/// Where a task is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskStatus {
    /// Reserved, nothing begun.
    Pending,
    /// An executor has it.
    Processing,
    /// Done.
    Success,
    /// It could not go on.
    Failure,
}

/// What can happen to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// An executor takes it.
    Start,
    /// It is done.
    Succeed,
    /// It could not go on.
    Fail,
    /// It is refused before it began.
    Refuse,
    /// Its executor died; it is to be tried again.
    Retry,
}

/// One row of the task table: before, cause, after.
pub type TaskRow = (TaskStatus, TaskEvent, TaskStatus);

/// The whole task table: any other transition is refused.
pub const TASK_TABLE: &[TaskRow] = &[
    (TaskStatus::Pending, TaskEvent::Start, TaskStatus::Processing),
    (TaskStatus::Pending, TaskEvent::Refuse, TaskStatus::Failure),
    (TaskStatus::Processing, TaskEvent::Succeed, TaskStatus::Success),
    (TaskStatus::Processing, TaskEvent::Fail, TaskStatus::Failure),
    (TaskStatus::Processing, TaskEvent::Retry, TaskStatus::Pending),
];

/// The answer to "may this happen to the task?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskDecision {
    /// Yes: it has this status afterwards.
    Step(TaskStatus),
    /// It has the status that the event leads to.
    Already,
    /// No: the table has no such row.
    Denied,
}

/// Says whether `event` may happen to a task of `status`.
#[must_use]
pub fn decide_task(status: TaskStatus, event: TaskEvent) -> TaskDecision {
    let step = TASK_TABLE.iter().find(|(from, cause, _)| (*from, *cause) == (status, event));
    match step {
        Some((_, _, to)) => TaskDecision::Step(*to),
        None if TASK_TABLE.iter().any(|(_, cause, to)| (*cause, *to) == (event, status)) => {
            TaskDecision::Already
        }
        None => TaskDecision::Denied,
    }
}

impl TaskStatus {
    /// Every task status, in the order of a task's life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Processing, Self::Success, Self::Failure];

    /// The status as it is written everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl TaskStatus {
    /// The status of that name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether a task of this status is over: its record goes in time.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Success | Self::Failure => true,
            Self::Pending | Self::Processing => false,
        }
    }
}

impl TaskEvent {
    /// Every task event.
    pub const ALL: [Self; 5] = [Self::Start, Self::Succeed, Self::Fail, Self::Refuse, Self::Retry];

    /// The cause in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Succeed => "succeed",
            Self::Fail => "fail",
            Self::Refuse => "refuse",
            Self::Retry => "executor died",
        }
    }
}
