//! What time it is: by the clock on the wall, for people, and by the store's own clock, for scrub time
//! and the like.
//!
//! The store's own clock goes on with the time since the machine was started while the store is mounted,
//! and takes over between two mounts what the clock on the wall says has passed. So a clock that jumps
//! while the store is mounted makes nothing due early, and one that jumps back takes nothing away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::image::{Moment, StoreTime, Timestamp};
use crate::registry::ClockMark;

/// Where the time comes from.
pub trait TimeSource: Send + Sync {
    /// The clock on the wall.
    fn wall(&self) -> Timestamp;

    /// How long it is since some moment that stays the same, whatever the clock on the wall does.
    fn elapsed(&self) -> Duration;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemTimeSource;

impl TimeSource for SystemTimeSource {
    fn wall(&self) -> Timestamp {
        now()
    }

    fn elapsed(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

/// The present by the clock on the wall.
#[must_use]
pub fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

fn timestamp(time: SystemTime) -> Timestamp {
    let nanoseconds = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds)
        }
    };
    Timestamp::from_nanoseconds(nanoseconds)
}

/// The store's own clock.
pub(super) struct StoreClock {
    source: Box<dyn TimeSource>,
    opened: StoreTime,
    elapsed_before: Duration,
}

impl StoreClock {
    /// Goes on from what was last noted, if anything was.
    pub(super) fn resume(source: Box<dyn TimeSource>, mark: Option<ClockMark>) -> Self {
        let opened = mark.map_or(StoreTime::default(), |mark| {
            let away = source.wall().as_nanoseconds().saturating_sub(mark.at.as_nanoseconds());
            mark.lived.plus(Duration::from_nanos(u64::try_from(away).unwrap_or(0)))
        });
        let elapsed_before = source.elapsed();
        Self { source, opened, elapsed_before }
    }

    /// The present, by both clocks.
    pub(super) fn moment(&self) -> Moment {
        let since = self.source.elapsed().saturating_sub(self.elapsed_before);
        Moment { at: self.source.wall(), age: self.opened.plus(since) }
    }

    /// When the store was opened.
    pub(super) const fn opened(&self) -> StoreTime {
        self.opened
    }

    /// What is noted, to go on from.
    pub(super) fn mark(&self) -> ClockMark {
        let now = self.moment();
        ClockMark { lived: now.age, at: now.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_below_zero() {
        let second = Duration::from_secs(1);
        let at = |time: Option<SystemTime>| time.map(timestamp).map(Timestamp::as_nanoseconds);
        assert_eq!(at(UNIX_EPOCH.checked_sub(second)), Some(-1_000_000_000));
        assert_eq!(at(UNIX_EPOCH.checked_add(second)), Some(1_000_000_000));
    }

    struct Fixed(i64, u64);

    impl TimeSource for Fixed {
        fn wall(&self) -> Timestamp {
            Timestamp::from_nanoseconds(self.0)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_nanos(self.1)
        }
    }

    #[test]
    fn time_away_counts_and_a_clock_that_went_back_takes_nothing() {
        let mark = ClockMark {
            lived: StoreTime::from_nanoseconds(1000),
            at: Timestamp::from_nanoseconds(50_000),
        };
        for (wall, expected) in [(50_000, 1000), (50_500, 1500), (40_000, 1000)] {
            let clock = StoreClock::resume(Box::new(Fixed(wall, 7)), Some(mark));
            assert_eq!(clock.moment().age.as_nanoseconds(), expected, "{wall}");
        }
        assert_eq!(StoreClock::resume(Box::new(Fixed(9, 9)), None).opened(), StoreTime::default());
    }
}
