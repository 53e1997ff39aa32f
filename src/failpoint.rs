//! Places between two effects, where the tests stop the daemon as a crash would.
//!
//! Built with the feature `failpoints`, a process whose environment has `FAILPOINT=name` kills itself with SIGKILL
//! when it gets there, with `FAILPOINT=name=panic` panics there, and with `FAILPOINT=#7` kills itself at the
//! seventh place it comes by, whichever that is. `FAILPOINT_TRACE=file` notes each place it comes by, a line each.
//! Without the feature [`hit`] is nothing at all.

/// Makes the places and the list of all, so that none can be left out of it.
macro_rules! failpoints {
    ($($(#[$what:meta])* $place:ident = $name:literal,)*) => {
        /// A place between two effects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[$what])* $place,)*
        }

        impl Failpoint {
            /// Every place, for the tests that walk all of them.
            pub const ALL: &[Self] = &[$(Self::$place),*];

            /// What the environment calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$place => $name,)*
                }
            }
        }
    };
}

failpoints! {
    /// The record says saving, staging has no file.
    BeginRecorded = "begin.recorded",
    /// Staging has the file, the first byte is not written.
    BeginStaged = "begin.staged",
    /// The data is durable, the record has no seal.
    VoteSynced = "vote.synced",
    /// The data has its digest for a name.
    VoteNamed = "vote.named",
    /// The upload is a copy of what it was, the record is sealed.
    VoteTakenBack = "vote.taken-back",
    /// The record is sealed, the writer has no answer.
    VoteRecorded = "vote.recorded",
    /// The data bears its digest, there is no manifest.
    PublishSealed = "publish.sealed",
    /// The manifest is there, the record says saving.
    PublishManifested = "publish.manifested",
    /// The record says active, nobody was told.
    PublishRecorded = "publish.recorded",
    /// The staged data is gone, the record says saving.
    FailDiscarded = "fail.discarded",
    /// The record says killed, nobody was told.
    FailRecorded = "fail.recorded",
    /// The record is deleted, the data is there.
    RemoveRecorded = "remove.recorded",
    /// The staged data is gone too, nobody was told.
    RemoveDiscarded = "remove.discarded",
    /// The manifest is gone, the data is there.
    ReclaimManifest = "reclaim.manifest",
    /// The data is gone, and is still listed as to be reclaimed.
    ReclaimData = "reclaim.data",
    /// The store is open, nothing is recovered.
    RecoverBegun = "recover.begun",
    /// Uploads are settled, stray files are still there.
    RecoverSettled = "recover.settled",
    /// The record of a replacement is there, nothing is written.
    ReplaceQueued = "replace.queued",
    /// The content of an image that its writer opened again is staged, the image is active.
    ReopenCopied = "reopen.copied",
    /// The image has left `active/`, and what it had replaced is back; nobody was told.
    ReopenRecorded = "reopen.recorded",
    /// The record says deactivated, nobody was told.
    WithdrawRecorded = "withdraw.recorded",
    /// The record says importing, and its task is pending.
    ImportRecorded = "import.recorded",
    /// The record of the import is sealed, the data is staged.
    ImportSealed = "import.sealed",
    /// The record says active, its task is processing.
    ImportPublished = "import.published",
    /// Time has passed, and the record says so; the data is there.
    PurgeRecorded = "purge.recorded",
    /// A panic in the middle of a request.
    LookUp = "request.look_up",
    /// Staging has an empty file.
    StoreStaged = "store.staged",
    /// Bytes are written to a file of the store.
    StoreWritten = "store.written",
    /// A file of the store has another length, a hole or room.
    StoreResized = "store.resized",
    /// The bytes of a file of the store are on the disk.
    StoreSynced = "store.synced",
    /// Staged data is gone.
    StoreDiscarded = "store.discarded",
    /// Sealed data is gone.
    StoreDropped = "store.dropped",
    /// It is on the disk what was dropped.
    StoreForgotten = "store.forgotten",
    /// Data has the name of its digest.
    StoreNamed = "store.named",
    /// Data has the name of its digest no longer, and is staged.
    StoreTakenBack = "store.taken-back",
    /// The mode of data says whether it is sealed, and whether it is damaged.
    StoreMarked = "store.marked",
    /// There is a new file for a manifest.
    ManifestMade = "manifest.made",
    /// The text of a manifest is in a file, and on the disk.
    ManifestWritten = "manifest.written",
    /// A manifest that is whole has taken the place of another.
    ManifestRenamed = "manifest.renamed",
    /// A manifest is gone.
    ManifestDropped = "manifest.dropped",
    /// A transaction of the registry is committed, nobody was told.
    RegistryCommitted = "registry.committed",
}

impl Failpoint {
    /// Whether something was done to the disk just before it. A place that is none is not counted or noted.
    #[must_use]
    pub const fn is_behind_an_effect(self) -> bool {
        !matches!(self, Self::LookUp)
    }
}

/// What the environment asks for.
#[cfg(feature = "failpoints")]
struct Asked {
    name: String,
    /// Counted from one.
    place: Option<u64>,
    panics: bool,
    trace: Option<std::fs::File>,
}

#[cfg(feature = "failpoints")]
impl Asked {
    fn from_environment() -> Self {
        let asked = std::env::var("FAILPOINT").unwrap_or_default();
        let trace = std::env::var_os("FAILPOINT_TRACE")
            .and_then(|path| std::fs::File::options().create(true).append(true).open(path).ok());
        let (name, panics) = match asked.strip_suffix("=panic") {
            Some(name) => (name.to_owned(), true),
            None => (asked, false),
        };
        let place = name.strip_prefix('#').and_then(|number| number.parse().ok());
        Self { name, place, panics, trace }
    }
}

/// Stops the process here, if the environment asks for it.
#[cfg(feature = "failpoints")]
pub fn hit(point: Failpoint) {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static ASKED: LazyLock<Asked> = LazyLock::new(Asked::from_environment);
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let name = point.name();
    let is_counted = point.is_behind_an_effect();
    let passed = PASSED.fetch_add(u64::from(is_counted), Ordering::Relaxed) + 1;
    if let Some(mut trace) = ASKED.trace.as_ref().filter(|_| is_counted) {
        // One write, so that lines of several threads do not mix.
        let _ = trace.write_all(format!("{name}\n").as_bytes());
    }
    if !(is_counted && ASKED.place == Some(passed)) && ASKED.name != name {
        return;
    }
    if ASKED.panics {
        std::panic::panic_any(format!("failpoint {name}"));
    }
    // SIGKILL can't fail to reach oneself, and does not come back.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// Does nothing: this build has no failpoints.
#[cfg(not(feature = "failpoints"))]
pub const fn hit(_point: Failpoint) {}
