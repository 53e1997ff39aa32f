//! `sps fsck`: each kind of damage is found, mended where it can be, and told where it can't.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{ALICE, Sandbox, names_in, run, text};

/// What fsck says, and whether the store is whole.
fn fsck(sandbox: &Sandbox, words: &[&str]) -> (String, bool) {
    let mut command = sandbox.sps();
    let output = run(command.arg("fsck").args(words).arg("--store").arg(sandbox.store()));
    (text(&output), output.status.success())
}

fn sql(sandbox: &Sandbox, statement: &str) {
    let connection =
        rusqlite::Connection::open(sandbox.store().join("sps.db")).expect("a registry");
    connection.execute_batch(statement).expect("done");
}

fn blob(sandbox: &Sandbox, name: &str) -> PathBuf {
    let digest = sandbox.attribute(&format!("active/{name}"), "blake3").expect("a digest");
    sandbox.store().join("blobs").join(&digest[..2]).join(digest)
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.source("a", 100_000);
    sandbox.source("b", 200_000);
    sandbox.ok("cp $F/a $M/active/a; cp $F/b $M/active/b; echo t > $M/active/t; rm $M/active/t
                setfattr -n user.sps.tags -v gold $M/active/a; touch -d 2001-02-03 $M/active/a");
    sandbox
}

/// Where all sealed data is.
fn blobs_of(store: &Path) -> Vec<PathBuf> {
    let blobs = store.join("blobs");
    let folders = names_in(&blobs).into_iter().map(|name| blobs.join(name));
    folders
        .flat_map(|folder| names_in(&folder).into_iter().map(move |name| folder.join(name)))
        .collect()
}

fn manifest_of(sandbox: &Sandbox, path: &str) -> PathBuf {
    let id = sandbox.attribute(path, "id").expect("an id");
    sandbox.store().join("manifests").join(format!("{id}.json"))
}

// semantics: fsck-whole
#[test]
fn a_store_that_was_unmounted_is_whole_and_one_that_is_mounted_is_refused() {
    let sandbox = sandbox();
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(
        !is_whole && said.contains("is mounted") && said.contains("in use by process"),
        "{said}"
    );
    sandbox.umount();
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    let (said, is_whole) = fsck(&sandbox, &["--json", "--quick", "--rebuild"]);
    assert!(is_whole && said == "{\"findings\":[],\"remaining\":0}\n", "{said}");
    let nothing = sandbox.file("nothing");
    fs::create_dir(&nothing).expect("a folder");
    let output = run(sandbox.sps().args(["fsck", "--rebuild", "--store"]).arg(&nothing));
    assert!(!output.status.success() && names_in(&nothing).is_empty(), "{}", text(&output));
}

// semantics: fsck-mends
#[test]
fn what_can_be_mended_is_mended_and_loses_nothing() {
    let sandbox = sandbox();
    let manifest = manifest_of(&sandbox, "active/a");
    let other = manifest_of(&sandbox, "active/b");
    sandbox.umount();
    let store = sandbox.store();
    let orphan = store.join("blobs/ab");
    fs::create_dir_all(&orphan).expect("a folder");
    fs::write(orphan.join(format!("ab{}", "0".repeat(62))), "nobody's").expect("an orphan");
    fs::write(store.join("staging/x"), "nobody's").expect("a stray");
    let stray = "5b8e1f4a-2222-4c3d-9e4f-abcdef012345";
    fs::write(store.join("staging").join(stray), "nobody's").expect("a stray");
    fs::remove_file(&manifest).expect("gone");
    fs::write(&other, "{\"half\": ").expect("cut short");
    fs::write(manifest.with_extension("json.new"), "{\"half\": ").expect("half a manifest");
    let kept = store.join("manifests").join("3f0b1c9e-1111-4a2b-8c3d-123456789abc.json");
    let writable = blobs_of(&store).pop().expect("data");
    fs::set_permissions(&writable, PermissionsExt::from_mode(0o644)).expect("chmod");
    sql(&sandbox, "UPDATE totals SET images = 70, size_bytes = 3 WHERE status = 'active'");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole, "{said}");
    for what in [
        "counts",
        "content ab00",
        "staging/x belonged to no image",
        &format!("staging/{stray} belonged to no image"),
        "was not there",
        "could not be read",
        "half a manifest",
        "could be written",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(!said.contains("REMAINS"), "{said}");
    let mode = fs::metadata(&writable).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o400);
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    // A manifest that can't be read, of an image that nobody knows: there is nothing it could be of.
    fs::write(&kept, "{\"half\": ").expect("a stray");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole && said.contains("names nothing"), "{said}");
    // One that names other content than the record.
    let text = fs::read_to_string(&manifest).expect("text");
    let digest = blake3::hash(b"other").to_string();
    let at = text.find("\"blake3\": \"").expect("a digest") + 11;
    fs::write(&manifest, format!("{}{digest}{}", &text[..at], &text[at + 64..])).expect("other");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole && said.contains("named other content"), "{said}");
    assert_eq!(fs::read_to_string(&manifest).expect("text"), text);
    // One that says something else of it, and all of them as an earlier version wrote them.
    fs::write(&manifest, text.replace("\"a\"", "\"z\"")).expect("another name");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole && said.contains("said something else"), "{said}");
    assert_eq!(fs::read_to_string(&manifest).expect("text"), text);
    sandbox.ok("sed -i 's/\"version\": [0-9]*/\"version\": 1/' $S/manifests/*.json");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole && said.contains("3 manifests were of an older version"), "{said}");
    assert_eq!(fs::read_to_string(&manifest).expect("text"), text);
    for stranger in ["blobs/mine", "manifests/mine"] {
        fs::write(store.join(stranger), "mine").expect("somebody's");
        let (said, is_whole) = fsck(&sandbox, &[]);
        assert!(!is_whole && said.contains(&format!("{stranger} is no file of sps")), "{said}");
        fs::remove_file(store.join(stranger)).expect("still there");
    }
    sandbox.mount();
    sandbox.ok("cmp $F/a $M/active/a; cmp $F/b $M/active/b; test -e $M/pending_delete/t");
    assert!(fs::read_to_string(&manifest).expect("written").contains("gold"));
}

