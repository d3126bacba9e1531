//! Schemas of this member: checked, compared with their predecessors, signed.

use super::{Schemas, parse};
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::limits;
use crate::identity::document;
use crate::identity::schemas::{SchemaStatement, namespace};
use crate::node::{Error, User, details};
use crate::schema::{self, Advice, Schema};
use crate::storage::{Change, SchemaRow};
use serde_json::json;

/// A schema of this member, as published.
pub struct PublishedSchema {
    /// The schema.
    pub schema: Schema,
    /// What others should find in it, and do not.
    pub advice: Vec<Advice>,
    /// Whether it was not published before.
    pub new: bool,
}

impl Schemas {
    /// Publishes a schema in this member's namespace. If it may refuse records that its predecessor accepts, its major
    /// version must be larger, and `breaking` must be given.
    pub async fn publish(&self, user: &User, text: String, breaking: bool) -> Result<PublishedSchema, Error> {
        match self.try_publish(user, text, breaking).await {
            Err(error) => {
                let facts = Facts { enterprise: user.enterprise.clone(), ..Facts::default() };
                Err(self.node.refuse_user(Kind::SchemaRefused, facts, error).await)
            }
            published => published,
        }
    }

    async fn try_publish(&self, user: &User, text: String, breaking: bool) -> Result<PublishedSchema, Error> {
        let refuse = |reason: String| Error::invalid("schema", reason);
        let (text, schema) = parse(text).await?;
        let me = self.node.me();
        if namespace(schema.id()).as_ref() != Some(me) {
            let name = schema.id().rsplit([':', '/']).next().unwrap_or_default();
            return Err(refuse(format!("/$id: a schema of this park begins with {me}/, as in {me}/{name}")));
        }
        let advice = schema::advice(&schema);
        let _alone = self.publishing.lock().await;
        let kept = self.node.store().schemas(limits::SCHEMAS_KEPT_MAX).await?;
        let own: Vec<&SchemaRow> = kept.iter().filter(|row| namespace(&row.id).as_ref() == Some(me)).collect();
        if own.iter().any(|row| row.digest == schema.digest() && row.statement.is_some()) {
            return Ok(PublishedSchema { schema, advice, new: false });
        }
        if own.len() >= limits::SCHEMAS_OWN_MAX {
            return Err(refuse(format!("this park has published {} schemas, and no more are kept", own.len())));
        }
        self.check_alone(&schema).await?;
        self.check_succession(&schema, &own, breaking).await?;
        let statement = SchemaStatement {
            publisher: me.clone(),
            id: schema.id().to_owned(),
            version: schema.version().to_owned(),
            digest: schema.digest(),
            issued: self.node.now(),
        };
        let signed = document::sign(statement, &self.node.document_key());
        let facts = Facts {
            enterprise: user.enterprise.clone(),
            detail: details(json!({
                "schema": schema.digest(), "id": schema.id(), "version": schema.version(), "statement": signed.jws(),
                "breaking": breaking, "token": user.token,
            })),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let change = Change::new(self.node.draft(Kind::SchemaPublished, facts).with_field(person));
        self.keep(change, &schema, text, Some(signed.jws().to_owned())).await?;
        Ok(PublishedSchema { schema, advice, new: true })
    }

    /// Compares the schema with the newest version of the same `$id`.
    async fn check_succession(&self, schema: &Schema, own: &[&SchemaRow], breaking: bool) -> Result<(), Error> {
        let same = own.iter().filter(|row| row.id == schema.id());
        let Some(newest) = same.max_by_key(|row| schema::version_order(&row.version)) else { return Ok(()) };
        let Some(old) = self.get(&newest.digest).await? else { return Ok(()) };
        schema::may_follow(schema, &old.schema, breaking).map_err(|reason| Error::invalid("schema", reason))
    }
}
