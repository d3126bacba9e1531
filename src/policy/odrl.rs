//! The supported policies (FORMATS.md, "Policy"). Unsupported terms are rejected, never ignored, because a constraint
//! that is not evaluated would permit too much.

use crate::core::digest::Digest;
use crate::core::id::{ParticipantId, Text};
use crate::core::json::{self, ld};
use crate::core::limits;
use crate::core::time::Timestamp;
use serde_json::{Map, Value, json};

/// A policy, which permits a use if one of its permissions does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    permissions: Vec<Permission>,
}

/// Permits `use` if all constraints hold and, where required, a person has approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Constraints in their original order.
    pub constraints: Vec<Constraint>,
    /// Whether a person at the provider must approve: the duty `obtainConsent` (ODRL Vocabulary 2.2, section 4.7.22).
    pub consent: bool,
}

/// Delivery channels, which are also the formats of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// Sealed bytes by range, and the release of the key. The default of a permission.
    Sealed,
    /// Plain text over TLS with a token; only if a permission names it.
    Pull,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 2] = [Self::Sealed, Self::Pull];

    /// The name in policies and in the `format` of a distribution.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sealed => "crosspark-sealed",
            Self::Pull => "HttpData-PULL",
        }
    }

    /// The channel with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.name() == name)
    }
}

/// The participants named by a `recipient` constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// `eq`, `isAnyOf`
    Any(Vec<ParticipantId>),
    /// `neq`, `isNoneOf`
    None(Vec<ParticipantId>),
    /// `isPartOf`: a group of the register
    Group(Text),
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// `recipient`: the consumer.
    Recipient(Recipients),
    /// `purpose`: one of these.
    Purpose(Vec<Text>),
    /// `dateTime` `gteq`
    From(Timestamp),
    /// `dateTime` `lt`
    Until(Timestamp),
    /// `count` `lteq`: uses under one agreement.
    Count(u64),
    /// `deliveryChannel`: one of these.
    Channel(Vec<Channel>),
}

/// Why a policy is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {pointer}: {problem}")]
pub struct PolicyError {
    /// JSON pointer into the policy.
    pub pointer: String,
    /// The problem and the supported alternatives.
    pub problem: String,
}

fn refuse<T>(pointer: &str, problem: impl Into<String>) -> Result<T, PolicyError> {
    let pointer = if pointer.is_empty() { "(whole)" } else { pointer };
    Err(PolicyError { pointer: pointer.to_owned(), problem: problem.into() })
}

impl Policy {
    /// Parses a policy file.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > limits::POLICY_BYTES_MAX {
            return refuse("", format!("longer than {} bytes", limits::POLICY_BYTES_MAX));
        }
        match json::read_value(text) {
            Ok(value) => Self::read(value),
            Err(error) => refuse("", error.to_string()),
        }
    }

    /// Reads a user's policy, which may also be written in other forms of JSON-LD.
    pub fn read(value: Value) -> Result<Self, PolicyError> {
        Self::from_value(&ld::plain(value))
    }

    /// Reads the rules of an ODRL set, offer or agreement in the Dataspace Protocol's JSON form. Identifier, type,
    /// parties, target and time are ignored; they are checked with the message.
    pub fn from_value(value: &Value) -> Result<Self, PolicyError> {
        let Value::Object(members) = value else {
            return refuse("", "expected an object with `permission`");
        };
        for (name, value) in members {
            match name.as_str() {
                "permission" | "@context" | "@id" | "@type" | "assigner" | "assignee" | "target" | "timestamp" => {}
                "prohibition" | "obligation" if is_empty(value) => {}
                _ if name.starts_with("crosspark:") => {}
                _ => {
                    let problem = format!("`{name}` is not supported; use `permission` with constraints");
                    return refuse(&format!("/{name}"), problem);
                }
            }
        }
        let permissions = list(members.get("permission"), "/permission")?;
        if permissions.is_empty() {
            return refuse("/permission", "a policy needs at least one permission");
        }
        let mut read = Vec::new();
        for (i, permission) in permissions.iter().enumerate() {
            read.push(permission_from(permission, &format!("/permission/{i}"))?);
        }
        let policy = Self { permissions: read };
        if policy.permissions.iter().map(|p| p.constraints.len()).sum::<usize>() > limits::POLICY_CONSTRAINTS_MAX {
            return refuse("", format!("more than {} constraints", limits::POLICY_CONSTRAINTS_MAX));
        }
        Ok(policy)
    }

    /// The permissions.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// The normal form, which is signed, displayed and hashed.
    pub fn to_value(&self) -> Value {
        json!({ "permission": self.permissions.iter().map(permission_value).collect::<Vec<_>>() })
    }

    /// SHA-256("crosspark/policy/v1" || 0x00 || JCS(normal form)).
    pub fn digest(&self) -> Digest {
        Digest::labelled("crosspark/policy/v1", &[&json::to_canonical(&self.to_value())])
    }

    /// The end of the last permission, or `None` if one of them has no end.
    pub fn end(&self) -> Option<Timestamp> {
        let end = |permission: &Permission| {
            let ends = permission.constraints.iter().filter_map(|constraint| match constraint {
                Constraint::Until(at) => Some(*at),
                _ => None,
            });
            ends.min()
        };
        let ends: Option<Vec<Timestamp>> = self.permissions.iter().map(end).collect();
        ends.and_then(|ends| ends.into_iter().max())
    }
}

