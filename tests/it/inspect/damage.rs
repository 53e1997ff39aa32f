//! Damage at random: nothing panics, and nothing reads without end.

use super::bytes::*;
use super::*;

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
