//! The inspection against real images: what `qemu-img` writes, cut and hostile ones, and damage.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and tells its story in one function"
)]

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

/// The size that `qemu-img info` tells.
fn virtual_size(folder: &Path, name: &str, format: &str) -> u64 {
    let said = run(folder, "qemu-img", &["info", "--output=json", "-f", format, name]);
    let line = said.lines().find_map(|line| line.strip_prefix("    \"virtual-size\": ")).unwrap();
    line.trim_end_matches(',').parse().unwrap()
}

fn expected_format(format: &str) -> DiskFormat {
    match format {
        "vpc" => DiskFormat::Vhd,
        "parallels" => DiskFormat::Raw,
        other => DiskFormat::from_name(other).unwrap(),
    }
}

/// What the inspection says of each row, as a table in Markdown. It fails where qemu-img disagrees.
fn table() -> String {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    source(folder);
    let mut text = String::from("| made by qemu-img as | options | found | virtual size |\n");
    text.push_str("| --- | --- | --- | --- |\n");
    for (index, row) in ROWS.iter().enumerate() {
        let (format, options, made, expected) = *row;
        let name = format!("image{index}");
        let path = make(folder, &name, row);
        let how = match made {
            Empty(_) | Copied => options.to_owned(),
            Compressed => format!("-c {options}"),
            Worked(steps) => format!("{options} then {}", steps.join(", ").replace(" %", "")),
        };
        let seen = match (verdict(&path), expected) {
            (Verdict::Sound(Found { format: found, virtual_size_bytes }), Sound) => {
                assert_eq!(found, expected_format(format), "{format} {how}");
                let probed = if format == "parallels" { "raw" } else { format };
                let told = virtual_size(folder, &name, probed);
                assert_eq!(virtual_size_bytes, told, "{format} {how}");
                format!("{} | {virtual_size_bytes}", found.name())
            }
            (Verdict::Refused { format: found, reason }, Refused(part)) => {
                assert_eq!(found, expected_format(format), "{format} {how}");
                assert!(reason.contains(part), "{format} {how}: {reason}");
                format!("refused: {reason} | ")
            }
            (other, Sound | Refused(_)) => panic!("{format} {how}: {other:?}"),
        };
        writeln!(text, "| {format} | {} | {seen} |", how.trim()).unwrap();
        fs::remove_file(path).unwrap();
    }
    text
}

#[test]
fn format_and_size_agree_with_qemu_img_for_all_that_it_writes() {
    let text = table();
    assert_eq!(text.lines().count(), ROWS.len() + 2);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, shown) = page.split_once("<!-- the table -->\n").unwrap();
    let (shown, _) = shown.split_once("<!-- its end -->").unwrap();
    assert!(shown.trim() == text.trim(), "docs/formats.md shows another table than this:\n{text}");
}

const APPENDED: &str =
    "xorriso -as mkisofs -quiet -o % -append_partition 2 0xef source.raw source.raw";
const APPENDED_AS_GPT: &str = "xorriso -as mkisofs -quiet -o % -append_partition 2 0xef source.raw \
     -appended_part_as_gpt source.raw";
const OFFSET: &str = "xorriso -as mkisofs -quiet -o % -partition_offset 16 source.raw";

#[test]
fn what_other_tools_write_is_known_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = source(folder);
    let rows: [(&str, DiskFormat); 12] = [
        ("mkfs.ext4 -q -F %", DiskFormat::Raw),
        ("mkfs.vfat -F 16 %", DiskFormat::Raw),
        ("mkfs.vfat -F 32 %", DiskFormat::Raw),
        ("echo type=83 | sfdisk -q %", DiskFormat::Mbr),
        ("printf 'label:gpt\\n,10M\\n,\\n' | sfdisk -q %", DiskFormat::Gpt),
        ("sgdisk -n 1:0:+10M -n 2:0:0 %", DiskFormat::Gpt),
        ("sgdisk -n 1:0:+10M -h 1 %", DiskFormat::Gpt),
        ("xorriso -as mkisofs -quiet -o % source.raw", DiskFormat::Iso),
        ("xorriso -as mkisofs -quiet -no-pad -o % source.raw", DiskFormat::Iso),
        (APPENDED, DiskFormat::Iso),
        (APPENDED_AS_GPT, DiskFormat::Iso),
        (OFFSET, DiskFormat::Iso),
    ];
    for (command, format) in rows {
        let path = folder.join("disk");
        File::create(&path).unwrap().set_len(40 * MIB).unwrap();
        if format == DiskFormat::Iso {
            fs::remove_file(&path).unwrap();
        }
        let command = command.replace('%', "disk");
        run(folder, "sh", &["-c", &command]);
        let size = fs::metadata(&path).unwrap().len();
        let found = Found { format, virtual_size_bytes: virtual_size(folder, "disk", "raw") };
        assert_eq!(verdict(&path), Verdict::Sound(found), "{command}");
        if matches!(format, DiskFormat::Gpt | DiskFormat::Iso) {
            refuses_each_cut(folder, &path, size, &command);
        }
        fs::remove_file(path).unwrap();
    }
    assert!(source.exists());
}

