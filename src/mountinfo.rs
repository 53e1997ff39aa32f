//! What is mounted where, as proc_pid_mountinfo(5) tells. Nothing that is mounted is asked.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount of a mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Its number in the namespace, as `mnt_id` in `/proc/PID/fdinfo`.
    pub mount_id: String,
    /// Device number of the filesystem, the same in every namespace.
    pub device: String,
    /// Where it is mounted.
    pub path: PathBuf,
    /// Type of the filesystem, with its subtype.
    pub kind: String,
    /// What is mounted there.
    pub source: PathBuf,
}

/// The mounts that a text of `/proc/PID/mountinfo` lists, in the order in which they were made. A path in it is any
/// bytes: whoever may mount something chooses them.
pub fn parse(table: &[u8]) -> impl DoubleEndedIterator<Item = MountEntry> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let mount_id = text(fields.next()?);
        let device = text(fields.nth(1)?);
        let path = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
        // The optional fields end with a hyphen; no field before it is one, as paths begin with a slash.
        fields.find(|field| *field == b"-")?;
        let kind = text(fields.next()?);
        let source = PathBuf::from(OsString::from_vec(unescape(fields.next().unwrap_or_default())));
        Some(MountEntry { mount_id, device, path, kind, source })
    })
}

/// Undoes the escapes of a path: a backslash and three octal digits for what would end a field.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..3).filter(|_| *first == b'\\').and_then(octal);
        plain.push(code.unwrap_or(*first));
        rest = behind.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_mount_whatever_its_path() {
        let table = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                     31 22 0:41 / /mnt/a\\040b rw,nosuid shared:2 - fuse.sps /srv/a\\040b rw\nnonsense\n";
        let found: Vec<MountEntry> = parse(table.as_bytes()).collect();
        assert_eq!(found.len(), 2);
        let expected = MountEntry {
            mount_id: "31".into(),
            device: "0:41".into(),
            path: "/mnt/a b".into(),
            kind: "fuse.sps".into(),
            source: "/srv/a b".into(),
        };
        assert_eq!(found.last(), Some(&expected));
    }

    #[test]
    fn a_path_that_is_no_text_hides_no_other_mount() {
        let table = b"31 22 0:41 / /mnt/\xff\\134040 rw - ext4 sps rw\n32 22 0:42 / /mnt/b rw - ext4 sps rw\n";
        let found: Vec<MountEntry> = parse(table).collect();
        let paths: Vec<&[u8]> =
            found.iter().map(|entry| entry.path.as_os_str().as_encoded_bytes()).collect();
        assert_eq!(paths, [b"/mnt/\xff\\040".as_slice(), b"/mnt/b"]);
    }
}
