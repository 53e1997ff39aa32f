//! What people write to `tasks/pending/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sps::image::ImageId;
use sps::task::{Convert, Order, Task, TaskInput, parse_order};
use sps_fuzz::memory;

const MEMORY_BYTES_MAX: usize = 64 << 20;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let stored = match memory::within(MEMORY_BYTES_MAX, || parse_order(text)) {
        Err(fault) => return assert!(!fault.to_string().is_empty()),
        Ok(Order::Import(import)) => TaskInput::ImportPath(import),
        Ok(Order::Convert { to, name, .. }) => TaskInput::Convert(Convert {
            source: ImageId::from_bytes([1; 16]),
            to,
            name,
            groups: vec![6, 7],
            image: None,
        }),
        Ok(Order::Verify { image }) => {
            TaskInput::Verify { image: image.and_then(|image| ImageId::parse(&image)) }
        }
        Ok(Order::Scrub) => TaskInput::Scrub,
    };
    let text = Task::input_text(&stored);
    assert_eq!(Task::parse_input(&text).as_ref(), Some(&stored), "{text}");
});
