//! What is counted and measured, as a collector reads it: each line of the page is parsed, and nothing is forgiven.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::support::{Sandbox, SmallDisk, attribute, documented, eventually, run};

/// Labels in the order in which they stand.
type Labels = Vec<(String, String)>;

struct Family {
    kind: String,
    unit: Option<String>,
    samples: Vec<(String, Labels, f64)>,
}

/// A page that was parsed.
struct Page(BTreeMap<String, Family>);

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Takes `{a="b",…}` apart, from behind the opening brace; answers what comes after it, too.
fn labels(mut rest: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        let (name, value) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{name}");
        let mut text = String::new();
        let mut letters = value.char_indices();
        let end = loop {
            match letters.next().expect("the end of a value") {
                (_, '\\') => text.push(match letters.next().expect("an escape").1 {
                    'n' => '\n',
                    plain @ ('\\' | '"') => plain,
                    other => panic!("\\{other} is no escape"),
                }),
                (at, '"') => break at,
                (_, letter) => text.push(letter),
            }
        };
        labels.push((name.to_owned(), text));
        rest = &value[end + 1..];
        match rest.split_at(1) {
            (",", more) => rest = more,
            ("}", behind) => return (labels, behind),
            other => panic!("{other:?} after a label"),
        }
    }
}

impl Page {
    fn of(sandbox: &Sandbox) -> Self {
        Self::parse(&fs::read_to_string(sandbox.path(".sps/metrics")).expect("a page"))
    }

    fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("the end is marked");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut current = String::new();
        let mut step = "samples";
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let (word, rest) = rest.split_once(' ').expect("a word");
                let (name, value) = rest.split_once(' ').expect("a name");
                assert!(is_name(name) && name.starts_with("sps_") && !value.is_empty(), "{line}");
                match (step, word) {
                    ("samples" | "UNIT" | "TYPE", "HELP") => {
                        assert!(!families.contains_key(name), "{name} comes twice");
                        current = name.to_owned();
                        let family = Family { kind: String::new(), unit: None, samples: vec![] };
                        families.insert(current.clone(), family);
                    }
                    ("HELP", "TYPE") => {
                        let kinds = ["counter", "gauge", "histogram"];
                        assert!(kinds.contains(&value), "{line}");
                        families.get_mut(&current).expect("a family").kind = value.to_owned();
                    }
                    ("TYPE", "UNIT") => {
                        assert!(name.ends_with(&format!("_{value}")), "{line}");
                        families.get_mut(&current).expect("a family").unit = Some(value.to_owned());
                    }
                    other => panic!("{other:?}: {line}"),
                }
                assert_eq!(name, current, "{line}");
                step = ["HELP", "TYPE", "UNIT"].into_iter().find(|w| *w == word).expect("a word");
                continue;
            }
            assert_ne!(step, "HELP", "{line}: no type");
            step = "samples";
            let end = line.find(['{', ' ']).expect("a name");
            let (name, rest) = line.split_at(end);
            let (labels, rest) = match rest.strip_prefix('{') {
                Some(rest) => labels(rest),
                None => (Labels::new(), rest),
            };
            let value: f64 = rest.strip_prefix(' ').expect("a value").parse().expect("a number");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            families.get_mut(&current).expect("a family").samples.push((
                name.to_owned(),
                labels,
                value,
            ));
        }
        let page = Self(families);
        page.must_be_sound();
        page
    }

    fn must_be_sound(&self) {
        for (name, family) in &self.0 {
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let mut seen = BTreeSet::new();
            for (sample, labels, _) in &family.samples {
                let suffix = sample.strip_prefix(name.as_str()).expect("a sample of its family");
                assert!(suffixes.contains(&suffix), "{sample} in {name}");
                assert!(seen.insert((sample, labels)), "{sample} {labels:?} comes twice");
                let names: BTreeSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names.len(), labels.len(), "{labels:?}");
            }
            // What is measured says in what.
            let is_measured = ["bytes", "seconds"].iter().any(|unit| name.ends_with(unit));
            assert_eq!(is_measured, family.unit.is_some(), "{name}");
            if family.kind == "histogram" {
                family.must_be_cumulative(name);
            }
        }
    }

    /// The value of a sample; none where there is no such sample.
    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let samples = self.0.values().flat_map(|family| &family.samples);
        let mut found = samples.filter(|(sample, found, _)| {
            let found: BTreeSet<(&str, &str)> =
                found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            sample == name && found == labels.iter().copied().collect()
        });
        found.next().map(|(_, _, value)| *value)
    }

    /// The same; what was never counted is 0.
    fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }
}

