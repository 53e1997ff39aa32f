//! The inspection against real images: what `qemu-img` writes, cut and hostile ones, and damage.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and tells its story in one function"
)]

mod bytes;
mod cuts;
mod damage;
mod formats;
mod hostile;

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sps::image::DiskFormat;
use sps::inspect::{Found, Probe, Verdict, inspect};

/// A content that counts what is read of it.
struct Counted<T> {
    content: T,
    reads: Cell<u64>,
    bytes: Cell<u64>,
    largest: Cell<usize>,
}

impl<T> Counted<T> {
    fn new(content: T) -> Self {
        Self { content, reads: Cell::new(0), bytes: Cell::new(0), largest: Cell::new(0) }
    }

    fn note(&self, length: usize) {
        self.reads.set(self.reads.get() + 1);
        self.bytes.set(self.bytes.get() + length as u64);
        self.largest.set(self.largest.get().max(length));
    }
}

impl Probe for Counted<File> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.note(buffer.len());
        if i64::try_from(offset).is_err() {
            return Ok(0);
        }
        self.content.read_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<u64> {
        match rustix::fs::seek(&self.content, rustix::fs::SeekFrom::Data(offset)) {
            Ok(next) => Ok(next),
            Err(rustix::io::Errno::NXIO) => Ok(u64::MAX),
            Err(error) => Err(error.into()),
        }
    }
}

impl Probe for Counted<&[u8]> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.note(buffer.len());
        let rest =
            usize::try_from(offset).ok().and_then(|at| self.content.get(at..)).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

fn verdict(path: &Path) -> Verdict {
    let file = File::open(path).unwrap();
    let size_bytes = file.metadata().unwrap().len();
    inspect(&Counted::new(file), size_bytes).unwrap()
}

/// Runs a tool that must be there and succeed; answers what it wrote.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed for this test: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const SECRET: [&str; 2] = ["--object", "secret,id=key,data=sesame"];

/// A disk of some MiB with noise, text and holes, whose size is no multiple of a cluster.
fn source(folder: &Path) -> PathBuf {
    const SIZE: u64 = 6 * 1024 * 1024 + 3 * 512;
    let path = folder.join("source.raw");
    let file = File::create(&path).unwrap();
    file.set_len(SIZE).unwrap();
    let mut random = Random(1);
    let mut piece = vec![0; 32 * 1024];
    let mut at = 0;
    while at < SIZE {
        let length = (SIZE - at).min(piece.len() as u64) as usize;
        match random.below(3) {
            0 => random.fill(&mut piece),
            1 => piece.fill(b'a' + random.below(26) as u8),
            _ => {
                at += length as u64;
                continue;
            }
        }
        file.write_all_at(&piece[..length], at).unwrap();
        at += length as u64;
    }
    let mut last = [0; 512];
    random.fill(&mut last);
    file.write_all_at(&last, SIZE - 512).unwrap();
    path
}

/// How an image is made.
#[derive(Clone, Copy)]
enum Made {
    /// Empty, of the given size in bytes.
    Empty(u64),
    /// From the source.
    Copied,
    /// From the source, compressed.
    Compressed,
    /// From the source, then by more commands of `qemu-img`, with the image's name for `%`, and by
    /// those of `qemu-io`, which begin with `io`.
    Worked(&'static [&'static str]),
}

