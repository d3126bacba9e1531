//! When a source runs.

use crate::core::time::Timestamp;
use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Times of a source's runs: a crontab expression (minute, hour, day of the month, month, day of the week), and a time
/// zone of the IANA database, as in `0 2 * * * Asia/Shanghai`; without one, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Schedule(String);

/// A text that is not a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a schedule such as `0 2 * * * Asia/Shanghai` (minute, hour, day, month, weekday, zone): {reason}"
)]
pub struct ScheduleError {
    text: String,
    reason: String,
}

fn crontab(text: &str) -> Result<Crontab, cronexpr::Error> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    parse_crontab_with(text, options)
}

impl Schedule {
    /// Parses a crontab expression.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let error = |reason: &str| ScheduleError { text: text.chars().take(60).collect(), reason: reason.to_owned() };
        if text.len() > crate::core::limits::SCHEDULE_BYTES_MAX {
            return Err(error("it is too long"));
        }
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let parsed = crontab(&text).map_err(|failed| {
            // The library shows the place on lines of their own.
            let said = failed.to_string();
            error(said.lines().last().unwrap_or_default().trim_start_matches([' ', '^', '|']).trim())
        })?;
        let never = parsed.find_next(MakeTimestamp::from_millisecond(0).map_err(|e| error(&e.to_string()))?).is_err();
        if never { Err(error("it never comes")) } else { Ok(Self(text)) }
    }

    /// Whether it names its time zone.
    pub fn has_zone(&self) -> bool {
        self.0.split(' ').count() > 5
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = MakeTimestamp::from_millisecond(after.ms()).ok()?;
        let next = crontab(&self.0).ok()?.find_next(after).ok()?;
        Some(Timestamp::from_ms(next.timestamp().as_millisecond()))
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Schedule {
    type Error = ScheduleError;

    fn try_from(text: String) -> Result<Self, ScheduleError> {
        Self::parse(&text)
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.0
    }
}

impl std::str::FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Self::parse(text)
    }
}