impl Family {
    fn must_be_cumulative(&self, name: &str) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        let mut counts: BTreeMap<Labels, f64> = BTreeMap::new();
        let mut sums: BTreeSet<Labels> = BTreeSet::new();
        for (sample, labels, value) in &self.samples {
            let own = labels.iter().filter(|(label, _)| label != "le").cloned().collect();
            if let Some((_, end)) = labels.iter().find(|(label, _)| label == "le") {
                let end = if end == "+Inf" { f64::INFINITY } else { end.parse().expect("an end") };
                buckets.entry(own).or_default().push((end, *value));
            } else if sample.ends_with("_count") {
                counts.insert(own, *value);
            } else {
                sums.insert(own);
            }
        }
        assert_eq!(sums, counts.keys().cloned().collect(), "{name}");
        assert_eq!(buckets.keys().collect::<Vec<_>>(), counts.keys().collect::<Vec<_>>(), "{name}");
        for (labels, buckets) in buckets {
            for pair in buckets.windows(2) {
                assert!(pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1, "{name} {labels:?}");
            }
            let last = buckets.last().copied();
            assert_eq!(last, Some((f64::INFINITY, counts[&labels])), "{name} {labels:?}");
        }
    }
}

// semantics: metrics
#[test]
fn numbers_move_as_things_happen() {
    let sandbox = Sandbox::with(&["passthrough=no", "quota_bytes=1G"]);
    let before = Page::of(&sandbox);
    for (of, folder) in [("active", 0.0), ("killed", 0.0), ("pending_delete", 0.0)] {
        assert_eq!(before.find("sps_images", &[("status", of)]), Some(folder));
    }
    assert_eq!(before.find("sps_trash_next_purge_seconds", &[]), None);
    sandbox.source("a", 300_000);
    sandbox.ok("cat $F/a > $M/active/a; cat $F/a > $M/active/b; rm $M/active/b");
    sandbox.ok("dd if=$M/active/a of=/dev/null bs=100k iflag=direct status=none");
    let mut flying = fs::File::create(sandbox.path("active/flying")).expect("new");
    std::io::Write::write_all(&mut flying, &[1; 2048]).expect("written");
    let after = Page::of(&sandbox);
    let of = |status| [("status", status)];
    assert_eq!(after.find("sps_images", &of("active")), Some(1.0));
    assert_eq!(after.find("sps_images", &of("saving")), Some(1.0));
    assert_eq!(after.find("sps_image_bytes", &of("active")), Some(300_000.0));
    assert_eq!(after.find("sps_trash_images", &[]), Some(1.0));
    assert_eq!(after.find("sps_trash_bytes", &[]), Some(300_000.0));
    let next = after.find("sps_trash_next_purge_seconds", &[]).expect("there is trash");
    assert!((600_000.0..=604_800.0).contains(&next), "{next}");
    assert_eq!(after.find("sps_in_flight", &[("kind", "upload")]), Some(1.0));
    let received = after.find("sps_in_flight_received_bytes", &[("kind", "upload")]);
    assert_eq!(received, Some(2048.0));
    assert_eq!(after.find("sps_store_used_bytes", &[]), Some(600_000.0));
    assert_eq!(after.find("sps_quota_bytes", &[]), Some(f64::from(1 << 30)));
    assert_eq!(after.find("sps_quota_images", &[]), None, "there is none");
    let size = after.find("sps_store_size_bytes", &[]).expect("a size");
    assert!(size > after.find("sps_store_free_bytes", &[]).expect("a size"));
    let read = after.count("sps_read_bytes_total", &[]) - before.count("sps_read_bytes_total", &[]);
    assert!((300_000.0..400_000.0).contains(&read), "{read}: the pages are read, too");
    // A write is counted when it is done, which is after it is answered.
    eventually("all bytes are counted", || {
        Page::of(&sandbox).count("sps_written_bytes_total", &[]) == 602_048.0
    });
    assert!(after.count("sps_registry_commit_changes_count", &[]) >= 6.0);
    assert!(after.count("sps_epochs_total", &[]) > before.count("sps_epochs_total", &[]));
    assert_eq!(after.find("sps_late_answers_total", &[]), Some(0.0));
    assert_eq!(after.find("sps_registry_failed_commits_total", &[]), Some(0.0));
    drop(flying);
    sandbox.ok("cp --sparse=never --reflink=auto $M/active/a $M/active/c && cmp $M/active/c $F/a");
    assert_eq!(Page::of(&sandbox).find("sps_copied_bytes_total", &[]), Some(300_000.0));
    let started = after.find("sps_start_time_seconds", &[]).expect("a time");
    sandbox.remount();
    let again = Page::of(&sandbox);
    assert!(again.find("sps_start_time_seconds", &[]).expect("a time") > started);
    assert_eq!(again.find("sps_images", &of("active")), Some(3.0));
    assert_eq!(again.count("sps_written_bytes_total", &[]), 0.0, "it counts from a start on");
}

