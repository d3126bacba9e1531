//! A mapping for one schema and one file: what is read where, and where it goes.

use super::{Mapping, MappingError, Rule, is_column, pointer_of};
use crate::core::json::Node;
use crate::core::limits;
use crate::core::notation::Notation;
use crate::schema::{ColumnType, Schema};
use std::collections::HashMap;

/// What a jq program says of one record: a JSON text, or nothing; or why it failed.
pub type Answer = Result<Option<Vec<u8>>, String>;

/// How records are mapped.
pub struct Plan {
    /// What is read of a record: names of members, and JSON pointers, each with its place.
    by_name: HashMap<String, usize>,
    /// The parts of the pointers.
    pointers: Vec<(usize, Vec<String>)>,
    pub(super) fields: Vec<Field>,
    pub(super) layout: Layout,
    columns: Vec<String>,
}

/// A field that is filled.
pub(super) struct Field {
    /// JSON pointer.
    pub(super) pointer: String,
    pub(super) kind: ColumnType,
    /// What the elements of a list are.
    pub(super) elements: ColumnType,
    /// Whether the file's markers of missing values hold for it.
    pub(super) may_miss: bool,
    pub(super) from: From,
    pub(super) rule: Rule,
    /// How its numbers are written.
    pub(super) notation: Notation,
    /// What its column is called.
    pub(super) named: String,
}

/// Where a value comes from.
pub(super) enum From {
    /// The first of these sources that has one.
    First(Vec<usize>),
    Joined(Vec<usize>, String),
    Constant,
    /// A jq program, by its place in [`Mapping::programs`].
    Program(usize),
}

/// The objects of a record.
pub(super) enum Layout {
    Field(usize),
    Object(Vec<(String, Layout)>),
}

impl Plan {
    /// The plan of a mapping: of a table with these columns, or of JSON objects.
    pub fn of(
        mapping: &Mapping,
        schema: &Schema,
        columns: Option<&[String]>,
        notation: Notation,
    ) -> Result<Self, MappingError> {
        if !mapping.schema.is_empty() && mapping.schema != schema.id() {
            let (made, other) = (&mapping.schema, schema.id());
            return Err(MappingError::Other(format!("the mapping makes records of {made}, not of {other}")));
        }
        let mut plan = Self {
            by_name: HashMap::new(),
            pointers: Vec::new(),
            fields: Vec::new(),
            layout: Layout::Object(Vec::new()),
            columns: columns.unwrap_or_default().to_vec(),
        };
        let mut programs = 0;
        for (name, rule) in &mapping.fields {
            let pointer = pointer_of(name);
            let kind = schema.column_type(&pointer).ok_or_else(|| unknown_field(name, schema))?;
            let from = match () {
                () if rule.value.is_some() => From::Constant,
                () if rule.jq.is_some() => {
                    programs += 1;
                    From::Program(programs - 1)
                }
                () => plan.from(rule, columns).map_err(|problem| MappingError::rule(name, problem))?,
            };
            let own = rule.number.clone().unwrap_or_default();
            let decimal = own.decimal.unwrap_or(notation.decimal);
            let thousands = own.thousands.or(notation.thousands.filter(|_| own.decimal.is_none()));
            if Some(decimal) == thousands {
                return Err(MappingError::rule(
                    name,
                    format!("`{decimal}` separates decimals and thousands; state both in number"),
                ));
            }
            let takes_numbers = |kind: ColumnType| kind == ColumnType::Number;
            let elements = schema.column_type(&format!("{pointer}/0")).unwrap_or(ColumnType::String);
            if rule.number.is_some() && !takes_numbers(kind) && !(rule.split.is_some() && takes_numbers(elements)) {
                return Err(MappingError::rule(name, "number is for fields that hold numbers; this one does not"));
            }
            if plan.by_name.len() > limits::MAPPING_SOURCES_MAX {
                let most = limits::MAPPING_SOURCES_MAX;
                return Err(MappingError::Other(format!("the rules of a mapping read at most {most} columns")));
            }
            plan.layout.put(&pointer, plan.fields.len()).map_err(|problem| MappingError::rule(name, problem))?;
            plan.fields.push(Field {
                elements,
                may_miss: schema.may_miss(&pointer),
                from,
                kind,
                named: rule.columns().map(String::as_str).collect::<Vec<_>>().join(", "),
                rule: rule.clone(),
                notation: Notation { decimal, thousands },
                pointer,
            });
        }
        Ok(plan)
    }

