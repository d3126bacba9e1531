//! The schemas built into the program; an alliance's first register lists them.

use super::Schema;
use crate::core::digest::Digest;

/// The newest version of each, and earlier ones, so that their datasets stay readable.
const TEXTS: &[&str] = &[
    include_str!("../../schemas/enterprise.schema.json"),
    include_str!("../../schemas/compute-resource.schema.json"),
    include_str!("../../schemas/economic-indicator.schema.json"),
    include_str!("../../schemas/compute-usage.schema.json"),
    include_str!("../../schemas/event.schema.json"),
    include_str!("../../schemas/facility.schema.json"),
    include_str!("../../schemas/overseas-activity.schema.json"),
    include_str!("../../schemas/patent.schema.json"),
    include_str!("../../schemas/rd-project.schema.json"),
    include_str!("../../schemas/satisfaction-survey.schema.json"),
    include_str!("../../schemas/supply-component.schema.json"),
    include_str!("../../schemas/talent-demand.schema.json"),
    include_str!("../../schemas/talent-title.schema.json"),
    include_str!("../../schemas/training.schema.json"),
    include_str!("../../schemas/document.schema.json"),
    include_str!("../../schemas/earlier/enterprise-1.0.0.schema.json"),
    include_str!("../../schemas/earlier/compute-resource-1.0.0.schema.json"),
    include_str!("../../schemas/earlier/economic-indicator-1.0.0.schema.json"),
];

/// All built-in schemas.
pub fn built_in() -> Vec<Schema> {
    TEXTS.iter().map(|text| Schema::checked_before(text.as_bytes()).expect("the built-in schemas are tested")).collect()
}

/// The text of the built-in schema with this digest.
pub fn built_in_text(digest: &Digest) -> Option<&'static str> {
    let has = |text: &&&str| Schema::checked_before(text.as_bytes()).is_ok_and(|schema| schema.digest() == *digest);
    TEXTS.iter().find(has).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::json::Tape;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
    }

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn newest() -> Vec<(String, Schema)> {
        let named = |schema: Schema| (schema.id().rsplit(':').next().unwrap().to_owned(), schema);
        built_in()
            .into_iter()
            .map(named)
            .filter(|(_, schema)| schema.version() != "1.0.0" || schema.value()["x-zh"].is_object())
            .collect()
    }

    #[test]
    fn every_file_is_built_in() {
        let count = |folder: &Path| {
            let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".schema.json")).count()
        };
        assert_eq!((count(&folder()), newest().len()), (15, 15));
        assert_eq!(count(&folder()) + count(&folder().join("earlier")), built_in().len());
        assert!(TEXTS.iter().all(|text| Schema::parse(text.as_bytes()).is_ok()));
        let digests: BTreeSet<_> = built_in().iter().map(Schema::digest).collect();
        assert_eq!(digests.len(), built_in().len());
    }

    /// Each good record is valid, and each bad one has the violation that is stated, and no other.
    #[test]
    fn the_tables_hold() {
        for (name, schema) in newest() {
            let (table, validator) = (read(&folder().join(format!("tables/{name}.json"))), schema.validator().unwrap());
            let violations = |record: &Value| {
                let mut tape = Tape::default();
                tape.parse(record.to_string().as_bytes()).unwrap();
                validator.validate(&tape)
            };
            let (good, bad) = (table["good"].as_array().unwrap(), table["bad"].as_array().unwrap());
            assert!(good.len() >= 2 && bad.len() >= 6, "{name}");
            for record in good {
                assert_eq!(violations(record), [], "{name} {record}");
            }
            let used: BTreeSet<&String> = good.iter().flat_map(|record| record.as_object().unwrap().keys()).collect();
            let unused = |column: &&str| *column != "note" && !used.iter().any(|used| used == column);
            let columns: Vec<&str> = schema.columns().into_iter().map(|(column, _)| column).filter(unused).collect();
            assert!(columns.is_empty(), "{name}: no good record has {columns:?}");
            for row in bad {
                let found = violations(&row["record"]);
                let found: Vec<_> = found.iter().map(|v| (v.pointer.as_str(), v.rule.as_str())).collect();
                let stated = (row["pointer"].as_str().unwrap(), row["rule"].as_str().unwrap());
                assert_eq!(found, [stated], "{name} {row}");
            }
        }
    }

    /// Every field is described in both languages; what several schemas define is the same in all.
    #[test]
    fn fields_are_described_and_definitions_shared() {
        let shared = read(&folder().join("definitions.json"))["$defs"].clone();
        let described = |name: &str, field: &Value| {
            for text in [&field["title"], &field["description"], &field["x-zh"]["title"], &field["x-zh"]["description"]]
            {
                assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{name}: {field}");
            }
        };
        for (name, schema) in newest() {
            described(&name, schema.value());
            for (field, value) in schema.value()["properties"].as_object().unwrap() {
                described(&format!("{name} {field}"), value);
            }
            for (definition, value) in schema.value()["$defs"].as_object().unwrap() {
                described(definition, value);
                assert_eq!(*value, shared[definition], "{name} {definition}");
            }
        }
    }
}
