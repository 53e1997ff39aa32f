//! The documents: each command in README.md, docs/guide.md and docs/operations.md is run, in their order, in a machine apart.
//!
//! A block of commands stands as it is read. A comment before it says what else it is: `<!-- fails -->` that it has to
//! fail, `<!-- not run: WHY -->` that it can't be tried here.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::command::apart;
use crate::support::text;

/// Blocks that are not run: those that build or install, and those that ask for what the machine of the tests lacks.
const NOT_RUN_MAX: usize = 8;

/// What people have who read these documents.
const FILES: &str = r#"
    mkdir -p /mnt/.etc/new /mnt/.etc/work
    mount -t overlay -o lowerdir=/etc,upperdir=/mnt/.etc/new,workdir=/mnt/.etc/work none /etc
    truncate -s 8M blank.raw; mke2fs -q -F blank.raw; head -c 300000 /dev/urandom > boot.bin
    image() { cp --sparse=always blank.raw work.raw; dd if=/dev/urandom of=work.raw bs=64k count=8 seek=40 conv=notrunc status=none
        qemu-img convert -O qcow2 work.raw $1; }
    mkdir /srv/library
    for name in debian-12 ubuntu-24.04 alpine build next-build /srv/library/fedora; do image $name.qcow2; done
    cp work.raw build.raw; cp work.raw disk.raw; sha256sum debian-12.qcow2 > debian-12.qcow2.sha256
"#;

/// What people have who run a store.
const STORE: &str = r"
    mount -t tmpfs none /var/lib; mkdir -p /var/lib/prometheus/node-exporter /var/lib/libvirt/images /mnt/sps
    sps mount --store /srv/images /mnt/sps; cp debian-12.qcow2 /mnt/sps/active/
";

#[derive(Debug, Default)]
struct Block {
    line: usize,
    commands: String,
    /// What the comment before it says.
    mark: Option<String>,
}

/// The blocks of commands of a document: those that are set in by four spaces, and those between fences marked `sh`.
fn blocks(document: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(document).expect("a document");
    let (mut found, mut block, mut mark) = (Vec::new(), Block::default(), None);
    let (mut fenced, mut was_blank) = (None, true);
    for (line, words) in text.lines().enumerate().chain([(0, "end")]) {
        if let Some(kind) = words.strip_prefix("```") {
            fenced = fenced.is_none().then(|| kind.to_owned());
            continue;
        }
        let command = match (&fenced, words.strip_prefix("    ")) {
            (Some(kind), _) if kind == "sh" => Some(words),
            (Some(_), _) => None,
            (None, Some(command)) if was_blank || !block.commands.is_empty() => Some(command),
            (None, _) => None,
        };
        if let Some(command) = command {
            block.line = if block.commands.is_empty() { line + 1 } else { block.line };
            writeln!(block.commands, "{command}").expect("text");
        } else if !words.is_empty() {
            if !block.commands.is_empty() {
                found.push(Block { mark: mark.take(), ..std::mem::take(&mut block) });
            }
            let comment = words.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            mark = comment.map(str::to_owned);
        }
        was_blank = words.is_empty();
    }
    found
}

fn documents() -> [PathBuf; 3] {
    ["README.md", "docs/guide.md", "docs/operations.md"]
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
}

/// A script that runs blocks one after the other, each with a shell of its own, and says which did not do as it should.
fn steps(blocks: &[Block], name: &str) -> String {
    let mut script = String::new();
    for block in blocks {
        let (line, commands) = (block.line, &block.commands);
        let good = match block.mark.as_deref() {
            None => "-eq 0",
            Some("fails") => "-ne 0",
            Some(_) => continue,
        };
        write!(
            script,
            "echo '== {name}:{line}'; status=0\n\
             bash -e -o pipefail <<'END_OF_BLOCK' || status=$?\n{commands}END_OF_BLOCK\n\
             test $status {good} || {{ echo \"{name}:{line}: exit status $status\"; tail -n 20 /srv/*/sps.log; exit 1; }}\n"
        )
        .expect("text");
    }
    script
}

#[test]
fn each_command_of_the_documents_does_what_is_said_of_it() {
    for document in documents() {
        let blocks = blocks(&document);
        let name = document.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(blocks.len() >= 4, "{name} has {} blocks", blocks.len());
        let store = if name == "operations.md" { STORE } else { "" };
        let output = apart::run(&format!("{FILES}{store}{}", steps(&blocks, &name)), 240);
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn few_commands_of_the_documents_are_not_run_and_each_says_why() {
    let mut count = 0;
    for document in documents() {
        for block in blocks(&document) {
            let Some(mark) = block.mark else { continue };
            if mark != "fails" {
                let why = mark.strip_prefix("not run: ").unwrap_or_default();
                assert!(why.len() > 10, "{}:{}: {mark}", document.display(), block.line);
                count += 1;
            }
        }
    }
    assert!(count <= NOT_RUN_MAX, "{count} blocks are not run");
}

#[test]
fn the_documents_name_files_and_headings_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let folder = std::fs::read_dir(root.join("docs")).expect("docs");
    pages.extend(folder.map(|entry| entry.expect("an entry").path()));
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("a document");
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let found = std::fs::read_to_string(&path);
            let found = found.unwrap_or_else(|e| panic!("{}: {target}: {e}", page.display()));
            let has_heading = found.lines().any(|line| {
                line.starts_with('#') && anchor(line.trim_start_matches('#')) == heading
            });
            assert!(heading.is_empty() || has_heading, "{}: {target}", page.display());
        }
    }
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().replace(' ', "-")
}