fn is_empty(value: &Value) -> bool {
    matches!(value, Value::Array(list) if list.is_empty())
}

/// The protocol permits a single element instead of a list in some members.
fn list<'a>(value: Option<&'a Value>, pointer: &str) -> Result<Vec<&'a Value>, PolicyError> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= limits::POLICY_CONSTRAINTS_MAX => Ok(list.iter().collect()),
        Some(Value::Array(_)) => refuse(pointer, "too many elements"),
        Some(one) => Ok(vec![one]),
    }
}

fn permission_from(value: &Value, pointer: &str) -> Result<Permission, PolicyError> {
    let Value::Object(members) = value else {
        return refuse(pointer, "expected an object with `action` and `constraint`");
    };
    // An empty list restricts nothing, whatever its name.
    let unknown = |(name, value): &(&String, &Value)| {
        !matches!(name.as_str(), "action" | "constraint" | "duty" | "@type") && !is_empty(value)
    };
    if let Some((name, _)) = members.iter().find(unknown) {
        return refuse(&format!("{pointer}/{name}"), format!("`{name}` is not supported in a permission"));
    }
    match members.get("action").and_then(Value::as_str).map(ld::term) {
        Some("use") => {}
        _ => return refuse(&format!("{pointer}/action"), "the only action is `use`"),
    }
    let constraints = list(members.get("constraint"), &format!("{pointer}/constraint"))?;
    let mut read = Vec::new();
    for (i, constraint) in constraints.iter().enumerate() {
        read.push(constraint_from(constraint, &format!("{pointer}/constraint/{i}"))?);
    }
    let duties = list(members.get("duty"), &format!("{pointer}/duty"))?;
    for (i, duty) in duties.iter().enumerate() {
        duty_from(duty, &format!("{pointer}/duty/{i}"))?;
    }
    let permission = Permission { constraints: read, consent: !duties.is_empty() };
    if permission.channels().is_empty() {
        return refuse(&format!("{pointer}/constraint"), "its deliveryChannel constraints leave no channel");
    }
    Ok(permission)
}

/// Checks a duty; the only one supported is the approval of a person.
fn duty_from(value: &Value, pointer: &str) -> Result<(), PolicyError> {
    let members = value.as_object();
    let action = members.and_then(|members| members.get("action")).and_then(Value::as_str).map(ld::term);
    let plain = members.is_some_and(|m| m.keys().all(|name| matches!(name.as_str(), "action" | "@type")));
    match action {
        Some("obtainConsent") if plain => Ok(()),
        _ => refuse(pointer, "the only duty is {\"action\": \"obtainConsent\"}: approval by a person at the provider"),
    }
}

fn constraint_from(value: &Value, pointer: &str) -> Result<Constraint, PolicyError> {
    let Value::Object(members) = value else {
        return refuse(pointer, "expected leftOperand, operator and rightOperand");
    };
    let known = |name: &str| matches!(name, "leftOperand" | "operator" | "rightOperand" | "@type");
    if let Some(name) = members.keys().find(|name| !known(name)) {
        return refuse(&format!("{pointer}/{name}"), format!("`{name}` is not supported in a constraint"));
    }
    let term = |name: &str| ld::term(members.get(name).and_then(Value::as_str).unwrap_or_default());
    let (left, operator) = (term("leftOperand"), term("operator"));
    let right = operands(members, pointer)?;
    let texts = || -> Result<Vec<Text>, PolicyError> { right.iter().map(|t| text_operand(t, pointer)).collect() };
    match (left, operator) {
        ("recipient", "eq" | "isAnyOf") => Ok(Constraint::Recipient(Recipients::Any(participants(&right, pointer)?))),
        ("recipient", "neq" | "isNoneOf") => {
            Ok(Constraint::Recipient(Recipients::None(participants(&right, pointer)?)))
        }
        ("recipient", "isPartOf") => {
            Ok(Constraint::Recipient(Recipients::Group(text_operand(one(&right, pointer)?, pointer)?)))
        }
        ("purpose", "eq" | "isAnyOf") => Ok(Constraint::Purpose(texts()?)),
        ("dateTime", "gteq") => Ok(Constraint::From(time_operand(one(&right, pointer)?, pointer)?)),
        ("dateTime", "lt") => Ok(Constraint::Until(time_operand(one(&right, pointer)?, pointer)?)),
        ("count", "lteq") => {
            let count =
                one(&right, pointer)?.parse::<u64>().ok().filter(|n| (1..=limits::POLICY_COUNT_MAX).contains(n));
            count.map(Constraint::Count).map_or_else(
                || refuse(&format!("{pointer}/rightOperand"), "expected a whole number from 1, as a string"),
                Ok,
            )
        }
        ("deliveryChannel", "eq" | "isAnyOf") => Ok(Constraint::Channel(channels(&right, pointer)?)),
        ("recipient" | "purpose" | "dateTime" | "count" | "deliveryChannel", _) => refuse(
            &format!("{pointer}/operator"),
            format!(
                "`{operator}` is not supported for {left}; use recipient eq, isAnyOf, neq, isNoneOf, isPartOf; \
                 purpose eq, isAnyOf; dateTime gteq, lt; count lteq; deliveryChannel eq, isAnyOf"
            ),
        ),
        _ => refuse(
            &format!("{pointer}/leftOperand"),
            format!("`{left}` is not supported; use recipient, purpose, dateTime, count and deliveryChannel"),
        ),
    }
}

