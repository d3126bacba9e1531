//! Subscriptions: each new version of a peer's dataset is requested for the same purpose, one release each, as long as the
//! token with which the person subscribed is valid. The peers' catalogs, which the node reads anyway, tell of versions.

use crate::audit::entry::{Draft, Facts, FieldOpening, Kind};
use crate::contracts::{RequestStage, RequestView, Requests};
use crate::core::id::{DatasetId, ParticipantId, ProcessId, SubscriptionId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::discovery::Discovery;
use crate::idempotency::IdempotencyKey;
use crate::node::{Error, Node, User, UserRole, details};
use crate::storage::{Change, Conflict, StoreError, SubscriptionRow, TokenRow, Write};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;

/// What is subscribed to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSubscription {
    /// Provider.
    pub provider: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Purpose of the requests.
    pub purpose: Text,
}

/// A subscription as shown to its user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SubscriptionView {
    /// Id of the subscription.
    pub id: SubscriptionId,
    /// Provider.
    pub provider: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Purpose of the requests.
    pub purpose: Text,
    /// Person who subscribed.
    pub person: Text,
    /// Time of the subscription.
    pub since: Timestamp,
    /// Newest version that was requested.
    pub version: u64,
    /// The request for it.
    pub request: Option<ProcessId>,
    /// Progress of that request.
    pub stage: Option<RequestStage>,
    /// Why no more versions come, or this one did not.
    pub problem: Option<String>,
}

/// The subscriptions of this park's enterprises.
pub struct Subscriptions {
    node: Arc<Node>,
    discovery: Arc<Discovery>,
    requests: Arc<Requests>,
}

impl Subscriptions {
    /// Versions are found by `discovery`, and requested by `requests`.
    pub fn new(node: Arc<Node>, discovery: Arc<Discovery>, requests: Arc<Requests>) -> Arc<Self> {
        Arc::new(Self { node, discovery, requests })
    }

    /// Subscribes on behalf of the user's enterprise, and requests the newest version. The same subscription is made once.
    pub async fn subscribe(&self, user: &User, new: NewSubscription) -> Result<SubscriptionView, Error> {
        let facts = Facts {
            dataset: Some(new.dataset.clone()),
            enterprise: user.enterprise.clone(),
            purpose: Some(new.purpose.clone()),
            detail: details(json!({"provider": new.provider, "token": user.token})),
            ..Facts::default()
        };
        match self.try_subscribe(user, new).await {
            Err(error) => Err(self.node.refuse_user(Kind::ManagementRefused, facts, error).await),
            subscribed => subscribed,
        }
    }

    async fn try_subscribe(&self, user: &User, new: NewSubscription) -> Result<SubscriptionView, Error> {
        let missing = || Error::invalid("enterprise", "the token names no enterprise");
        let enterprise = user.enterprise.clone().ok_or_else(missing)?;
        if new.provider == *self.node.me() {
            return Err(Error::invalid("provider", "this is your own park; subscribe to datasets of other parks"));
        }
        let all = self.node.store().subscriptions().await?;
        let same = |row: &&SubscriptionRow| {
            (&row.provider, &row.dataset, &row.purpose) == (&new.provider, &new.dataset, &new.purpose)
                && row.enterprise == enterprise
        };
        let known = all.iter().find(same);
        if known.is_none() && all.len() >= limits::SUBSCRIPTIONS_MAX {
            let reason = format!("a node has at most {} subscriptions", limits::SUBSCRIPTIONS_MAX);
            return Err(Error::invalid("subscriptions", reason));
        }
        let offered = self.discovery.peer_dataset(&new.provider, &new.dataset).await?;
        let unversioned =
            || Error::invalid("dataset", format!("{} has no versions that could be followed", new.dataset));
        let version = offered.version.ok_or_else(unversioned)?;
        let fresh = SubscriptionRow {
            id: SubscriptionId::generate(self.node.random()),
            revision: 0,
            provider: new.provider,
            dataset: new.dataset,
            purpose: new.purpose,
            enterprise,
            person: user.person.clone(),
            token: user.token.clone(),
            since: self.node.now(),
            version: 0,
            request: None,
        };
        // It goes on with the token that is used now.
        let known = known.map(|known| SubscriptionRow {
            token: user.token.clone(),
            person: user.person.clone(),
            ..known.clone()
        });
        let mut row = known.unwrap_or(fresh);
        row.revision += 1;
        let change = Change::new(self.draft(Kind::SubscriptionBegun, &row));
        self.commit(change.write(Write::PutSubscription(Box::new(row.clone())))).await?;
        let row = self.advance(row, version).await?;
        self.view(user, row, &self.node.store().tokens().await?).await
    }

    /// Ends a subscription of the user's enterprise; what was requested goes on.
    pub async fn end(&self, user: &User, id: &SubscriptionId) -> Result<(), Error> {
        let row = self.own(user).await?.into_iter().find(|row| row.id == *id);
        let row = row.ok_or_else(|| Error::not_found(format!("there is no subscription {id}")))?;
        let by = SubscriptionRow { person: user.person.clone(), token: user.token.clone(), ..row };
        let change = Change::new(self.draft(Kind::SubscriptionEnded, &by));
        self.commit(change.write(Write::RemoveSubscription(id.clone()))).await
    }

