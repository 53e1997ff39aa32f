//! Hostile images: each is refused with its reason, at once and with little read.

use super::bytes::*;
use super::*;

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