// semantics: metrics
#[test]
fn requests_are_counted_and_measured_by_what_they_are() {
    let sandbox = Sandbox::new();
    let before = Page::of(&sandbox);
    sandbox.ok("for i in 1 2 3; do echo $i > $M/active/x$i; done; rm $M/active/x1");
    for refused in ["ln -s /nowhere/x $M/active/y", "mkdir $M/active/d", "rmdir $M/queued"] {
        sandbox.fails(refused, "Operation not permitted");
    }
    let count = |page: &Page, name: &str, op: &str| page.count(name, &[("op", op)]);
    let counted = [
        ("create", 3.0),
        ("flush", 3.0),
        ("unlink", 1.0),
        ("symlink", 1.0),
        ("mkdir", 1.0),
        ("rmdir", 1.0),
    ];
    for (op, expected) in counted {
        eventually("a request is done with", || {
            let after = Page::of(&sandbox);
            let taken = |name| count(&after, name, op) - count(&before, name, op);
            let taken = ["sps_operations_total", "sps_operation_duration_seconds_count"].map(taken);
            // A redirection closes twice, and who reads the page closes that.
            let is_exact = op != "flush";
            assert!(!is_exact || taken.iter().all(|n| *n <= expected), "{op}: {taken:?}");
            taken.iter().all(|taken| *taken >= expected)
        });
    }
    let after = Page::of(&sandbox);
    let sum = after.count("sps_operation_duration_seconds_sum", &[("op", "flush")]);
    let buckets =
        after.count("sps_operation_duration_seconds_bucket", &[("op", "flush"), ("le", "60.0")]);
    assert!(sum > 0.0 && buckets >= 3.0, "{sum} {buckets}");
}

// semantics: metrics
#[test]
fn errors_are_counted_with_what_they_are_called() {
    let disk = SmallDisk::new(24, &["quota_images=2"]);
    let sandbox = &disk.0;
    sandbox.bash("mkdir $M/x; mkdir $M/y; cat $M/active/nothing");
    sandbox.bash("getfattr -n user.sps.tags $M/active; setfattr -n user.other -v 1 $M/active");
    sandbox.bash("dd if=/dev/zero of=$M/active/big bs=1M count=64 status=none");
    sandbox.ok("rm -f $M/killed/*; echo a > $M/active/a; echo b > $M/active/b");
    sandbox.bash("echo c > $M/active/c");
    let page = Page::of(sandbox);
    let errors = |op, errno| page.count("sps_errors_total", &[("op", op), ("errno", errno)]);
    assert_eq!(errors("mkdir", "EPERM"), 2.0);
    assert!(errors("lookup", "ENOENT") >= 3.0);
    assert!(errors("write", "ENOSPC") >= 1.0, "{:?}", page.0["sps_errors"].samples);
    assert_eq!(errors("create", "EDQUOT"), 1.0, "{:?}", page.0["sps_errors"].samples);
    assert!(!page.0["sps_errors"].samples.iter().any(|(_, labels, _)| labels[1].1 == "other"));
}

