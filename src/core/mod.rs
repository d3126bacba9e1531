//! Foundations of all other modules: identifiers, time and randomness as ports, exact JSON, digests, limits.

/// Describes a type that JSON writes as a string: a JSON Schema for the API's description.
macro_rules! string_schema {
    ($type:ident, $schema:tt) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use string_schema;

pub mod digest;
pub mod id;
pub mod json;
pub mod limits;
pub mod notation;
pub mod random;
pub mod time;
pub mod trace;
pub mod visible;

/// Threads for work that takes all cores: validating, sealing, verifying.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
