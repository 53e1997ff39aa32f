//! Format and virtual size against what `qemu-img info` says, and what other tools write.

use super::*;

/// The size that `qemu-img info` tells.
fn virtual_size(folder: &Path, name: &str, format: &str) -> u64 {
    let said = run(folder, "qemu-img", &["info", "--output=json", "-f", format, name]);
    let line = said.lines().find_map(|line| line.strip_prefix("    \"virtual-size\": ")).unwrap();
    line.trim_end_matches(',').parse().unwrap()
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
