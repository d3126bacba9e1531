//! Contract negotiations in both roles: incoming messages are checked, applied and logged in one commit; the next step
//! of this side is decided after it (`steps`). `provider` and `consumer` hold the checks of each side.

use super::facts::{BAD_AGREEMENT, transition_facts};
use crate::agreement::Agreement;
use crate::audit::entry::{Draft, Facts, FieldOpening, Kind};
use crate::core::id::ProcessId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::document::{self, Signed};
use crate::negotiation::{Event, Negotiation, Role, State};
use crate::node::{Counterparty, DecisionMaker, Error, Inbound, Message, Node, Transition, Trust, User};
use crate::storage::{Change, Guard, Outgoing, StoreError, Write};
use std::sync::Arc;

/// Contract negotiations.
pub struct Negotiations {
    pub(super) node: Arc<Node>,
    pub(super) decisions: Arc<dyn DecisionMaker>,
}

/// Further parts of a transition's commit.
#[derive(Default)]
pub(super) struct SideEffects {
    pub(super) entry: Option<Draft>,
    pub(super) writes: Vec<Write>,
    pub(super) outbox: Vec<Outgoing>,
}

impl Negotiations {
    /// `decisions` chooses the steps of this side.
    pub fn new(node: Arc<Node>, decisions: Arc<dyn DecisionMaker>) -> Arc<Self> {
        Arc::new(Self { node, decisions })
    }

    /// Checks, applies and logs a message; a repeated one changes nothing and gets the same answer.
    pub(super) async fn apply_message(
        self: &Arc<Self>,
        inbound: &Inbound<'_>,
        event: Event,
        amend: impl Fn(&Trust, &mut Negotiation, &mut SideEffects) -> Result<(), Error>,
    ) -> Result<Transition<Negotiation>, Error> {
        self.node.charge_quota(&inbound.from.participant)?;
        let mut facts = Facts { process: Some(inbound.pid.clone()), ..Facts::default() };
        facts.detail.insert("event".into(), format!("{event:?}").to_lowercase().into());
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let found = self.node.store().negotiation(inbound.pid).await?;
            let Some(old) = found.filter(|n| n.peer == inbound.from.participant) else {
                let error = Error::not_found(format!("there is no negotiation {}", inbound.pid));
                return Err(self.node.refuse(inbound.from, Kind::MessageRefused, facts, error).await);
            };
            if inbound.is_repeated(&old.seen) {
                self.advance(&old.id);
                return Ok(Transition::repeated(old));
            }
            match self.applied(inbound, event, old, &amend) {
                Ok((next, change)) => match self.node.store().commit(change).await {
                    Ok(logged) => {
                        self.advance(&next.id);
                        return Ok(Transition { process: next, logged: logged.into_iter().next() });
                    }
                    Err(StoreError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                },
                Err(error) => return Err(self.node.refuse(inbound.from, Kind::MessageRefused, facts, error).await),
            }
        }
        Err(Error::Unavailable("the negotiation keeps changing; try again".into()))
    }

    fn applied(
        &self,
        inbound: &Inbound<'_>,
        event: Event,
        old: Negotiation,
        amend: &impl Fn(&Trust, &mut Negotiation, &mut SideEffects) -> Result<(), Error>,
    ) -> Result<(Negotiation, Change), Error> {
        let by = match old.role {
            Role::Consumer => Role::Provider,
            Role::Provider => Role::Consumer,
        };
        if old.peer_pid.as_ref().is_some_and(|pid| pid != inbound.peer_pid) {
            return Err(Error::invalid("pid", "the message names another process of the sender"));
        }
        let endless = old.revision >= limits::NEGOTIATION_TRANSITIONS_MAX && event != Event::Terminate;
        if endless {
            return Err(Error::invalid("state", "this negotiation has too many transitions; begin a new one"));
        }
        let mut next = old.apply(by, event, self.node.now()).map_err(|e| Error::invalid("state", e.to_string()))?;
        next.peer_pid = Some(inbound.peer_pid.clone());
        let mut next = next.remember(inbound.digest);
        let mut effects = SideEffects::default();
        amend(&self.node.trust(), &mut next, &mut effects)?;
        let mut change = Change::new(self.node.draft(Kind::NegotiationTransition, transition_facts(&next, by)))
            .guard(Guard::Register(inbound.from.register))
            .write(Write::PutNegotiation(Box::new(next.clone())));
        if let Some(entry) = effects.entry {
            change = change.entry(entry);
        }
        change.writes.extend(effects.writes);
        change.outbox.extend(effects.outbox);
        Ok((next, change))
    }

