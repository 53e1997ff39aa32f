//! Every verb that writes, as data: what is there before it, what is done, and what may be found after a crash in the
//! midst of it. The scripts are bash; `ok N` notes that step N was acknowledged, `acked N` asks for that.

/// A verb of the product, and what must be true of it after a crash.
pub struct Verb {
    /// What it is called in messages.
    pub name: &'static str,
    /// Options of `-o` of its mount.
    pub options: &'static [&'static str],
    /// Where the crashes begin: with the verb, or with the mount it is done in.
    pub is_at_mount: bool,
    /// What is done in peace before it. If it ends the daemon, the next mount has to recover from that.
    pub before: &'static str,
    /// The verb itself.
    pub act: &'static str,
    /// Fails if what came up after the crash is not true.
    pub check: &'static str,
}

/// What all scripts may use. `at` tells in which folders a name is, `among` fails if it is in any other than those
/// named, `is` if it is not in exactly one, `same` if it is there and reads otherwise than a source.
pub const PRELUDE: &str = r#"
    ok() { : > $F/ok.$1; }
    acked() { test -e $F/ok.$1; }
    at() { for s in queued saving uploading importing active deactivated killed pending_delete deleted; do
        test -e "$M/$s/$1" && printf '%s ' $s; done; true; }
    among() { local n=$1 s; shift; for s in $(at "$n"); do
        case " $* " in *" $s "*) ;; *) echo "$n is in $s"; return 1;; esac; done; }
    is() { test "$(at "$1")" = "$2 " || { echo "$1 is in $(at "$1"), not in $2"; return 1; }; }
    there() { test -n "$(at "$1")" || { echo "$1 is gone"; return 1; }; among "$@"; }
    same() { ! test -e "$M/$1" || cmp "$M/$1" "$F/$2"; }
    one() { cmp -s "$M/$1" "$F/$2" || cmp "$M/$1" "$F/$3"; }
    value() { getfattr --only-values -n user.sps.$2 "$M/$1" 2>/dev/null; }
    until_() { local i; for i in $(seq 300); do "$@" && return; test -d $M/active || return; sleep 0.02; done
        echo "in vain: $*"; return 1; }
    owned() { local s f; for s in active deactivated pending_delete; do for f in $(ls -A $M/$s); do
        f=$M/$s/$f; getfattr -n user.sps.locations "$f" >/dev/null 2>&1 && continue
        getfattr --only-values -n user.sps.blake3 "$f" 2>/dev/null; echo; done; done | sort -u | grep -c . || true; }
    reclaimed() { test "$(find $S/blobs -type f | wc -l)" -le "$(owned)"; }
    empty() { test -z "$(ls $M/$1)"; }
    task() { printf '%s' "$2" > $M/tasks/pending/$1; }
"#;

const fn verb(
    name: &'static str,
    before: &'static str,
    act: &'static str,
    check: &'static str,
) -> Verb {
    Verb { name, options: &[], is_at_mount: false, before, act, check }
}

const fn verb_with(options: &'static [&'static str], verb: Verb) -> Verb {
    Verb { options, ..verb }
}

const fn mounting(verb: Verb) -> Verb {
    Verb { is_at_mount: true, ..verb }
}