    fn from(&mut self, rule: &Rule, columns: Option<&[String]>) -> Result<From, String> {
        if let Some(join) = &rule.join {
            let parts: Option<Vec<usize>> = join.columns.iter().map(|name| self.source(name, columns)).collect();
            let parts = parts.ok_or_else(|| {
                let known = columns.unwrap_or_default();
                let missing = |name: &&String| known.iter().all(|column| !is_column(name, column));
                missing_column(&join.columns.iter().filter(missing).cloned().collect::<Vec<_>>(), columns)
            })?;
            return Ok(From::Joined(parts, join.with.clone()));
        }
        let found: Vec<usize> = rule.from.iter().filter_map(|name| self.source(name, columns)).collect();
        if found.is_empty() { Err(missing_column(&rule.from, columns)) } else { Ok(From::First(found)) }
    }

    /// The source with this name, unless the table has no such column.
    fn source(&mut self, name: &str, columns: Option<&[String]>) -> Option<usize> {
        let name = match columns {
            None => name,
            // The very name comes before another case.
            Some(columns) => columns
                .iter()
                .find(|column| *column == name)
                .or(columns.iter().find(|column| is_column(name, column)))?,
        };
        if let Some(known) = self.by_name.get(name) {
            return Some(*known);
        }
        let at = self.by_name.len();
        self.by_name.insert(name.to_owned(), at);
        if let Some(path) = name.strip_prefix('/').filter(|_| columns.is_none()) {
            let parts = path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~"));
            self.pointers.push((at, parts.collect()));
        }
        Some(at)
    }

    /// The columns of the table that no rule reads.
    pub fn unread(&self) -> Vec<&str> {
        self.columns.iter().map(String::as_str).filter(|column| !self.by_name.contains_key(*column)).collect()
    }

    /// What the sources have in a record.
    pub(super) fn values<'a>(&self, record: Node<'a>) -> Vec<Option<Node<'a>>> {
        let mut found = vec![None; self.by_name.len()];
        for (name, value) in record.members() {
            if let Some(at) = self.by_name.get(name) {
                found[*at] = Some(value);
            }
        }
        for (at, parts) in &self.pointers {
            found[*at] = at_pointer(record, parts);
        }
        found
    }
}

fn at_pointer<'a>(record: Node<'a>, parts: &[String]) -> Option<Node<'a>> {
    parts.iter().try_fold(record, |node, part| {
        let member = node.members().find(|(name, _)| name == part).map(|(_, value)| value);
        member.or_else(|| node.elements().nth(part.parse().ok()?))
    })
}

fn unknown_field(name: &str, schema: &Schema) -> MappingError {
    let known: Vec<&str> = schema.columns().into_iter().map(|(name, _)| name).collect();
    MappingError::rule(name, format!("{} has no such field; it has {}", schema.id(), listed(&known)))
}

fn missing_column(names: &[String], columns: Option<&[String]>) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let columns: Vec<&str> = columns.unwrap_or_default().iter().map(String::as_str).collect();
    format!("the file has no column `{}`; it has {}", names.join("`, `"), listed(&columns))
}

fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(limits::NAMES_IN_ERRORS_MAX);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

impl Layout {
    fn put(&mut self, pointer: &str, field: usize) -> Result<(), String> {
        let mut here = self;
        let parts: Vec<&str> = pointer.split('/').skip(1).collect();
        for (n, part) in parts.iter().enumerate() {
            let name = part.replace("~1", "/").replace("~0", "~");
            let Self::Object(members) = here else {
                return Err("a rule fills the object around it already".into());
            };
            let at = match members.iter().position(|(known, _)| *known == name) {
                Some(at) if n + 1 < parts.len() => at,
                Some(_) => return Err("another rule fills it, or a part of it, already".into()),
                None => {
                    let last = n + 1 == parts.len();
                    members.push((name, if last { Self::Field(field) } else { Self::Object(Vec::new()) }));
                    members.len() - 1
                }
            };
            here = &mut members[at].1;
        }
        Ok(())
    }
}