    /// Verifies an agreement that a crosspark node signed, against the current register.
    pub(super) fn check_agreement(
        &self,
        trust: &Trust,
        jws: &str,
        by: Role,
        negotiation: &Negotiation,
        now: Timestamp,
    ) -> Result<Signed<Agreement>, Error> {
        let signed = document::verify::<Agreement>(jws, |kid| trust.register.document_key(kid, now))
            .map_err(|error| Error::invalid(BAD_AGREEMENT, error.to_string()))?;
        let body = signed.body();
        let named = if by == Role::Provider { &body.provider } else { &body.consumer };
        if *named != negotiation.peer || signed.signer().participant() != negotiation.peer {
            return Err(Error::invalid(BAD_AGREEMENT, "the agreement is not signed by the party it names"));
        }
        Ok(signed)
    }

    /// Either role: the peer terminates.
    pub async fn terminated(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Transition<Negotiation>, Error> {
        self.apply_message(&inbound, Event::Terminate, |_, next, _| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok(())
        })
        .await
    }

    /// A user of this side ends a negotiation; the peer receives the reason.
    pub(super) async fn cancel(self: &Arc<Self>, user: &User, id: &ProcessId, reason: &str) -> Result<(), Error> {
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let missing = || Error::not_found(format!("there is no negotiation {id}"));
            let old = self.node.store().negotiation(id).await?.ok_or_else(missing)?;
            let state = old.state;
            let old = Negotiation { cancelled: true, ..old };
            let Some(change) = self.terminate(old, None, reason, self.node.now()) else {
                let reason = format!("the contract is being concluded ({}); try again in a moment", state.name());
                return Err(Error::invalid("conflict", reason));
            };
            let person = FieldOpening::new("person", user.person.clone(), self.node.random());
            match self.node.store().commit(change.by(person)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the negotiation keeps changing; try again".into()))
    }

    /// Tells the peer of the end of a negotiation that ended before the peer's process id was known.
    pub async fn tell_end(&self, id: &ProcessId) -> Result<(), StoreError> {
        let ended = self.node.store().negotiation(id).await?;
        let Some(old) = ended.filter(|old| old.state == State::Terminated && old.peer_pid.is_some()) else {
            return Ok(());
        };
        let reason = old.reason.clone().unwrap_or_default();
        let Some(message) = Message::end_of_negotiation(&old, "cancelled", &reason) else { return Ok(()) };
        let message = message.outgoing(&old.peer, id, self.node.random()).with_callback(&old.callback);
        let facts = transition_facts(&old, old.role);
        let next = Negotiation { revision: old.revision + 1, updated: self.node.now(), ..old };
        let change = Change::new(self.node.draft(Kind::NegotiationTransition, facts))
            .write(Write::PutNegotiation(Box::new(next)))
            .send(message);
        self.node.store().commit(change).await.map(drop)
    }

    /// A negotiation, for its peer only.
    pub async fn visible_to(self: &Arc<Self>, from: &Counterparty, id: &ProcessId) -> Result<Negotiation, Error> {
        let found = self.node.store().negotiation(id).await?.filter(|n| n.peer == from.participant);
        match found {
            Some(negotiation) => Ok(negotiation),
            None => {
                let facts = Facts { process: Some(id.clone()), ..Facts::default() };
                let error = Error::not_found(format!("there is no negotiation {id}"));
                Err(self.node.refuse(from, Kind::AccessRefused, facts, error).await)
            }
        }
    }
}
