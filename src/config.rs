//! What the operator may choose: from `STORE/config.toml`, then `SPS_*` variables, then `-o`.
//!
//! Each source only overrides; an option that is not known is refused by its name, wherever it stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::catalog::Policy;
use crate::error::{Error, Result};

mod value;

use value::{SIZE, SPAN, group_id, plain, size, span, truth};

/// What the names of the environment variables begin with.
const VARIABLE_PREFIX: &str = "SPS_";

/// Threads that read requests, when nothing is chosen.
const THREADS: usize = 16;

/// How long a request may take on a disk that does not answer, when nothing is chosen.
const DISK_TIMEOUT: Duration = Duration::from_secs(60);

/// More than this many threads do nothing but cost memory.
const THREADS_MAX: usize = 256;

/// Who may put images into the status folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// The mounting user alone.
    Owner,
    /// A group.
    Group,
    /// Everyone.
    All,
}

/// All that can be chosen, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Users other than the mounting one may use the mount.
    pub allow_other: bool,
    /// Nothing may be written.
    pub read_only: bool,
    /// Who may put images in.
    pub publish: Publish,
    /// The group of the status folders.
    pub gid: Option<u32>,
    /// What becomes of deleted and failed images.
    pub policy: Policy,
    /// Threads that read requests.
    pub threads: usize,
    /// How long a request may take when the disk does not answer; none is for ever.
    pub disk_timeout: Option<Duration>,
    /// The kernel may read sealed data from the file below by itself.
    pub passthrough: bool,
    /// What is logged, as `RUST_LOG` has it.
    pub log: Option<String>,
    /// Take a store on a network or FUSE filesystem.
    pub any_filesystem: bool,
    /// The folders below which files to import may lie.
    pub location_roots: Vec<PathBuf>,
    /// What was chosen, by the names of the options.
    chosen: BTreeMap<&'static str, String>,
}

/// One option: its name, what it takes, and how it is set.
struct Known {
    name: &'static str,
    takes: &'static str,
    set: fn(&mut Options, &str) -> Option<()>,
}

/// Every option there is.
const KNOWN: [Known; 24] = [
    Known {
        name: "allow_other",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.allow_other = is),
    },
    Known {
        name: "ro",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.read_only = is),
    },
    Known {
        name: "rw",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.read_only = !is),
    },
    Known {
        name: "publish",
        takes: "owner, group or all",
        set: |options, value| {
            options.publish = match value {
                "owner" => Publish::Owner,
                "group" => Publish::Group,
                "all" => Publish::All,
                _ => return None,
            };
            Some(())
        },
    },
    Known {
        name: "gid",
        takes: "a group's number or name",
        set: |options, value| group_id(value).map(|gid| options.gid = Some(gid)),
    },
    Known {
        name: "delayed_delete",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.policy.delayed_delete = is),
    },
    Known {
        name: "on_failed_upload",
        takes: "killed or queued",
        set: |options, value| {
            options.policy.retry_failed_upload = match value {
                "killed" => false,
                "queued" => true,
                _ => return None,
            };
            Some(())
        },
    },
    Known {
        name: "scrub_when_full",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.policy.scrub_when_full = is),
    },
    Known {
        name: "scrub_time",
        takes: SPAN,
        set: |options, value| span(value).map(|span| options.policy.scrub_time = span),
    },
    Known {
        name: "forget_time",
        takes: SPAN,
        set: |options, value| span(value).map(|span| options.policy.forget_time = span),
    },
    Known {
        name: "killed_time",
        takes: SPAN,
        set: |options, value| span(value).map(|span| options.policy.killed_time = span),
    },
    Known {
        name: "task_time",
        takes: SPAN,
        set: |options, value| span(value).map(|span| options.policy.task_time = span),
    },
    Known {
        name: "min_trash_time",
        takes: SPAN,
        set: |options, value| span(value).map(|span| options.policy.min_trash_time = span),
    },
    Known {
        name: "stall_time",
        takes: "a time (90s, 12h, 7d), or 0 for never",
        set: |options, value| {
            let span = span(value)?;
            options.policy.stall_time = Some(span).filter(|span| !span.is_zero());
            Some(())
        },
    },
    Known {
        name: "image_size_cap",
        takes: SIZE,
        set: |options, value| size(value).map(|cap| options.policy.image_size_cap = cap),
    },
    Known {
        name: "quota_bytes",
        takes: SIZE,
        set: |options, value| size(value).map(|bytes| options.policy.quota.bytes = bytes),
    },
    Known {
        name: "quota_images",
        takes: "a number of images; 0 is no limit",
        set: |options, value| {
            let images: u64 = value.parse().ok()?;
            options.policy.quota.images = Some(images).filter(|images| *images > 0);
            Some(())
        },
    },
    Known {
        name: "location_root",
        takes: "an absolute path; it may be given again",
        set: |options, value| {
            let root = PathBuf::from(value);
            root.is_absolute().then(|| options.location_roots.push(root))
        },
    },
    Known {
        name: "threads",
        takes: "a number from 1 to 256",
        set: |options, value| {
            let threads = value.parse().ok().filter(|threads| (1..=THREADS_MAX).contains(threads));
            threads.map(|threads| options.threads = threads)
        },
    },
    Known {
        name: "disk_timeout",
        takes: "a time (90s, 12h, 7d), or 0 for never",
        set: |options, value| {
            let span = span(value)?;
            options.disk_timeout = Some(span).filter(|span| !span.is_zero());
            Some(())
        },
    },
    Known {
        name: "passthrough",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.passthrough = is),
    },
    Known {
        name: "log",
        takes: "a level (error, warn, info, debug, trace) or a filter as RUST_LOG has it",
        set: |options, value| is_filter(value).then(|| options.log = Some(value.to_owned())),
    },
    Known {
        name: "any_filesystem",
        takes: "yes or no",
        set: |options, value| truth(value).map(|is| options.any_filesystem = is),
    },
    Known {
        name: "nodev",
        takes: "nothing: it is always so",
        set: |_, value| truth(value).filter(|is| *is).map(|_| ()),
    },
];

