//! `sps backup`: a copy made under load is a store, with all that was active when it began.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{ALICE, Sandbox, count_files, run, text};

fn backup(sandbox: &Sandbox, to: &str) -> (String, bool) {
    let mut command = sandbox.sps();
    let output =
        run(command.arg("backup").arg("--store").arg(sandbox.store()).arg(sandbox.file(to)));
    (text(&output), output.status.success())
}

/// Wipes the store and puts its copy in its place.
fn restore(sandbox: &Sandbox, from: &str) {
    sandbox.umount();
    fs::remove_dir_all(sandbox.store()).expect("wiped");
    sandbox.ok(&format!("cp -a $F/{from} {}", sandbox.store().display()));
    sandbox.mount();
}

// semantics: backup-under-load
#[test]
fn a_copy_made_under_load_has_every_image_that_was_active_when_it_began() {
    let sandbox = Sandbox::new();
    for number in 0..40 {
        sandbox.source(&format!("s{number}"), 200_000 + number);
        sandbox.ok(&format!("cp $F/s{number} $M/active/old{number}"));
    }
    sandbox.ok("setfattr -n user.sps.tags -v gold $M/active/old1; truncate -s 20M $F/sparse
                dd if=$F/s1 of=$F/sparse bs=64K seek=100 conv=notrunc status=none; cp $F/sparse $M/active/; echo o > $M/active/other
                mv $M/active/other $M/deactivated/; echo p > $M/active/p; rm $M/active/p; sleep 0.1
                printf 'scrub_time = \"12h\"\\n' > ${M%/mnt}/store/config.toml");
    let is_over = AtomicBool::new(false);
    let mut said = (String::new(), false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (sandbox, is_over) = (&sandbox, &is_over);
            scope.spawn(move || {
                let mut number = 0;
                while !is_over.load(Ordering::Acquire) {
                    number += 1;
                    sandbox.ok(&format!(
                        "cat $F/s{writer} - <<< {number} > $M/active/new{writer}-{number}"
                    ));
                }
            });
        }
        let (sandbox, is_over) = (&sandbox, &is_over);
        scope.spawn(move || {
            // What is purged while the copy is made may be missing in it, and is no fault.
            for number in 20..30 {
                sandbox.ok(&format!("rm $M/active/old{number}; rm $M/pending_delete/old{number}"));
            }
            while !is_over.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        });
        let before: Vec<String> = sandbox.names("active");
        said = backup(sandbox, "copy");
        is_over.store(true, Ordering::Release);
        assert!(before.len() > 10);
    });
    assert!(said.1 && said.0.contains("images"), "{}", said.0);
    let kept: BTreeMap<String, Vec<u8>> = (0..20)
        .chain(30..40)
        .map(|number| {
            (format!("old{number}"), fs::read(sandbox.file(&format!("s{number}"))).expect("read"))
        })
        .collect();
    restore(&sandbox, "copy");
    for (name, bytes) in &kept {
        assert!(fs::read(sandbox.path(&format!("active/{name}"))).expect(name) == *bytes, "{name}");
    }
    assert_eq!(sandbox.attribute("active/old1", "tags").as_deref(), Some("gold"));
    assert_eq!(sandbox.names("deactivated").iter().filter(|name| *name == "other").count(), 1);
    assert!(sandbox.names("pending_delete").contains(&"p".to_owned()));
    assert!(sandbox.names("saving").is_empty());
    let blocks: u64 =
        sandbox.ok("du -k $M/active/sparse | cut -f1").trim().parse().expect("a number");
    assert!(blocks < 1000, "holes stay: {blocks}");
    sandbox.ok("cmp $F/sparse $M/active/sparse");
    sandbox.ok("grep -q scrub_time ${M%/mnt}/store/config.toml");
    sandbox.ok("echo '{\"type\": \"verify\"}' > $M/tasks/pending/v");
    crate::support::eventually("all is verified", || sandbox.names("tasks/success") == ["v"]);
    let result = sandbox.ok("cat $M/tasks/success/v");
    assert!(result.contains("\"damaged\": 0"), "{result}");
}