// semantics: fsck-damage
#[test]
fn damage_is_told_and_withheld_and_a_whole_copy_heals_it() {
    let sandbox = sandbox();
    sandbox.source("c", 300_000);
    sandbox.ok("cp $F/c $M/active/c");
    let (flipped, short, gone) = (blob(&sandbox, "a"), blob(&sandbox, "b"), blob(&sandbox, "c"));
    sandbox.umount();
    let mut bytes = fs::read(&flipped).expect("data");
    bytes[50_000] ^= 1;
    fs::remove_file(&flipped).expect("gone");
    fs::write(&flipped, bytes).expect("damaged");
    fs::OpenOptions::new().write(true).open(&short).expect("data").set_len(1000).expect("cut");
    fs::remove_file(&gone).expect("gone");
    let (said, is_whole) = fsck(&sandbox, &["--quick"]);
    assert!(
        !is_whole && said.contains("(b)") && said.contains("(c)") && !said.contains("(a)"),
        "{said}"
    );
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(!is_whole && said.contains("3 faults remain"), "{said}");
    for fault in [
        "(a): damaged: its data is not what was sealed",
        "(b): damaged: its data has 1000 bytes and had 200000",
        "(c): damaged",
    ] {
        assert!(said.contains(fault), "{said}");
    }
    sandbox.mount();
    assert_eq!(sandbox.names("deactivated"), ["a", "b", "c"]);
    sandbox.ok("rm $M/deactivated/*; for f in a b c; do cp $F/$f $M/active/$f; cmp $F/$f $M/active/$f; done");
    sandbox.umount();
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole, "{said}");
}

