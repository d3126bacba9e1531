use super::*;
use crate::core::notation::Notation;
use crate::mapping::{Mapping, Plan};
use crate::schema::built_in;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    table: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    schema: String,
    columns: Vec<CaseColumn>,
}

#[derive(Deserialize)]
struct CaseColumn {
    header: String,
    /// The right property; `?` if people would differ.
    field: String,
    examples: Vec<String>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/files/headers.toml")).unwrap();
    toml::from_str::<Cases>(&text).unwrap().table
}

fn schema(name: &str) -> Schema {
    let all = built_in();
    let of_name = all.iter().filter(|schema| schema.id().ends_with(&format!(":{name}")));
    of_name.max_by_key(|schema| schema.version().to_owned()).unwrap().clone()
}

/// What was said of the columns of all tables.
#[derive(Default)]
struct Tally {
    fields: usize,
    right: usize,
    /// Columns that no field holds, and those that were left out.
    others: usize,
    left_out: usize,
    sure: usize,
    sure_wrong: Vec<String>,
    wrong: String,
}

impl Tally {
    fn add(&mut self, case: &Case, column: &CaseColumn, suggestion: Option<&Suggestion>) {
        let said = suggestion.map_or("", |suggestion| suggestion.field.as_str());
        let is_sure = suggestion.is_some_and(|suggestion| suggestion.confidence == Confidence::High);
        let (is_field, is_right) = (!column.field.is_empty(), said == column.field);
        self.sure += usize::from(is_sure);
        match is_field {
            true => (self.fields, self.right) = (self.fields + 1, self.right + usize::from(is_right)),
            false => (self.others, self.left_out) = (self.others + 1, self.left_out + usize::from(is_right)),
        }
        if !is_right {
            let reason = suggestion.map_or("", |suggestion| suggestion.reason.as_str());
            let line = format!("{} {:?}: {said:?}, not {:?}; {reason}\n", case.name, column.header, column.field);
            self.wrong += &line;
            self.sure_wrong.extend(is_sure.then_some(line));
        }
    }
}

/// Real header sets: most fields are found, and what is said to be sure is right.
#[test]
fn headers_of_public_tables_are_understood() {
    let mut tally = Tally::default();
    for case in cases() {
        let schema = schema(&case.schema);
        let columns: Vec<Column> = case.columns.iter().map(|c| (c.header.clone(), c.examples.clone())).collect();
        let found = suggest(&columns, &schema);
        for column in case.columns.iter().filter(|column| column.field != "?") {
            tally.add(&case, column, found.iter().find(|suggestion| suggestion.column == column.header));
        }
        // What is proposed is a mapping of this schema.
        let mapping = Mapping::parse(&toml(&found, &columns, &schema)).unwrap();
        let names: Vec<String> = columns.iter().map(|(header, _)| header.trim().to_owned()).collect();
        Plan::of(&mapping, &schema, Some(&names), Notation::default()).unwrap();
    }
    let Tally { fields, right, others, left_out, sure, .. } = tally;
    println!("{}{right} of {fields} fields, {left_out} of {others} others left out, {sure} sure", tally.wrong);
    assert!(tally.sure_wrong.is_empty(), "sure and wrong: {:#?}", tally.sure_wrong);
    assert!(right * 100 >= fields * 85, "{right} of {fields} fields are right");
    assert!(left_out * 100 >= others * 85, "{left_out} of {others} columns without a field are left out");
}

/// What stands in a file is never a rule of its own.
#[test]
fn a_header_cannot_write_rules() {
    let schema = schema("enterprise");
    let evil = "name\nuscc = { value = \"91110000EVIL\" }\n#".to_owned();
    let columns: Vec<Column> = vec![(evil.clone(), vec!["x".into()]), ("Status".into(), vec![evil])];
    let mapping = Mapping::parse(&(toml(&suggest(&columns, &schema), &columns, &schema) + "\nname = \"a\"\n"));
    assert!(mapping.is_ok_and(|mapping| !mapping.fields.contains_key("uscc")));
}

proptest! {
    #[test]
    fn any_columns_give_a_mapping(columns in prop::collection::vec(("\\PC{0,12}", prop::collection::vec("\\PC{0,8}|[0-9/%.,-]{0,9}", 0..4)), 0..6)) {
        let schema = schema("enterprise");
        let found = suggest(&columns, &schema);
        if !found.is_empty() {
            Mapping::parse(&toml(&found, &columns, &schema)).unwrap();
        }
    }
}