// semantics: backup-refused
#[test]
fn a_copy_is_made_in_a_new_place_and_is_no_store_until_it_is_whole() {
    let sandbox = Sandbox::new();
    sandbox.source("a", 100_000);
    sandbox.ok("cp $F/a $M/active/a; mkdir $F/full; echo x > $F/full/x; mkdir $F/half");
    let (said, is_done) = backup(&sandbox, "full");
    assert!(!is_done && said.contains("not empty"), "{said}");
    assert_eq!(sandbox.ok("ls $F/full"), "x\n");
    let output =
        run(sandbox.sps().args(["backup", "--store", "/nowhere"]).arg(sandbox.file("new")));
    assert!(!output.status.success() && text(&output).contains("not a store"), "{}", text(&output));
    // Ended half way: it has data, and what is to become its registry.
    let (said, is_done) = backup(&sandbox, "half");
    assert!(is_done, "{said}");
    sandbox.ok("mv $F/half/sps.db $F/half/sps.db.part");
    let output =
        run(sandbox.sps().args(["mount", "--store"]).arg(sandbox.file("half")).arg(sandbox.root()));
    assert!(!output.status.success(), "a half copy is no store");
    // What is damaged is told, and the rest is copied.
    let digest = sandbox.attribute("active/a", "blake3").expect("a digest");
    sandbox.ok("echo b > $M/active/b");
    let blob = sandbox.store().join("blobs").join(&digest[..2]).join(&digest);
    fs::remove_file(&blob).expect("gone");
    fs::write(&blob, vec![0; 100_000]).expect("damaged");
    let (said, is_done) = backup(&sandbox, "damaged");
    assert!(!is_done && said.contains("not whole") && said.contains("(a)"), "{said}");
    restore(&sandbox, "damaged");
    assert_eq!(
        (sandbox.names("active"), sandbox.names("deactivated")),
        (vec!["b".into()], vec!["a".into()])
    );
}

// semantics: backup-refused
#[test]
fn a_backup_that_is_killed_leaves_no_store_and_the_source_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.source("small", 100_000);
    sandbox.source("large", 3_000_000);
    sandbox.ok("cp $F/small $M/active/small; cp $F/large $M/active/large");
    // The kernel kills it when it comes to write more than a mebibyte.
    let script = format!(
        "ulimit -c 0 -f 1024; exec {} backup --store $S $F/half",
        env!("CARGO_BIN_EXE_sps")
    );
    assert!(!sandbox.bash(&script).status.success());
    assert_eq!(crate::support::count_files(&sandbox.file("half").join("blobs")), 1);
    let output =
        run(sandbox.sps().args(["mount", "--store"]).arg(sandbox.file("half")).arg(sandbox.root()));
    assert!(!output.status.success(), "a half copy is no store");
    sandbox.umount();
    let output =
        run(sandbox.sps().args(["mount", "--store"]).arg(sandbox.file("half")).arg(sandbox.root()));
    assert!(text(&output).contains("half a store"), "{}", text(&output));
    sandbox.audit();
    let (said, is_done) = backup(&sandbox, "half");
    assert!(!is_done && said.contains("not empty"), "{said}");
    // What is there of it can be had all the same.
    let output =
        run(sandbox.sps().args(["fsck", "--rebuild", "--store"]).arg(sandbox.file("half")));
    assert!(output.status.success(), "{}", text(&output));
    sandbox.mount();
    restore(&sandbox, "half");
    assert_eq!(sandbox.names("active"), ["small"]);
    sandbox.ok("cmp $F/small $M/active/small");
}

// semantics: backup-closed backup-in-flight
#[test]
fn what_was_closed_is_in_a_copy_and_what_is_under_way_is_cut_off() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.source("x", 300_000);
    assert!(sandbox.mount_failing_at("vote.recorded"));
    sandbox.ok("echo work > $M/uploading/w");
    let mut writer = sandbox
        .bash_command("exec 3>$M/active/open; echo part >&3; exec sleep 60")
        .spawn()
        .expect("a writer");
    crate::support::eventually("it is being written", || sandbox.names("saving") == ["open"]);
    sandbox.bash("cp $F/x $M/active/x 2>/dev/null");
    sandbox.wait_for_daemons_end();
    writer.kill().expect("killed");
    writer.wait().expect("ended");
    let (said, is_done) = backup(&sandbox, "copy");
    assert!(is_done && said.contains("1 images"), "{said}");
    sandbox.bash("umount -l $M; rm -r $S; mv $F/copy $S");
    sandbox.mount();
    assert_eq!(sandbox.tree(), ["active/x", "killed/open", "uploading/w"].map(str::to_owned));
    sandbox.ok("cmp $F/x $M/active/x; test \"$(cat $M/uploading/w)\" = work");
    sandbox.umount();
    sandbox.audit();
}

