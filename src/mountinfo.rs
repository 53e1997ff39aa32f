//! What is mounted where, as proc_pid_mountinfo(5) tells. Nothing that is mounted is asked.

use std::path::PathBuf;

/// One mount of a mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountEntry {
    /// Its number in the namespace, as `mnt_id` in `/proc/PID/fdinfo`.
    pub(crate) mount_id: String,
    /// Device number of the filesystem, the same in every namespace.
    pub(crate) device: String,
    /// Where it is mounted.
    pub(crate) path: PathBuf,
    /// Type of the filesystem, with its subtype.
    pub(crate) kind: String,
}

/// The mounts that a text of `/proc/PID/mountinfo` lists, in the order in which they were made.
pub(crate) fn parse(table: &str) -> impl DoubleEndedIterator<Item = MountEntry> {
    table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        Some(MountEntry {
            mount_id: fields.next()?.to_owned(),
            device: fields.nth(1)?.to_owned(),
            path: PathBuf::from(unescape(fields.nth(1)?)),
            kind: filesystem.split(' ').next()?.to_owned(),
        })
    })
}

/// Undoes the octal escapes of a path.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(path.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_mount_whatever_its_path() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     31 22 0:41 / /mnt/a\\040b rw,nosuid shared:2 - fuse.sps sps rw\nnonsense\n";
        let found: Vec<MountEntry> = parse(table).collect();
        assert_eq!(found.len(), 2);
        let expected = MountEntry {
            mount_id: "31".into(),
            device: "0:41".into(),
            path: "/mnt/a b".into(),
            kind: "fuse.sps".into(),
        };
        assert_eq!(found.last(), Some(&expected));
    }
}