/// A disk without a container is refused when cut, unless nothing but zeros is gone.
fn refuses_each_cut(folder: &Path, path: &Path, size: u64, told: &str) {
    const SEED: u64 = 30;
    let whole = fs::read(path).unwrap();
    let cut = folder.join("cut");
    let mut random = Random(SEED);
    let mut lengths: Vec<u64> = (0..50).map(|_| random.below(size)).collect();
    lengths.extend([1, 511, 512, 2048, 4096].map(|less| size - less));
    for length in lengths {
        fs::write(&cut, &whole[..length as usize]).unwrap();
        if let Verdict::Sound(found) = verdict(&cut) {
            let is_lost = whole[length as usize..].iter().any(|byte| *byte != 0);
            // Without its first sectors it is no such disk any more.
            let is_other =
                length < 40_000 && matches!(found.format, DiskFormat::Raw | DiskFormat::Mbr);
            assert!(!is_lost || is_other, "{told}: cut to {length} of {size}, seed {SEED}");
        }
    }
}

/// The options by which qemu opens an image that [`make`] made.
fn opened(row: &Row, name: &str) -> String {
    let (format, options, ..) = *row;
    let key = match options.split(',').find(|option| option.starts_with("encrypt.format=")) {
        Some(kind) => format!(",{kind},encrypt.key-secret=key"),
        None => String::new(),
    };
    format!("driver={format}{key},file.filename={name}")
}

/// Whether two images hold the same disk.
fn compare(folder: &Path, row: &Row, left: &str, right: &str) -> bool {
    let mut command = Command::new("qemu-img");
    command.arg("compare").args(SECRET).args(["-q", "--image-opts"]);
    command.args([opened(row, left), opened(row, right)]).current_dir(folder);
    command.status().unwrap().success()
}

fn check(folder: &Path, row: &Row, name: &str) -> Option<i32> {
    let mut command = Command::new("qemu-img");
    command.arg("check").args(SECRET).args(["-q", "--image-opts", &opened(row, name)]);
    command.current_dir(folder).output().unwrap().status.code()
}

#[test]
fn an_image_cut_anywhere_is_refused_or_whole() {
    const SEED: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let source = source(folder);
    let mut accepted = 0;
    for (index, row) in ROWS.iter().enumerate() {
        let (format, options, made, expected) = *row;
        let is_fixed = options.contains("subformat=fixed") && format == "vpc";
        let is_container = !matches!(format, "raw" | "parallels" | "luks") && !is_fixed;
        if matches!(expected, Refused(_)) || !is_container || matches!(made, Empty(200_000_000..)) {
            continue;
        }
        let name = format!("image{index}");
        let path = make(folder, &name, row);
        let size = fs::metadata(&path).unwrap().len();
        let cut = folder.join("cut");
        fs::copy(&path, &cut).unwrap();
        let mut random = Random(SEED + index as u64);
        let mut lengths: Vec<u64> = (0..50).map(|_| random.below(size)).collect();
        lengths.extend([1, 2, 80, 511, 512, 513, 4096].map(|less| size.saturating_sub(less)));
        // Where something ends within a sector, the last bytes tell most.
        lengths.extend((size - size % 512).saturating_sub(4)..size);
        lengths.sort_unstable_by(|left, right| right.cmp(left));
        for length in lengths {
            File::options().write(true).open(&cut).unwrap().set_len(length).unwrap();
            match verdict(&cut) {
                Verdict::Refused { .. } => continue,
                // Without its first bytes nothing is an image any more.
                Verdict::Sound(found) if found.format == DiskFormat::Raw && length < 68 => {
                    continue;
                }
                Verdict::Sound(found) => assert_eq!(found.format, expected_format(format)),
            }
            accepted += 1;
            let told = format!("{format} {options} cut to {length} of {size}, seed {SEED}");
            let whole = compare(folder, row, "cut", &name);
            assert!(whole, "{told}: differs");
            let code = check(folder, row, "cut");
            // 63: there is no check for this format.
            assert!(matches!(code, Some(0 | 63)), "{told}: check says {code:?}");
        }
        fs::remove_file(path).unwrap();
    }
    println!("{accepted} cut images were whole");
    assert!(source.exists());
}

