//! What the values of options are written as.

use std::time::Duration;

/// A value of the file as the other sources spell it.
pub(super) fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Boolean(is) => is.to_string(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => String::new(),
    }
}

/// What a time is written as.
pub(super) const SPAN: &str = "a time: 90s, 15m, 12h, 7d; 0 is at once";

/// A span of time: a number and its unit, or 0.
pub(super) fn span(value: &str) -> Option<Duration> {
    if value == "0" {
        return Some(Duration::ZERO);
    }
    let digits = value.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = value.split_at_checked(digits)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

/// Yes or no, as people write it.
pub(super) fn truth(value: &str) -> Option<bool> {
    match value {
        "yes" | "true" | "1" => Some(true),
        "no" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// The number of a group, by its number or by its name in `/etc/group`.
pub(super) fn group_id(value: &str) -> Option<u32> {
    if let Ok(number) = value.parse() {
        return Some(number);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(value)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// What a size is written as.
pub(super) const SIZE: &str = "a size in bytes, or with a unit: 500M, 10G, 2T; 0 is no limit";

/// A size: a number of bytes, or of a power of 1024 of them. No limit is none.
pub(super) fn size(value: &str) -> Option<Option<u64>> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at_checked(digits)?;
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let bytes = number.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    Some(Some(bytes).filter(|bytes| *bytes > 0))
}
