//! A fact: a call, or a few on one descriptor, by a user, on a file that is prepared; and by what sps differs on purpose.

use super::differences::Difference;

/// What a call answers: a number, or an error number.
pub type Said = Result<u64, i32>;

/// Who makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    Root,
    /// He owns the file.
    Owner,
    /// He is in the group of the file.
    Member,
    Stranger,
}

impl User {
    pub const ALL: [Self; 4] = [Self::Root, Self::Owner, Self::Member, Self::Stranger];
}

/// A call. The path `f` is the file that is prepared, `g` another name in its folder, `l` a link to the file, `#N` a
/// name of N letters, `.` the folder. What has no path is of the descriptor that was opened last.
#[derive(Clone, Debug)]
pub enum Step {
    Open(&'static str, i32, u32),
    Close,
    Read(u64, usize),
    Write(u64, &'static [u8]),
    /// At the place of the descriptor.
    Append(&'static [u8]),
    Resize(i64),
    ResizeAt(&'static str, i64),
    Allocate(u32, u64, u64),
    Sync,
    Links,
    Chmod(&'static str, u32),
    ChmodOpen(u32),
    Chown(&'static str, Option<u32>, Option<u32>),
    /// Of a link itself.
    ChownLink(&'static str, Option<u32>, Option<u32>),
    /// Seconds and nanoseconds of both times; none leaves it.
    Times(&'static str, Option<Time>, Option<Time>),
    TimesOpen(Option<Time>, Option<Time>),
    Access(&'static str, u32),
    Rename(&'static str, &'static str, u32),
    Unlink(&'static str),
    Rmdir(&'static str),
    Mkdir(&'static str),
    Link(&'static str, &'static str),
    Symlink(&'static str, &'static str),
    Node(&'static str, u32),
    /// How long the target of a link is, more or less: whether it has one.
    ReadLink(&'static str),
    /// Runs the file as a program until the end of the fact.
    Execute(&'static str),
}

/// A time that is set.
#[derive(Clone, Copy, Debug)]
pub enum Time {
    Now,
    At(i64, i64),
}

/// Where sps does something else, on purpose.
#[derive(Clone, Debug)]
pub enum But {
    Nothing,
    /// These are its answers, and all stays as it was.
    Refuses(Difference, Vec<Said>),
    /// These are its answers, and what comes of it has tests of its own.
    Does(Difference, Vec<Said>),
}

/// A fact.
#[derive(Clone, Debug)]
pub struct Fact {
    pub says: String,
    pub by: User,
    pub mode: u32,
    /// Whether `g` is there as well.
    pub has_other: bool,
    /// Whether the file is a program, and not ten digits.
    pub is_program: bool,
    pub steps: Vec<Step>,
    pub but: But,
}

impl Fact {
    /// A fact about a file of ten digits with this mode.
    pub fn new(says: impl Into<String>, by: User, mode: u32, steps: &[Step]) -> Self {
        let (says, steps) = (says.into(), steps.to_vec());
        let but = But::Nothing;
        Self { says, by, mode, has_other: false, is_program: false, steps, but }
    }

    /// The same, where there is a second file.
    pub fn other(self) -> Self {
        Self { has_other: true, ..self }
    }

    /// The same, of a program.
    pub fn program(self) -> Self {
        Self { is_program: true, ..self }
    }

    /// sps refuses it.
    pub fn refused(self, why: Difference, answers: &[Said]) -> Self {
        Self { but: But::Refuses(why, answers.to_vec()), ..self }
    }

    /// sps does something else.
    pub fn differs(self, why: Difference, answers: &[Said]) -> Self {
        Self { but: But::Does(why, answers.to_vec()), ..self }
    }
}