/// What is expected of an image.
#[derive(Clone, Copy)]
enum Expected {
    Sound,
    /// The reason holds this text.
    Refused(&'static str),
}

use Expected::{Refused, Sound};
use Made::{Compressed, Copied, Empty, Worked};

/// A format of qemu-img, its options, how the image is made, and what is expected of it.
type Row = (&'static str, &'static str, Made, Expected);

const MIB: u64 = 1 << 20;

const ROWS: &[Row] = &[
    ("raw", "", Copied, Sound),
    ("raw", "", Empty(10 * MIB), Sound),
    ("parallels", "", Copied, Sound),
    ("qcow2", "", Empty(0), Sound),
    ("qcow2", "", Empty(1 << 40), Sound),
    ("qcow2", "", Copied, Sound),
    ("qcow2", "compat=0.10", Copied, Sound),
    ("qcow2", "compat=1.1", Copied, Sound),
    ("qcow2", "cluster_size=512", Copied, Sound),
    ("qcow2", "cluster_size=1k", Copied, Sound),
    ("qcow2", "cluster_size=4k", Copied, Sound),
    ("qcow2", "cluster_size=16k", Copied, Sound),
    ("qcow2", "cluster_size=256k", Copied, Sound),
    ("qcow2", "cluster_size=2M", Copied, Sound),
    ("qcow2", "compat=0.10,cluster_size=2M", Copied, Sound),
    ("qcow2", "extended_l2=on", Copied, Sound),
    ("qcow2", "extended_l2=on,cluster_size=16k", Copied, Sound),
    ("qcow2", "extended_l2=on,cluster_size=2M", Copied, Sound),
    ("qcow2", "", Compressed, Sound),
    ("qcow2", "compat=0.10", Compressed, Sound),
    ("qcow2", "compression_type=zstd", Compressed, Sound),
    ("qcow2", "cluster_size=512", Compressed, Sound),
    ("qcow2", "cluster_size=2M", Compressed, Sound),
    ("qcow2", "cluster_size=2M,compression_type=zstd", Compressed, Sound),
    ("qcow2", "extended_l2=on,cluster_size=128k", Compressed, Sound),
    ("qcow2", "lazy_refcounts=on", Copied, Sound),
    ("qcow2", "refcount_bits=1", Copied, Sound),
    ("qcow2", "refcount_bits=8", Copied, Sound),
    ("qcow2", "refcount_bits=64,cluster_size=512", Copied, Sound),
    ("qcow2", "preallocation=metadata", Empty(10_000_000), Sound),
    ("qcow2", "preallocation=metadata,cluster_size=2M", Empty(10_000_000), Sound),
    ("qcow2", "preallocation=metadata,compat=0.10", Empty(10_000_000), Sound),
    ("qcow2", "preallocation=metadata,extended_l2=on", Empty(10_000_000), Sound),
    ("qcow2", "preallocation=falloc", Empty(10_000_000), Sound),
    ("qcow2", "preallocation=full", Empty(10_000_000), Sound),
    ("qcow2", "preallocation=metadata", Copied, Sound),
    ("qcow2", "preallocation=falloc", Copied, Sound),
    (
        "qcow2",
        "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        Empty(10 * MIB),
        Sound,
    ),
    ("qcow2", "encrypt.format=aes,encrypt.key-secret=key", Empty(10 * MIB), Sound),
    ("qcow2", "", Worked(&["snapshot -c one %"]), Sound),
    ("qcow2", "", Worked(&["snapshot -c one %", "resize % +5M", "snapshot -c two %"]), Sound),
    ("qcow2", "compat=0.10", Worked(&["snapshot -c one %", "snapshot -c two %"]), Sound),
    ("qcow2", "", Worked(&["resize % +8M", "io write -c -P 5 8M 64k"]), Sound),
    ("qcow2", "compression_type=zstd", Worked(&["resize % +8M", "io write -c -P 5 8M 64k"]), Sound),
    ("qcow2", "cluster_size=512", Worked(&["resize % +8M", "io write -c -P 5 8M 512"]), Sound),
    (
        "qcow2",
        "cluster_size=2M,compression_type=zstd",
        Worked(&["resize % +8M", "io write -c 8M 2M"]),
        Sound,
    ),
    (
        "qcow2",
        "",
        Worked(&["resize % +8M", "snapshot -c one %", "io write -c 7M 64k", "io write -c 8M 64k"]),
        Sound,
    ),
    ("qcow2", "", Worked(&["resize --shrink % 3M"]), Sound),
    ("qcow2", "", Worked(&["resize --preallocation=metadata % +3M"]), Sound),
    ("qcow2", "", Worked(&["bitmap --add % a", "bitmap --add -g 4k % b"]), Sound),
    (
        "qcow2",
        "",
        Worked(&[
            "bitmap --add % a",
            "io write -P 9 1M 2M",
            "snapshot -c one %",
            "io write -P 7 2M 1M",
        ]),
        Sound,
    ),
    (
        "qcow2",
        "extended_l2=on",
        Worked(&[
            "snapshot -c one %",
            "io write -P 9 1M 70k",
            "io discard 2M 1M",
            "io write -z 3M 9k",
        ]),
        Sound,
    ),
    ("qcow2", "data_file=data.raw", Copied, Refused("data in another file")),
    ("qcow2", "backing_file=source.raw,backing_fmt=raw", Empty(10 * MIB), Refused("backing file")),
    ("vmdk", "", Empty(10 * MIB), Sound),
    ("vmdk", "", Empty(3 << 40), Sound),
    ("vmdk", "", Copied, Sound),
    ("vmdk", "subformat=monolithicSparse,compat6=on", Copied, Sound),
    ("vmdk", "zeroed_grain=on", Copied, Sound),
    ("vmdk", "adapter_type=lsilogic", Copied, Sound),
    ("vmdk", "adapter_type=buslogic,hwversion=6", Copied, Sound),
    ("vmdk", "adapter_type=legacyESX", Copied, Sound),
    ("vmdk", "subformat=streamOptimized", Copied, Sound),
    ("vmdk", "subformat=streamOptimized", Compressed, Sound),
    ("vmdk", "subformat=streamOptimized,compat6=on", Copied, Sound),
    ("vmdk", "subformat=streamOptimized,zeroed_grain=on", Copied, Sound),
    ("vmdk", "subformat=monolithicFlat", Copied, Refused("extents in other files")),
    ("vmdk", "subformat=twoGbMaxExtentSparse", Copied, Refused("extents in other files")),
    ("vmdk", "subformat=twoGbMaxExtentFlat", Copied, Refused("extents in other files")),
    ("vdi", "", Empty(10_000_000), Sound),
    ("vdi", "", Copied, Sound),
    ("vdi", "static=on", Copied, Sound),
    ("vdi", "static=on", Empty(10 * MIB), Sound),
    ("vpc", "", Empty(10 * MIB), Sound),
    ("vpc", "", Empty(200 << 30), Sound),
    ("vpc", "", Copied, Sound),
    ("vpc", "force_size=on", Copied, Sound),
    ("vpc", "subformat=fixed", Copied, Sound),
    ("vpc", "subformat=fixed,force_size=on", Copied, Sound),
    ("vhdx", "", Empty(10 * MIB), Sound),
    ("vhdx", "", Empty(5 << 40), Sound),
    ("vhdx", "", Copied, Sound),
    ("vhdx", "block_size=1M", Copied, Sound),
    ("vhdx", "block_size=2M,log_size=2M", Copied, Sound),
    ("vhdx", "block_size=256M", Copied, Sound),
    ("vhdx", "block_state_zero=off", Copied, Sound),
    ("vhdx", "subformat=fixed", Copied, Sound),
    ("vhdx", "subformat=fixed,block_size=1M", Empty(10 * MIB), Sound),
    ("qed", "", Copied, Refused("no longer developed")),
    ("luks", "key-secret=key,iter-time=10", Empty(10 * MIB), Sound),
    ("luks", "key-secret=key,iter-time=10,cipher-alg=aes-128", Empty(10 * MIB), Sound),
];

fn make(folder: &Path, name: &str, row: &Row) -> PathBuf {
    let (format, options, made, _) = *row;
    let path = folder.join(name);
    let mut arguments = vec![];
    if let Empty(_) = made {
        arguments.push("create");
        arguments.extend(["-q", "-f", format]);
    } else {
        arguments.extend(["convert", "-f", "raw", "-O", format]);
    }
    if options.contains("key-secret") {
        arguments.extend(SECRET);
    }
    if matches!(made, Compressed) {
        arguments.push("-c");
    }
    if !options.is_empty() {
        arguments.extend(["-o", options]);
    }
    let size;
    match made {
        Empty(bytes) => {
            size = bytes.to_string();
            arguments.extend([name, &size]);
        }
        Copied | Compressed | Worked(_) => arguments.extend(["source.raw", name]),
    }
    if options.contains("data_file") {
        fs::write(folder.join("data.raw"), b"").unwrap();
    }
    run(folder, "qemu-img", &arguments);
    if let Worked(steps) = made {
        for step in steps {
            if let Some(command) = step.strip_prefix("io ") {
                run(folder, "qemu-io", &["-f", format, "-c", command, name]);
                continue;
            }
            let words: Vec<&str> =
                step.split(' ').map(|word| if word == "%" { name } else { word }).collect();
            run(folder, "qemu-img", &words);
        }
    }
    path
}

/// What a format of `qemu-img` is called here.
fn expected_format(format: &str) -> DiskFormat {
    match format {
        "vpc" => DiskFormat::Vhd,
        "parallels" => DiskFormat::Raw,
        other => DiskFormat::from_name(other).unwrap(),
    }
}