/// All that is seen of the images of a folder.
fn described(sandbox: &Sandbox, folder: &str) -> String {
    sandbox.ok(&format!(
        "cd $M/{folder} && for f in *; do stat -c '%n %a %u %g %s %Y' \"$f\"; getfattr -d \"$f\"
         for k in id blake3 virtual_size disk_format; do getfattr --only-values -n user.sps.$k \"$f\"; echo; done; done"
    ))
}

// semantics: rebuild
#[test]
fn a_registry_that_is_lost_is_made_again_from_the_manifests() {
    let sandbox = sandbox();
    sandbox.ok(&format!(
        "chmod 640 $M/active/b; chown {ALICE} $M/active/b; mv $M/active/b $M/active/'b c'
         echo w > $M/active/w; mv $M/active/w $M/deactivated/; setfattr -n user.sps.property.k -v v $M/active/'b c'
         until getfattr -n user.sps.md5 $M/active/a 2> /dev/null; do sleep 0.02; done; qemu-img create -q -f qcow2 $M/active/q 5M"
    ));
    let before =
        ["active", "deactivated", "pending_delete"].map(|folder| described(&sandbox, folder));
    sandbox.umount();
    lose_registry(&sandbox);
    let (said, _) = sandbox.try_mount();
    assert!(said.contains("--rebuild"), "{said}");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(!is_whole && said.contains("--rebuild"), "{said}");
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole, "{said}");
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    sandbox.mount();
    let after =
        ["active", "deactivated", "pending_delete"].map(|folder| described(&sandbox, folder));
    assert_eq!(after, before);
    sandbox.ok("cmp $F/a $M/active/a; cmp $F/b $M/active/'b c'; mv $M/pending_delete/t $M/active/; cat $M/active/t");
}

// semantics: manifest-follows
#[test]
fn a_manifest_follows_its_image_though_the_daemon_is_killed_in_between() {
    let sandbox = sandbox();
    sandbox.ok("mv $M/active/a $M/deactivated/");
    sandbox.kill_daemon();
    sandbox.recover();
    let manifest = manifest_of(&sandbox, "deactivated/a");
    let says = |what: &str| fs::read_to_string(&manifest).is_ok_and(|text| text.contains(what));
    crate::support::eventually("it says so", || says("deactivated"));
    sandbox.ok("mv $M/deactivated/a $M/active/b2; chmod 604 $M/active/b2");
    crate::support::eventually("it says so", || {
        says("\"b2\"") && says("\"active\"") && says("388")
    });
}

/// Keeps the registry as it is now, and goes on.
fn save_registry(sandbox: &Sandbox) -> PathBuf {
    sandbox.umount();
    let saved = sandbox.file("saved");
    fs::create_dir(&saved).expect("a folder");
    copy_registry(&sandbox.store(), &saved);
    sandbox.mount();
    saved
}

fn put_back(sandbox: &Sandbox, saved: &Path) {
    lose_registry(sandbox);
    copy_registry(saved, &sandbox.store());
}

// semantics: older-registry
#[test]
fn what_an_older_registry_does_not_know_is_never_removed_though_its_content_is_known() {
    let sandbox = sandbox();
    let saved = save_registry(&sandbox);
    sandbox.ok("cp $M/active/a $M/active/copy; setfattr -n user.sps.tags -v later $M/active/a; mv $M/active/b $M/deactivated/");
    sandbox.umount();
    put_back(&sandbox, &saved);
    for _ in 0..2 {
        let (said, is_whole) = fsck(&sandbox, &[]);
        assert!(
            !is_whole && said.contains("3 faults remain") && said.contains("--rebuild"),
            "{said}"
        );
        assert!(!said.contains("mended"), "{said}");
    }
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole, "{said}");
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    sandbox.mount();
    assert_eq!(
        (sandbox.names("active"), sandbox.names("deactivated")),
        (vec!["a".into(), "copy".into()], vec!["b".into()])
    );
    assert_eq!(sandbox.attribute("active/a", "tags").as_deref(), Some("later"));
    sandbox.ok("cmp $F/a $M/active/copy");
}

