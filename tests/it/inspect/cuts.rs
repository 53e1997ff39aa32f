//! Images cut at any length: refused, or whole by `qemu-img check` and `compare`.

use super::*;

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
