//! `mount.sps`: what mount(8) calls for `mount -t sps STORE DIR` and for a line of fstab(5). It is `sps` by another name.

use std::ffi::OsString;
use std::path::PathBuf;

use super::arguments::MountArguments;
use crate::error::{Error, Result};

/// By what name mount(8) calls it.
pub(super) const NAME: &str = "mount.sps";

/// Options that are for mount(8), for systemd, or say what is always so.
const OTHERS: [&str; 22] = [
    "_netdev",
    "async",
    "atime",
    "auto",
    "defaults",
    "dev",
    "exec",
    "group",
    "lazytime",
    "noatime",
    "noauto",
    "nodiratime",
    "noexec",
    "nofail",
    "nosuid",
    "nouser",
    "owner",
    "relatime",
    "strictatime",
    "sync",
    "user",
    "users",
];

/// What the words after the name of the program ask for: `STORE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]`. None
/// if nothing is to be mounted.
///
/// # Errors
/// There is no store, no mount point, or an unknown word.
pub(super) fn parse(words: impl Iterator<Item = OsString>) -> Result<Option<MountArguments>> {
    let mut places = Vec::new();
    let mut options = Vec::new();
    let mut is_fake = false;
    let mut words = words;
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-o") => options.extend(words.next()),
            Some("-t" | "-N") => drop(words.next()),
            Some(flags) if flags.len() > 1 && flags.starts_with('-') => {
                for flag in flags.chars().skip(1) {
                    match flag {
                        'f' => is_fake = true,
                        's' | 'n' | 'v' => {}
                        other => {
                            return Err(Error::Usage(format!(
                                "{NAME}: there is no option -{other}"
                            )));
                        }
                    }
                }
            }
            Some(_) | None => places.push(PathBuf::from(word)),
        }
    }
    let [store, mountpoint] = <[PathBuf; 2]>::try_from(places)
        .map_err(|_| Error::Usage(format!("usage: {NAME} STORE DIR [-o OPTIONS]")))?;
    let options = options.iter().map(|words| words.to_string_lossy());
    let options = options.flat_map(|words| words.split(',').map(str::to_owned).collect::<Vec<_>>());
    let options = options.filter(|option| is_ours(option)).collect();
    Ok((!is_fake).then_some(MountArguments {
        store: Some(store),
        foreground: false,
        options,
        serve: false,
        mountpoint,
    }))
}

fn is_ours(option: &str) -> bool {
    let is_comment =
        option.starts_with("x-") || option.starts_with("X-") || option.starts_with("comment=");
    !option.is_empty() && !is_comment && !OTHERS.contains(&option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<MountArguments>> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn what_mount_says_is_understood_and_what_is_for_others_is_left_out() {
        let line = "/srv/images /mnt/sps -sv -t sps -o rw,_netdev,noauto,user,noexec,x-systemd.automount,scrub_time=3d,nofail";
        let found = parsed(line).expect("understood").expect("to be mounted");
        assert_eq!(found.store, Some("/srv/images".into()));
        assert_eq!(found.mountpoint, PathBuf::from("/mnt/sps"));
        assert_eq!(found.options, ["rw", "scrub_time=3d"]);
        assert!(parsed("/srv/images /mnt/sps -f").expect("understood").is_none());
        for wrong in ["/srv/images", "a b c", "a b -q"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
