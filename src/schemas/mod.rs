//! The schemas that this node may use: those that the register lists, its own, and those of the peers whose data it
//! receives. They are fetched by digest, checked and kept, without a restart.

mod fetch;
mod publish;

pub use fetch::Missing;
pub use publish::PublishedSchema;

use crate::core::digest::Digest;
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document;
use crate::identity::schemas::{SchemaStatement, namespace};
use crate::membership::Membership;
use crate::node::{Error, Node, Peer};
use crate::schema::{CompiledSchema, Schema, SchemaRegistry, built_in_text, version_order};
use crate::storage::{SchemaRow, StoreError};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// The schemas of this node.
pub struct Schemas {
    node: Arc<Node>,
    membership: Arc<Membership>,
    peer: Arc<dyn Peer>,
    built_in: SchemaRegistry,
    /// Others that were used lately.
    compiled: Mutex<HashMap<Digest, Arc<CompiledSchema>>>,
    /// Those that a peer served wrongly, so that each is logged once.
    refused: Mutex<BTreeSet<(ParticipantId, Digest)>>,
    /// One publication at a time: each is compared with those before.
    publishing: tokio::sync::Mutex<()>,
}

/// Who vouches for a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The alliance, in its register.
    Shared {
        /// The member that maintains it.
        owner: Option<ParticipantId>,
        /// Time from which no more data is published under it.
        deprecated: Option<Timestamp>,
    },
    /// The member in whose namespace it is.
    Member(ParticipantId),
}

/// A schema that somebody vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// `$id`
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// Digest of its canonical form.
    pub digest: Digest,
    /// Title, if this node has the schema.
    pub title: Option<String>,
    /// Who vouches for it.
    pub scope: Scope,
}

impl Vouched {
    /// Time from which no more data is published under it.
    pub fn deprecated(&self) -> Option<Timestamp> {
        match self.scope {
            Scope::Shared { deprecated, .. } => deprecated,
            Scope::Member(_) => None,
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.deprecated().is_some_and(|end| end <= now)
    }
}

impl Schemas {
    /// `built_in` are the schemas that need not be fetched.
    pub fn new(node: Arc<Node>, membership: Arc<Membership>, peer: Arc<dyn Peer>, built_in: SchemaRegistry) -> Self {
        let (compiled, refused, publishing) = Default::default();
        Self { node, membership, peer, built_in, compiled, refused, publishing }
    }

    /// The schemas that the register or a member vouches for, by `$id`, the newest version of each first.
    pub async fn all(&self) -> Result<Vec<Vouched>, StoreError> {
        let kept = self.node.store().schemas(limits::SCHEMAS_KEPT_MAX).await?;
        let built_in = self.built_in.all().map(|schema| (schema.digest(), schema.title()));
        let titles: BTreeMap<Digest, String> =
            built_in.chain(kept.iter().map(|row| (row.digest, row.title.clone()))).collect();
        let trust = self.node.trust();
        let listed = &trust.register.body().schemas;
        let mut found: Vec<Vouched> = listed
            .iter()
            .map(|entry| Vouched {
                id: entry.id.clone(),
                version: entry.version.clone(),
                digest: entry.digest,
                title: titles.get(&entry.digest).cloned(),
                scope: Scope::Shared { owner: entry.owner.clone(), deprecated: entry.deprecated },
            })
            .collect();
        for row in kept.into_iter().filter(|row| listed.iter().all(|entry| entry.digest != row.digest)) {
            let Some(member) = vouching_member(&row) else { continue };
            let SchemaRow { id, version, digest, title, .. } = row;
            found.push(Vouched { id, version, digest, title: Some(title), scope: Scope::Member(member) });
        }
        found.sort_by_cached_key(|known| (known.id.clone(), Reverse(version_order(&known.version))));
        Ok(found)
    }

    /// A schema that this node has. Whether anybody vouches for it is not checked.
    pub async fn get(&self, digest: &Digest) -> Result<Option<Arc<CompiledSchema>>, Error> {
        if let Some(found) = self.built_in.get(digest).cloned().or_else(|| self.recent(digest)) {
            return Ok(Some(found));
        }
        let Some((_, text)) = self.node.store().schema(digest).await? else { return Ok(None) };
        let schema = Schema::checked_before(text.as_bytes()).ok().filter(|schema| schema.digest() == *digest);
        let schema = schema.ok_or_else(|| Error::Internal(format!("the kept schema {digest} was altered")))?;
        let found = Arc::new(CompiledSchema::new(schema));
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= limits::SCHEMAS_COMPILED_MAX {
            compiled.clear();
        }
        Ok(Some(compiled.entry(*digest).or_insert(found).clone()))
    }

    fn recent(&self, digest: &Digest) -> Option<Arc<CompiledSchema>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// The text of a schema that this node has, and the statement of the member in whose namespace it is.
    pub async fn text(&self, digest: &Digest) -> Result<Option<(String, Option<String>)>, Error> {
        if let Some((row, text)) = self.node.store().schema(digest).await? {
            return Ok(Some((text, row.statement.map(|jws| self.still_valid(jws)))));
        }
        Ok(built_in_text(digest).map(|text| (text.to_owned(), None)))
    }