fn be32(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn be64(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn le16(value: u16) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn le32(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn le64(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// A reflected cyclic redundancy check, bit by bit.
fn crc(polynomial: u32, bytes: &[u8]) -> u32 {
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
fn sum_again(format: &str, bytes: &mut [u8]) {
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
fn gpt() -> Vec<u8> {
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
fn iso() -> Vec<u8> {
    let mut disk = vec![0; 64 * 2048];
    disk[32_768..32_776].copy_from_slice(b"\x01CD001\x01\0");
    disk[32_768 + 80..32_768 + 88].copy_from_slice(b"\x20\0\0\0\0\0\0\x20");
    disk[32_768 + 128..32_768 + 132].copy_from_slice(b"\0\x08\x08\0");
    disk[34_816..34_823].copy_from_slice(b"\xffCD001\x01");
    disk
}

/// The images that hostile ones and damage begin with, by name.
struct Bases {
    folder: tempfile::TempDir,
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

    fn new() -> Self {
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

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }
}

/// A base, its size where that is changed, what is written over it, and what the reason says.
type Hostile = (&'static str, Option<u64>, Vec<(u64, Vec<u8>)>, &'static str);

const TIB: u64 = 1 << 40;

fn hostile_qcow2(base: &[u8]) -> Vec<Hostile> {
    let field = |at: usize| u64::from_be_bytes(base[at..at + 8].try_into().unwrap());
    let (level, counts, snapshots) = (field(40), field(48), field(64));
    let first_table = field(level as usize) & 0x00ff_ffff_ffff_fe00;
    let free = (base.len() as u64 / 65_536 - 2) * 65_536;
    let same: Vec<u8> = be64(first_table).repeat(4 << 20);
    let distinct: Vec<u8> = (0..4 << 20).flat_map(|n: u64| be64((2 << 30) + (n << 16))).collect();
    let shot = |offset: u64, entries: u32, count: usize| {
        let mut entry = be64(offset);
        entry.extend(be32(entries));
        entry.resize(40, 0);
        entry.repeat(count)
    };
    let extension = |kind: u32, length: u32, body: &[&[u8]]| {
        let mut bytes = [be32(kind), be32(length)].concat();
        bytes.extend(body.concat());
        bytes
    };
    let moved = |entries: u32| vec![(36, be32(entries)), (40, be64(1 << 30))];
    let with = |mut patches: Vec<(u64, Vec<u8>)>, more: (u64, Vec<u8>)| {
        patches.push(more);
        patches
    };
    let wrap = u64::MAX << 16;
    vec![
        (
            "qcow2",
            None,
            vec![(8, be64(512)), (16, be32(9)), (512, b"/etc/\x1b[1m".to_vec())],
            "backing file",
        ),
        ("qcow2", None, vec![(4, be32(1))], "version 1"),
        ("qcow2", None, vec![(4, be32(u32::MAX))], "version 4294967295"),
        ("qcow2", None, vec![(72, be64(4))], "data in another file"),
        (
            "qcow2",
            None,
            vec![(104, vec![0; 8]), (112, extension(0x4441_5441, 8, &[b"/etc/\x1b[m"]))],
            "names another file for its data, \"/etc/\\x1b[m\"",
        ),
        (
            "qcow2",
            None,
            vec![(72, be64(1 << 63))],
            "features that are unknown (0x8000000000000000)",
        ),
        ("qcow2", None, vec![(72, be64(2))], "marked corrupt"),
        ("qcow2", None, vec![(72, be64(8))], "compressed in an unknown way"),
        ("qcow2", None, vec![(20, be32(0))], "clusters of an impossible size"),
        ("qcow2", None, vec![(20, be32(8))], "clusters of an impossible size"),
        ("qcow2", None, vec![(20, be32(22))], "clusters of an impossible size"),
        ("qcow2", None, vec![(20, be32(u32::MAX))], "clusters of an impossible size"),
        ("qcow2", None, vec![(36, be32(u32::MAX))], "first-level table over 32 MiB"),
        ("qcow2", None, vec![(36, be32(0))], "first-level table too small"),
        ("qcow2", None, vec![(24, be64(u64::MAX))], "first-level table too small"),
        ("qcow2", None, vec![(40, be64(wrap))], "first-level table lies beyond"),
        ("qcow2", None, vec![(40, be64(level + 8))], "first-level table astride"),
        ("qcow2", Some(TIB), with(moved(4 << 20), (1 << 30, same)), "names one table twice"),
        ("qcow2", Some(TIB), with(moved(4 << 20), (1 << 30, distinct)), "larger tables"),
        ("qcow2", None, vec![(level, be64(level))], "tables that overlap"),
        ("qcow2", None, vec![(level, be64(counts))], "tables that overlap"),
        ("qcow2", None, vec![(level, be64(wrap))], "second-level table lies beyond"),
        ("qcow2", None, vec![(first_table, be64(level))], "data on its own tables"),
        ("qcow2", None, vec![(first_table, be64(65_536 + 512))], "data astride"),
        ("qcow2", None, vec![(first_table, be64(1 << 55))], "data lies beyond"),
        ("qcow2", None, vec![(first_table, be64(u64::MAX >> 1))], "compressed data lies beyond"),
        ("qcow2", None, vec![(counts, be64(counts))], "tables that overlap"),
        ("qcow2", None, vec![(counts, be64(wrap))], "block of reference counts lies beyond"),
        (
            "qcow2",
            None,
            vec![(counts, be64(free)), (counts + 8, be64(free))],
            "block of reference counts twice",
        ),
        ("qcow2", None, vec![(48, be64(level))], "tables that overlap"),
        ("qcow2", None, vec![(56, be32(u32::MAX))], "reference counts of an impossible size"),
        ("qcow2", None, vec![(56, be32(0))], "reference counts of an impossible size"),
        ("qcow2", None, vec![(96, be32(7))], "reference counts of an impossible width"),
        ("qcow2", None, vec![(100, be32(0))], "header of an impossible length"),
        ("qcow2", None, vec![(100, be32(1 << 31))], "header longer than a cluster"),
        (
            "qcow2",
            None,
            vec![(104, vec![0; 8]), (112, extension(7, u32::MAX, &[]))],
            "extension longer",
        ),
        ("qcow2", None, vec![(60, be32(u32::MAX))], "more snapshots"),
        (
            "qcow2",
            None,
            vec![(60, be32(65_536)), (64, be64(wrap))],
            "table of snapshots lies beyond",
        ),
        ("qcow2", None, vec![(snapshots, be64(level))], "tables that overlap"),
        ("qcow2", None, vec![(64, be64(level))], "tables that overlap"),
        (
            "qcow2",
            Some(TIB),
            vec![(60, be32(65_536)), (64, be64(1 << 30)), (1 << 30, shot(2 << 30, 1, 65_536))],
            "tables that overlap",
        ),
        (
            "qcow2",
            Some(TIB),
            vec![
                (60, be32(65_536)),
                (64, be64(1 << 30)),
                (1 << 30, shot(2 << 30, 4 << 20, 65_536)),
            ],
            "too large snapshots",
        ),
        (
            "qcow2",
            Some(TIB),
            vec![(60, be32(1)), (64, be64(1 << 30)), (1 << 30, shot(2 << 30, u32::MAX, 1))],
            "over 32 MiB",
        ),
        ("qcow2", None, vec![(32, be32(3))], "encrypted in an unknown way"),
        ("qcow2", None, vec![(32, be32(2))], "no key material"),
        (
            "qcow2",
            None,
            vec![
                (32, be32(2)),
                (104, vec![0; 8]),
                (112, extension(0x0537_be77, 16, &[&be64(wrap), &be64(u64::MAX)])),
            ],
            "key material lies beyond",
        ),
        (
            "qcow2",
            None,
            vec![
                (88, be64(1)),
                (104, vec![0; 8]),
                (
                    112,
                    extension(
                        0x2385_2875,
                        24,
                        &[&be32(u32::MAX), &be32(0), &be64(8), &be64(level)],
                    ),
                ),
            ],
            "more bitmaps",
        ),
        (
            "qcow2",
            None,
            vec![
                (88, be64(1)),
                (104, vec![0; 8]),
                (
                    112,
                    extension(0x2385_2875, 24, &[&be32(1), &be32(0), &be64(u64::MAX), &be64(wrap)]),
                ),
            ],
            "directory of bitmaps lies beyond",
        ),
        (
            "qcow2",
            Some(TIB),
            vec![
                (88, be64(1)),
                (104, vec![0; 8]),
                (
                    112,
                    extension(
                        0x2385_2875,
                        24,
                        &[&be32(65_535), &be32(0), &be64(1 << 20), &be64(1 << 30)],
                    ),
                ),
            ],
            "directory of bitmaps that is too short",
        ),
    ]
}

fn hostile_vmdk(base: &[u8]) -> Vec<Hostile> {
    let directory = u64::from_le_bytes(base[56..64].try_into().unwrap()) * 512;
    let text = |body: &str| {
        let mut bytes = format!("# Disk DescriptorFile\nversion=1\n{body}\n").into_bytes();
        bytes.resize(2048, 0);
        vec![(512, bytes)]
    };
    let good = "createType=\"monolithicSparse\"\nparentCID=ffffffff\n";
    vec![
        ("vmdk", None, vec![(4, le32(9))], "version 9"),
        ("vmdk", None, vec![(44, le32(0))], "grain tables of an impossible size"),
        ("vmdk", None, vec![(44, le32(u32::MAX))], "grain tables of an impossible size"),
        ("vmdk", None, vec![(12, le64(1 << 63))], "impossible size"),
        ("vmdk", None, vec![(12, le64(u64::MAX))], "impossible size"),
        ("vmdk", None, vec![(12, le64(0))], "its disk in other files"),
        ("vmdk", None, vec![(20, le64(0))], "grains of an impossible size"),
        ("vmdk", None, vec![(20, le64(1 << 63))], "grains of an impossible size"),
        ("vmdk", None, vec![(56, le64(1 << 60))], "grain directory lies beyond"),
        ("vmdk", None, vec![(48, le64((1 << 55) - 1))], "grain directory lies beyond"),
        ("vmdk", None, vec![(56, le64(u64::MAX))], "footer lies beyond"),
        ("vmdk", None, vec![(64, le64(1 << 62))], "no disk can have"),
        ("vmdk", Some(TIB), vec![(36, le64(8 << 20))], "descriptor over 64 KiB"),
        ("vmdk", None, vec![(36, le64(u64::MAX))], "no disk can have"),
        ("vmdk", None, vec![(28, le64(1 << 54))], "descriptor lies beyond"),
        ("vmdk", None, vec![(28, le64(0))], "one extent of a disk in several files"),
        ("vmdk", None, vec![(77, le16(7)), (8, le32(0x3_0001))], "compressed in an unknown way"),
        ("vmdk", None, vec![(directory, le32(u32::MAX))], "grain table lies beyond"),
        (
            "vmdk",
            Some(TIB),
            vec![(12, le64(1 << 34)), (directory, le32(1000).repeat(1 << 18))],
            "grain table twice",
        ),
        (
            "vmdk",
            None,
            text("createType=\"monolithicFlat\"\nRW 1 FLAT \"/etc/shadow\" 0"),
            "kind \"monolithicFlat\"",
        ),
        ("vmdk", None, text("createType=\"\x1b[2J\x07\""), "kind \"\\x1b[2J\\x07\""),
        ("vmdk", None, text(&format!("{good}RW 1 FLAT \"x\" 0")), "extent outside itself"),
        (
            "vmdk",
            None,
            text(&format!("{good}RW 1 SPARSE \"/etc/shadow\"")),
            "extent outside itself",
        ),
        ("vmdk", None, text(&format!("{good}RW 1 SPARSE \"a\"\nRW 1 SPARSE \"b\"")), "2 extents"),
        ("vmdk", None, text(good), "0 extents"),
        (
            "vmdk",
            None,
            text("createType=\"monolithicSparse\"\nparentCID=12345678\nRW 1 SPARSE \"a\""),
            "parent image",
        ),
        (
            "vmdk",
            None,
            text(&format!("{good}parentFileNameHint=\"/etc/passwd\"\nRW 1 SPARSE \"a\"")),
            "parent image",
        ),
        ("text", Some(4 << 30), vec![(40, vec![b'x'; 1 << 20])], "extents in other files"),
        ("text", None, vec![(0, b"COWD".to_vec())], "extent of an ESX disk"),
    ]
}

fn hostile_others() -> Vec<Hostile> {
    let none: fn() -> Vec<(u64, Vec<u8>)> = Vec::new;
    vec![
        ("qed", None, none(), "no longer developed"),
        ("vdi", None, vec![(376, le32(0))], "blocks of an impossible size"),
        ("vdi", None, vec![(376, le32(3))], "blocks of an impossible size"),
        ("vdi", None, vec![(384, le32(u32::MAX))], "more blocks than 64 TiB have"),
        ("vdi", None, vec![(384, le32(0))], "map too small"),
        ("vdi", None, vec![(368, le64(u64::MAX))], "map too small"),
        ("vdi", None, vec![(340, le32(u32::MAX))], "block map lies beyond"),
        ("vdi", None, vec![(344, le32(u32::MAX))], "data lies beyond"),
        ("vdi", None, vec![(344, le32(512))], "blocks on its own map"),
        ("vdi", None, vec![(512, le32(1 << 30))], "data lies beyond"),
        ("vdi", None, vec![(380, le32(u32::MAX))], "lies beyond"),
        (
            "vdi",
            Some(TIB),
            vec![(340, le32(1 << 30)), (344, le32(2 << 30)), (384, le32(1 << 26))],
            "blocks more than once",
        ),
        ("vdi", None, vec![(76, le32(4))], "kind 4"),
        ("vdi", None, vec![(68, le32(u32::MAX))], "version 65535.65535"),
        ("vdi", None, vec![(440, b"\x1b[31m-parent-id-".to_vec())], "parent image"),
        ("vpc", None, vec![(544, be32(0))], "blocks of an impossible size"),
        ("vpc", None, vec![(540, be32(u32::MAX))], "more blocks than a disk can have"),
        ("vpc", None, vec![(540, be32(0))], "block table too small"),
        ("vpc", None, vec![(528, be64(u64::MAX))], "block table lies beyond"),
        ("vpc", None, vec![(16, be64(u64::MAX - 9))], "dynamic header lies beyond"),
        ("vpc", None, vec![(16, be64(0))], "no dynamic header"),
        ("vpc", None, vec![(60, be32(4))], "parent image"),
        ("vpc", None, vec![(60, be32(77))], "kind 77"),
        ("vpc", None, vec![(1536, be32(u32::MAX - 1))], "data lies beyond"),
        ("vpc", Some(8 << 30), none(), "footer lies beyond"),
        ("vhdx", None, vec![(262_144, vec![0; 4]), (196_616, le32(u32::MAX))], "too many regions"),
        (
            "vhdx",
            None,
            vec![(262_144, vec![0; 4]), (196_640, le64(u64::MAX << 20))],
            "region lies beyond",
        ),
        (
            "vhdx",
            None,
            vec![(262_144, vec![0; 4]), (196_640, le64(0))],
            "region at an impossible place",
        ),
        ("vhdx", None, vec![(262_144, vec![0; 4]), (196_608, vec![0; 4])], "no region table"),
        ("vhdx", None, vec![(65_536, vec![0; 4]), (131_072, vec![0; 4])], "no header"),
        (
            "vhdx",
            None,
            vec![(65_536 + 48, vec![1; 16]), (131_072 + 48, vec![1; 16])],
            "not closed cleanly",
        ),
        (
            "vhdx",
            None,
            vec![(65_536 + 72, le64(u64::MAX)), (131_072 + 72, le64(u64::MAX))],
            "log lies beyond",
        ),
        ("luks", None, vec![(104, be32(u32::MAX))], "data lies beyond"),
        ("luks", None, vec![(248, be32(u32::MAX))], "key material lies beyond"),
        (
            "luks",
            None,
            vec![(252, be32(u32::MAX)), (108, be32(u32::MAX))],
            "key material lies beyond",
        ),
        ("luks", None, vec![(6, vec![0, 9])], "version 9"),
        ("luks", None, vec![(6, vec![0, 2]), (8, be64(u64::MAX))], "second header lies beyond"),
        ("iso", None, vec![(32_768 + 80, le32(u32::MAX))], "volume lies beyond"),
        ("iso", None, vec![(32_768 + 128, le16(0))], "blocks of an impossible size"),
        ("iso", None, vec![(32_768, vec![2])], "no primary volume descriptor"),
        ("gpt", None, vec![(544, le64(u64::MAX))], "no disk can have"),
        ("gpt", None, vec![(544, le64(1 << 50))], "backup partition table lies beyond"),
        (
            "gpt",
            None,
            vec![(592, le32(u32::MAX)), (596, le32(u32::MAX))],
            "partition table lies beyond",
        ),
        ("gpt", None, vec![(584, le64(1 << 54))], "partition table lies beyond"),
        ("gpt", None, vec![(560, le64(1 << 54))], "last partition lies beyond"),
    ]
}

/// Images of a VHDX whose metadata, which has no sum, is changed.
fn hostile_vhdx(base: &[u8]) -> Vec<Hostile> {
    let find =
        |mark: &[u8]| base.windows(mark.len()).position(|found| found == mark).unwrap() as u64;
    let metadata = find(b"metadata");
    let item = |mark: &[u8]| {
        let at = find(mark) as usize + 16;
        metadata + u64::from(u32::from_le_bytes(base[at..at + 4].try_into().unwrap()))
    };
    let parameters = item(b"\x37\x67\xa1\xca");
    let size = item(b"\x24\x42\xa5\x2f");
    let sector = item(b"\x1d\xbf\x41\x81");
    let region = find(b"\x66\x77\xc2\x2d") as usize + 16;
    let blocks = u64::from_le_bytes(base[region..region + 8].try_into().unwrap());
    let first = u64::from_le_bytes(base[blocks as usize..blocks as usize + 8].try_into().unwrap());
    vec![
        ("vhdx", None, vec![(metadata + 10, le16(65_535))], "too much metadata"),
        ("vhdx", None, vec![(metadata + 10, le16(0))], "lacks metadata"),
        ("vhdx", None, vec![(metadata, vec![0; 8])], "no metadata"),
        (
            "vhdx",
            None,
            vec![(find(b"\x37\x67\xa1\xca") + 16, le32(u32::MAX))],
            "outside of its region",
        ),
        ("vhdx", None, vec![(parameters, le32(0))], "blocks of an impossible size"),
        ("vhdx", None, vec![(parameters + 4, le32(2))], "parent image"),
        ("vhdx", None, vec![(size, le64(u64::MAX))], "impossible size"),
        ("vhdx", None, vec![(size, le64(64 << 40))], "block table too small"),
        ("vhdx", None, vec![(sector, le32(0))], "sectors of an impossible size"),
        ("vhdx", None, vec![(blocks, le64(u64::MAX << 20 | 6))], "data lies beyond"),
        ("vhdx", None, vec![(blocks, le64(blocks | 6))], "on its own block table"),
        ("vhdx", None, vec![(blocks, le64(6))], "on its own header"),
        ("vhdx", None, vec![(blocks, le64(first | 7))], "parent image"),
    ]
}

#[test]
fn a_hostile_image_is_refused_with_its_reason_at_once() {
    const TIME_MAX: Duration = Duration::from_millis(100);
    let bases = Bases::new();
    let path = bases.folder.path().join("hostile");
    let mut all = hostile_qcow2(&bases.bytes("qcow2"));
    all.extend(hostile_vmdk(&bases.bytes("vmdk")));
    all.extend(hostile_vhdx(&bases.bytes("vhdx")));
    all.extend(hostile_others());
    let mut slowest = Duration::ZERO;
    let mut most = 0;
    for (base, size, patches, part) in all {
        let mut bytes = bases.bytes(base);
        let (inside, outside): (Vec<_>, Vec<_>) =
            patches.iter().partition(|(at, patch)| *at as usize + patch.len() <= bytes.len());
        for (at, patch) in inside {
            bytes[*at as usize..*at as usize + patch.len()].copy_from_slice(patch);
        }
        sum_again(base, &mut bytes);
        if base == "vpc" {
            // The copy at the end follows.
            let last = bytes.len() - 512;
            bytes.copy_within(..512, last);
        }
        fs::write(&path, &bytes).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for (at, patch) in outside {
            file.write_all_at(patch, *at).unwrap();
        }
        if let Some(size) = size {
            file.set_len(size).unwrap();
        }
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let file = File::open(&path).unwrap();
            let size_bytes = file.metadata().unwrap().len();
            let probe = Counted::new(file);
            let begun = Instant::now();
            let verdict = inspect(&probe, size_bytes).unwrap();
            best = best.min(begun.elapsed());
            let Verdict::Refused { reason, .. } = verdict else {
                panic!("{base}, {part}: {verdict:?}");
            };
            assert!(reason.contains(part), "{base}, {part}: {reason}");
            assert!(reason.bytes().all(|byte| !byte.is_ascii_control()), "{reason:?}");
            assert!(reason.len() < 400, "{reason}");
            assert!(probe.largest.get() <= 64 << 10, "{base}, {part}: one large read");
            most = most.max(probe.bytes.get());
        }
        assert!(best < TIME_MAX, "{base}, {part}: {best:?}");
        slowest = slowest.max(best);
        fs::remove_file(&path).unwrap();
    }
    println!("the slowest took {slowest:?}; the most that was read is {most} bytes");
}

/// Where an image has what the inspection looks at: offsets and lengths.
fn tables_of(name: &str, bytes: &[u8]) -> Vec<(u64, u64)> {
    let big = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let little = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let little32 = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
    let find =
        |mark: &[u8]| bytes.windows(mark.len()).position(|found| found == mark).unwrap_or(0) as u64;
    match name {
        "qcow2" => {
            let level = big(40);
            let table = big(level as usize) & 0x00ff_ffff_ffff_fe00;
            vec![(0, 128), (level, 8), (big(48), 16), (table, 768), (big(64), 64)]
        }
        "vmdk" | "stream" => {
            let directory = little(56) * 512;
            let table = little32(directory as usize) * 512;
            vec![(0, 80), (512, 300), (directory, 4), (table, 384)]
        }
        "vdi" => vec![(64, 16), (340, 8), (368, 24), (440, 16), (512, 28)],
        "vpc" => vec![(0, 68), (512, 64), (1536, 12), (bytes.len() as u64 - 512, 68)],
        "vhdx" => {
            let metadata = find(b"metadata");
            let blocks = little(find(b"\x66\x77\xc2\x2d") as usize + 16);
            let tables = [(65_536, 80), (131_072, 80), (196_608, 80), (262_144, 80)];
            let mut places = tables.to_vec();
            places.extend([(metadata, 192), (metadata + 65_536, 40), (blocks, 56)]);
            places
        }
        "luks" => vec![(0, 8), (104, 8), (208, 384)],
        "iso" => vec![(32_768, 132), (34_816, 8)],
        "gpt" => vec![(446, 66), (512, 92)],
        other => panic!("{other} has no tables"),
    }
}

#[test]
fn damaged_bytes_never_panic_nor_read_without_end() {
    const SEED: u64 = 7;
    const FLIPS: u64 = 20_000;
    let bases = Bases::new();
    let names = ["qcow2", "vmdk", "stream", "vdi", "vpc", "vhdx", "luks", "iso", "gpt"];
    let mut most = 0;
    let mut refused = 0;
    for name in names {
        let mut bytes = bases.bytes(name);
        let mut random = Random(SEED);
        let places = tables_of(name, &bytes);
        for round in 0..FLIPS / names.len() as u64 {
            let mut undo = Vec::new();
            for _ in 0..=random.below(3) {
                let (start, length) = places[random.below(places.len() as u64) as usize];
                let at = (start + random.below(length)) as usize;
                undo.push((at, bytes[at]));
                bytes[at] = match random.below(4) {
                    0 => 0xff,
                    1 => 0,
                    _ => random.next() as u8,
                };
            }
            if random.below(2) == 0 {
                sum_again(if name == "gpt" { name } else { "" }, &mut bytes);
            }
            let probe = Counted::new(bytes.as_slice());
            let verdict = inspect(&probe, bytes.len() as u64).unwrap();
            refused += u64::from(matches!(verdict, Verdict::Refused { .. }));
            most = most.max(probe.bytes.get());
            assert!(probe.bytes.get() <= 64 << 20, "{name}, round {round}, seed {SEED}");
            assert!(probe.reads.get() <= 20_000, "{name}, round {round}, seed {SEED}");
            for (at, byte) in undo.into_iter().rev() {
                bytes[at] = byte;
            }
        }
    }
    assert!(refused > FLIPS / 4, "only {refused} were noticed");
    println!("{refused} of {FLIPS} were refused; the most that was read is {most} bytes");
}
