//! How things read: sizes in binary units and ages in one unit, as `ls -h` and `uptime` have them; and what
//! anybody may have written.

use crate::image::Timestamp;

/// A number of bytes, with one decimal from a kibibyte on.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Tenths of the unit at hand.
    let mut tenths = u128::from(count) * 10 / 1024;
    for unit in UNITS {
        if tenths < 10_240 || unit == "EiB" {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        tenths /= 1024;
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

/// What may come from anybody, for a line that people read: it begins no other line, does nothing to a terminal,
/// and is read in the direction in which it is written.
#[must_use]
pub fn plain(text: &str) -> String {
    let is_plain = |c: char| {
        !c.is_control()
            && !['\u{2028}', '\u{2029}'].contains(&c)
            && !('\u{202a}'..='\u{202e}').contains(&c)
            && !('\u{2066}'..='\u{2069}').contains(&c)
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_anybody_wrote_stays_on_its_line() {
        for (text, shown) in [
            ("an \u{e9}t\u{e9} \\ \"x\"", "an \u{e9}t\u{e9} \\ \"x\""),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\x1b[2J\u{9b}1m\x07", "\\u{1b}[2J\\u{9b}1m\\u{7}"),
            ("\u{202e}gpj.exe\u{2028}", "\\u{202e}gpj.exe\\u{2028}"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn sizes_and_ages_read_as_people_say_them() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (64_421_888, "61.4 MiB"),
            (u64::MAX, "15.9 EiB"),
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
}
