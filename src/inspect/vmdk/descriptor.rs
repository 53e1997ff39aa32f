//! The text in a VMware disk that names its extents: all of the disk must be in the file itself.

use super::{DESCRIPTOR_MARK, SECTOR_BYTES};
use crate::inspect::reader::{CHUNK_BYTES, Checked, Reader, product, quoted, refuse, require};

/// The kinds of disks that are one file.
const KINDS: [&[u8]; 2] = [b"monolithicSparse", b"streamOptimized"];

/// Where the text begins, in sectors, and how much of it qemu reads, however long it is.
const SECTOR: u64 = 1;
const READ_BYTES: usize = 20 * 512;

/// What stands for no parent.
const NO_PARENT: &[u8] = b"ffffffff";

/// A disk of which the file is only the description is refused, by the name of its kind.
pub(super) fn refuse_standalone(reader: &Reader<'_>) -> Checked<u64> {
    let text = reader.bytes(0, CHUNK_BYTES)?;
    let kind = quoted(Text::read(&text).kind);
    refuse(format!("has its extents in other files ({kind}): join them with qemu-img convert"))
}

/// Checks the text in `sectors` sectors from `offset` on, in sectors.
pub(super) fn check(reader: &Reader<'_>, offset: u64, sectors: u64) -> Checked<()> {
    let is_there = offset != 0 && sectors != 0;
    require(is_there, "is one extent of a disk in several files: join them with qemu-img convert")?;
    let length = product(sectors, SECTOR_BYTES)?;
    let length_chunk = usize::try_from(length).ok().filter(|length| *length <= CHUNK_BYTES);
    let Some(length_chunk) = length_chunk else {
        return refuse("has a descriptor over 64 KiB: rebuild it with qemu-img convert");
    };
    let place = reader.span("descriptor", product(offset, SECTOR_BYTES)?, length)?;
    // Readers look for it here, whatever the header says; what they would find must be what is checked.
    require(offset == SECTOR, "has its descriptor at an unusual place: rebuild it with qemu-img")?;
    // A text that no NUL ends goes on behind its sectors for them.
    let bytes = reader.bytes(place.offset, length_chunk.max(READ_BYTES))?;
    require(bytes.starts_with(DESCRIPTOR_MARK), "has no descriptor: copy it again")?;
    let text = Text::read(&bytes);
    if !KINDS.contains(&text.kind) {
        let kind = quoted(text.kind);
        return refuse(format!("is of the kind {kind}: convert it with qemu-img convert"));
    }
    if text.has_parent {
        return refuse("has a parent image: merge them with qemu-img convert");
    }
    match text.extents.as_slice() {
        [extent] if is_inside(extent) => Ok(()),
        [extent] => {
            let extent = quoted(extent);
            refuse(format!(
                "has an extent outside itself, {extent}: join them with qemu-img convert"
            ))
        }
        extents => {
            let count = extents.len();
            refuse(format!("names {count} extents, not one: join them with qemu-img convert"))
        }
    }
}

/// What stands before the name of a parent.
const PARENT_NAME: &[u8] = b"parentFileNameHint";

/// What the text says.
struct Text<'a> {
    kind: &'a [u8],
    has_parent: bool,
    extents: Vec<&'a [u8]>,
}

impl<'a> Text<'a> {
    /// Reads the lines up to the first NUL.
    fn read(bytes: &'a [u8]) -> Self {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
        // Readers look for the name of a parent anywhere, be it in a comment.
        let mut windows = text.windows(PARENT_NAME.len());
        let has_parent = windows.any(|found| found.eq_ignore_ascii_case(PARENT_NAME));
        let mut found = Self { kind: &[], has_parent, extents: Vec::new() };
        for line in text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii) {
            if let Some(value) = value(line, b"createType") {
                // Of several, the one that is refused decides.
                if found.kind.is_empty() || KINDS.contains(&found.kind) {
                    found.kind = value;
                }
            } else if let Some(value) = value(line, b"parentCID") {
                found.has_parent |= !value.eq_ignore_ascii_case(NO_PARENT);
            } else if is_extent(line) {
                found.extents.push(line);
            }
        }
        found
    }
}

/// The value of the line `key = "value"`, without its quotes.
fn value<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let (name, rest) = line.split_at(line.iter().position(|byte| *byte == b'=')?);
    if !name.trim_ascii().eq_ignore_ascii_case(key) {
        return None;
    }
    let value = rest.strip_prefix(b"=")?.trim_ascii();
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// Whether the line names an extent: `RW 4192256 SPARSE "disk.vmdk"`.
fn is_extent(line: &[u8]) -> bool {
    let access = line.split(u8::is_ascii_whitespace).next().unwrap_or(&[]);
    [b"RW".as_slice(), b"RDONLY", b"NOACCESS"].iter().any(|word| access.eq_ignore_ascii_case(word))
}