/// Right operands are strings or lists of strings; the protocol does not allow bare numbers.
fn operands(members: &Map<String, Value>, pointer: &str) -> Result<Vec<String>, PolicyError> {
    let pointer = format!("{pointer}/rightOperand");
    let list = match members.get("rightOperand") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Number(number)) => {
            return refuse(&pointer, format!("the protocol writes numbers as strings; write \"{number}\""));
        }
        Some(Value::Array(several)) if (1..=limits::POLICY_OPERANDS_MAX).contains(&several.len()) => {
            let texts: Option<Vec<String>> = several.iter().map(|v| v.as_str().map(str::to_owned)).collect();
            match texts {
                Some(texts) => texts,
                None => return refuse(&pointer, "expected strings"),
            }
        }
        _ => return refuse(&pointer, "expected a string or a list of strings"),
    };
    Ok(list)
}

fn one<'a>(operands: &'a [String], pointer: &str) -> Result<&'a str, PolicyError> {
    match operands {
        [one] => Ok(one),
        _ => refuse(&format!("{pointer}/rightOperand"), "expected one value"),
    }
}

fn participants(operands: &[String], pointer: &str) -> Result<Vec<ParticipantId>, PolicyError> {
    let parse = |text: &String| ParticipantId::parse(text);
    operands
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()
        .or_else(|error| refuse(&format!("{pointer}/rightOperand"), error.to_string()))
}

fn channels(operands: &[String], pointer: &str) -> Result<Vec<Channel>, PolicyError> {
    let known: Option<Vec<Channel>> = operands.iter().map(|name| Channel::named(name)).collect();
    let names = Channel::ALL.map(Channel::name).join(" and ");
    known.map_or_else(|| refuse(&format!("{pointer}/rightOperand"), format!("supported channels are {names}")), Ok)
}

fn text_operand(text: &str, pointer: &str) -> Result<Text, PolicyError> {
    Text::parse(text).or_else(|error| refuse(&format!("{pointer}/rightOperand"), error.to_string()))
}

fn time_operand(text: &str, pointer: &str) -> Result<Timestamp, PolicyError> {
    Timestamp::parse(text).or_else(|error| refuse(&format!("{pointer}/rightOperand"), error.to_string()))
}

fn permission_value(permission: &Permission) -> Value {
    // The protocol does not allow empty arrays.
    let mut value = json!({"action": "use"});
    if !permission.constraints.is_empty() {
        value["constraint"] = permission.constraints.iter().map(constraint_value).collect();
    }
    if permission.consent {
        value["duty"] = json!([{"action": "obtainConsent"}]);
    }
    value
}

fn constraint_value(constraint: &Constraint) -> Value {
    let (left, operator, right) = match constraint {
        Constraint::Recipient(Recipients::Any(who)) => ("recipient", "isAnyOf", json!(who)),
        Constraint::Recipient(Recipients::None(who)) => ("recipient", "isNoneOf", json!(who)),
        Constraint::Recipient(Recipients::Group(group)) => ("recipient", "isPartOf", json!(group)),
        Constraint::Purpose(purposes) => ("purpose", "isAnyOf", json!(purposes)),
        Constraint::From(at) => ("dateTime", "gteq", json!(at)),
        Constraint::Until(at) => ("dateTime", "lt", json!(at)),
        Constraint::Count(max) => ("count", "lteq", json!(max.to_string())),
        Constraint::Channel(channels) => {
            let names: Vec<&str> = channels.iter().map(|channel| channel.name()).collect();
            ("deliveryChannel", "isAnyOf", json!(names))
        }
    };
    json!({"leftOperand": left, "operator": operator, "rightOperand": right})
}