// semantics: older-registry
#[test]
fn of_what_an_older_registry_has_otherwise_those_that_left_a_name_come_first() {
    let sandbox = sandbox();
    sandbox.ok("cp $F/b $M/active/later; rm $M/active/later");
    let saved = save_registry(&sandbox);
    sandbox.ok("rm $M/active/a; mv $M/pending_delete/later $M/active/a");
    sandbox.umount();
    put_back(&sandbox, &saved);
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole, "{said}");
    sandbox.mount();
    assert_eq!(
        sandbox.tree(),
        ["active/a", "active/b", "pending_delete/a", "pending_delete/t"].map(str::to_owned)
    );
    sandbox.ok("cmp $F/b $M/active/a");
}

fn copy_registry(store: &Path, to: &Path) {
    for file in ["sps.db", "sps.db-wal"] {
        if store.join(file).exists() {
            fs::copy(store.join(file), to.join(file)).expect("copied");
        }
    }
}

// semantics: older-registry
#[test]
fn an_older_registry_put_back_over_newer_data_loses_nothing() {
    let sandbox = sandbox();
    let saved = save_registry(&sandbox);
    sandbox.source("new", 400_000);
    sandbox.ok("cp $F/new $M/active/new; cp $F/new $M/active/a; setfattr -n user.sps.tags -v later $M/active/new
                cp $F/b $M/active/twin");
    sandbox.umount();
    put_back(&sandbox, &saved);
    sandbox.mount();
    crate::support::eventually("it is told", || sandbox.log().contains("sps fsck --rebuild"));
    assert_eq!(sandbox.names("active"), ["a", "b"]);
    sandbox.umount();
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(!is_whole && said.contains("--rebuild"), "{said}");
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole, "{said}");
    sandbox.mount();
    assert_eq!(sandbox.names("active"), ["a", "b", "new", "twin"]);
    assert_eq!(sandbox.attribute("active/new", "tags").as_deref(), Some("later"));
    // What had replaced another one has its name again.
    sandbox.ok("cmp $F/new $M/active/a; cmp $F/new $M/active/new; cmp <(stat -c %s $F/a) <(stat -c %s $M/pending_delete/a)");
}

fn lose_registry(sandbox: &Sandbox) {
    for file in ["sps.db", "sps.db-wal", "sps.db-shm"] {
        let _ = fs::remove_file(sandbox.store().join(file));
    }
}

// semantics: rebuild-keeps
#[test]
fn data_that_no_manifest_names_is_kept_when_the_registry_is_lost() {
    let sandbox = sandbox();
    let (gone, cut) = (manifest_of(&sandbox, "active/a"), manifest_of(&sandbox, "active/b"));
    sandbox.ok("echo work > $M/uploading/w; touch $M/queued/q");
    // A daemon that died leaves a log, which is of no use without its database.
    sandbox.kill_daemon();
    fs::remove_file(sandbox.store().join("sps.db")).expect("lost");
    fs::remove_file(&gone).expect("gone");
    fs::write(&cut, "{\"half\": ").expect("cut short");
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole && said.contains("had no name"), "{said}");
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    sandbox.mount();
    let found = sandbox.names("deactivated");
    assert!(found.len() == 2 && found.iter().all(|name| name.starts_with("recovered-")));
    let digest = |name: &str| blake3::hash(&fs::read(sandbox.path(name)).expect("data"));
    let mut data: Vec<_> =
        found.iter().map(|name| digest(&format!("deactivated/{name}"))).collect();
    data.sort_by_key(|digest| *digest.as_bytes());
    let mut right = ["a", "b"]
        .map(|name| blake3::hash(&fs::read(sandbox.file(name)).expect("a source")))
        .to_vec();
    right.sort_by_key(|digest| *digest.as_bytes());
    assert_eq!(data, right);
    sandbox
        .ok("test \"$(cat $M/uploading/recovered-*)\" = work; mv $M/pending_delete/t $M/active/");
}

