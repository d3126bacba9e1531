//! Schemas of what the API takes and gives (JSON Schema 2020-12). Objects hold exactly what is named here: an answer that
//! says more or less is found by the tests.

use crate::core::limits;
use serde_json::{Map, Value, json};

/// A schema.
pub type Schema = Value;

/// Any text.
pub fn text() -> Schema {
    json!({"type": "string"})
}

/// A text that people give: 1 to 200 characters without control characters, none of them white space at an end.
pub fn name() -> Schema {
    json!({
        "type": "string", "minLength": 1, "maxLength": 200,
        "pattern": "^[^\\s\\u0000-\\u001f\\u007f-\\u009f]([^\\u0000-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f])?$",
    })
}

/// An id: dataset, process, entry, token.
pub fn id() -> Schema {
    json!({"type": "string", "pattern": "^[A-Za-z0-9:_~@+=,-][A-Za-z0-9:._~@+=,-]{2,199}$"})
}

/// A participant.
pub fn participant() -> Schema {
    json!({"type": "string", "pattern": "^did:web:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*(%3A[1-9][0-9]{0,3})?$", "maxLength": 200})
}

/// A time.
pub fn time() -> Schema {
    json!({"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"})
}

/// A digest.
pub fn digest() -> Schema {
    json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"})
}

/// A key's name.
pub fn key() -> Schema {
    json!({"type": "string", "pattern": "^did:web:[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*#key-(0|[1-9][0-9]{0,8})$", "maxLength": 200})
}

/// A fingerprint as people write it: 64 hexadecimal digits, in groups if they like.
pub fn fingerprint() -> Schema {
    json!({"type": "string", "pattern": "^([0-9a-fA-F]{4}[ :-]?){15}[0-9a-fA-F]{4}$"})
}

/// Bytes as base64url.
pub fn bytes() -> Schema {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]*$"})
}

/// A whole number from `least` to `most`.
pub fn number(least: i64, most: u64) -> Schema {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

/// A count.
pub fn count() -> Schema {
    json!({"type": "integer", "minimum": 0})
}

/// True or false.
pub fn flag() -> Schema {
    json!({"type": "boolean"})
}

/// One of these.
pub fn one_of(values: &[&str]) -> Schema {
    json!({"type": "string", "enum": values})
}

/// This, or null.
pub fn or_null(schema: Schema) -> Schema {
    json!({"anyOf": [schema, {"type": "null"}]})
}

/// A list.
pub fn list(items: Schema) -> Schema {
    json!({"type": "array", "items": items})
}

/// A JSON object of any content.
pub fn any_object() -> Schema {
    json!({"type": "object"})
}

/// Values of one kind by name.
pub fn by_name(values: Schema) -> Schema {
    json!({"type": "object", "additionalProperties": values})
}

/// One of the shared schemas.
pub fn shared_as(name: &str) -> Schema {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object of exactly these members; those whose names end in `?` may be absent.
pub fn object(members: &[(&str, Schema)]) -> Schema {
    let mut properties = Map::new();
    let mut needed = Vec::new();
    for (name, schema) in members {
        match name.strip_suffix('?') {
            Some(name) => properties.insert(name.to_owned(), schema.clone()),
            None => {
                needed.push(*name);
                properties.insert((*name).to_owned(), schema.clone())
            }
        };
    }
    json!({"type": "object", "properties": properties, "required": needed, "additionalProperties": false})
}

/// A page of a listing, with the cursor of the next one.
pub fn page(name: &str, items: Schema) -> Schema {
    object(&[(name, list(items)), ("next?", text())])
}

/// Schemas that several operations share.
pub fn shared() -> Value {
    let key = object(&[
        ("id", text()),
        ("use", one_of(&["tls", "document", "log", "witness"])),
        ("public", bytes()),
        ("from", time()),
        ("until", time()),
        ("proof?", text()),
    ]);
    let member = object(&[
        ("id", participant()),
        ("names", by_name(text())),
        ("jurisdiction", text()),
        ("endpoint", text()),
        ("callbacks", list(text())),
        ("status", one_of(&["active", "suspended"])),
        ("groups", list(text())),
        ("attributes", by_name(text())),
        ("keys", list(key)),
        ("connector?", object(&[("proof", one_of(&["certificate", "token"])), ("data", list(text()))])),
    ]);
    let schema_ref = object(&[("id", text()), ("version", text()), ("digest", digest())]);
    let dataset = object(&[
        ("dataset", id()),
        ("title", name()),
        ("description", text()),
        ("offer", id()),
        ("policy", any_object()),
        ("version", or_null(number(1, u64::from(u32::MAX)))),
        ("manifest", or_null(digest())),
        ("schema", or_null(schema_ref)),
        ("records", or_null(count())),
        ("bytes", or_null(count())),
        ("published", or_null(time())),
        ("formats", list(text())),
        ("about", about()),
        ("refused?", text()),
    ]);
    let token = object(&[
        ("id", id()),
        ("role", role()),
        ("person", name()),
        ("enterprise", or_null(name())),
        ("created", time()),
        ("expires", time()),
        ("revoked", flag()),
    ]);
    let request = object(&[
        ("id", id()),
        ("provider", participant()),
        ("dataset", id()),
        ("purpose", name()),
        ("enterprise", name()),
        (
            "stage",
            one_of(&["requested", "offered", "agreed", "delivering", "suspended", "ready", "verified", "refused"]),
        ),
        ("reason", or_null(text())),
        ("holding", or_null(id())),
        ("records", or_null(count())),
        ("withdrawn", or_null(text())),
        ("trace", or_null(text())),
        ("started", time()),
    ]);
    let transfer = object(&[
        ("id", id()),
        ("role", one_of(&["provider", "consumer"])),
        ("peer", participant()),
        ("agreement", id()),
        ("format", text()),
        ("state", text()),
        ("pausedBy", or_null(one_of(&["provider", "consumer"]))),
        ("reason", or_null(text())),
        ("started", time()),
        ("updated", time()),
    ]);
    let field = object(&[("name", text()), ("salt", text()), ("value", text())]);
    let entry = object(&[
        ("index", count()),
        ("entry", any_object()),
        ("leaf", digest()),
        ("salt", text()),
        ("fields", list(field)),
    ]);
    let invalid = object(&[("line", count()), ("pointer", text()), ("rule", text()), ("reason", text())]);
    let rejection = object(&[("records", count()), ("invalid", count()), ("first", list(invalid))]);
    let problem = object(&[
        ("type", text()),
        ("title", text()),
        ("status", number(400, 599)),
        ("detail", text()),
        ("trace?", text()),
        ("rejection?", rejection),
    ]);
    json!({
        "Member": member, "Dataset": dataset, "Token": token, "Request": request, "Transfer": transfer,
        "Entry": entry, "Problem": problem,
    })
}

/// What a publisher says of a dataset beside the records.
pub fn about() -> Schema {
    let mut samples = list(any_object());
    samples["maxItems"] = limits::SAMPLES_MAX.into();
    object(&[
        ("licence?", or_null(name())),
        ("contact?", or_null(name())),
        ("frequency?", or_null(name())),
        ("theme?", or_null(name())),
        ("samples?", samples),
        ("listed?", flag()),
    ])
}

/// A user's role.
pub fn role() -> Schema {
    one_of(&["admin", "publisher", "requester", "auditor"])
}
