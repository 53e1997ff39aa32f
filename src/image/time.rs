//! Moments: by the clock on the wall, for people, and by the store's own clock, for what happens in time.

use std::fmt;
use std::time::Duration;

/// A moment, in nanoseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `nanoseconds` after the epoch.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the epoch; negative before it.
    #[must_use]
    pub const fn as_nanoseconds(self) -> i64 {
        self.0
    }
}

impl Timestamp {
    /// The moment to the nanosecond, in UTC, as RFC 3339 has it.
    #[must_use]
    pub fn precise(self) -> String {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => format!("{time:.9}"),
            Err(_) => format!("{} ns", self.0),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.0}"),
            Err(_) => write!(f, "{} ns", self.0),
        }
    }
}

/// How long the store has lived, in nanoseconds: what scrub time and the like are counted in. No jump of
/// the clock on the wall changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StoreTime(u64);

impl StoreTime {
    /// `nanoseconds` after the store was made.
    #[must_use]
    pub const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the store was made.
    #[must_use]
    pub const fn as_nanoseconds(self) -> u64 {
        self.0
    }

    /// The moment `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `earlier` to this moment; nothing if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Now, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock on the wall.
    pub at: Timestamp,
    /// By the store's own clock.
    pub age: StoreTime,
}
