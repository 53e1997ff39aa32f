//! Tasks: ordered, begun, ended, tried again, cancelled and forgotten. Who does the work is not known here.

use std::collections::HashSet;

use super::import::TASK_MODE;
use super::{Actor, Catalog, convert};
use crate::error::{Error, Result};
use crate::image::{Image, ImageId, ImageName, ImageNumber, Ownership, User};
use crate::lifecycle::{Status, TaskEvent, TaskStatus};
use crate::registry::{Change, TaskChange, TaskKey};
use crate::task::{
    ATTEMPTS_MAX, Convert, ImportPath, Order, Task, TaskDraft, TaskId, TaskInput, TaskNumber,
    TaskResult,
};

/// Tasks that are read at once.
const PAGE: u32 = 64;

impl Catalog {
    /// Records a task that a person wrote: pending, durably.
    ///
    /// # Errors
    /// The image is not there or not the author's, or only the operator may ask for that.
    pub fn order(&self, order: Order, name: ImageName, author: &User) -> Result<TaskId> {
        let actor = Actor { uid: author.uid };
        let input = match order {
            Order::Import(import) => {
                TaskInput::ImportPath(ImportPath { groups: author.groups.clone(), ..import })
            }
            Order::Convert { image, to, name } => {
                let source = self.named(&image)?;
                convert::must_read(&source, author)?;
                let groups = author.groups.clone();
                TaskInput::Convert(Convert { source: source.id, to, name, groups, image: None })
            }
            Order::Verify { image: Some(image) } => {
                let image = self.named(&image)?;
                actor.must_govern(&image)?;
                TaskInput::Verify { image: Some(image.id) }
            }
            Order::Verify { image: None } if actor.is_operator() => {
                TaskInput::Verify { image: None }
            }
            Order::Scrub if actor.is_operator() => TaskInput::Scrub,
            Order::Verify { image: None } | Order::Scrub => {
                return Err(Error::NoPermission(
                    "only root and the mounting user may ask for that",
                ));
            }
        };
        let id = TaskId::random();
        let ownership = Ownership { uid: author.uid, gid: author.gid, mode: TASK_MODE };
        let created = self.shared.clock.moment();
        log::info!("task={id} name={:?} to=pending op={}", name.as_str(), input.kind());
        let draft = TaskDraft { id, name, ownership, input, created };
        let tasks = vec![TaskChange::Create(draft)];
        self.shared.commit(Change { tasks, ..Change::default() }.durably())?;
        Ok(id)
    }

    /// The image that a text names: by its id or, in `active/`, by its name.
    fn named(&self, text: &str) -> Result<Image> {
        let found = match ImageId::parse(text) {
            Some(id) => self.by_id(id)?,
            None => {
                let name = ImageName::new(text.as_bytes())?;
                self.find(Status::Active, &name, None)?
            }
        };
        found.ok_or(Error::NotFound)
    }

    /// The first pending task, begun: it is the caller's to end now.
    ///
    /// # Errors
    /// The registry can't be read or written.
    pub fn begin_task(&self) -> Result<Option<Task>> {
        self.shared.until_settled(|| {
            let first = self.task_page(TaskStatus::Pending, TaskNumber::new(0), 1)?.pop();
            let Some(listed) = first else { return Ok(None) };
            self.step_task(&listed.task, TaskEvent::Start).map(Some)
        })
    }

