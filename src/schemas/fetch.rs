//! Schemas of the register and of peers: fetched by digest, checked, kept.

use super::{Schemas, parse};
use crate::audit::entry::{Decision, Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::random;
use crate::dataset::manifest::SchemaRef;
use crate::identity::document;
use crate::identity::register::Member;
use crate::identity::schemas::{SchemaStatement, namespace};
use crate::node::{Error, PeerError, PeerSchema, details};
use crate::schema::{CompiledSchema, Schema};
use crate::storage::{Change, Conflict, SchemaRow, StoreError, Write};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// Why a schema cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// It may be had later.
    #[error("{0}")]
    Yet(String),
    /// Nobody vouches for it, or what was served is not it.
    #[error("{0}")]
    Forever(String),
}

/// Why a schema was not fetched from a peer.
enum Failed {
    /// The peer does not serve it.
    Peer(PeerError),
    /// What it serves is refused.
    Refused(String),
    /// This node cannot keep it.
    Here(Error),
}

impl From<Error> for Missing {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { .. } => Self::Forever(error.to_string()),
            error => Self::Yet(error.to_string()),
        }
    }
}

impl Schemas {
    /// The schema of a publisher's data, fetched from the publisher if this node lacks it.
    pub async fn obtain(&self, wanted: &SchemaRef, publisher: &Member) -> Result<Arc<CompiledSchema>, Missing> {
        let SchemaRef { id, version, digest } = wanted;
        // The manifest names it in three ways, which must be the same.
        let fits = |found: Arc<CompiledSchema>| match (found.schema.id(), found.schema.version()) == (id, version) {
            true => Ok(found),
            false => {
                Err(Missing::Forever(format!("the manifest names {id} {version}, but its digest is another schema's")))
            }
        };
        if let Some(found) = self.of_data(digest, &publisher.id).await? {
            return fits(found);
        }
        let may_be_had = || self.is_listed(digest) || namespace(id).as_ref() == Some(&publisher.id);
        if !may_be_had() {
            // The provider may have a newer register.
            self.membership.refresh_from_peers().await;
        }
        if !may_be_had() {
            let reason = format!("the schema {id} {version} is neither in the register nor one of {}", publisher.id);
            return Err(Missing::Forever(reason));
        }
        let of_peer = |error: &PeerError| format!("the schema {id} {version}: the provider {error}");
        match self.fetch(digest, publisher).await {
            Ok(()) => {}
            Err(Failed::Refused(reason)) => {
                return Err(Missing::Forever(format!("the schema {id} {version} that the provider serves: {reason}")));
            }
            Err(Failed::Here(error)) => return Err(Missing::Yet(error.to_string())),
            Err(Failed::Peer(error)) if error.is_transient() => return Err(Missing::Yet(of_peer(&error))),
            Err(Failed::Peer(error)) => return Err(Missing::Forever(of_peer(&error))),
        }
        let found = self.of_data(digest, &publisher.id).await?;
        fits(found.ok_or_else(|| Missing::Forever(format!("nobody vouches for the schema {id} {version}")))?)
    }

    /// Fetches the schemas that the register lists and this node lacks: from the member that maintains them, or others.
    pub async fn fetch_missing(&self) -> Result<(), Error> {
        let trust = self.node.trust();
        let register = trust.register.body();
        let mut peers: Vec<&Member> = register.peers(self.node.me()).collect();
        // Each time others are asked first.
        let first = u64::from_le_bytes(random::bytes::<8>(self.node.random())) as usize;
        let middle = first.checked_rem(peers.len()).unwrap_or(0);
        peers.rotate_left(middle);
        let mut silent: BTreeSet<&ParticipantId> = BTreeSet::new();
        for digest in self.missing().await? {
            let owner = register.schemas.iter().find(|entry| entry.digest == digest).and_then(|e| e.owner.as_ref());
            let first = peers.iter().filter(|peer| Some(&peer.id) == owner);
            let others = peers.iter().filter(|peer| Some(&peer.id) != owner);
            let answering = first.chain(others).filter(|peer| !silent.contains(&peer.id));
            for peer in answering.take(limits::SCHEMA_SOURCES_MAX).copied().collect::<Vec<_>>() {
                let error = match self.fetch(&digest, peer).await {
                    Ok(()) => break,
                    Err(Failed::Here(error)) => return Err(error),
                    Err(Failed::Refused(reason)) => reason,
                    Err(Failed::Peer(error)) => {
                        if matches!(error, PeerError::Unreachable(_)) {
                            silent.insert(&peer.id);
                        }
                        error.to_string()
                    }
                };
                tracing::info!(schema = %digest, peer = %peer.id, error, "a shared schema was not fetched from this peer");
            }
        }
        Ok(())
    }

