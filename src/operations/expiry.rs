//! Expiry of the register, certificate and keys, and when to warn of it.

use crate::core::limits;
use crate::core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Something that expires.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Expiry {
    /// `register`, `certificate`, or a key's name.
    pub what: String,
    /// Time of expiry.
    pub until: Timestamp,
    /// Whole days until then; negative after it.
    pub days: i64,
}

impl Expiry {
    pub(super) fn new(what: impl Into<String>, until: Timestamp, now: Timestamp) -> Self {
        let days = until.ms().saturating_sub(now.ms()).div_euclid(DAY_MS);
        Self { what: what.into(), until, days }
    }

    /// The smallest of [`limits::EXPIRY_WARNED_DAYS`] that is more than the days left, if any. A register is valid for
    /// 14 days and renewed after 7, so for registers only the steps up to 7 count.
    pub fn warning(&self) -> Option<i64> {
        let steps = limits::EXPIRY_WARNED_DAYS.into_iter().filter(|step| self.what != "register" || *step <= 7);
        steps.filter(|step| self.days < *step).min()
    }

    /// The warning with its remedy.
    pub fn message(&self) -> String {
        let remedy = match self.what.as_str() {
            "register" => "ask the alliance operator to renew it",
            "certificate" => "run `crosspark node rotate --certificate`",
            _ => "run `crosspark node rotate --key`",
        };
        if self.days < 0 {
            return format!("the {} expired at {}: {remedy}", self.what, self.until);
        }
        format!("the {} expires at {}, in {} days: {remedy}", self.what, self.until, self.days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_warning() {
        let now = Timestamp::from_ms(0);
        let step = |what: &str, days: i64| Expiry::new(what, now.plus_ms(days * DAY_MS + 1), now).warning();
        for (what, days, expected) in [
            ("certificate", 31, None),
            ("certificate", 29, Some(30)),
            ("certificate", 14, Some(30)),
            ("certificate", 13, Some(14)),
            ("certificate", 6, Some(7)),
            ("certificate", 0, Some(1)),
            ("certificate", -3, Some(1)),
            ("register", 13, None),
            ("register", 6, Some(7)),
            ("register", 0, Some(1)),
        ] {
            assert_eq!(step(what, days), expected, "{what} {days}");
        }
    }
}
