//! Time as a port and as a value: UTC with milliseconds, written as RFC 3339.

use super::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A source of the current time; `SystemClock` is the only one that reads the system clock.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The system clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the only implementation of the port")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// The clock of a node: the system's, but never before a time that the node has seen, in its log or on its clock. A
/// clock that is set back opens no policy: while the system's clock is behind by more than [`limits::SKEW_MS_MAX`], the
/// store accepts no change.
pub struct NodeClock {
    system: Arc<dyn Clock>,
    latest_ms: AtomicI64,
}

impl NodeClock {
    /// A clock that has seen nothing yet.
    pub fn new(system: Arc<dyn Clock>) -> Self {
        Self { system, latest_ms: AtomicI64::new(MS_MIN) }
    }

    /// A clock over the system's.
    pub fn of_system() -> Arc<Self> {
        Arc::new(Self::new(Arc::new(SystemClock)))
    }

    /// From now on, it is not before `at`.
    pub fn observe(&self, at: Timestamp) {
        self.latest_ms.fetch_max(at.ms(), Ordering::SeqCst);
    }

    /// The system's time, which may be wrong.
    pub fn system_now(&self) -> Timestamp {
        self.system.now()
    }

    /// Says what is wrong if the system's clock is behind.
    pub fn behind(&self) -> Option<String> {
        let (latest, system) = (Timestamp::from_ms(self.latest_ms.load(Ordering::SeqCst)), self.system.now());
        (system.plus_ms(limits::SKEW_MS_MAX) < latest).then(|| {
            format!(
                "the clock of this machine is wrong: it shows {system}, but the log or the clock showed {latest} before. \
                 Set it right, or run `crosspark clock correct` if it was ahead then and is right now"
            )
        })
    }

    /// Follows the system's clock again, after it was ahead; the log states the correction.
    pub fn follow_system(&self) {
        self.latest_ms.store(self.system.now().ms(), Ordering::SeqCst);
    }
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        let system = self.system.now();
        Timestamp::from_ms(self.latest_ms.fetch_max(system.ms(), Ordering::SeqCst)).max(system)
    }
}

/// The pause after a failed attempt that followed `earlier` failed ones: 250 ms, doubled for each earlier one, at most
/// [`limits::BACKOFF_MAX`].
pub fn backoff(earlier: u32) -> Duration {
    Duration::from_millis(250 << earlier.min(20)).min(limits::BACKOFF_MAX)
}

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, between the years 0 and 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

string_schema!(Timestamp, {"type": "string", "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"});

/// A text that is not a valid RFC 3339 time in UTC.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a valid time: expected RFC 3339 in UTC, as in 2026-01-31T08:00:00.000Z")]
pub struct TimeError(String);

const MS_MIN: i64 = -62_167_219_200_000;
const MS_MAX: i64 = 253_402_300_799_999;

impl Timestamp {
    /// From milliseconds since the epoch, clamped to the years 0 to 9999.
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(MS_MIN, MS_MAX))
    }

    /// Milliseconds since the epoch.
    pub fn ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This time plus `ms` milliseconds.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// Parses RFC 3339 as people write it; rejects offsets other than UTC and fractions finer than milliseconds.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let error = || TimeError(text.chars().take(40).collect());
        let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| error())?;
        if !at.offset().is_utc() {
            return Err(error());
        }
        if at.nanosecond() % 1_000_000 != 0 {
            return Err(error());
        }
        let ms = at.unix_timestamp_nanos().div_euclid(1_000_000);
        i64::try_from(ms).ok().filter(|ms| (MS_MIN..=MS_MAX).contains(ms)).map(Self).ok_or_else(error)
    }

    /// Converts to the `time` crate's type, in whole seconds, for certificates.
    pub fn to_offset_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.to_offset_date_time();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            self.0.rem_euclid(1_000)
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        // Each time has exactly one text; otherwise a document read and written again would have another digest.
        let at = Self::parse(&text).map_err(D::Error::custom)?;
        if at.to_string() == text { Ok(at) } else { Err(D::Error::custom(format!("write the time as {at}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_milliseconds() {
        for text in ["2026-11-23T08:09:10.042Z", "1970-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z"] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_clock_set_back_does_not_go_back() {
        struct Set(AtomicI64);
        impl Clock for Set {
            fn now(&self) -> Timestamp {
                Timestamp::from_ms(self.0.load(Ordering::SeqCst))
            }
        }
        let system = Arc::new(Set(AtomicI64::new(1_000_000)));
        let clock = NodeClock::new(system.clone());
        for (shown, observed, now, behind) in [
            (1_000_000, 0, 1_000_000, false),
            // Set back by a little, and by too much.
            (950_000, 0, 1_000_000, false),
            (900_000, 0, 1_000_000, true),
            (1_000_001, 0, 1_000_001, false),
            // The log is ahead.
            (1_000_001, 1_100_000, 1_100_000, true),
            (1_050_000, 0, 1_100_000, false),
        ] {
            system.0.store(shown, Ordering::SeqCst);
            clock.observe(Timestamp::from_ms(observed));
            assert_eq!((clock.now().ms(), clock.behind().is_some()), (now, behind), "{shown}");
        }
        system.0.store(500, Ordering::SeqCst);
        clock.follow_system();
        assert_eq!((clock.now().ms(), clock.behind()), (500, None));
    }

    #[test]
    fn refuses_what_is_no_utc_time() {
        for text in
            ["2026-02-30T00:00:00Z", "2026-01-01T00:00:00+08:00", "2026-01-01", "", "now", "2026-01-01T00:00:00.0001Z"]
        {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }
}
