//! What is wrong with a file's records: counts by field and rule, with the first examples.

use super::unique::Repeated;
use crate::core::limits;
use crate::schema::{RULE_KEY, Validator, Violation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An invalid record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvalidRecord {
    /// Line in the source, from 1.
    pub line: u64,
    /// The violation.
    #[serde(flatten)]
    pub violation: Violation,
}

/// Violations of one rule by one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Group {
    /// JSON pointer (RFC 6901) of the field, with `*` for the places of a list.
    pub pointer: String,
    /// The rule, as in a violation.
    pub rule: String,
    /// Violations.
    pub count: u64,
    /// Lines of the first of them.
    pub lines: Vec<u64>,
    /// Why the first one is a violation.
    pub reason: String,
}

impl Group {
    fn of(line: u64, violation: &Violation) -> Self {
        let (rule, reason) = (violation.rule.clone(), violation.reason.clone());
        Self { pointer: field(&violation.pointer), rule, count: 1, lines: vec![line], reason }
    }
}

/// The records of a file, and the violations of its invalid ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Rejection {
    /// All records.
    pub records: u64,
    /// Invalid records.
    pub invalid: u64,
    /// The first violations.
    pub first: Vec<InvalidRecord>,
    /// The violations by field and rule, the most frequent first: of each record the first few, of very many fields
    /// those that came first.
    #[serde(default)]
    pub groups: Vec<Group>,
}

/// The pointer with `*` for the places of lists. A member whose name is a number reads the same.
fn field(pointer: &str) -> String {
    let places = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts = pointer.split('/').map(|part| if places(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

impl Rejection {
    /// Adds a record's violations; none if it is valid.
    pub fn add(&mut self, line: u64, violations: Vec<Violation>) {
        self.records += 1;
        self.invalid += u64::from(!violations.is_empty());
        violations.into_iter().for_each(|violation| self.violation(line, violation));
    }

    /// Adds records that are valid, but whose key an earlier one has: their number, and the first of them.
    pub fn repeat(&mut self, count: u64, first: &[Repeated], validator: &Validator) {
        self.invalid += count;
        // Those beyond the first ones are only counted.
        let more = count - first.len() as u64;
        for repeated in first {
            let (line, violation) = (repeated.at, validator.repeats(&format!("line {}", repeated.first)));
            self.count(Group::of(line, &violation));
            // It may stand before those that were found earlier.
            self.first.push(InvalidRecord { line, violation });
        }
        if let Some(group) = self.groups.iter_mut().find(|group| group.rule == RULE_KEY) {
            group.count += more;
        }
    }

    fn violation(&mut self, line: u64, violation: Violation) {
        self.count(Group::of(line, &violation));
        if self.first.len() < limits::VIOLATIONS_REPORTED_MAX {
            self.first.push(InvalidRecord { line, violation });
        }
    }

    fn count(&mut self, new: Group) {
        let known = self.groups.len();
        match self.groups.iter_mut().find(|group| group.pointer == new.pointer && group.rule == new.rule) {
            Some(group) => {
                group.count += new.count;
                for line in new.lines {
                    if group.lines.len() < limits::VIOLATION_LINES_MAX && group.lines.last() != Some(&line) {
                        group.lines.push(line);
                    }
                }
            }
            None if known < limits::VIOLATION_GROUPS_MAX => self.groups.push(new),
            None => {}
        }
    }

    /// Adds what was found in the next part of the file.
    pub fn append(&mut self, next: Self) {
        self.records += next.records;
        self.invalid += next.invalid;
        let room = limits::VIOLATIONS_REPORTED_MAX.saturating_sub(self.first.len());
        self.first.extend(next.first.into_iter().take(room));
        next.groups.into_iter().for_each(|group| self.count(group));
    }

    /// Puts everything in order: violations by line, groups by their number of violations.
    pub fn sort(&mut self) {
        self.first.sort_by_key(|invalid| invalid.line);
        self.first.truncate(limits::VIOLATIONS_REPORTED_MAX);
        self.groups.iter_mut().for_each(|group| group.lines.sort_unstable());
        self.groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.lines.first().copied()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(pointer: &str, rule: &str) -> Violation {
        Violation::new(pointer, rule, format!("{pointer} {rule}"))
    }

    #[test]
    fn violations_are_counted_by_field_and_rule() {
        let mut all = Rejection::default();
        for part in 0..10u64 {
            let mut next = Rejection::default();
            for line in part * 100..(part + 1) * 100 {
                next.add(
                    line,
                    if line % 2 == 0 { vec![violation(&format!("/a/{line}/b"), "type")] } else { Vec::new() },
                );
            }
            all.append(next);
        }
        all.sort();
        assert_eq!((all.records, all.invalid, all.first.len()), (1_000, 500, limits::VIOLATIONS_REPORTED_MAX));
        let seen: Vec<_> =
            all.groups.iter().map(|group| (group.pointer.as_str(), group.count, &group.lines[..2])).collect();
        assert_eq!(seen, [("/a/*/b", 500, &[0, 2][..])]);
        assert!(all.groups[0].lines.len() == limits::VIOLATION_LINES_MAX && all.groups[0].reason == "/a/0/b type");
        // Names that nobody expected do not use up the memory.
        for n in 0..10_000 {
            all.add(n, vec![violation(&format!("/x{n}"), "additionalProperties")]);
        }
        assert_eq!(all.groups.len(), limits::VIOLATION_GROUPS_MAX);
    }
}
