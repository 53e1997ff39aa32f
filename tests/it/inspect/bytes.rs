//! Small images of each format as bytes, and how their numbers and sums are written.

use super::*;

pub(super) fn be32(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

pub(super) fn be64(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

pub(super) fn le16(value: u16) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(super) fn le32(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(super) fn le64(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// A reflected cyclic redundancy check, bit by bit.
pub(super) fn crc(polynomial: u32, bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for byte in bytes {
        remainder ^= u32::from(*byte);
        for _ in 0..8 {
            remainder = (remainder >> 1) ^ (polynomial & (remainder & 1).wrapping_neg());
        }
    }
    !remainder
}

/// Writes the sums of a format again, so that only what was changed is wrong.
pub(super) fn sum_again(format: &str, bytes: &mut [u8]) {
    let mut stretch = |start: usize, length: usize, at: usize, sum: &dyn Fn(&[u8]) -> [u8; 4]| {
        if let Some(part) = bytes.get_mut(start..start + length) {
            part[at..at + 4].fill(0);
            let kept = sum(part);
            part[at..at + 4].copy_from_slice(&kept);
        }
    };
    let castagnoli = |part: &[u8]| crc(0x82f6_3b78, part).to_le_bytes();
    let ethernet = |part: &[u8]| crc(0xedb8_8320, part).to_le_bytes();
    let complement = |part: &[u8]| (!part.iter().map(|b| u32::from(*b)).sum::<u32>()).to_be_bytes();
    match format {
        "vhdx" => {
            stretch(64 << 10, 4096, 4, &castagnoli);
            stretch(128 << 10, 4096, 4, &castagnoli);
            stretch(192 << 10, 64 << 10, 4, &castagnoli);
            stretch(256 << 10, 64 << 10, 4, &castagnoli);
        }
        "vpc" => {
            stretch(0, 512, 64, &complement);
            stretch(512, 1024, 36, &complement);
        }
        "gpt" => stretch(512, 92, 16, &ethernet),
        _ => {}
    }
}

/// A small disk with a GUID partition table, made by hand.
pub(super) fn gpt() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    let sectors = (disk.len() / 512) as u64;
    disk[446..462].copy_from_slice(b"\0\0\x02\0\xee\xff\xff\xff\x01\0\0\0\xff\x07\0\0");
    disk[510..512].copy_from_slice(b"\x55\xaa");
    let fields: [(usize, Vec<u8>); 9] = [
        (0, b"EFI PART\0\0\x01\0".to_vec()),
        (12, le32(92)),
        (24, le64(1)),
        (32, le64(sectors - 1)),
        (40, le64(34)),
        (48, le64(sectors - 34)),
        (72, le64(2)),
        (80, le32(128)),
        (84, le32(128)),
    ];
    for (at, bytes) in fields {
        disk[512 + at..512 + at + bytes.len()].copy_from_slice(&bytes);
    }
    sum_again("gpt", &mut disk);
    let header = disk[512..1024].to_vec();
    let last = disk.len() - 512;
    disk[last..].copy_from_slice(&header);
    disk
}

/// A small ISO volume, made by hand, with some sectors behind it.
pub(super) fn iso() -> Vec<u8> {
    let mut disk = vec![0; 64 * 2048];
    disk[32_768..32_776].copy_from_slice(b"\x01CD001\x01\0");
    disk[32_768 + 80..32_768 + 88].copy_from_slice(b"\x20\0\0\0\0\0\0\x20");
    disk[32_768 + 128..32_768 + 132].copy_from_slice(b"\0\x08\x08\0");
    disk[34_816..34_823].copy_from_slice(b"\xffCD001\x01");
    disk
}

/// The images that hostile ones and damage begin with, by name.
pub(super) struct Bases {
    pub(super) folder: tempfile::TempDir,
}

impl Bases {
    const ROWS: [(&'static str, Row); 8] = [
        ("qcow2", ("qcow2", "", Worked(&["snapshot -c one %"]), Sound)),
        ("vmdk", ("vmdk", "", Copied, Sound)),
        ("stream", ("vmdk", "subformat=streamOptimized", Copied, Sound)),
        ("vdi", ("vdi", "", Copied, Sound)),
        ("vpc", ("vpc", "", Copied, Sound)),
        ("vhdx", ("vhdx", "block_size=1M", Copied, Sound)),
        ("luks", ("luks", "key-secret=key,iter-time=10", Empty(MIB), Sound)),
        ("qed", ("qed", "", Copied, Refused(""))),
    ];

    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        source(folder.path());
        for (name, row) in Self::ROWS {
            make(folder.path(), name, &row);
        }
        fs::write(folder.path().join("gpt"), gpt()).unwrap();
        fs::write(folder.path().join("iso"), iso()).unwrap();
        fs::write(folder.path().join("text"), b"# Disk DescriptorFile\nversion=1\n").unwrap();
        Self { folder }
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }
}