    /// The digests of the register's schemas that this node lacks.
    pub async fn missing(&self) -> Result<Vec<Digest>, Error> {
        let kept = self.node.store().schemas(limits::SCHEMAS_KEPT_MAX).await?;
        let kept: BTreeSet<Digest> = kept.into_iter().map(|row| row.digest).collect();
        let trust = self.node.trust();
        let listed = trust.register.body().schemas.iter().map(|entry| entry.digest);
        Ok(listed.filter(|digest| !kept.contains(digest) && self.built_in.get(digest).is_none()).collect())
    }

    /// Fetches a schema from a peer. A schema that is not the one with this digest is refused and logged.
    async fn fetch(&self, digest: &Digest, from: &Member) -> Result<(), Failed> {
        let answer = self.peer.schema(from, digest).await.map_err(Failed::Peer)?;
        match self.accept(digest, answer, from.id.as_str()).await {
            Ok(()) => Ok(()),
            Err(error @ Error::Invalid { .. }) => {
                self.log_refusal(digest, &from.id, &error).await;
                Err(Failed::Refused(error.to_string()))
            }
            Err(error) => Err(Failed::Here(error)),
        }
    }

    /// Checks and keeps the schema with this digest, from `source`.
    pub async fn accept(&self, digest: &Digest, answer: PeerSchema, source: &str) -> Result<(), Error> {
        let refuse = |reason: String| Error::invalid("schema", reason);
        let PeerSchema { text, statement } = answer;
        let (text, schema) = parse(text).await?;
        if schema.digest() != *digest {
            return Err(refuse(format!("its digest is {}, not {digest}", schema.digest())));
        }
        let trust = self.node.trust();
        let listed = trust.register.body().schemas.iter().find(|entry| entry.digest == *digest);
        if let Some(entry) =
            listed.filter(|entry| (entry.id.as_str(), entry.version.as_str()) != (schema.id(), schema.version()))
        {
            let (id, version) = (schema.id(), schema.version());
            let reason = format!("the register lists it as {} {}, but it is {id} {version}", entry.id, entry.version);
            return Err(refuse(reason));
        }
        self.check_alone(&schema).await?;
        // What the register lists needs no other voucher.
        let statement = statement.filter(|_| listed.is_none() && namespace(schema.id()).is_some());
        match &statement {
            Some(jws) => self.check_statement(jws, &schema).map_err(refuse)?,
            None if listed.is_none() => return Err(refuse("nobody vouches for it: it has no statement".into())),
            None => {}
        }
        let facts = Facts {
            detail: details(json!({
                "schema": digest, "id": schema.id(), "version": schema.version(), "source": source,
                "statement": statement,
            })),
            ..Facts::default()
        };
        let change = Change::new(self.node.draft(Kind::SchemaKept, facts));
        self.keep(change, &schema, text, statement).await
    }

