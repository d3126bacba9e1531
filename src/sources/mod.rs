//! The sources of this node: defined by its publishers, and carried out when they are due. A run publishes what its input
//! has; nothing is published unless all of it has arrived. The end of every run is a log entry.

mod database;
mod folder;
mod http;
mod input;
mod mysql;
mod pages;
mod pipe;
mod postgres;
mod probe;
mod report;
mod run;
mod schedule;
mod secrets;
mod server;

pub use probe::probe;
pub use report::{ConnectionReport, Ran, SourceReport};

use crate::audit::entry::{Draft, Facts, FieldOpening, Kind};
use crate::config::Connection;
use crate::core::digest::Digest;
use crate::core::id::{ConnectionName, DatasetId, SourceName};
use crate::core::time::Timestamp;
use crate::core::{json, limits};
use crate::node::{Error, Node, Places, User, details};
use crate::publishing::Publishing;
use crate::source::{Definition, Input, Owner, Source};
use crate::storage::{Change, Conflict, StoreError, Write};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections by name.
pub type Connections = BTreeMap<ConnectionName, Connection>;

/// Defines sources, and carries them out.
pub struct Sources {
    node: Arc<Node>,
    publishing: Arc<Publishing>,
    connections: RwLock<Arc<Connections>>,
    /// Names of those that run now.
    running: Mutex<HashSet<SourceName>>,
    /// What the watched folders had when they were last looked at, and when that was.
    looked: Mutex<HashMap<SourceName, (Instant, folder::Listing)>>,
    looks: folder::Looks,
    /// Next runs that were planned again, by the revision of the source.
    replanned: Mutex<HashMap<SourceName, (u64, Timestamp)>>,
    /// A connection that hangs keeps the sources of others not waiting.
    turns: Places<ConnectionName>,
    /// Wakes the loop when a source has changed.
    wake: Notify,
}

fn missing(name: &SourceName) -> Error {
    Error::not_found(format!("there is no source {name}"))
}

fn owner(user: &User) -> Owner {
    Owner { token: user.token.clone(), person: user.person.clone(), enterprise: user.enterprise.clone() }
}

impl Sources {
    /// Sources that read from `connections`.
    pub fn new(node: Arc<Node>, publishing: Arc<Publishing>, connections: Connections) -> Arc<Self> {
        Arc::new(Self {
            node,
            publishing,
            connections: RwLock::new(Arc::new(connections)),
            running: Mutex::default(),
            looked: Mutex::default(),
            looks: folder::looks(),
            replanned: Mutex::default(),
            turns: Places::new(
                limits::SOURCE_RUNS_MAX,
                limits::SOURCE_RUNS_PER_CONNECTION_MAX,
                limits::SOURCE_TURN_TIME_MAX,
                "runs of sources",
            ),
            wake: Notify::new(),
        })
    }

    fn connections(&self) -> Arc<Connections> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads from these connections from now on.
    pub fn use_connections(&self, connections: Connections) {
        *self.connections.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(connections);
        self.wake.notify_one();
    }

    /// The connections that sources may use.
    pub fn list_connections(&self) -> Vec<ConnectionReport> {
        self.connections().iter().map(|(name, connection)| ConnectionReport::new(name, connection)).collect()
    }

    /// All sources, by name.
    pub async fn list(&self) -> Result<Vec<SourceReport>, Error> {
        let now = self.node.now();
        let sources = self.node.store().sources().await?;
        Ok(sources.into_iter().map(|source| SourceReport::new(source, now)).collect())
    }

    /// A source.
    pub async fn report(&self, name: &SourceName) -> Result<SourceReport, Error> {
        Ok(SourceReport::new(self.source(name).await?, self.node.now()))
    }

    async fn source(&self, name: &SourceName) -> Result<Source, Error> {
        self.node.store().source(name).await?.ok_or_else(|| missing(name))
    }

    /// Defines a source; one that exists is defined again only if `replace` says so, and keeps its dataset.
    pub async fn define(
        &self,
        user: &User,
        name: SourceName,
        definition: Definition,
        replace: bool,
    ) -> Result<SourceReport, Error> {
        let detail = details(json!({"source": name, "token": user.token}));
        match self.try_define(user, name, definition, replace).await {
            Err(error) => {
                let facts = Facts { enterprise: user.enterprise.clone(), detail, ..Facts::default() };
                // Like that of a publication: the reason may quote its samples, and is not logged.
                Err(self.node.refuse_user(Kind::PublicationRefused, facts, error).await)
            }
            defined => defined,
        }
    }

    async fn try_define(
        &self,
        user: &User,
        name: SourceName,
        definition: Definition,
        replace: bool,
    ) -> Result<SourceReport, Error> {
        let known = self.node.store().source(&name).await?;
        self.check(&definition, known.as_ref()).await?;
        let (now, random) = (self.node.now(), self.node.random());
        let owner = owner(user);
        let source = match known {
            Some(_) if !replace => {
                let reason = format!("there is a source {name}; state `replace` (--replace) to define it again");
                return Err(Error::invalid("conflict", reason));
            }
            Some(known) => {
                let given = definition.publication.dataset.clone();
                let withdrawn = known.has_begun() && self.node.store().dataset(&known.dataset).await?.is_none();
                if !withdrawn && given.as_ref().is_some_and(|dataset| *dataset != known.dataset) {
                    let reason =
                        format!("{name} publishes {}; give another dataset a source of its own", known.dataset);
                    return Err(Error::invalid("dataset", reason));
                }
                let other = known.definition.input != definition.input;
                let mut source = known.redefined(definition, owner, now);
                if withdrawn {
                    source.dataset = given.unwrap_or_else(|| DatasetId::generate(random));
                    source.progress.changed = None;
                }
                if other {
                    source.progress.seen.files.extend(self.passed_over(&source.definition.input).await?);
                }
                source
            }
            None => {
                if self.node.store().sources().await?.len() >= limits::SOURCES_MAX {
                    return Err(Error::invalid(
                        "sources",
                        format!("a node has at most {} sources", limits::SOURCES_MAX),
                    ));
                }
                let dataset = definition.publication.dataset.clone();
                let dataset = dataset.unwrap_or_else(|| DatasetId::generate(random));
                let mut source = Source::new(name, definition, dataset, owner, now);
                source.progress.seen.files = self.passed_over(&source.definition.input).await?;
                source
            }
        };
        let entry = self.draft(Kind::SourceDefined, &source, user);
        let change = Change::new(entry).write(Write::PutSource(Box::new(source.clone())));
        self.commit(change, &source.name).await?;
        Ok(SourceReport::new(source, now))
    }

