//! Folders, links and the status page.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;

use crate::support::Sandbox;

// semantics: folders-are-statuses
#[test]
fn the_mount_has_a_folder_for_each_status() {
    let sandbox = Sandbox::new();
    let mut expected: Vec<&str> =
        sps::lifecycle::Status::ALL.into_iter().map(sps::lifecycle::Status::name).collect();
    expected.extend(["tasks", "by-id", "STATUS", ".sps"]);
    expected.sort_unstable();
    assert_eq!(sandbox.names("."), expected);
    assert_eq!(sandbox.names("tasks"), ["failure", "pending", "processing", "success"]);
    sandbox.ok("cd $M/tasks/pending/.. && test $(stat -c %i .) = $(stat -c %i $M/tasks)");
    sandbox.ok("ls -laR $M > /dev/null; find $M -ls > /dev/null");
}

// semantics: by-id
#[test]
fn each_image_has_a_link_that_names_its_status() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a; touch $M/queued/q; echo d > $M/active/a2; rm $M/active/a2");
    assert_eq!(sandbox.names("by-id").len(), 3);
    for path in ["active/a", "queued/q", "pending_delete/a2"] {
        let id = sandbox.attribute(path, "id").expect("an id");
        let link = fs::read_link(sandbox.path(&format!("by-id/{id}"))).expect("a link");
        assert_eq!(link.to_string_lossy(), format!("../{path}"));
    }
    let id = sandbox.attribute("active/a", "id").expect("an id");
    assert_eq!(sandbox.ok(&format!("cat $M/by-id/{id}")), "a\n");
    assert!(fs::metadata(sandbox.path(&format!("by-id/{}", id.to_uppercase()))).is_err());
}

// semantics: status-page
#[test]
fn the_status_page_tells_what_is_going_on() {
    let sandbox = Sandbox::new();
    sandbox.ok("head -c 3000 /dev/zero > $M/active/a; echo b > $M/active/b; rm $M/active/b");
    sandbox.bash("sh -c 'echo part; kill -9 $$' > $M/active/broken");
    let mut upload = File::create(sandbox.path("active/flying")).expect("a new image");
    upload.write_all(&[1; 2048]).expect("written");
    let page = fs::read_to_string(sandbox.path("STATUS")).expect("a page");
    for expected in [
        "free: ",
        "active                 1     2.9 KiB",
        "saving                 1         0 B",
        "pending_delete         1         2 B",
        "UPLOADS IN FLIGHT: 1",
        "2.0 KiB",
        "flying",
        "LAST FAILURES: 1",
        "broken~",
        "its writer was killed by SIGKILL",
        "TRASH: 1 images, 2 B",
    ] {
        assert!(page.contains(expected), "{expected:?} is not in:\n{page}");
    }
    let size = fs::metadata(sandbox.path("STATUS")).expect("there").len();
    assert!(size.abs_diff(page.len() as u64) < 16, "{size} and {}", page.len());
    sandbox.ok("wc -c $M/STATUS; cp $M/STATUS $F/page; grep -q IMAGES $F/page");
    sandbox.fails("echo x > $M/STATUS", "Permission denied");
}

// semantics: listing-stable
#[test]
fn a_listing_under_way_shows_every_image_that_stays() {
    let sandbox = Sandbox::new();
    sandbox.ok("for i in $(seq 1500); do echo $i > $M/active/stays-$i; done");
    let mut entries = fs::read_dir(sandbox.path("active")).expect("a listing");
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut take = |entries: &mut fs::ReadDir, count: usize| {
        for entry in entries.take(count) {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(found.insert(name.clone()), "{name} is listed twice");
        }
    };
    take(&mut entries, 10);
    // Those that were listed go, and others come.
    sandbox.ok("rm $M/active/stays-3 $M/active/stays-900; echo x > $M/active/comes");
    take(&mut entries, 5000);
    for number in (1..=1500).filter(|number| ![3, 900].contains(number)) {
        assert!(found.contains(&format!("stays-{number}")), "{number} is missing");
    }
    assert_eq!(sandbox.names("active").len(), 1499);
}

// semantics: statfs
#[test]
fn df_shows_the_filesystem_of_the_store() {
    let sandbox = Sandbox::new();
    let total = |path: &str| sandbox.ok(&format!("df --output=size -k {path} | tail -1"));
    assert_eq!(total("$M"), total("$S"));
    assert_eq!(sandbox.ok("stat -f -c %l $M"), "246\n");
}