/// Whether the extent is a sparse one in a file of the same folder, which a disk in one file calls
/// itself, whatever its name has become.
fn is_inside(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let kind = words.nth(2).unwrap_or(&[]);
    let is_path = line.iter().any(|byte| matches!(byte, b'/' | b'\\'));
    kind.eq_ignore_ascii_case(b"SPARSE") && !is_path
}

#[cfg(test)]
mod tests {
    use crate::inspect::tests::{refuses, sound};
    use crate::inspect::vmdk::tests::image;

    const GOOD: &str = "createType=\"monolithicSparse\"\nparentCID=ffffffff\n";

    fn text(body: &str) -> Vec<u8> {
        let mut bytes = format!("# Disk DescriptorFile\n{body}\n").into_bytes();
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn a_disk_that_is_all_in_its_file_is_taken() {
        for body in [
            "createType=\"streamOptimized\"\r\nRDONLY 9 SPARSE \"b.vmdk\"\r\n",
            " createType = \"monolithicSparse\"\nparentCID=FFFFFFFF\nRW 9 SPARSE \"x y.vmdk\"",
        ] {
            assert_eq!(sound(&image(&[(512, &text(body))])).1, 9 * 512);
        }
    }

    #[test]
    fn a_disk_with_a_part_outside_is_refused() {
        for (body, part) in [
            ("createType=\"monolithicFlat\"\nRW 9 FLAT \"b\" 0", "kind \"monolithicFlat\""),
            ("createType=\"\x1b[m\"", "kind \"\\x1b[m\""),
            ("RW 9 SPARSE \"b\"", "kind \"\""),
            (&format!("{GOOD}RW 9 FLAT \"b\" 0"), "outside itself, \"RW 9 FLAT \\\"b\\\" 0\""),
            (&format!("{GOOD}RW 9 SPARSE \"/etc/b\""), "outside itself"),
            (&format!("{GOOD}RW 9 SPARSE \"..\\b\""), "outside itself"),
            (&format!("{GOOD}RW 9 SPARSE \"b\"\nrw 9 SPARSE \"c\""), "names 2 extents"),
            (GOOD, "names 0 extents"),
            (&format!("{GOOD}parentCID=00000000\nRW 9 SPARSE \"b\""), "parent image"),
            (&format!("{GOOD}parentFileNameHint=\"b\"\nRW 9 SPARSE \"b\""), "parent image"),
            (&format!("{GOOD}# ParentFileNameHint=\"b\"\nRW 9 SPARSE \"b\""), "parent image"),
            (&format!("createType=\"vmfs\"\n{GOOD}RW 9 SPARSE \"b\""), "kind \"vmfs\""),
            (&format!("{GOOD}createType=\"vmfs\"\nRW 9 SPARSE \"b\""), "kind \"vmfs\""),
        ] {
            refuses(&image(&[]), &[(&[(512, &text(body))], part)]);
        }
    }

    // qemu opened the parent of such an image: it reads twenty sectors, as far as there is no NUL.
    #[test]
    fn a_parent_behind_the_sectors_of_the_text_is_found() {
        let mut body = format!("# Disk DescriptorFile\n{GOOD}RW 9 SPARSE \"b\"\n#").into_bytes();
        body.resize(512, b'x');
        body.extend(b"\nparentFileNameHint=\"/etc/b\"\n\0");
        refuses(&image(&[]), &[(&[(512, &body)], "parent image")]);
    }

    // qemu takes such a content for a disk, and opened the file that it names.
    #[test]
    fn a_text_that_names_extents_is_refused_without_its_first_line() {
        let extent = "createType=\"monolithicFlat\"\nRW 8 FLAT \"/etc/b\" 0\n";
        for head in ["version=1\n", "# a\n  \r\nversion=1\r\n", "#a\n#b\nversion=3\n"] {
            let text = format!("{head}{extent}");
            refuses(&[0; 4096], &[(&[(0, text.as_bytes())], "other files")]);
            // Whatever else it is.
            let patches: [(usize, &[u8]); 2] = [(0, text.as_bytes()), (510, b"\x55\xaa")];
            refuses(&[1; 4096], &[(&patches, "other files")]);
        }
    }

    #[test]
    fn a_descriptor_that_is_missing_or_far_or_huge_is_refused() {
        refuses(
            &image(&[]),
            &[
                (&[(512, b"x")], "no descriptor"),
                (&[(28, &[0])], "one extent of a disk in several files"),
                (&[(36, &[0])], "one extent of a disk in several files"),
                (&[(36, &[0xff; 8])], "no disk can have"),
                (&[(36, &[129])], "over 64 KiB"),
                (&[(28, &[2])], "unusual place"),
                (&[(28, &[0xff; 4])], "descriptor lies beyond"),
                (&[(0, b"# Disk DescriptorFile\ncreateType=\"a\"\n")], "other files (\"a\")"),
            ],
        );
    }
}