    /// Fails unless the definition can be carried out, as far as that is known without reading.
    async fn check(&self, definition: &Definition, known: Option<&Source>) -> Result<(), Error> {
        definition.check().map_err(|reason| Error::invalid("source", reason))?;
        let connection = definition.input.connection().map(|name| self.connection(name)).transpose()?;
        match (&definition.input, connection.as_ref()) {
            (Input::Folder { .. }, Some(Connection::Folder(_)))
            | (Input::Query { .. }, Some(Connection::Postgres(_) | Connection::Mysql(_)))
            | (Input::Pushed {}, _) => {}
            (Input::Http { path, .. }, Some(Connection::Http(server))) => {
                server::url_of(server, path)?;
            }
            (input, Some(connection)) => {
                let reason = format!("a source of kind {} cannot use a {} connection", input.kind(), connection.kind());
                return Err(Error::invalid("connection", reason));
            }
            (_, None) => return Err(Error::invalid("connection", "the source names no connection")),
        }
        let mut publication = definition.publication.clone();
        if let Some(known) = known.filter(|_| publication.dataset.is_none())
            && self.node.store().dataset(&known.dataset).await?.is_some()
        {
            publication.dataset = Some(known.dataset.clone());
        }
        self.publishing.check(&publication, matches!(definition.input, Input::Pushed {})).await
    }

    fn connection(&self, name: &ConnectionName) -> Result<Connection, Error> {
        let connections = self.connections();
        connections.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = connections.keys().map(ConnectionName::as_str).collect();
            let known =
                if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
            let reason = format!("the node's configuration has no connection {name}: {known}");
            Error::invalid("connection", reason)
        })
    }

    /// Of the files that a folder has already, all but the newest are not published.
    async fn passed_over(&self, input: &Input) -> Result<BTreeSet<String>, Error> {
        let Input::Folder { connection, files } = input else { return Ok(Default::default()) };
        let Connection::Folder(folder) = self.connection(connection)? else { return Ok(Default::default()) };
        Ok(folder::list_apart(&self.looks, &folder, files).await?.all_but_newest())
    }

    /// Removes a source. Its dataset stays as it is.
    pub async fn remove(&self, user: &User, name: &SourceName) -> Result<(), Error> {
        let source = self.source(name).await?;
        let entry = self.draft(Kind::SourceRemoved, &source, user);
        self.commit(Change::new(entry).write(Write::RemoveSource(name.clone())), name).await
    }

    /// Pauses a source. A run that is under way goes on.
    pub async fn pause(&self, user: &User, name: &SourceName) -> Result<SourceReport, Error> {
        let source = self.source(name).await?;
        if source.progress.paused {
            return Ok(SourceReport::new(source, self.node.now()));
        }
        self.put(user, name, source.paused(), Kind::SourcePaused).await
    }

    /// Resumes a source. It runs on behalf of the user from now on.
    pub async fn resume(&self, user: &User, name: &SourceName) -> Result<SourceReport, Error> {
        let (source, owner) = (self.source(name).await?, owner(user));
        if !source.progress.paused && source.owner == owner {
            return Ok(SourceReport::new(source, self.node.now()));
        }
        self.put(user, name, source.resumed(owner, self.node.now()), Kind::SourceResumed).await
    }

    async fn put(&self, user: &User, name: &SourceName, source: Source, kind: Kind) -> Result<SourceReport, Error> {
        let change = Change::new(self.draft(kind, &source, user)).write(Write::PutSource(Box::new(source.clone())));
        self.commit(change, name).await?;
        Ok(SourceReport::new(source, self.node.now()))
    }

    async fn commit(&self, change: Change, name: &SourceName) -> Result<(), Error> {
        match self.node.store().commit(change).await {
            Ok(_) => {
                self.wake.notify_one();
                Ok(())
            }
            Err(StoreError::Conflict(Conflict::Source)) => {
                Err(Error::invalid("conflict", format!("{name} was changed in the meantime; try again")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The entry of a person's change. It has a digest of the definition, which may name what only the park should know.
    fn draft(&self, kind: Kind, source: &Source, user: &User) -> Draft {
        let definition = Digest::of(&json::to_canonical(&source.definition));
        let facts = Facts {
            dataset: Some(source.dataset.clone()),
            enterprise: user.enterprise.clone(),
            detail: details(json!({
                "source": source.name, "input": source.definition.input.kind(),
                "connection": source.definition.input.connection(), "definition": definition, "token": user.token,
            })),
            ..Facts::default()
        };
        self.node.draft(kind, facts).with_field(FieldOpening::new("person", user.person.clone(), self.node.random()))
    }
}