    /// The statement, signed again if it is this member's and its key is no longer valid.
    fn still_valid(&self, jws: String) -> String {
        let signer = document::claimed_signer(&jws).filter(|kid| kid.participant() == *self.node.me());
        let is_over = signer.is_some_and(|kid| self.node.own_key(&kid).is_none());
        match document::claimed::<SchemaStatement>(&jws) {
            Ok(statement) if is_over => document::sign(statement, &self.node.document_key()).jws().to_owned(),
            _ => jws,
        }
    }

    /// The schema for the data of `publisher`: the register lists it, or it is in the publisher's own namespace.
    pub async fn of_data(
        &self,
        digest: &Digest,
        publisher: &ParticipantId,
    ) -> Result<Option<Arc<CompiledSchema>>, Error> {
        let is_own = match self.node.store().schema(digest).await? {
            Some((row, _)) => vouching_member(&row).as_ref() == Some(publisher),
            None => false,
        };
        if is_own || self.is_listed(digest) { self.get(digest).await } else { Ok(None) }
    }

    fn is_listed(&self, digest: &Digest) -> bool {
        self.node.trust().register.body().schemas.iter().any(|entry| entry.digest == *digest)
    }

    /// One of the shared schemas or of this member's: by digest, by `$id` or its last part (the newest version in use), or
    /// by either with `@VERSION`.
    pub async fn named(&self, name: &str) -> Result<Vouched, Error> {
        let (id, version) = name.rsplit_once('@').map_or((name, None), |(id, version)| (id, Some(version)));
        let all = self.all().await?;
        let (ours, others): (Vec<&Vouched>, Vec<&Vouched>) = all.iter().partition(|known| self.is_ours(known));
        let last = |known: &Vouched| known.id.rsplit([':', '/']).next() == Some(id);
        let exact = |known: &&&Vouched| known.id == id || known.digest.to_string() == name;
        let mut of_id: Vec<&Vouched> = ours.iter().filter(exact).copied().collect();
        if of_id.is_empty() {
            of_id = ours.iter().filter(|known| last(known)).copied().collect();
        }
        if let Some(other) = of_id.iter().find(|known| known.id != of_id[0].id) {
            let reason = format!("`{name}` is {} or {}: give the whole $id", of_id[0].id, other.id);
            return Err(Error::invalid("schema", reason));
        }
        let now = self.node.now();
        let mut named = of_id.iter().filter(|known| version.is_none_or(|version| known.version == version));
        let first = named.clone().next();
        if let Some(found) = named.find(|known| !known.is_over(now)).or(first) {
            return Ok(Vouched::clone(found));
        }
        let reason = match (of_id.first(), others.iter().find(|known| known.id == id)) {
            (Some(known), _) => {
                let versions: Vec<&str> = of_id.iter().map(|known| known.version.as_str()).collect();
                format!("{} has no version {}; it has {}", known.id, version.unwrap_or_default(), versions.join(", "))
            }
            (None, Some(other)) => {
                format!("the schema {} is another park's and not shared: only that park publishes under it", other.id)
            }
            (None, None) => {
                let ids: BTreeSet<&str> = ours.iter().map(|known| known.id.as_str()).collect();
                let ids: Vec<&str> = ids.into_iter().take(limits::NAMES_IN_ERRORS_MAX).collect();
                format!("there is no schema `{name}` for this node; it knows {}", ids.join(", "))
            }
        };
        Err(Error::invalid("schema", reason))
    }

    fn is_ours(&self, known: &Vouched) -> bool {
        match &known.scope {
            Scope::Shared { .. } => true,
            Scope::Member(member) => member == self.node.me(),
        }
    }

    /// The schema under which data is published, and what the publisher should know about it.
    pub async fn for_publication(&self, name: &str) -> Result<(Arc<CompiledSchema>, Option<String>), Error> {
        let known = self.named(name).await?;
        let (title, now) = (format!("the schema {} {}", known.id, known.version), self.node.now());
        if known.is_over(now) {
            let reason =
                format!("{title} is deprecated: its datasets stay readable, but no more are published under it");
            return Err(Error::invalid("schema", format!("{reason}; `crosspark schema list` shows the others")));
        }
        let found = self.get(&known.digest).await?.ok_or_else(|| {
            Error::Unavailable(format!(
                "{title} was not fetched yet from the alliance or a peer; try again in a minute"
            ))
        })?;
        let remark =
            known.deprecated().map(|end| format!("{title} is deprecated: no data is published under it from {end} on"));
        Ok((found, remark))
    }
}

/// Parses a schema; a large one takes a while.
async fn parse(text: String) -> Result<(String, Schema), Error> {
    let parsing = tokio::task::spawn_blocking(move || Schema::parse(text.as_bytes()).map(|schema| (text, schema)));
    let parsed = parsing.await.map_err(|error| Error::Internal(error.to_string()))?;
    // The error quotes the schema, in which a name may be long.
    let reason = |text: String| text.chars().take(limits::TEXT_CHARS_MAX * 2).collect::<String>();
    parsed.map_err(|error| Error::invalid("schema", reason(error.to_string())))
}

/// The member whose statement is kept with a schema. It was verified then, and is of the schema's namespace.
fn vouching_member(row: &SchemaRow) -> Option<ParticipantId> {
    row.statement.as_ref().and_then(|_| namespace(&row.id))
}
