//! What random sequences have found, each as a test that tells its story.

use crate::support::{ALICE, Sandbox, text};

#[test]
fn what_was_protected_in_the_trash_stays_there_when_its_remover_writes_its_name_anew() {
    let sandbox = Sandbox::new();
    // One process: to it, what it removes and makes again is replaced.
    sandbox.ok("echo old > $M/active/x; python3 -c '
import os
m = os.environ[\"M\"]
os.unlink(m + \"/active/x\")
os.chmod(m + \"/pending_delete/x\", 0o1644)
with open(m + \"/active/x\", \"w\") as new: new.write(\"new\")'; grep -q new $M/active/x");
    assert_eq!(sandbox.tree(), ["active/x", "pending_delete/x"]);
    sandbox.ok("chmod -t $M/pending_delete/x; mv -f $M/pending_delete/x $M/active/x; grep -q old $M/active/x");
}

// semantics: rename-both-live
#[test]
fn what_is_renamed_onto_a_name_that_another_keeps_bears_it_from_then_on() {
    let sandbox = Sandbox::new();
    sandbox.ok("touch $M/queued/a; touch $M/queued/b");
    let ids =
        ["a", "b"].map(|name| sandbox.attribute(&format!("queued/{name}"), "id").expect("an id"));
    sandbox.ok("mv -T $M/queued/a $M/queued/b");
    let older = format!("b~{}", &ids[1][..8]);
    assert_eq!(sandbox.names("queued"), ["b".to_owned(), older.clone()]);
    assert_eq!(sandbox.attribute("queued/b", "id").as_deref(), Some(ids[0].as_str()));
    sandbox.ok(&format!("mv -T $M/queued/{older} $M/queued/b"));
    assert_eq!(sandbox.attribute("queued/b", "id").as_deref(), Some(ids[1].as_str()));
    sandbox.remount();
    assert_eq!(sandbox.attribute("queued/b", "id").as_deref(), Some(ids[1].as_str()));
}

#[test]
fn a_retry_that_has_begun_does_not_tell_why_the_attempt_before_it_failed() {
    let sandbox = Sandbox::with(&["on_failed_upload=queued"]);
    sandbox.bash("(echo part; kill -9 $BASHPID) > $M/active/x");
    assert!(sandbox.attribute("queued/x", "message").is_some());
    let seen = "exec 3>>$M/queued/x; echo again >&3; getfattr -n user.sps.message $M/saving/x 2>&1 || true";
    assert!(sandbox.ok(seen).contains("No such attribute"));
    assert_eq!(sandbox.attribute("active/x", "message"), None);
}

// semantics: protected-record
#[test]
fn the_record_of_a_protected_image_is_not_forgotten_by_hand() {
    let sandbox = Sandbox::new();
    sandbox.ok(
        "echo data > $M/active/x; rm $M/active/x; rm $M/pending_delete/x; chmod +t $M/deleted/x",
    );
    sandbox.fails("rm -f $M/deleted/x", "not permitted");
    sandbox.ok("chmod -t $M/deleted/x; rm $M/deleted/x");
}

#[test]
fn root_puts_data_into_the_image_of_a_user_and_it_takes_the_name_that_root_may_take() {
    let sandbox = Sandbox::with(&["publish=all"]);
    sandbox.source("new", 3_000);
    sandbox.ok("echo old > $M/active/x");
    assert!(sandbox.bash_as(ALICE, "touch $M/queued/x").status.success());
    sandbox.ok("dd if=$F/new of=$M/queued/x conv=notrunc status=none; cmp $F/new $M/active/x");
    assert_eq!(sandbox.names("pending_delete"), ["x"]);
    assert_eq!(sandbox.names("killed"), Vec::<String>::new());
}

#[test]
fn an_image_that_was_to_be_empty_and_may_not_be_is_queued_and_says_why() {
    let sandbox = Sandbox::new();
    sandbox.source("good", 5_000);
    sandbox.ok("touch $M/queued/x; setfattr -n user.sps.expected_size -v 5 $M/queued/x
                cp $F/good $M/active/good; chmod +t $M/active/good");
    let empty =
        "import os; f = os.open(os.environ['P'], os.O_WRONLY); os.ftruncate(f, 0); os.close(f)";
    let output = sandbox.bash(&format!("P=$M/queued/x exec python3 -c \"{empty}\""));
    assert!(text(&output).contains("Input/output error"), "{}", text(&output));
    let message = sandbox.attribute("queued/x", "message").expect("a reason");
    assert!(message.contains("5 were declared"), "{message}");
    // Another one, that may not have the name.
    sandbox.ok("touch $M/queued/good");
    assert!(
        !sandbox.bash(&format!("P=$M/queued/good exec python3 -c \"{empty}\"")).status.success()
    );
    let message = sandbox.attribute("queued/good", "message").expect("a reason");
    assert!(message.contains("protected"), "{message}");
    sandbox.ok("cmp $F/good $M/active/good");
    sandbox.umount();
    sandbox.audit();
}

#[test]
fn what_leaves_staging_while_it_is_open_has_no_size_any_more() {
    let sandbox = Sandbox::new();
    let said = sandbox.ok(
        "exec 3>$M/uploading/x; echo data >&3; mv $M/uploading/x $M/queued/
         stat -c %s $M/queued/x; getfattr -n user.sps.size $M/queued/x 2>&1 || true; echo more >&3 2>&1 || true",
    );
    assert!(said.starts_with("0\n") && said.contains("No such attribute"), "{said}");
    assert_eq!(sandbox.tree(), ["queued/x"]);
}

// semantics: rm-cuts-writer
#[test]
fn a_close_that_is_overtaken_by_a_removal_says_so() {
    let sandbox = Sandbox::new();
    let said = sandbox.ok("python3 -c '
import errno, os, threading
mount = os.environ[\"M\"]
done, codes = False, set()
def remove():
    while not done:
        try: os.unlink(mount + \"/saving/x\")
        except OSError: pass
remover = threading.Thread(target=remove)
remover.start()
for number in range(150):
    f = os.open(mount + \"/active/x\", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try: os.write(f, bytes([65 + number % 26]) * 200_000)
    except OSError as e: codes.add(errno.errorcode[e.errno])
    try: os.close(f)
    except OSError as e: codes.add(errno.errorcode[e.errno])
done = True
remover.join()
print(*codes)
'");
    assert!(["ECANCELED", ""].contains(&said.trim()), "{said}");
}

// semantics: write-error-kills
#[test]
fn a_close_after_a_first_write_that_failed_fails_as_well() {
    let sandbox = Sandbox::unmounted(&[]);
    let root = sandbox.file("");
    let sandbox = sandbox.and(&format!("location_root={}", root.display()));
    sandbox.mount();
    sandbox.source("one", 700);
    // The image gets its data from elsewhere while somebody has it open.
    let said = sandbox.ok("python3 -c '
import errno, os
path, codes = os.environ[\"M\"] + \"/queued/x\", []
f = os.open(path, os.O_WRONLY | os.O_CREAT)
os.setxattr(path, \"user.sps.locations\", (os.environ[\"F\"] + \"/one\").encode())
for work in (lambda: os.write(f, b\"data\"), lambda: os.close(f)):
    try: work()
    except OSError as e: codes.append(errno.errorcode[e.errno])
print(*codes)
'");
    assert_eq!(said, "ECANCELED ECANCELED\n");
    sandbox.ok("cmp $F/one $M/active/x");
}

// semantics: reopen-own
#[test]
fn who_had_an_image_open_that_got_its_data_from_elsewhere_has_not_uploaded_it() {
    let sandbox = Sandbox::unmounted(&[]);
    let root = sandbox.file("");
    let sandbox = sandbox.and(&format!("location_root={}", root.display()));
    sandbox.mount();
    sandbox.source("one", 700);
    let output = sandbox.bash(
        "python3 -c '
import os
path = os.environ[\"M\"] + \"/queued/x\"
f = os.open(path, os.O_WRONLY | os.O_CREAT)
os.setxattr(path, \"user.sps.locations\", (os.environ[\"F\"] + \"/one\").encode())
os.close(f)
os.open(os.environ[\"M\"] + \"/active/x\", os.O_RDWR)
'",
    );
    assert!(text(&output).contains("Permission denied"), "{}", text(&output));
    // And its failure takes nothing back.
    assert_eq!(sandbox.tree(), ["active/x"]);
}
