//! Decisions by people: on requests under a policy that requires consent, and on first offers of providers.

use super::Negotiations;
use super::facts::{set_claim, transition_facts};
use crate::agreement::Claim;
use crate::audit::entry::{Decision as Logged, FieldOpening, Kind};
use crate::core::id::{DatasetId, ParticipantId, ProcessId, Text};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::identity::document;
use crate::negotiation::{Approval, Negotiation, Role, State};
use crate::node::{Error, Node, User};
use crate::policy::{self, Decision, Missing, Policy};
use crate::storage::{Change, Guard, StoreError, Write};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A negotiation that waits for a person's decision.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PendingApproval {
    /// Negotiation.
    pub id: ProcessId,
    /// Role of this park: a provider decides on a request, a consumer on an offer.
    pub role: Role,
    /// Member that requests or offers.
    pub peer: ParticipantId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Policy.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub policy: Value,
    /// Purpose, if known.
    pub purpose: Option<Text>,
    /// Enterprise on whose behalf the consumer requests, if known.
    pub enterprise: Option<Text>,
    /// Trace id, the same at both parks.
    #[serde(default)]
    pub trace: Option<TraceId>,
    /// Waiting since.
    pub since: Timestamp,
}

/// A person's decision.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDecision {
    /// Whether to approve.
    pub approve: bool,
    /// Reason; it is logged, and a rejection sends it to the peer.
    #[serde(default)]
    pub comment: Option<Text>,
    /// Purpose, to accept an offer.
    #[serde(default)]
    pub purpose: Option<Text>,
    /// Enterprise on whose behalf to accept an offer, if the token names none.
    #[serde(default)]
    pub enterprise: Option<Text>,
}

/// Approvals and rejections by people.
pub struct Approvals {
    node: Arc<Node>,
    negotiations: Arc<Negotiations>,
}

impl Approvals {
    /// For the negotiations of this node.
    pub fn new(node: Arc<Node>, negotiations: Arc<Negotiations>) -> Self {
        Self { node, negotiations }
    }

    /// Whether a negotiation waits for a person.
    async fn is_pending(&self, negotiation: &Negotiation) -> Result<bool, StoreError> {
        if negotiation.approval.is_some() {
            return Ok(false);
        }
        match (negotiation.role, negotiation.state) {
            (Role::Consumer, State::Offered) => Ok(negotiation.subject.asked.is_none()),
            (Role::Provider, State::Requested | State::Accepted) => {
                let (assessment, _) =
                    self.negotiations.assess(&self.node.trust(), negotiation, self.node.now()).await?;
                let waits = Some(Missing::Consent);
                let missing = assessment.policy.and_then(|policy| match policy {
                    Decision::Undetermined { missing, .. } => Some(missing),
                    _ => None,
                });
                Ok(assessment.fits && missing == waits)
            }
            _ => Ok(false),
        }
    }

    /// A page of the pending approvals by id, and where the next page begins.
    pub async fn pending(
        &self,
        after: Option<ProcessId>,
        limit: usize,
    ) -> Result<(Vec<PendingApproval>, Option<ProcessId>), Error> {
        let (mut found, mut after) = (Vec::new(), after);
        loop {
            let open = self.node.store().open_negotiations(after.as_ref(), limits::PAGE_ROWS_MAX).await?;
            let last = open.len() < limits::PAGE_ROWS_MAX;
            for negotiation in open {
                if found.len() == limit {
                    return Ok((found, after));
                }
                after = Some(negotiation.id.clone());
                if self.is_pending(&negotiation).await? {
                    found.push(pending(negotiation));
                }
            }
            if last {
                return Ok((found, None));
            }
        }
    }

    /// One pending approval.
    pub async fn pending_one(&self, id: &ProcessId) -> Result<PendingApproval, Error> {
        Ok(pending(self.waiting(id).await?))
    }

    async fn waiting(&self, id: &ProcessId) -> Result<Negotiation, Error> {
        match self.node.store().negotiation(id).await? {
            Some(found) if self.is_pending(&found).await? => Ok(found),
            Some(Negotiation { approval: Some(approval), .. }) => {
                let said = if approval.approved { "approved" } else { "rejected" };
                Err(Error::not_found(format!("{id} was already {said} at {}", approval.at)))
            }
            Some(Negotiation { state: State::Terminated, reason, .. }) => {
                let reason = reason.unwrap_or_else(|| "no reason was given".into());
                Err(Error::not_found(format!("{id} has ended: {reason}")))
            }
            _ => Err(Error::not_found(format!("there is no pending approval {id}"))),
        }
    }