// semantics: rebuild-keeps rebuild-damage
#[test]
fn damaged_data_of_which_nobody_knows_whose_it_was_is_what_its_name_says() {
    let sandbox = sandbox();
    let digest = sandbox.attribute("active/a", "blake3").expect("a digest");
    let (blob, manifest) = (blob(&sandbox, "a"), manifest_of(&sandbox, "active/a"));
    sandbox.umount();
    lose_registry(&sandbox);
    fs::remove_file(&manifest).expect("gone");
    let mut bytes = fs::read(&blob).expect("data");
    bytes[50_000] ^= 1;
    fs::remove_file(&blob).expect("gone");
    fs::write(&blob, bytes).expect("damaged");
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(!is_whole && said.contains("damaged: its data is not what was sealed"), "{said}");
    sandbox.mount();
    let found = sandbox.names("deactivated").pop().expect("an image");
    assert_eq!(sandbox.attribute(&format!("deactivated/{found}"), "blake3"), Some(digest));
    // Its whole copy heals it, as it is of the same content.
    sandbox.ok(&format!("cp $F/a $M/active/a; cmp $F/a $M/deactivated/{found}"));
}

// semantics: rebuild-damage
#[test]
fn an_image_whose_data_is_lost_with_the_registry_is_told_and_withheld() {
    let sandbox = sandbox();
    let blob = blob(&sandbox, "a");
    sandbox.umount();
    lose_registry(&sandbox);
    fs::remove_file(&blob).expect("gone");
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(!is_whole && said.contains("(a): damaged"), "{said}");
    sandbox.mount();
    assert_eq!(
        (sandbox.names("active"), sandbox.names("deactivated")),
        (vec!["b".into()], vec!["a".into()])
    );
    sandbox.ok("rm $M/deactivated/a; cp $F/a $M/active/a");
    sandbox.umount();
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
}

// semantics: rebuild
#[test]
fn of_manifests_with_one_name_the_newest_has_it() {
    let sandbox = sandbox();
    sandbox.ok("cp $F/b $M/active/a");
    sandbox.umount();
    lose_registry(&sandbox);
    sandbox.ok(
        "sed -i 's/\"status\": \"pending_delete\"/\"status\": \"active\"/' $S/manifests/*.json",
    );
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole, "{said}");
    sandbox.mount();
    assert_eq!(sandbox.tree(), ["active/a", "active/b", "active/t", "pending_delete/a"]);
    sandbox.ok("cmp $F/b $M/active/a; mv -f $M/pending_delete/a $M/active/a; cmp $F/a $M/active/a");
}

// semantics: fsck-registry
#[test]
fn a_registry_that_is_broken_is_told_with_what_to_do() {
    for (script, is_database) in [
        ("dd if=/dev/urandom of=$S/sps.db bs=4096 seek=1 count=9 conv=notrunc status=none", true),
        ("echo nonsense > $S/sps.db", false),
    ] {
        let sandbox = sandbox();
        sandbox.umount();
        sandbox.ok(script);
        let (said, is_whole) = fsck(&sandbox, &[]);
        assert!(!is_whole && said.contains("--rebuild") && said.contains("away"), "{said}");
        assert!(is_database || said.contains("not a database"), "{said}");
        sandbox.ok("mv $S/sps.db $S/sps.db.broken; rm -f $S/sps.db-wal $S/sps.db-shm");
        let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
        assert!(is_whole, "{said}");
        sandbox.mount();
        sandbox.ok("cmp $F/a $M/active/a; cmp $F/b $M/active/b; ls $M/pending_delete/t");
    }
}

// semantics: older-registry
#[test]
fn data_whose_manifest_can_t_be_read_is_kept_under_an_older_registry() {
    let sandbox = sandbox();
    let saved = save_registry(&sandbox);
    sandbox.source("new", 400_000);
    sandbox.ok("cp $F/new $M/active/new");
    let manifest = manifest_of(&sandbox, "active/new");
    sandbox.umount();
    put_back(&sandbox, &saved);
    fs::write(&manifest, "").expect("cut short");
    sandbox.mount();
    crate::support::eventually("it is told", || sandbox.log().contains("They are kept"));
    sandbox.umount();
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(!is_whole && said.contains("can't be read") && said.contains("--rebuild"), "{said}");
    let (said, is_whole) = fsck(&sandbox, &["--rebuild"]);
    assert!(is_whole, "{said}");
    sandbox.mount();
    sandbox.ok("cmp $F/new $M/deactivated/recovered-*");
    sandbox.umount();
    sandbox.audit();
}

