//! What the kernel tells of mounts, whose paths are anybody's.
#![no_main]

use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use sps::mountinfo;

/// A path as the kernel writes it (`seq_path` with ` \t\n\\`).
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in path {
        if b" \t\n\\".contains(byte) {
            text.extend(format!("\\{byte:03o}").into_bytes());
        } else {
            text.push(*byte);
        }
    }
    text
}

fuzz_target!(|input: &[u8]| {
    assert!(
        mountinfo::parse(input).count() <= input.iter().filter(|byte| **byte == b'\n').count() + 1
    );
    // Whatever a path is, its line is one mount with that path.
    if input.is_empty() || input.contains(&0) {
        return;
    }
    let line =
        [b"31 22 0:41 / ", escaped(input).as_slice(), b" rw,nosuid shared:2 - fuse.sps sps rw\n"]
            .concat();
    let found: Vec<_> = mountinfo::parse(&line).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path.as_os_str().as_bytes(), input);
    assert_eq!((found[0].mount_id.as_str(), found[0].kind.as_str()), ("31", "fuse.sps"));
});