    /// Records a person's decision. The negotiation continues immediately.
    pub async fn decide(&self, user: &User, id: &ProcessId, decision: &ApprovalDecision) -> Result<Negotiation, Error> {
        let (old, now) = (self.waiting(id).await?, self.node.now());
        if old.role == Role::Provider && (decision.purpose.is_some() || decision.enterprise.is_some()) {
            let reason = "`purpose` and `enterprise` are for offers; a request states its own";
            return Err(Error::invalid("conflict", reason));
        }
        let (revision, terms) = (old.revision, old.subject.policy.clone());
        let mut next = Negotiation { revision: revision + 1, updated: now, ..old };
        next.approval = Some(Approval { approved: decision.approve, comment: decision.comment.clone(), at: now });
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        if next.role == Role::Consumer && decision.approve {
            self.claim_offer(user, decision, &mut next, &person, now).await?;
            next.subject.asked = Some(terms);
        }
        let mut facts = transition_facts(&next, next.role);
        facts.decision = Some(if decision.approve { Logged::Permitted } else { Logged::Refused });
        facts.rule = Some("person".into());
        facts.detail.insert("token".into(), user.token.to_string().into());
        if let Some(comment) = &decision.comment {
            facts.detail.insert("comment".into(), comment.to_string().into());
        }
        let change = Change::new(self.node.draft(Kind::NegotiationDecided, facts).with_field(person))
            .guard(Guard::Register(self.node.trust().register.body().sequence))
            .write(Write::PutNegotiation(Box::new(next.clone())));
        match self.node.store().commit(change).await {
            Ok(_) => {
                self.negotiations.advance(id);
                Ok(next)
            }
            Err(StoreError::Conflict(_)) => {
                Err(Error::invalid("conflict", "the negotiation has changed in the meantime; read it again".to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Signs a claim of purpose and enterprise for the offer that is accepted.
    async fn claim_offer(
        &self,
        user: &User,
        decision: &ApprovalDecision,
        next: &mut Negotiation,
        person: &FieldOpening,
        now: Timestamp,
    ) -> Result<(), Error> {
        let policy = Policy::from_value(&next.subject.policy).map_err(|error| Error::Internal(error.to_string()))?;
        let purpose = decision.purpose.as_ref().or(policy.sole_purpose());
        let purpose = purpose
            .ok_or_else(|| {
                Error::invalid("purpose", "the terms do not say for which purpose: state it (`purpose`; --purpose)")
            })?
            .clone();
        self.would_be_permitted(&policy, &purpose, now)?;
        let enterprise = match &user.enterprise {
            Some(own) => own.clone(),
            None => self.enterprise_here(decision.enterprise.as_ref(), now).await?,
        };
        let claim = Claim {
            consumer: self.node.me().clone(),
            provider: next.peer.clone(),
            process: next.id.clone(),
            offer: next.subject.offer.clone(),
            dataset: next.subject.dataset.clone(),
            purpose,
            enterprise,
            person: person.commitment(),
            issued: now,
        };
        let signed = document::sign(claim, &self.node.document_key());
        set_claim(&mut next.subject, signed.body(), signed.jws());
        Ok(())
    }

    /// Fails if the policy refuses this purpose: accepting the offer would end the negotiation.
    fn would_be_permitted(&self, policy: &Policy, purpose: &Text, now: Timestamp) -> Result<(), Error> {
        let trust = self.node.trust();
        let member = trust.member(self.node.me())?;
        let facts = policy::Facts {
            recipient: self.node.me(),
            groups: &member.groups,
            purpose: Some(purpose),
            now,
            used: 0,
            channel: None,
            approved: true,
        };
        match policy.evaluate(&facts) {
            Decision::Refused { reason, .. } => {
                Err(Error::invalid("policy", format!("the policy of the offer does not permit this: {reason}")))
            }
            _ => Ok(()),
        }
    }

    /// The named enterprise, if it has a valid token here: only its requesters can fetch the data later.
    async fn enterprise_here(&self, named: Option<&Text>, now: Timestamp) -> Result<Text, Error> {
        let missing = || {
            Error::invalid(
                "enterprise",
                "state for which enterprise of this park the data is (`enterprise`; --enterprise)",
            )
        };
        let named = named.ok_or_else(missing)?;
        let tokens = self.node.store().tokens().await?;
        let good = tokens.iter().filter(|token| !token.revoked && now < token.expires);
        match good.into_iter().any(|token| token.enterprise.as_ref() == Some(named)) {
            true => Ok(named.clone()),
            false => Err(Error::invalid(
                "enterprise",
                format!("`{named}` has no token here to fetch the data; create one first, or check the name"),
            )),
        }
    }
}

fn pending(negotiation: Negotiation) -> PendingApproval {
    let subject = negotiation.subject;
    PendingApproval {
        id: negotiation.id,
        role: negotiation.role,
        peer: negotiation.peer,
        dataset: subject.dataset,
        policy: subject.policy,
        purpose: subject.purpose,
        enterprise: subject.enterprise,
        trace: negotiation.trace,
        since: negotiation.updated,
    }
}