// semantics: metrics
#[test]
fn tasks_are_counted_and_how_long_they_wait_is_told() {
    let sandbox = Sandbox::new();
    sandbox.ok("echo a > $M/active/a; cp $M/active/a $F/");
    sandbox.ok(r#"echo '{"type":"verify","input":{"image":"a"}}' > $M/tasks/pending/good"#);
    sandbox.ok(r#"echo '{"type":"verify","input":{"image":"a"}}' > $M/tasks/pending/too"#);
    eventually("the tasks are done", || {
        let page = Page::of(&sandbox);
        for status in ["pending", "processing"] {
            assert!(page.find("sps_task_oldest_age_seconds", &[("status", status)]).is_some());
        }
        page.find("sps_tasks", &[("status", "success")]) == Some(2.0)
    });
    let page = Page::of(&sandbox);
    assert_eq!(page.find("sps_tasks", &[("status", "pending")]), Some(0.0));
    assert_eq!(page.find("sps_task_oldest_age_seconds", &[("status", "pending")]), Some(0.0));
    assert_eq!(page.find("sps_task_oldest_age_seconds", &[("status", "success")]), None);
}

#[test]
fn a_mount_point_of_any_name_makes_no_other_line() {
    let sandbox = Sandbox::new();
    let name = "a\"b\\c\n# EOF\u{1b}[2J{}";
    let point = sandbox.file(name);
    let store = sandbox.file("store");
    fs::create_dir(&point).expect("a mount point");
    let mut mount = sandbox.sps();
    assert!(run(mount.arg("mount").arg("--store").arg(&store).arg(&point)).status.success());
    let text = fs::read_to_string(point.join(".sps/metrics"));
    let ended = run(sandbox.sps().arg("umount").arg(&point)).status;
    let page = Page::parse(&text.expect("a page"));
    assert!(ended.success());
    let (_, labels, _) = &page.0["sps_mount_info"].samples[0];
    let shown = point.to_str().expect("text").replace('\n', "\\n").replace('\u{1b}', "\\u{1b}");
    assert_eq!(labels[1], ("mount_point".to_owned(), shown));
}

// semantics: metrics
#[test]
fn the_page_is_a_file_like_the_others() {
    let sandbox = Sandbox::new();
    sandbox.fails("echo x > $M/.sps/metrics", "Permission denied");
    sandbox.fails("rm -f $M/.sps/metrics", "not permitted");
    sandbox.ok("cp $M/.sps/metrics $F/metrics; tail -n 1 $F/metrics | grep -qx '# EOF'");
    assert_eq!(attribute(&sandbox.path(".sps/metrics"), "id"), None);
}

#[test]
fn a_collector_gets_it_as_the_documents_say() {
    let sandbox = Sandbox::new();
    let here = |text: &str| {
        let text = text.replace("/var/lib/prometheus/node-exporter", "$F");
        assert!(text.contains("/mnt/sps"), "{text}");
        text.replace("/mnt/sps", "$M")
    };
    let copied = here(&documented("sps.prom"));
    sandbox.ok(&copied);
    Page::parse(&fs::read_to_string(sandbox.file("sps.prom")).expect("a copy"));
    let unit = documented("ExecStart");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    // systemd takes a backslash away.
    let served = here(&line.replace("\\\\", "\\")).replace("/bin/sh -c '", "").replace('\'', "");
    let answer = sandbox.ok(&format!("echo 'GET /metrics HTTP/1.1' | ({served})"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("HTTP/1.0 200 OK\r\nContent-Type: application/openmetrics-text;"),
        "{head}"
    );
    Page::parse(body);
    sandbox.umount();
    sandbox.bash(&copied);
    assert_eq!(
        crate::support::names_in(&sandbox.file("")),
        Vec::<String>::new(),
        "nothing of a daemon that is dead"
    );
}

#[test]
fn each_metric_stands_in_the_documents_with_its_unit() {
    let sandbox = Sandbox::with(&["quota_bytes=1G", "quota_images=100"]);
    sandbox.ok("echo a > $M/active/a; rm $M/active/a");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("the documents");
    // | `name` | kind | unit | labels | meaning |
    let rows = text.lines().filter_map(|line| {
        let cells = line.strip_prefix("| `sps_")?.trim_end_matches('|').split('|').map(str::trim);
        let cells: Vec<&str> = cells.collect();
        let labels: BTreeSet<String> =
            cells[3].split_whitespace().map(|l| l.replace('`', "")).collect();
        let unit = Some(cells[2]).filter(|unit| *unit == "bytes" || *unit == "seconds");
        assert!(cells.len() == 5 && cells[4].len() > 10, "{line}");
        Some((
            format!("sps_{}", cells[0].trim_end_matches('`')),
            (cells[1].to_owned(), unit.map(str::to_owned), labels),
        ))
    });
    let rows: Vec<_> = rows.collect();
    let documented: BTreeMap<_, _> = rows.iter().cloned().collect();
    assert_eq!(documented.len(), rows.len(), "one stands there twice");
    let page = Page::of(&sandbox);
    let mut shown = BTreeMap::new();
    for (name, family) in page.0 {
        let of_family = family.samples.iter().flat_map(|(_, labels, _)| labels);
        let names = of_family.map(|(label, _)| label.clone()).filter(|label| label != "le");
        let mut names: BTreeSet<String> = names.collect();
        if name == "sps_errors" {
            names.extend(["op".to_owned(), "errno".to_owned()]);
        }
        let sample = match family.kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name,
        };
        shown.insert(sample, (family.kind, family.unit, names));
    }
    assert_eq!(shown, documented);
}