    /// Keeps a schema that the register lists, from `source`; false if it is kept already.
    pub async fn accept_listed(&self, text: String, source: &str) -> Result<bool, Error> {
        let read = Schema::checked_before(text.as_bytes());
        let digest = read.map_err(|error| Error::invalid("schema", error.to_string()))?.digest();
        if !self.is_listed(&digest) {
            let sequence = self.node.trust().register.body().sequence;
            let reason =
                format!("register {sequence} does not list the schema {digest}; install a newer register first");
            return Err(Error::invalid("schema", reason));
        }
        if !self.missing().await?.contains(&digest) {
            return Ok(false);
        }
        let kept = self.accept(&digest, PeerSchema { text, statement: None }, source).await;
        if let Err(error @ Error::Invalid { .. }) = &kept {
            let alliance = self.node.trust().register.body().alliance.clone();
            self.log_refusal(&digest, &alliance, error).await;
        }
        kept.map(|()| true)
    }

    /// Fails if another schema has its `$id` and version, in the register or among those that are kept.
    pub(super) async fn check_alone(&self, schema: &Schema) -> Result<(), Error> {
        // What the register lists counts.
        if self.is_listed(&schema.digest()) {
            return Ok(());
        }
        let kept = self.node.store().schemas(limits::SCHEMAS_KEPT_MAX).await?;
        let trust = self.node.trust();
        let listed = trust.register.body().schemas.iter().map(|entry| (&entry.id, &entry.version, entry.digest));
        let mut known = kept.iter().map(|row| (&row.id, &row.version, row.digest)).chain(listed);
        let is_other = |(id, version, digest): &(&String, &String, Digest)| {
            (id.as_str(), version.as_str()) == (schema.id(), schema.version()) && *digest != schema.digest()
        };
        match known.find(is_other) {
            Some(_) => {
                let reason = format!("{} {} exists with other content", schema.id(), schema.version());
                Err(Error::invalid("schema", reason))
            }
            None => Ok(()),
        }
    }

    fn check_statement(&self, jws: &str, schema: &Schema) -> Result<(), String> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let stated = document::verify::<SchemaStatement>(jws, |kid| trust.register.document_key(kid, now));
        let stated = stated.map_err(|error| error.to_string())?.into_body();
        let fits = stated.digest == schema.digest()
            && stated.id == schema.id()
            && stated.version == schema.version()
            && namespace(schema.id()).as_ref() == Some(&stated.publisher);
        if fits { Ok(()) } else { Err("its statement is about another schema".into()) }
    }

    /// Commits a schema, unless it is kept already.
    pub(super) async fn keep(
        &self,
        change: Change,
        schema: &Schema,
        text: String,
        statement: Option<String>,
    ) -> Result<(), Error> {
        let kept = self.node.store().schemas(limits::SCHEMAS_KEPT_MAX).await?.len();
        if kept >= limits::SCHEMAS_KEPT_MAX && !self.is_listed(&schema.digest()) {
            return Err(Error::Unavailable(format!("this node keeps {kept} schemas already")));
        }
        let row = SchemaRow {
            digest: schema.digest(),
            id: schema.id().to_owned(),
            version: schema.version().to_owned(),
            title: schema.title(),
            statement,
        };
        match self.node.store().commit(change.write(Write::PutSchema(Box::new(row), text))).await {
            Ok(_) | Err(StoreError::Conflict(Conflict::Schema)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn log_refusal(&self, digest: &Digest, from: &ParticipantId, error: &Error) {
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.len() >= limits::REFUSED_REGISTERS_MAX {
                refused.clear();
            }
            if !refused.insert((from.clone(), *digest)) {
                return;
            }
        }
        tracing::warn!(%error, peer = %from, schema = %digest, "a schema is refused");
        let facts = Facts {
            parties: vec![from.clone()],
            decision: Some(Decision::Refused),
            rule: Some("schema-check".into()),
            detail: details(json!({"schema": digest, "reason": error.to_string()})),
            ..Facts::default()
        };
        let change = Change::new(self.node.draft(Kind::SchemaRefused, facts));
        if let Err(error) = self.node.store().commit(change).await {
            tracing::warn!(%error, "the refusal could not be logged");
        }
    }
}