    /// The subscriptions of the user's enterprise.
    pub async fn list(&self, user: &User) -> Result<Vec<SubscriptionView>, Error> {
        let (mut views, tokens) = (Vec::new(), self.node.store().tokens().await?);
        for row in self.own(user).await? {
            views.push(self.view(user, row, &tokens).await?);
        }
        Ok(views)
    }

    async fn own(&self, user: &User) -> Result<Vec<SubscriptionRow>, Error> {
        let mut rows = self.node.store().subscriptions().await?;
        rows.retain(|row| user.enterprise.as_ref() == Some(&row.enterprise));
        Ok(rows)
    }

    /// Requests the versions that are new in the catalogs of the peers.
    pub async fn look(&self) {
        let rows = match self.node.store().subscriptions().await {
            Ok(rows) => rows,
            Err(error) => return tracing::warn!(%error, "the subscriptions could not be read"),
        };
        for row in rows {
            let name = row.id.clone();
            let looked = async {
                match self.discovery.known_version(&row.provider, &row.dataset).await? {
                    Some(version) => self.advance(row, version).await.map(drop),
                    None => Ok(()),
                }
            };
            if let Err(error) = looked.await {
                tracing::warn!(subscription = %name, %error, "a new version could not be requested");
            }
        }
    }

    /// Requests `version`, unless it or a later one was requested, or the last request is not settled.
    async fn advance(&self, row: SubscriptionRow, version: u64) -> Result<SubscriptionRow, Error> {
        let user = user_of(&row);
        if version <= row.version || self.lapsed(&row, &self.node.store().tokens().await?).is_some() {
            return Ok(row);
        }
        if let Some(last) = self.last(&user, &row).await? {
            // What was requested last may have become a later version than was known then.
            if !last.stage.is_settled() || last.version.is_some_and(|had| version <= had) {
                return Ok(row);
            }
        }
        self.node.ensure_writable()?;
        // A stop before the commit below does not request the version again.
        let once = IdempotencyKey::new(&format!("{}/{version}", row.id), &[b"subscription"])?;
        let (provider, dataset, purpose) = (&row.provider, &row.dataset, &row.purpose);
        let request = self.requests.request(&user, provider, dataset, purpose, Some(&once)).await?;
        let row = SubscriptionRow { revision: row.revision + 1, version, request: Some(request), ..row };
        let change = Change::new(self.draft(Kind::SubscriptionRequested, &row));
        self.commit(change.write(Write::PutSubscription(Box::new(row.clone())))).await?;
        Ok(row)
    }

    async fn last(&self, user: &User, row: &SubscriptionRow) -> Result<Option<RequestView>, Error> {
        match &row.request {
            Some(request) => self.requests.view(user, request).await.map(Some),
            None => Ok(None),
        }
    }

    /// Why nothing is requested any more: the person's right has ended.
    fn lapsed(&self, row: &SubscriptionRow, tokens: &[TokenRow]) -> Option<String> {
        let valid = |token: &TokenRow| !token.revoked && self.node.now() < token.expires;
        let found = tokens.iter().any(|token| token.id == row.token && valid(token));
        (!found).then(|| "the token with which it was made is no longer valid: subscribe again".to_owned())
    }

    async fn view(&self, user: &User, row: SubscriptionRow, tokens: &[TokenRow]) -> Result<SubscriptionView, Error> {
        let last = self.last(user, &row).await?;
        let refused = last.as_ref().filter(|last| last.stage == RequestStage::Refused);
        let reason = refused.map(|last| {
            let reason = last.reason.as_deref().unwrap_or("no reason was given");
            format!("version {} was refused: {reason}", row.version)
        });
        let problem = self.lapsed(&row, tokens).or(reason);
        Ok(SubscriptionView {
            id: row.id,
            provider: row.provider,
            dataset: row.dataset,
            purpose: row.purpose,
            person: row.person,
            since: row.since,
            version: last.as_ref().and_then(|last| last.version).unwrap_or(row.version),
            request: row.request,
            stage: last.map(|last| last.stage),
            problem,
        })
    }

    /// Subscriptions that need attention, in words.
    pub async fn warnings(&self) -> Result<Vec<String>, Error> {
        let (mut warnings, tokens) = (Vec::new(), self.node.store().tokens().await?);
        for row in self.node.store().subscriptions().await? {
            let view = self.view(&user_of(&row), row, &tokens).await?;
            let SubscriptionView { id, dataset, problem, .. } = view;
            warnings.extend(problem.map(|problem| format!("subscription {id} to {dataset}: {problem}")));
        }
        Ok(warnings)
    }

    async fn commit(&self, change: Change) -> Result<(), Error> {
        match self.node.store().commit(change).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict(Conflict::Subscription)) => {
                Err(Error::invalid("conflict", "the subscription was changed in the meantime; try again"))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn draft(&self, kind: Kind, row: &SubscriptionRow) -> Draft {
        let facts = Facts {
            parties: vec![row.provider.clone()],
            dataset: Some(row.dataset.clone()),
            process: row.request.clone(),
            enterprise: Some(row.enterprise.clone()),
            purpose: Some(row.purpose.clone()),
            detail: details(json!({"subscription": row.id, "version": row.version, "token": row.token})),
            ..Facts::default()
        };
        self.node.draft(kind, facts).with_field(FieldOpening::new("person", row.person.clone(), self.node.random()))
    }
}

fn user_of(row: &SubscriptionRow) -> User {
    User {
        token: row.token.clone(),
        role: UserRole::Requester,
        person: row.person.clone(),
        enterprise: Some(row.enterprise.clone()),
    }
}
