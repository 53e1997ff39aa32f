//! What the registry keeps of tasks: a text that is read says the same when it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::task::Task;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(input) = Task::parse_input(text) {
        let text = Task::input_text(&input);
        assert_eq!(Task::parse_input(&text).as_ref(), Some(&input), "{text}");
    }
    if let Some(result) = Task::parse_result(text) {
        let text = Task::result_text(&result);
        assert_eq!(Task::parse_result(&text).as_ref(), Some(&result), "{text}");
    }
});