/// Whether it says what is logged. A bare word that is no level would be a part of sps of which all is logged, and of
/// the others nothing.
fn is_filter(value: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let directives = value.split('/').next().unwrap_or_default();
    directives.split(',').all(|directive| match directive.split_once('=') {
        Some((part, level)) => !part.is_empty() && is_level(level),
        None => is_level(directive) || directive.starts_with("sps::"),
    })
}

/// What each option is called and takes, a line each.
#[must_use]
pub fn described() -> String {
    let lines = KNOWN.iter().map(|known| format!("  {:<17} {}\n", known.name, known.takes));
    lines.collect()
}

impl Options {
    /// What holds when nothing is chosen, for root or another user.
    #[must_use]
    pub fn new(is_root: bool) -> Self {
        Self {
            allow_other: is_root,
            read_only: false,
            publish: Publish::Owner,
            gid: None,
            policy: Policy::default(),
            threads: THREADS,
            disk_timeout: Some(DISK_TIMEOUT),
            passthrough: true,
            log: None,
            any_filesystem: false,
            location_roots: Vec::new(),
            chosen: BTreeMap::new(),
        }
    }

    /// Takes all sources in their order: the file of a store, the environment, the words of `-o`.
    ///
    /// # Errors
    /// An option is not known, or its value makes no sense; the message names the source.
    pub fn resolve(
        mut self,
        file: &Path,
        variables: impl Iterator<Item = (String, String)>,
        words: &[String],
    ) -> Result<Self> {
        self.take_file(file)?;
        for (variable, value) in variables {
            if let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) {
                self.take(&name.to_ascii_lowercase(), &value, &format!("variable {variable}"))?;
            }
        }
        for word in words.iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty())
        {
            let (name, value) = word.split_once('=').unwrap_or((word, "yes"));
            self.take(name, value, "-o")?;
        }
        if self.publish == Publish::Group && self.gid.is_none() {
            return Err(Error::Usage("publish=group needs gid=GROUP beside it".into()));
        }
        Ok(self)
    }

    fn take_file(&mut self, file: &Path) -> Result<()> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("read", file, error)),
        };
        self.take_text(&text, &file.display().to_string())
    }

    /// Takes the options of a text in TOML, which stands in `source`.
    ///
    /// # Errors
    /// It is no TOML, an option is not known, or its value makes no sense.
    pub fn take_text(&mut self, text: &str, source: &str) -> Result<()> {
        let table: toml::Table = text.parse().map_err(|error| {
            Error::Usage(format!("{source}: {error}").trim().replace('\n', " "))
        })?;
        for (name, value) in &table {
            match value {
                // What may be given again may be an array.
                toml::Value::Array(values) => {
                    for value in values {
                        self.take(name, &plain(value), source)?;
                    }
                }
                toml::Value::String(_)
                | toml::Value::Integer(_)
                | toml::Value::Float(_)
                | toml::Value::Boolean(_)
                | toml::Value::Datetime(_)
                | toml::Value::Table(_) => self.take(name, &plain(value), source)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, value: &str, source: &str) -> Result<()> {
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            return Err(Error::Usage(format!(
                "{source}: there is no option {name}; there are {}",
                names.join(", ")
            )));
        };
        (known.set)(self, value).ok_or_else(|| {
            Error::Usage(format!("{source}: {name}={value}: it takes {}", known.takes))
        })?;
        let chosen = self.chosen.entry(known.name).or_default();
        if known.name == LOCATION_ROOT && !chosen.is_empty() {
            *chosen = format!("{chosen}:{value}");
        } else {
            value.clone_into(chosen);
        }
        Ok(())
    }

    /// All that can be chosen, as JSON: what was, and what holds otherwise.
    #[must_use]
    pub fn to_json(&self) -> String {
        let policy = &self.policy;
        let publish = match self.publish {
            Publish::Owner => "owner",
            Publish::Group => "group",
            Publish::All => "all",
        };
        let seconds = |span: Duration| span.as_secs_f64();
        let value = serde_json::json!({
            "allow_other": self.allow_other,
            "ro": self.read_only,
            "publish": publish,
            "gid": self.gid,
            "location_root": self.location_roots,
            "delayed_delete": policy.delayed_delete,
            "on_failed_upload": if policy.retry_failed_upload { "queued" } else { "killed" },
            "scrub_when_full": policy.scrub_when_full,
            "scrub_time_seconds": seconds(policy.scrub_time),
            "forget_time_seconds": seconds(policy.forget_time),
            "killed_time_seconds": seconds(policy.killed_time),
            "task_time_seconds": seconds(policy.task_time),
            "min_trash_time_seconds": seconds(policy.min_trash_time),
            "stall_time_seconds": policy.stall_time.map(seconds),
            "image_size_cap": policy.image_size_cap,
            "quota_bytes": policy.quota.bytes,
            "quota_images": policy.quota.images,
            "threads": self.threads,
            "disk_timeout_seconds": self.disk_timeout.map(seconds),
            "passthrough": self.passthrough,
            "log": self.log,
            "any_filesystem": self.any_filesystem,
            "chosen": self.chosen,
        });
        let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// The option that may be given again.
const LOCATION_ROOT: &str = "location_root";

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(file: &str, variables: &[(&str, &str)], words: &[&str]) -> Result<Options> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        std::fs::write(&path, file).expect("a file");
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::new(true).resolve(&path, variables, &words)
    }

    #[test]
    fn later_sources_override_earlier_ones() {
        let options = resolved(
            "threads = 3\ndelayed_delete = false\non_failed_upload = \"queued\"",
            &[("SPS_THREADS", "4"), ("HOME", "/"), ("SPS_ALLOW_OTHER", "no")],
            &["threads=5,log=debug", "publish=all"],
        )
        .expect("all known");
        assert_eq!(options.threads, 5);
        assert_eq!(options.publish, Publish::All);
        assert_eq!(options.log.as_deref(), Some("debug"));
        assert!(!options.allow_other && !options.policy.delayed_delete);
        assert!(options.policy.retry_failed_upload);
    }

    #[test]
    fn times_and_roots_are_read() {
        let options = resolved(
            "location_root = [\"/a\", \"/b\"]\nstall_time = 0\nscrub_time = \"15m\"",
            &[],
            &["forget_time=12h,killed_time=7d,task_time=0,location_root=/c"],
        )
        .expect("all known");
        let policy = options.policy;
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(policy.scrub_time, Duration::from_secs(900));
        assert_eq!((policy.forget_time, policy.killed_time), (hours(12), hours(168)));
        assert_eq!((policy.task_time, policy.stall_time), (Duration::ZERO, None));
        assert_eq!(options.location_roots.len(), 3);
        let json: serde_json::Value = serde_json::from_str(&options.to_json()).expect("JSON");
        assert_eq!(json["scrub_time_seconds"], 900.0);
        assert_eq!(json["chosen"]["location_root"], "/a:/b:/c");
    }

    #[test]
    fn sizes_are_read_and_none_is_no_limit() {
        let options = resolved(
            "image_size_cap = \"500M\"\nquota_bytes = 1000",
            &[("SPS_QUOTA_IMAGES", "40")],
            &["quota_bytes=2T"],
        )
        .expect("all known");
        let policy = options.policy;
        assert_eq!(policy.image_size_cap, Some(500 << 20));
        assert_eq!((policy.quota.bytes, policy.quota.images), (Some(2 << 40), Some(40)));
        let none = resolved("", &[], &["quota_bytes=2T,quota_bytes=0,quota_images=0"]);
        assert_eq!(none.expect("all known").policy.quota.bytes, None);
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name_and_source() {
        let cases = [
            (resolved("thread = 3", &[], &[]), "thread"),
            (resolved("", &[("SPS_TREADS", "3")], &[]), "SPS_TREADS"),
            (resolved("", &[], &["scrubtime=3"]), "scrubtime"),
            (resolved("", &[], &["scrub_time=3"]), "scrub_time=3"),
            (resolved("", &[], &["scrub_time=99999999999999999999d"]), "takes a time"),
            (resolved("", &[], &["location_root=srv"]), "absolute path"),
            (resolved("", &[], &["quota_bytes=10X"]), "quota_bytes=10X"),
            (resolved("", &[], &["quota_bytes=99999999999T"]), "takes a size"),
            (resolved("", &[], &["quota_images=many"]), "number of images"),
            (resolved("", &[], &["threads=0"]), "threads=0"),
            (resolved("", &[], &["delayed_delete=maybe"]), "delayed_delete=maybe"),
            (resolved("", &[], &["publish=group"]), "gid"),
            (resolved("threads = [", &[], &[]), "config.toml"),
        ];
        for (outcome, word) in cases {
            let error = outcome.expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
            assert_eq!(error.exit_status(), 2);
        }
    }
}