// semantics: backup-closed backup-in-flight
#[test]
fn an_import_that_is_sealed_and_has_no_name_yet_is_copied_and_one_without_data_is_cut_off() {
    for has_data in [true, false] {
        let sandbox = Sandbox::unmounted(&[]);
        sandbox.source("x", 300_000);
        assert!(sandbox.mount_failing_at("import.sealed"));
        sandbox.bash("cp $F/x $M/uploading/x; mv $M/uploading/x $M/active/ 2>/dev/null");
        sandbox.wait_for_daemons_end();
        if !has_data {
            sandbox.ok("rm $S/staging/*");
        }
        let (said, is_done) = backup(&sandbox, "copy");
        let images = format!("{} images", u32::from(has_data));
        assert!(is_done && said.contains(&images), "{said}");
        sandbox.ok("umount -l $M; rm -r $S; mv $F/copy $S");
        sandbox.mount();
        if has_data {
            sandbox.ok("settled; cmp $F/x $M/active/x");
        }
        assert_eq!(sandbox.names("active").len(), usize::from(has_data));
        sandbox.umount();
        sandbox.audit();
    }
}

// semantics: backup-refused
#[test]
fn a_copy_for_which_there_is_no_room_is_none_also_where_it_is_staged_data_that_has_none() {
    for folder in ["uploading", "active"] {
        let sandbox = Sandbox::new();
        sandbox.ok(&format!(
            "head -c 4M /dev/urandom > $M/{folder}/x; mkdir $F/small; mount -t tmpfs -o size=2M none $F/small"
        ));
        let (said, is_done) = backup(&sandbox, "small/copy");
        let left = sandbox.bash("ls $F/small/copy/sps.db");
        sandbox.ok("umount $F/small");
        assert!(!is_done && said.contains("No space left"), "{folder}: {said}");
        assert!(!left.status.success(), "a half copy is no store");
    }
}

// semantics: backup-under-load
#[test]
fn what_is_purged_while_it_is_copied_is_told_and_no_fault() {
    let sandbox = Sandbox::new();
    sandbox.ok("for i in {100..899}; do echo $i > $M/active/$i; done");
    let mut command = sandbox.sps();
    command.args(["backup", "--json", "--store"]).arg(sandbox.store()).arg(sandbox.file("copy"));
    let copying = command.stdout(Stdio::piped()).spawn().expect("a backup");
    // It stands still after the first ones.
    let blobs = sandbox.file("copy/blobs");
    crate::support::eventually("it has begun", || count_files(&blobs) > 0);
    crate::support::signal(copying.id() as i32, "STOP");
    sandbox.ok("rm $M/active/*; rm $M/pending_delete/*");
    sandbox.wait_for_reclaim(0);
    crate::support::signal(copying.id() as i32, "CONT");
    let output = copying.wait_with_output().expect("ended");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(output.status.success(), "{report}");
    let count = |key: &str| report[key].as_u64().expect("a number");
    assert!(count("purged") > 0 && count("images") > 0, "{report}");
    assert_eq!(count("purged") + count("images"), 800, "{report}");
    assert_eq!(report["damaged"], 0);
    restore(&sandbox, "copy");
    assert_eq!(sandbox.names("active").len() as u64, count("images"));
}

// semantics: backup-owner
#[test]
fn a_copy_is_its_store_s_owner_s_and_a_store_that_can_t_be_written_can_be_copied() {
    let sandbox = Sandbox::new();
    sandbox.source("a", 100_000);
    sandbox.ok("cp $F/a $M/active/a");
    let inside = run(sandbox
        .sps()
        .args(["backup", "--store"])
        .arg(sandbox.store())
        .arg(sandbox.store().join("copy")));
    assert!(text(&inside).contains("in the store itself"), "{}", text(&inside));
    sandbox.umount();
    sandbox.ok(&format!("chown -R {ALICE}:{ALICE} $S; mkdir $F/ro"));
    sandbox.ok("mount --bind $S $F/ro && mount -o remount,bind,ro $F/ro");
    let output = run(sandbox
        .sps()
        .args(["backup", "--json", "--store"])
        .arg(sandbox.file("ro"))
        .arg(sandbox.file("copy")));
    sandbox.ok("umount $F/ro");
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&told["images"], &told["damaged"]), (&1.into(), &0.into()));
    assert_eq!(sandbox.ok("find $F/copy -printf '%U\n' | sort -u"), format!("{ALICE}\n"));
    restore_unmounted(&sandbox);
    sandbox.ok("cmp $F/a $M/active/a");
}

fn restore_unmounted(sandbox: &Sandbox) {
    sandbox.ok("rm -r $S; mv $F/copy $S");
    sandbox.mount();
}
