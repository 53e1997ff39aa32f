//! How things read to people: sizes in binary units and ages in one unit, as `ls -h` and `uptime` have them, and
//! texts that anybody may have written, so that none of them passes for something else.

use std::borrow::Cow;
use std::fmt::Write;

use crate::image::Timestamp;

/// A number of bytes, with one decimal from a kibibyte on.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = 1_u128 << 10;
    for unit in UNITS {
        // To the nearest tenth.
        let tenths = (u128::from(count) * 10 + size / 2) / size;
        if tenths < 10_240 || unit == "EiB" {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        size <<= 10;
    }
    format!("{count} B")
}

/// How long ago `from` is at `to`, in the largest unit that fits.
#[must_use]
pub fn age(from: Timestamp, to: Timestamp) -> String {
    let passed = to.as_nanoseconds().saturating_sub(from.as_nanoseconds()).max(0);
    span(u64::try_from(passed).unwrap_or(0) / 1_000_000_000)
}

/// A span of time in the largest unit that fits.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A text as it may be printed on one line of a terminal or a log: what would end the line, command the terminal,
/// change the direction of what follows, or not be seen at all stands there as `\n` or `\u{1b}`.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
            _ if is_treacherous(c) => shown.extend(c.escape_unicode()),
            _ => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// A JSON text with the same characters escaped in its strings, but for those that lay it out.
#[must_use]
pub fn plain_json(text: &str) -> Cow<'_, str> {
    // Outside of strings it is ASCII, and within them control characters of ASCII are escaped but for DEL.
    let is_meant = |c: char| is_treacherous(c) && c != '\n';
    if !text.contains(is_meant) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_meant(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character does something when it is printed, rather than being seen.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            // The ends of lines and paragraphs, and what changes the direction of writing.
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{200e}' | '\u{200f}' | '\u{061c}'
            // What has no width, or is only a mark for programs.
            | '\u{00ad}' | '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_as_people_say_them() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (64_421_888, "61.4 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (count, text) in sizes {
            assert_eq!(bytes(count), text);
        }
        let at = |seconds: i64| Timestamp::from_nanoseconds(seconds * 1_000_000_000);
        for (seconds, text) in [(-5, "0s"), (59, "59s"), (60, "1m"), (7200, "2h"), (172_800, "2d")]
        {
            assert_eq!(age(at(0), at(seconds)), text);
        }
    }

    #[test]
    fn what_would_not_be_seen_as_it_is_stands_escaped() {
        let cases = [
            ("größe 5 – \u{1f600}", "größe 5 – \u{1f600}"),
            ("a\nb\r\t\u{7f}", "a\\nb\\r\\t\\u{7f}"),
            ("\u{1b}[2J\u{9b}2J", "\\u{1b}[2J\\u{9b}2J"),
            ("\u{202e}gpj.\u{2066}", "\\u{202e}gpj.\\u{2066}"),
            ("\u{2028}\u{2029}\u{200b}\u{feff}", "\\u{2028}\\u{2029}\\u{200b}\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
        ];
        for (text, shown) in cases {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn json_is_the_same_value_when_nothing_in_it_is_hidden() {
        let value = serde_json::json!({"a": "\u{9b}\n\u{202e}\u{e0041}\u{7f}ü"});
        let text = serde_json::to_string_pretty(&value).expect("JSON");
        let shown = plain_json(&text);
        assert!(!shown.contains(|c: char| is_treacherous(c) && c != '\n'), "{shown}");
        assert!(shown.contains('ü') && shown.contains("\\u202e\\udb40\\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }
}
