//! Places between two effects, where the tests stop the daemon as a crash would.
//!
//! Built with the feature `failpoints`, a daemon whose environment has `FAILPOINT=name` kills itself
//! with SIGKILL when it gets there, and with `FAILPOINT=name=panic` panics there. Without the feature
//! [`hit`] is nothing at all.

/// A place between two effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// The record says saving, staging has no file.
    BeginRecorded,
    /// Staging has the file, the first byte is not written.
    BeginStaged,
    /// The data is durable, the record has no seal.
    VoteSynced,
    /// The data has its digest for a name.
    VoteNamed,
    /// The upload is a copy of what it was, the record is sealed.
    VoteTakenBack,
    /// The record is sealed, the writer has no answer.
    VoteRecorded,
    /// The data bears its digest, there is no manifest.
    PublishSealed,
    /// The manifest is there, the record says saving.
    PublishManifested,
    /// The record says active, nobody was told.
    PublishRecorded,
    /// The staged data is gone, the record says saving.
    FailDiscarded,
    /// The record says killed, nobody was told.
    FailRecorded,
    /// The record is deleted, the data is there.
    RemoveRecorded,
    /// The staged data is gone too, nobody was told.
    RemoveDiscarded,
    /// The manifest is gone, the data is there.
    ReclaimManifest,
    /// The data is gone, and is still listed as to be reclaimed.
    ReclaimData,
    /// The store is open, nothing is recovered.
    RecoverBegun,
    /// Uploads are settled, stray files are still there.
    RecoverSettled,
    /// The record of a replacement is there, nothing is written.
    ReplaceQueued,
    /// The content of an image that its writer opened again is staged, the image is active.
    ReopenCopied,
    /// The image has left `active/`, and what it had replaced is back; nobody was told.
    ReopenRecorded,
    /// The record says deactivated, nobody was told.
    WithdrawRecorded,
    /// The record says importing, and its task is pending.
    ImportRecorded,
    /// The record of the import is sealed, the data is staged.
    ImportSealed,
    /// The record says active, its task is processing.
    ImportPublished,
    /// Time has passed, and the record says so; the data is there.
    PurgeRecorded,
    /// A panic in the middle of a request.
    LookUp,
}

impl Failpoint {
    /// Every place, for the tests that walk all of them.
    pub const ALL: [Self; 26] = [
        Self::BeginRecorded,
        Self::BeginStaged,
        Self::VoteSynced,
        Self::VoteNamed,
        Self::VoteTakenBack,
        Self::VoteRecorded,
        Self::PublishSealed,
        Self::PublishManifested,
        Self::PublishRecorded,
        Self::FailDiscarded,
        Self::FailRecorded,
        Self::RemoveRecorded,
        Self::RemoveDiscarded,
        Self::ReclaimManifest,
        Self::ReclaimData,
        Self::RecoverBegun,
        Self::RecoverSettled,
        Self::ReplaceQueued,
        Self::ReopenCopied,
        Self::ReopenRecorded,
        Self::WithdrawRecorded,
        Self::ImportRecorded,
        Self::ImportSealed,
        Self::ImportPublished,
        Self::PurgeRecorded,
        Self::LookUp,
    ];

    /// What the environment calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeginStaged => "begin.staged",
            Self::BeginRecorded => "begin.recorded",
            Self::VoteSynced => "vote.synced",
            Self::VoteNamed => "vote.named",
            Self::VoteTakenBack => "vote.taken-back",
            Self::VoteRecorded => "vote.recorded",
            Self::PublishSealed => "publish.sealed",
            Self::PublishManifested => "publish.manifested",
            Self::PublishRecorded => "publish.recorded",
            Self::FailDiscarded => "fail.discarded",
            Self::FailRecorded => "fail.recorded",
            Self::RemoveDiscarded => "remove.discarded",
            Self::RemoveRecorded => "remove.recorded",
            Self::ReclaimManifest => "reclaim.manifest",
            Self::ReclaimData => "reclaim.data",
            Self::RecoverBegun => "recover.begun",
            Self::RecoverSettled => "recover.settled",
            Self::ReplaceQueued => "replace.queued",
            Self::ReopenCopied => "reopen.copied",
            Self::ReopenRecorded => "reopen.recorded",
            Self::WithdrawRecorded => "withdraw.recorded",
            Self::ImportRecorded => "import.recorded",
            Self::ImportSealed => "import.sealed",
            Self::ImportPublished => "import.published",
            Self::PurgeRecorded => "purge.recorded",
            Self::LookUp => "request.look_up",
        }
    }
}

/// Stops the process here, if the environment asks for it.
#[cfg(feature = "failpoints")]
pub fn hit(point: Failpoint) {
    use std::sync::LazyLock;
    static ASKED: LazyLock<String> =
        LazyLock::new(|| std::env::var("FAILPOINT").unwrap_or_default());
    match ASKED.strip_prefix(point.name()) {
        Some("") => {
            let own = rustix::process::getpid();
            // SIGKILL can't fail to reach oneself, and does not come back.
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
        Some("=panic") => std::panic::panic_any(format!("failpoint {}", point.name())),
        Some(_) | None => {}
    }
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub const fn hit(_point: Failpoint) {}
