//! What is generated: the status screen for programs, what happened, and what was chosen.

use std::fs;

use crate::support::{ALICE, Sandbox};

fn json(sandbox: &Sandbox, page: &str) -> serde_json::Value {
    let text = fs::read_to_string(sandbox.path(page)).expect("a page");
    serde_json::from_str(&text).expect("JSON")
}

// semantics: status-json
#[test]
fn the_status_screen_is_there_for_programs() {
    let sandbox = Sandbox::new();
    sandbox.bash("(echo part; kill -9 $BASHPID) > $M/active/broken");
    sandbox.ok("head -c 3000 /dev/zero > $M/active/a; echo b > $M/active/b; rm $M/active/b");
    let mut file = fs::File::create(sandbox.path("active/flying")).expect("new");
    std::io::Write::write_all(&mut file, &[1; 2048]).expect("written");
    let page = json(&sandbox, ".sps/status.json");
    assert_eq!(page["images"]["active"], serde_json::json!({"number": 1, "size_bytes": 3000}));
    assert_eq!(page["trash"]["number"], 1);
    assert!(page["trash"]["next_purge_seconds"].as_u64().expect("a time") > 600_000);
    assert_eq!(page["in_flight"][0]["name"], "flying");
    assert_eq!(page["in_flight"][0]["done_bytes"], 2048);
    assert!(page["failures"][0]["name"].as_str().expect("a name").starts_with("broken~"));
    assert!(page["free_bytes"].as_u64().expect("a size") > 0);
    sandbox.fails("echo x > $M/.sps/status.json", "Permission denied");
    sandbox.fails("rm -f $M/.sps/status.json", "not permitted");
    sandbox.ok("cp $M/.sps/status.json $F/; jq -e .images $F/status.json || python3 -m json.tool $F/status.json");
}

// semantics: events
#[test]
fn every_transition_is_told_with_its_time_its_cause_and_who_asked() {
    let sandbox = Sandbox::with(&["publish=all"]);
    assert!(
        sandbox
            .bash_as(ALICE, "echo a > $M/active/a; mv $M/active/a $M/deactivated/")
            .status
            .success()
    );
    sandbox.ok("mv $M/deactivated/a $M/active/; echo b > $M/active/a; rm $M/active/a");
    let told = |sandbox: &Sandbox| -> Vec<serde_json::Value> {
        let text = fs::read_to_string(sandbox.path(".sps/events.jsonl")).expect("a page");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let events = told(&sandbox);
    let short: Vec<String> = events
        .iter()
        .map(|event| {
            let word = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} ({}) {}",
                word("name"),
                word("from"),
                word("to"),
                word("cause"),
                event["uid"]
            )
        })
        .collect();
    let expected = [
        format!("a - queued (create) {ALICE}"),
        format!("a queued saving (first data) {ALICE}"),
        format!("a saving active (upload succeeded) {ALICE}"),
        format!("a active deactivated (deactivate) {ALICE}"),
        "a deactivated active (reactivate) 0".into(),
        "a - queued (create) 0".into(),
        "a queued saving (first data) 0".into(),
        "a saving active (upload succeeded) 0".into(),
        "a active pending_delete (delete) 0".into(),
        "a active pending_delete (delete) 0".into(),
    ];
    let mut found = short.clone();
    let mut wanted = expected.to_vec();
    // What happens in one commit has no order.
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "{short:#?}");
    let times: Vec<&str> = events.iter().filter_map(|event| event["time"].as_str()).collect();
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]), "{times:?}");
    let ids: Vec<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    assert!(ids.iter().all(|id| id.len() == 36));
    sandbox.remount();
    assert_eq!(told(&sandbox), events, "they survive a restart");
}

// semantics: config-page
#[test]
fn what_was_chosen_can_be_read() {
    let sandbox = Sandbox::with(&["scrub_time=12h", "publish=all", "location_root=/srv"]);
    let page = json(&sandbox, ".sps/config.json");
    assert_eq!(page["scrub_time_seconds"], 43_200.0);
    assert_eq!(page["forget_time_seconds"], 2_592_000.0);
    assert_eq!(page["publish"], "all");
    assert_eq!(page["location_root"], serde_json::json!(["/srv"]));
    assert_eq!(page["chosen"]["scrub_time"], "12h");
    assert_eq!(sandbox.names(".sps"), ["config.json", "events.jsonl", "metrics", "status.json"]);
}

#[test]
fn a_page_that_is_open_is_as_long_as_what_is_read_of_it() {
    let sandbox = Sandbox::new();
    let last = |page: &str| sandbox.ok(&format!("tail -n 1 $M/.sps/{page}"));
    for n in 0..40 {
        sandbox.ok(&format!("echo {n} > $M/active/image{n}; ls $M/active > /dev/null"));
        assert_eq!(last("metrics").trim_end(), "# EOF");
        let event = last("events.jsonl");
        assert!(serde_json::from_str::<serde_json::Value>(&event).is_ok(), "{event:?}");
    }
    // Who has it open sees what it was, and who comes then sees what it is.
    let script = "exec 3< $M/.sps/events.jsonl; for i in {1..50}; do echo > $M/active/more$i; done
        held=$(stat -L -c %s /dev/fd/3); [ $held = $(wc -c <&3) ] && exec 3<&-
        [ $(stat -c %s $M/.sps/events.jsonl) -gt $held ]";
    sandbox.ok(script);
}
