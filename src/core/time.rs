//! Time as a port and as a value: UTC with milliseconds, written as RFC 3339.

use super::limits;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
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
    fn refuses_what_is_no_utc_time() {
        for text in
            ["2026-02-30T00:00:00Z", "2026-01-01T00:00:00+08:00", "2026-01-01", "", "now", "2026-01-01T00:00:00.0001Z"]
        {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }
}