    /// Notes how far a task is, in percent.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn advance_task(&self, id: TaskId, percent: u8) -> Result<()> {
        self.shared.until_settled(|| {
            let Some(mut task) = self.task(id)? else { return Ok(()) };
            task.progress = percent;
            task.updated_at = self.shared.clock.moment().at;
            let tasks = vec![TaskChange::Update(task)];
            self.shared.commit(Change { tasks, ..Change::default() })
        })
    }

    /// Ends a task with what came of it.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn end_task(&self, id: TaskId, outcome: &Result<TaskResult>) -> Result<()> {
        let input = self.task(id)?.ok_or(Error::NotFound)?.input;
        if let (Err(error), Some(image)) = (outcome, imported(&input)) {
            // However it failed, nothing stays half imported.
            self.give_up_import(image, error)?;
        }
        self.change_task(id, |task| match outcome {
            Ok(result) => {
                task.result = Some(*result);
                task.message = None;
                task.progress = 100;
                TaskEvent::Succeed
            }
            Err(error) => {
                task.message = Some(error.to_string());
                TaskEvent::Fail
            }
        })
    }

    /// Gives a task back that was begun and can be gone on with: its executor stops, or has died. One
    /// that was begun too often fails.
    ///
    /// # Errors
    /// The registry can't write.
    pub fn retry_task(&self, id: TaskId, has_died: bool) -> Result<()> {
        let task = self.task(id)?.ok_or(Error::NotFound)?;
        if has_died && task.attempts >= ATTEMPTS_MAX {
            let reason =
                Error::WriterFailed(format!("its executor died {ATTEMPTS_MAX} times: see the log"));
            return self.end_task(id, &Err(reason));
        }
        self.change_task(id, |task| {
            task.attempts -= u32::from(!has_died).min(task.attempts);
            task.message = has_died.then(|| "its executor died: it is tried again".to_owned());
            TaskEvent::Retry
        })
    }

    /// Refuses a task before it begins.
    fn refuse_task(&self, id: TaskId, reason: &str) -> Result<()> {
        self.change_task(id, |task| {
            task.message = Some(reason.to_owned());
            TaskEvent::Refuse
        })
    }

    /// Tasks whose executor died are pending again, or have failed.
    ///
    /// # Errors
    /// The registry can't be read or written.
    pub fn recover_tasks(&self) -> Result<()> {
        loop {
            let begun = self.task_page(TaskStatus::Processing, TaskNumber::new(0), PAGE)?;
            if begun.is_empty() {
                return self.recover_imports();
            }
            for listed in begun {
                self.retry_task(listed.task.id, true)?;
            }
        }
    }

    /// An image that is importing, and that no task is left to import, is queued again.
    fn recover_imports(&self) -> Result<()> {
        let pending = self.task_page(TaskStatus::Pending, TaskNumber::new(0), u32::MAX)?;
        let expected: HashSet<ImageId> =
            pending.iter().filter_map(|listed| imported(&listed.task.input)).collect();
        let reason = Error::WriterFailed("its import was given up".into());
        let importing = self.page(Some(Status::Importing), ImageNumber::new(0), u32::MAX)?;
        let mut left = importing.into_iter().map(|listed| listed.image.id);
        left.try_for_each(|id| match expected.contains(&id) {
            true => Ok(()),
            false => self.give_up_import(id, &reason),
        })
    }

    /// Removes a task as its folder has it: a pending one is cancelled, a finished one forgotten.
    ///
    /// # Errors
    /// It is running, not where it was seen, or another's.
    pub fn remove_task(&self, id: TaskId, seen: TaskStatus, actor: Actor) -> Result<()> {
        let task = self.task(id)?.filter(|task| task.status == seen).ok_or(Error::NotFound)?;
        if !actor.is_root() && actor.uid != task.ownership.uid {
            return Err(Error::NoPermission("only root and the task's author may do that"));
        }
        match seen {
            TaskStatus::Processing => {
                Err(Error::Busy("the task is running: remove its image, or wait".into()))
            }
            TaskStatus::Pending => {
                self.refuse_task(id, "cancelled before it began")?;
                let reason = Error::WriterFailed("its import was cancelled".into());
                imported(&task.input).map_or(Ok(()), |image| self.give_up_import(image, &reason))
            }
            TaskStatus::Success | TaskStatus::Failure => {
                log::info!("task={id} name={:?} op=forget", task.name.as_str());
                let tasks = vec![TaskChange::Forget(task)];
                self.shared.commit(Change { tasks, ..Change::default() })
            }
        }
    }

    fn change_task(&self, id: TaskId, edit: impl Fn(&mut Task) -> TaskEvent) -> Result<()> {
        self.shared.until_settled(|| {
            let task = self.shared.registry.task(TaskKey::Id(id))?.ok_or(Error::NotFound)?;
            let mut edited = task.clone();
            let event = edit(&mut edited);
            self.step_task(&edited, event).map(|_| ())
        })?;
        self.keeper.wake();
        Ok(())
    }

    fn step_task(&self, task: &Task, event: TaskEvent) -> Result<Task> {
        let now = self.shared.clock.moment();
        let mut next = task.stepped(event, now).ok_or(Error::NotFound)?;
        if next.status.is_finished() {
            let kept = i64::try_from(self.shared.policy.task_time.as_nanos()).unwrap_or(i64::MAX);
            let at = now.at.as_nanoseconds().saturating_add(kept);
            next.expires_at = Some(crate::image::Timestamp::from_nanoseconds(at));
        }
        let (id, from, to) = (task.id, task.status.name(), next.status.name());
        let tasks = vec![TaskChange::Update(next.clone())];
        self.shared.commit(Change { tasks, ..Change::default() })?;
        next.version += 1;
        let (name, op) = (next.name.as_str(), event.name());
        let message = next.message.as_deref().unwrap_or_default();
        log::info!("task={id} name={name:?} from={from} to={to} op={op:?} {message}");
        Ok(next)
    }
}

/// The image that a task imports, if it does and there is one.
fn imported(input: &TaskInput) -> Option<ImageId> {
    match input {
        TaskInput::ImportStaged { image } => Some(*image),
        TaskInput::ImportPath(import) => import.image,
        TaskInput::Convert(convert) => convert.image,
        TaskInput::Verify { .. } | TaskInput::Scrub => None,
    }
}