// semantics: fsck-settles
#[test]
fn what_a_daemon_left_half_done_is_settled_and_told() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.source("x", 300_000);
    assert!(sandbox.mount_failing_at("vote.recorded"));
    sandbox.bash("cp $F/x $M/active/x 2>/dev/null");
    sandbox.wait_for_daemons_end();
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole && said.contains("(x) was saving: it is active"), "{said}");
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    sandbox.mount();
    sandbox.ok("cmp $F/x $M/active/x");
}

// semantics: fsck-settles
#[test]
fn an_import_that_goes_on_at_the_next_mount_is_nothing_half_done() {
    let sandbox = Sandbox::new();
    sandbox.ok("truncate -s 30G $M/uploading/big; mv $M/uploading/big $M/active/");
    assert_eq!(sandbox.names("importing"), ["big"]);
    sandbox.kill_daemon();
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    sandbox.recover();
    sandbox.ok("rm $M/importing/big");
}

// semantics: fsck-settles
#[test]
fn an_upload_of_which_there_is_no_data_is_told_and_killed() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/queued/q");
    sandbox.umount();
    sql(&sandbox, "UPDATE images SET status = 'saving' WHERE name = 'q'");
    let (said, is_whole) = fsck(&sandbox, &[]);
    assert!(is_whole && said.contains("(q) was saving: it is killed"), "{said}");
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
    sandbox.mount();
    assert_eq!(sandbox.tree(), ["killed/q"]);
}

// semantics: manifest-follows
#[test]
fn what_was_changed_last_is_in_the_manifests_when_a_mount_has_ended() {
    let sandbox = Sandbox::new();
    sandbox.ok("for i in {1..300}; do echo $i > $M/active/$i; done");
    sandbox.ok("python3 -c 'import os
for i in range(1, 301):
    os.setxattr(os.environ[\"M\"] + f\"/active/{i}\", \"user.sps.tags\", b\"later\")'");
    sandbox.umount();
    let manifests = sandbox.store().join("manifests");
    for name in names_in(&manifests) {
        let text = fs::read_to_string(manifests.join(&name)).expect("text");
        assert!(text.contains("later"), "{name}: {text}");
    }
    assert_eq!(names_in(&manifests).len(), 300);
}

// semantics: never-stuck
#[test]
fn data_of_nobody_goes_though_the_manifest_of_an_image_that_is_known_can_t_be_read() {
    let sandbox = sandbox();
    let manifest = manifest_of(&sandbox, "active/a");
    sandbox.umount();
    fs::write(&manifest, "{\"half\": ").expect("cut short");
    let orphan = sandbox.store().join("blobs/ab").join(format!("ab{}", "0".repeat(62)));
    fs::create_dir_all(orphan.parent().expect("a folder")).expect("a folder");
    fs::write(&orphan, "nobody's").expect("an orphan");
    sandbox.mount();
    crate::support::eventually("it goes", || !orphan.exists());
    assert!(!sandbox.log().contains("They are kept"), "{}", sandbox.log());
    sandbox.ok("cmp $F/a $M/active/a");
}

// semantics: fsck-whole
#[test]
fn images_whose_data_lies_elsewhere_are_no_fault() {
    let sandbox = Sandbox::unmounted(&[]);
    sandbox.source("far", 100_000);
    sandbox.ok("mkdir -m 700 $S; echo \"location_root = '$F'\" > $S/config.toml");
    sandbox.mount();
    sandbox.ok("ln -s $F/far $M/active/far; cmp $F/far $M/active/far");
    sandbox.umount();
    assert_eq!(fsck(&sandbox, &[]), ("the store is whole\n".into(), true));
}
