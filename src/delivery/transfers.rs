//! Transfer processes in both roles: incoming messages are checked, applied and logged in one commit; the next step of
//! this side is decided after it (`steps`).

use super::Downloads;
use super::facts::{new_transfer, token_cell, transition_facts};
use crate::audit::entry::{Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::keys::Kek;
use crate::negotiation::Role;
use crate::node::{Counterparty, DecisionMaker, Error, Inbound, Node, Transition, details, trace};
use crate::policy::Channel;
use crate::storage::{Change, Conflict, Guard, StoreError, Write};
use crate::transfer::{Event, SEALED, Transfer};
use serde_json::json;
use std::sync::Arc;

/// Transfer processes.
pub struct Transfers {
    pub(super) node: Arc<Node>,
    pub(super) decisions: Arc<dyn DecisionMaker>,
    kek: Arc<Kek>,
    pub(super) downloads: Arc<Downloads>,
}

/// Address of a transfer's data.
#[derive(Debug, Clone)]
pub struct DataAddress {
    /// Endpoint.
    pub endpoint: Endpoint,
    /// Token for the endpoint.
    pub token: Option<String>,
    /// Expiry of the token.
    pub until: Option<Timestamp>,
}

/// A TransferRequestMessage.
#[derive(Debug, Clone)]
pub struct TransferRequest {
    /// Consumer's process id.
    pub consumer_pid: ProcessId,
    /// Agreement.
    pub agreement: AgreementId,
    /// Format.
    pub format: String,
    /// Callback address.
    pub callback: Endpoint,
    /// Digest of the message's canonical form.
    pub digest: Digest,
}

impl Transfers {
    /// `decisions` chooses the steps of this side; `downloads` fetches the data of started transfers.
    pub fn new(
        node: Arc<Node>,
        decisions: Arc<dyn DecisionMaker>,
        kek: Arc<Kek>,
        downloads: Arc<Downloads>,
    ) -> Arc<Self> {
        Arc::new(Self { node, decisions, kek, downloads })
    }

    /// A consumer requests a transfer.
    pub async fn requested(
        self: &Arc<Self>,
        from: &Counterparty,
        request: TransferRequest,
    ) -> Result<Transition<Transfer>, Error> {
        self.node.charge_quota(&from.participant)?;
        if let Some(id) = self.node.store().process_by_peer(&from.participant, &request.consumer_pid).await? {
            let known = self.node.store().transfer(&id).await?;
            if let Some(known) = known.filter(|known| known.seen.contains(&request.digest)) {
                self.advance(&known.id);
                return Ok(Transition::repeated(known));
            }
            let error = Error::invalid("pid", format!("the process {} already exists", request.consumer_pid));
            return Err(self.node.refuse(from, Kind::MessageRefused, Facts::default(), error).await);
        }
        match self.open_transfer(from, &request).await {
            Ok(opened) => {
                self.advance(&opened.process.id);
                Ok(opened)
            }
            Err(error) => {
                let facts = Facts {
                    agreement: Some(request.agreement.clone()),
                    detail: details(json!({"message": "TransferRequestMessage"})),
                    ..Facts::default()
                };
                Err(self.node.refuse(from, Kind::MessageRefused, facts, error).await)
            }
        }
    }

    async fn open_transfer(
        &self,
        from: &Counterparty,
        request: &TransferRequest,
    ) -> Result<Transition<Transfer>, Error> {
        from.check_callback(&self.node.trust(), &request.callback)?;
        let channel = Channel::named(&request.format).ok_or_else(|| {
            let names = Channel::ALL.map(Channel::name).join(" and ");
            Error::invalid("format", format!("this node delivers only as {names}"))
        })?;
        let row = self.node.store().agreement(&request.agreement).await?;
        let row = row.filter(|row| row.peer == from.participant && row.agreement.provider == *self.node.me());
        let row = row.ok_or_else(|| Error::not_found(format!("there is no agreement {}", request.agreement)))?;
        let policy = row.agreement.policy().map_err(|error| Error::Internal(error.to_string()))?;
        if !policy.permissions().iter().any(|permission| permission.channels().contains(&channel)) {
            let reason = format!("the agreement does not permit delivery as {}", channel.name());
            return Err(Error::invalid("format", reason));
        }
        let transfer = Transfer {
            role: Role::Provider,
            peer_pid: Some(request.consumer_pid.clone()),
            callback: Some(request.callback.clone()),
            seen: vec![request.digest],
            ..new_transfer(&row, channel, trace::current(), self.node.random(), self.node.now())
        };
        let facts = transition_facts(&transfer, Role::Consumer, Some(&row));
        let change = Change::new(self.node.draft(Kind::TransferTransition, facts))
            .guard(Guard::Register(from.register))
            .guard(Guard::OpenProcesses(from.participant.clone(), limits::OPEN_PROCESSES_PER_MEMBER_MAX))
            .write(Write::PutTransfer(Box::new(transfer.clone())));
        match self.node.store().commit(change).await {
            Ok(mut logged) => Ok(Transition { process: transfer, logged: logged.pop() }),
            Err(StoreError::Conflict(Conflict::OpenProcesses)) => Err(Error::TooMany),
            Err(error) => Err(error.into()),
        }
    }

    async fn apply_message(
        self: &Arc<Self>,
        inbound: &Inbound<'_>,
        event: Event,
        amend: impl Fn(&mut Transfer) -> Result<(), Error>,
    ) -> Result<Transition<Transfer>, Error> {
        self.node.charge_quota(&inbound.from.participant)?;
        let mut facts = Facts { process: Some(inbound.pid.clone()), ..Facts::default() };
        facts.detail.insert("event".into(), format!("{event:?}").to_lowercase().into());
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let found = self.node.store().transfer(inbound.pid).await?;
            let Some(old) = found.filter(|t| t.peer == inbound.from.participant) else {
                let error = Error::not_found(format!("there is no transfer {}", inbound.pid));
                return Err(self.node.refuse(inbound.from, Kind::MessageRefused, facts, error).await);
            };
            if inbound.is_repeated(&old.seen) {
                self.advance(&old.id);
                return Ok(Transition::repeated(old));
            }
            let applied = || {
                let by = if old.role == Role::Consumer { Role::Provider } else { Role::Consumer };
                if old.peer_pid.as_ref().is_some_and(|pid| pid != inbound.peer_pid) {
                    return Err(Error::invalid("pid", "the message names another process of the sender"));
                }
                if event == Event::Start && old.suspended_by.is_some_and(|side| side != by) {
                    let reason = "only the side that suspended this transfer may resume it";
                    return Err(Error::invalid("state", reason));
                }
                let next = old.clone().apply(by, event, self.node.now());
                let mut next = next.map_err(|e| Error::invalid("state", e.to_string()))?;
                next.peer_pid = Some(inbound.peer_pid.clone());
                amend(&mut next)?;
                Ok((next.remember(inbound.digest), by))
            };
            let (next, by) = match applied() {
                Ok(moved) => moved,
                Err(error) => return Err(self.node.refuse(inbound.from, Kind::MessageRefused, facts, error).await),
            };
            let row = self.node.store().agreement(&next.agreement).await?;
            let change =
                Change::new(self.node.draft(Kind::TransferTransition, transition_facts(&next, by, row.as_ref())))
                    .guard(Guard::Register(inbound.from.register))
                    .write(Write::PutTransfer(Box::new(next.clone())));
            match self.node.store().commit(change).await {
                Ok(logged) => {
                    self.advance(&next.id);
                    return Ok(Transition { process: next, logged: logged.into_iter().next() });
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the transfer keeps changing; try again".into()))
    }

    /// Consumer: the data is available, at an address that the register must list for the provider; the token is stored
    /// wrapped. Provider: the consumer resumes the transfer. DSP 2025-1, "Transfer Start Message".
    pub async fn started(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        address: Option<&DataAddress>,
    ) -> Result<Transition<Transfer>, Error> {
        let (trust, now) = (self.node.trust(), self.node.now());
        self.apply_message(&inbound, Event::Start, |next| {
            if next.role == Role::Provider {
                let over = next.token_until.is_none_or(|until| until <= now);
                let reason = "the token of this transfer has expired: end it and request a new transfer";
                return if over { Err(Error::invalid("state", reason)) } else { Ok(()) };
            }
            let missing = || Error::invalid("dataAddress", "`dataAddress` is missing");
            let address = address.ok_or_else(missing)?;
            if !trust.member(&next.peer)?.has_data_at(&address.endpoint) {
                let reason = format!("the register does not list the address {} for the provider", address.endpoint);
                return Err(Error::invalid("dataAddress", reason));
            }
            if next.format == SEALED && address.token.is_none() {
                return Err(Error::invalid("dataAddress", "`authorization` is missing in `dataAddress`"));
            }
            let wrap = |token: &String| self.kek.wrap(token_cell(&next.id), token.as_bytes(), self.node.random());
            next.wrapped_token = address.token.as_ref().map(wrap);
            next.data = Some(address.endpoint.clone());
            next.token_until = address.until;
            Ok(())
        })
        .await
    }

    /// Either role: the peer completes the transfer.
    pub async fn completed(self: &Arc<Self>, inbound: Inbound<'_>) -> Result<Transition<Transfer>, Error> {
        self.apply_message(&inbound, Event::Complete, |_| Ok(())).await
    }

    /// Either role: the peer suspends the transfer.
    pub async fn suspended(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Transition<Transfer>, Error> {
        self.apply_message(&inbound, Event::Suspend, |next| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok(())
        })
        .await
    }

    /// Either role: the peer terminates the transfer.
    pub async fn terminated(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Transition<Transfer>, Error> {
        self.apply_message(&inbound, Event::Terminate, |next| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok(())
        })
        .await
    }

    /// A transfer, for its peer only.
    pub async fn visible_to(self: &Arc<Self>, from: &Counterparty, id: &ProcessId) -> Result<Transfer, Error> {
        let found = self.node.store().transfer(id).await?.filter(|t| t.peer == from.participant);
        match found {
            Some(transfer) => Ok(transfer),
            None => {
                let facts = Facts { process: Some(id.clone()), ..Facts::default() };
                let error = Error::not_found(format!("there is no transfer {id}"));
                Err(self.node.refuse(from, Kind::AccessRefused, facts, error).await)
            }
        }
    }
}