/// All of them.
pub const VERBS: &[Verb] = &[
    verb(
        "create",
        "",
        ": > $M/queued/x && ok 1",
        "if acked 1; then is x queued; else among x queued; fi",
    ),
    verb(
        "touch in active",
        "",
        "touch $M/active/x && ok 1",
        "if acked 1; then is x queued; else among x queued; fi",
    ),
    verb(
        "upload",
        "",
        "cp $F/x $M/active/x && ok 1",
        "if acked 1; then is x active; else among x active killed queued; fi; same active/x x",
    ),
    verb(
        "upload in pieces",
        "",
        "dd if=$F/x of=$M/active/x bs=64k conv=fsync && ok 1",
        "if acked 1; then is x active; else among x active killed queued; fi; same active/x x",
    ),
    verb(
        "upload with holes",
        "truncate -s 3M $F/h; printf a | dd of=$F/h bs=1 seek=2000000 conv=notrunc",
        "cp --sparse=always $F/h $M/active/h && ok 1",
        "if acked 1; then is h active; else among h active killed queued; fi; same active/h h",
    ),
    verb(
        "upload of what is there",
        "cp $F/x $M/active/a",
        "cp $F/x $M/active/b && ok 1",
        "is a active; same active/a x; same active/b x
         if acked 1; then is b active; else among b active killed queued; fi",
    ),
    verb(
        "upload through queued",
        "touch $M/queued/x; setfattr -n user.sps.property.os -v linux $M/queued/x",
        "cat $F/x > $M/queued/x && ok 1",
        "if acked 1; then is x active; else there x queued killed active; fi; same active/x x
         s=$(at x); test \"$(value ${s% }/x property.os)\" = linux",
    ),
    verb(
        "explicitly empty",
        "",
        "truncate -s 0 $M/active/x && ok 1",
        "among x queued active; ! test -s $M/active/x",
    ),
    verb(
        "killed writer",
        "",
        "sh -c 'cat $F/x; kill -9 $$' > $M/active/x; ok 1",
        "among x killed queued",
    ),
    verb_with(
        &["on_failed_upload=queued"],
        verb(
            "failed upload, tried again",
            "",
            "sh -c 'cat $F/x; kill -9 $$' > $M/active/x; until_ test -e $M/queued/x; cp $F/y $M/queued/x && ok 1",
            "among x queued active killed; if acked 1; then is x active; fi; same active/x y",
        ),
    ),
    verb(
        "not what was declared",
        "touch $M/queued/x; setfattr -n user.sps.expected_size -v 5 $M/queued/x",
        "cat $F/x > $M/queued/x || ok 1",
        "there x queued killed",
    ),
    verb(
        "abort",
        "",
        "exec 3> $M/active/x; cat $F/x >&3; mv $M/saving/x $M/killed/ && ok 1; exec 3>&-",
        "if acked 1; then is x killed; else among x queued killed; fi",
    ),
    verb(
        "removal under a writer",
        "",
        "exec 3> $M/active/x; cat $F/x >&3; rm $M/saving/x && ok 1; exec 3>&-",
        "if acked 1; then is x deleted; else among x queued killed deleted; fi",
    ),
    verb(
        "replacement",
        "cp $F/x $M/active/x; setfattr -n user.sps.tags -v a,b $M/active/x",
        "cp $F/y $M/active/x && ok 1",
        "one active/x x y; if acked 1; then same active/x y; test -e $M/pending_delete/x; fi
         test \"$(value active/x tags)\" = a,b; among x active pending_delete killed queued",
    ),
    verb(
        "failed replacement",
        "cp $F/x $M/active/x",
        "sh -c 'cat $F/y; kill -9 $$' > $M/active/x; badcmd > $M/active/x; ok 1",
        "cmp $M/active/x $F/x; among x active killed queued",
    ),
    verb(
        "replacement by rename",
        "cp $F/x $M/active/x",
        "cp $F/y $M/active/.x.tmp && ok 1; mv $M/active/.x.tmp $M/active/x && ok 2",
        "one active/x x y; if acked 2; then same active/x y; test -e $M/pending_delete/x; fi
         if acked 1 && cmp -s $M/active/x $F/x; then cmp $M/active/.x.tmp $F/y; fi",
    ),
    verb(
        "replacement after unlink",
        "cp $F/x $M/active/x",
        "install $F/y $M/active/x && ok 1",
        "if acked 1; then cmp $M/active/x $F/y; fi
         if test -e $M/active/x; then one active/x x y; else is x pending_delete; fi",
    ),
    verb(
        "opened again",
        "",
        r#"python3 -c '
import os
path = os.environ["M"] + "/active/x"
f = os.open(path, os.O_CREAT | os.O_WRONLY); os.write(f, b"head "); os.close(f)
f = os.open(path, os.O_RDWR); os.pwrite(f, b"tail", 5); os.close(f)' && ok 1"#,
        "among x active killed queued
         if acked 1; then test \"$(cat $M/active/x)\" = 'head tail'; fi
         if test -e $M/active/x; then case $(cat $M/active/x) in 'head '|'head tail') ;; *) false;; esac; fi",
    ),
    verb(
        "opened again after it replaced",
        "cp $F/x $M/active/x",
        r#"python3 -c '
import os
path = os.environ["M"] + "/active/x"
f = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY); os.write(f, b"head "); os.close(f)
f = os.open(path, os.O_RDWR); os.pwrite(f, b"tail", 5); os.close(f)' && ok 1"#,
        "test -e $M/active/x
         cmp -s $M/active/x $F/x || case $(cat $M/active/x) in 'head '|'head tail') ;; *) false;; esac
         if acked 1; then test \"$(cat $M/active/x)\" = 'head tail'; fi",
    ),
    verb(
        "writer that fails after its close",
        "cp $F/x $M/active/x; printf part > $F/part",
        r#"python3 -c '
import os
f = open(os.environ["M"] + "/active/x", "wb"); f.write(b"part"); f.close(); os._exit(3)'
         ls $M/active > /dev/null; ok 1"#,
        "one active/x x part; among x active deactivated killed pending_delete queued",
    ),
    verb(
        "vote taken back",
        "",
        "exec 3> $M/active/x; cat $F/x >&3; (sleep 0.05; printf more >&3) & exec 3>&-; wait; ok 1",
        "among x active killed queued
         ! test -e $M/active/x || cmp -s $M/active/x $F/x || cat $F/x <(printf more) | cmp - $M/active/x",
    ),
    verb(
        "staging",
        "",
        "cp $F/x $M/uploading/x && ok 1",
        "if acked 1; then is x uploading; cmp $M/uploading/x $F/x; else among x uploading; fi",
    ),
    verb(
        "work in place",
        "cp $F/x $M/uploading/x",
        "printf more >> $M/uploading/x && ok 1",
        "is x uploading
         cmp -s $M/uploading/x $F/x && ! acked 1 || cat $F/x <(printf more) | cmp - $M/uploading/x",
    ),
    verb(
        "import",
        "cp $F/x $M/uploading/x",
        "mv $M/uploading/x $M/active/x && ok 1; until_ empty importing",
        "until_ empty importing; if acked 1; then is x active; else is x uploading || is x active; fi; same active/x x",
    ),
    verb(
        "import over a name",
        "cp $F/x $M/uploading/x; cp $F/y $M/active/x",
        "mv $M/uploading/x $M/active/x && ok 1; until_ empty importing",
        "until_ empty importing; one active/x x y; if acked 1; then cmp $M/active/x $F/x; fi",
    ),
    verb(
        "import that fails",
        "cp $F/x $M/uploading/x; setfattr -n user.sps.expected_size -v 5 $M/uploading/x",
        "mv $M/uploading/x $M/active/x; until_ empty importing; ok 1",
        "until_ empty importing; is x queued || is x uploading",
    ),
    verb(
        "unstaging",
        "cp $F/x $M/uploading/x",
        "mv $M/uploading/x $M/queued/x && ok 1",
        "if acked 1; then is x queued; else is x queued || is x uploading; fi",
    ),
    verb(
        "removal",
        "cp $F/x $M/active/x",
        "rm $M/active/x && ok 1",
        "if acked 1; then is x pending_delete; else is x active || is x pending_delete; fi; same active/x x",
    ),
    verb(
        "purge",
        "cp $F/x $M/active/x; cp $F/x $M/active/kept; rm $M/active/x; cp $F/y $M/active/y; rm $M/active/y",
        "rm $M/pending_delete/x && ok 1; rm $M/pending_delete/y && ok 2",
        "if acked 1; then is x deleted; else there x pending_delete deleted; fi
         if acked 2; then is y deleted; else there y pending_delete deleted; fi; cmp $M/active/kept $F/x",
    ),
    verb(
        "restore",
        "cp $F/x $M/active/x; rm $M/active/x; cp $F/y $M/active/y; chmod 600 $M/active/y
         mv $M/active/y $M/deactivated/; rm $M/deactivated/y",
        "mv $M/pending_delete/x $M/active/ && ok 1; mv $M/pending_delete/y $M/deactivated/ && ok 2",
        "if acked 1; then is x active; else there x active pending_delete; fi; same active/x x
         if acked 2; then is y deactivated; else there y deactivated pending_delete; fi",
    ),
    verb(
        "restore over a name",
        "cp $F/x $M/active/x; rm $M/active/x; cp $F/y $M/active/x",
        "mv $M/pending_delete/x $M/active/x && ok 1",
        "one active/x x y; if acked 1; then cmp $M/active/x $F/x; fi",
    ),
    verb(
        "deactivation",
        "cp $F/x $M/active/x",
        "mv $M/active/x $M/deactivated/ && ok 1; mv $M/deactivated/x $M/active/ && ok 2",
        "there x active deactivated; if acked 2; then is x active; fi; same active/x x",
    ),
    verb(
        "removal of what is not active",
        "touch $M/queued/q; cp $F/x $M/uploading/u; sh -c 'echo; kill -9 $$' > $M/active/k || :; until_ test -e $M/killed/k",
        "rm $M/queued/q && ok 1; rm $M/uploading/u && ok 2; rm $M/killed/k && ok 3",
        "there q queued deleted; there u uploading deleted; there k killed deleted
         ! acked 1 || is q deleted; ! acked 2 || is u deleted; ! acked 3 || is k deleted",
    ),
    verb_with(
        &["delayed_delete=no"],
        verb(
            "removal at once",
            "cp $F/x $M/active/x; cp $F/y $M/active/y",
            "rm $M/active/x && ok 1",
            "if acked 1; then is x deleted; else there x active deleted; fi; same active/x x; cmp $M/active/y $F/y",
        ),
    ),
    verb(
        "forgetting",
        "touch $M/queued/x; rm $M/queued/x",
        "rm $M/deleted/x && ok 1",
        "among x deleted; ! acked 1 || test -z \"$(at x)\"",
    ),
    verb(
        "rename",
        "cp $F/x $M/active/x; cp $F/y $M/active/y",
        "mv $M/active/x $M/active/z && ok 1; mv $M/active/z $M/active/y && ok 2",
        "if acked 2; then cmp $M/active/y $F/x; is y active || test -e $M/pending_delete/y; else one active/y x y; fi
         same active/x x; same active/z x; among x active; among z active",
    ),
    verb(
        "attributes",
        "cp $F/x $M/active/x",
        "setfattr -n user.sps.tags -v a $M/active/x && ok 1; setfattr -n user.sps.property.os -v b $M/active/x && ok 2
         chmod 1640 $M/active/x && ok 3; touch -d @5 $M/active/x && ok 4; chown 5:6 $M/active/x && ok 5",
        "cmp $M/active/x $F/x; ! acked 1 || test $(value active/x tags) = a
         ! acked 2 || test $(value active/x property.os) = b; ! acked 3 || test $(stat -c %a $M/active/x) = 1640
         ! acked 4 || test $(stat -c %Y $M/active/x) = 5; ! acked 5 || test $(stat -c %u:%g $M/active/x) = 5:6
         chmod -t $M/active/x",
    ),
    verb_with(
        &["location_root=/etc"],
        verb(
            "location",
            "touch $M/queued/q",
            "ln -s /etc/services $M/active/l && ok 1
             setfattr -n user.sps.locations -v /etc/services $M/queued/q && ok 2
             mv $M/active/l $M/queued/l && ok 3",
            "among l active queued; there q queued active; ! acked 1 || acked 3 || there l active queued
             ! acked 2 || is q active; ! acked 3 || is l queued
             ! test -s $M/active/l || cmp $M/active/l /etc/services",
        ),
    ),
    verb(
        "copy inside the mount",
        "cp $F/x $M/active/x",
        "cp $M/active/x $M/active/y && ok 1",
        "cmp $M/active/x $F/x; if acked 1; then is y active; else among y active killed queued; fi; same active/y x",
    ),
    verb(
        "copy inside the mount, then changed",
        "cp $F/x $M/active/x",
        r#"python3 -c '
import os
m = os.environ["M"] + "/active/"
a = os.open(m + "x", os.O_RDONLY); b = os.open(m + "y", os.O_CREAT | os.O_RDWR)
os.copy_file_range(a, b, 1 << 30); os.pwrite(b, b"z", 7); os.close(b)' && ok 1"#,
        "cmp $M/active/x $F/x; if acked 1; then is y active; else among y active killed queued; fi
         ! test -e $M/active/y || test $(cmp -l $M/active/y $F/x | wc -l) = 1",
    ),
    verb(
        "verification",
        "cp $F/x $M/active/x; cp $F/y $M/active/y
         f=$S/blobs/$(value active/y blake3 | cut -c1-2)/$(value active/y blake3)
         chmod 600 $f; printf z | dd of=$f bs=1 seek=9 conv=notrunc; chmod 400 $f",
        "task v '{\"type\": \"verify\", \"input\": {}}' && ok 1; until_ empty tasks/pending; until_ empty tasks/processing",
        "until_ empty tasks/pending; until_ empty tasks/processing; cmp $M/active/x $F/x
         there y active deactivated; ! acked 1 || is y deactivated; rm -f $M/deactivated/y $M/active/y; rm -f $M/pending_delete/y",
    ),
    verb(
        "conversion",
        "cp $F/x $M/active/x",
        "task c '{\"type\": \"convert\", \"input\": {\"image\": \"x\", \"to\": \"qcow2\", \"name\": \"c\"}}' && ok 1
         until_ empty tasks/pending; until_ empty tasks/processing",
        "until_ empty tasks/pending; until_ empty tasks/processing; cmp $M/active/x $F/x; among c active
         ! acked 1 || qemu-img compare -f raw -F qcow2 $F/x $M/active/c",
    ),
    verb_with(
        &["location_root=/etc"],
        verb(
            "import of a file",
            "",
            "task i '{\"type\": \"import\", \"input\": {\"import_from\": \"/etc/services\", \"image_properties\": {\"name\": \"i\"}}}' && ok 1
             until_ empty tasks/pending; until_ empty tasks/processing",
            "until_ empty tasks/pending; until_ empty tasks/processing; among i active
             ! acked 1 || cmp $M/active/i /etc/services",
        ),
    ),
    verb_with(
        &["min_trash_time=0"],
        verb(
            "tasks forgotten",
            "task s '{\"type\": \"scrub\", \"input\": {}}'; until_ empty tasks/pending; until_ empty tasks/processing",
            "rm $M/tasks/success/* && ok 1",
            "! acked 1 || empty tasks/success",
        ),
    ),
    verb_with(
        &["scrub_time=1s", "forget_time=1s"],
        verb(
            "time",
            "cp $F/x $M/active/x; cp $F/y $M/active/y; rm $M/active/x",
            "until_ empty pending_delete; until_ empty deleted; ok 1",
            "cmp $M/active/y $F/y; among x pending_delete deleted",
        ),
    ),
    verb(
        "another digest",
        "cp $F/x $M/active/x",
        "getfattr -n user.sps.sha256 $M/active/x; until_ value active/x sha256; ok 1",
        "cmp $M/active/x $F/x; ! acked 1 || test $(value active/x sha256) = $(sha256sum < $F/x | cut -c1-64)",
    ),
    verb(
        "damaged content comes again",
        "cp $F/x $M/active/x
         f=$S/blobs/$(value active/x blake3 | cut -c1-2)/$(value active/x blake3)
         chmod 600 $f; printf z | dd of=$f bs=1 seek=9 conv=notrunc; chmod 400 $f
         task v '{\"type\": \"verify\", \"input\": {}}'; until_ empty active",
        "cp $F/x $M/active/y && ok 1",
        "among x deactivated active; ! acked 1 || cmp $M/active/y $F/x; same active/y x
         cp $F/x $M/active/again; rm $M/active/again",
    ),
    mounting(verb("mount", "", "cp $F/x $M/active/x && ok 1", "! acked 1 || is x active; same active/x x")),
    mounting(verb(
        "recovery",
        "cp $F/x $M/uploading/u; cp $F/x $M/active/r; rm $M/active/r; cp $F/y $M/uploading/i
         exec 3> $M/active/s; cat $F/x >&3; ls $M/saving
         mv $M/uploading/i $M/active/; rm $M/pending_delete/r; kill -9 $(cat $S/lock)",
        "true",
        "until_ empty importing; among s killed; is r deleted; is u uploading; cmp $M/uploading/u $F/x
         is i active; cmp $M/active/i $F/y",
    )),
];
