//! Transfer processes, both roles: what arrives is checked, moved and logged in one commit; what this side has to do next
//! is decided after it (`next`). `serve` hands out the data.

mod next;
mod pull;
mod serve;

pub use pull::Pulls;
pub use serve::{Data, token_cell};

use super::negotiate::check_callback;
use super::process::Transition;
use super::refusal::Error;
use super::register::object;
use super::{Counterparty, Inbound, Node, Trust, trace};
use crate::audit::entry::{Facts, Kind};
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, ProcessId};
use crate::core::limits;
use crate::core::random::Random;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::identity::endpoint::Endpoint;
use crate::identity::register::Status;
use crate::negotiation::Role;
use crate::policy::{self, Channel, Decision};
use crate::storage::{AgreementRow, Change, Guard, StoreError, Write};
use crate::transfer::{Event, SEALED, State, Transfer};
use serde_json::json;
use std::sync::Arc;

/// Where the data of a transfer is.
#[derive(Debug, Clone)]
pub struct DataAddress {
    /// The address.
    pub endpoint: Endpoint,
    /// The token for it.
    pub token: Option<String>,
    /// Until when the token is good.
    pub until: Option<Timestamp>,
}

/// A TransferRequestMessage.
#[derive(Debug, Clone)]
pub struct TransferRequest {
    /// The consumer's name for it.
    pub consumer_pid: ProcessId,
    /// Under which agreement.
    pub agreement: AgreementId,
    /// Format.
    pub format: String,
    /// Where the answers shall go.
    pub callback: Endpoint,
    /// Digest of the message's canonical form.
    pub digest: Digest,
}

impl Node {
    /// Provider: a consumer asks for a transfer.
    pub async fn transfer_requested(
        self: &Arc<Self>,
        from: &Counterparty,
        request: TransferRequest,
    ) -> Result<Transition<Transfer>, Error> {
        self.charge_quota(&from.participant)?;
        if let Some(id) = self.parts.store.process_by_peer(&from.participant, &request.consumer_pid).await? {
            let known = self.parts.store.transfer(&id).await?;
            if let Some(known) = known.filter(|known| known.seen.contains(&request.digest)) {
                self.advance_transfer(&known.id);
                return Ok(Transition::repeated(known));
            }
            let error = Error::invalid("pid", format!("the process {} exists already", request.consumer_pid));
            return Err(self.refuse(from, Kind::MessageRefused, Facts::default(), error).await);
        }
        match self.open_transfer(from, &request).await {
            Ok(opened) => {
                self.advance_transfer(&opened.process.id);
                Ok(opened)
            }
            Err(error) => {
                let facts = Facts {
                    agreement: Some(request.agreement.clone()),
                    detail: object(json!({"message": "TransferRequestMessage"})),
                    ..Facts::default()
                };
                Err(self.refuse(from, Kind::MessageRefused, facts, error).await)
            }
        }
    }

    async fn open_transfer(
        &self,
        from: &Counterparty,
        request: &TransferRequest,
    ) -> Result<Transition<Transfer>, Error> {
        check_callback(&self.trust(), from, &request.callback)?;
        let channel = Channel::named(&request.format).ok_or_else(|| {
            let names = Channel::ALL.map(Channel::name).join(" and ");
            Error::invalid("format", format!("the formats here are {names}"))
        })?;
        let row = self.parts.store.agreement(&request.agreement).await?;
        let row = row.filter(|row| row.peer == from.participant && row.agreement.provider == *self.me());
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
            ..request_under(&row, channel, trace::current(), self.random(), self.now())
        };
        let facts = moved(&transfer, Role::Consumer, Some(&row));
        let change = Change::new(self.draft(Kind::TransferTransition, facts))
            .guard(Guard::Register(from.register))
            .guard(Guard::OpenProcesses(from.participant.clone(), limits::OPEN_PROCESSES_PER_MEMBER_MAX))
            .write(Write::PutTransfer(Box::new(transfer.clone())));
        match self.parts.store.commit(change).await {
            Ok(mut logged) => Ok(Transition { process: transfer, logged: logged.pop() }),
            Err(StoreError::Conflict("the number of open processes")) => Err(Error::TooMany),
            Err(error) => Err(error.into()),
        }
    }

    async fn move_transfer(
        self: &Arc<Self>,
        inbound: &Inbound<'_>,
        event: Event,
        amend: impl Fn(&mut Transfer) -> Result<(), Error>,
    ) -> Result<Transition<Transfer>, Error> {
        self.charge_quota(&inbound.from.participant)?;
        let mut facts = Facts { process: Some(inbound.pid.clone()), ..Facts::default() };
        facts.detail.insert("event".into(), format!("{event:?}").to_lowercase().into());
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let found = self.parts.store.transfer(inbound.pid).await?;
            let Some(old) = found.filter(|t| t.peer == inbound.from.participant) else {
                let error = Error::not_found(format!("there is no transfer {}", inbound.pid));
                return Err(self.refuse(inbound.from, Kind::MessageRefused, facts, error).await);
            };
            if inbound.is_repeated(&old.seen) {
                self.advance_transfer(&old.id);
                return Ok(Transition::repeated(old));
            }
            let moved_by_peer = || {
                let by = if old.role == Role::Consumer { Role::Provider } else { Role::Consumer };
                if old.peer_pid.as_ref().is_some_and(|pid| pid != inbound.peer_pid) {
                    return Err(Error::invalid("pid", "the message names another process of the sender"));
                }
                if event == Event::Start && old.paused_by.is_some_and(|side| side != by) {
                    let reason = "only the side that paused this transfer goes on with it";
                    return Err(Error::invalid("state", reason));
                }
                let next = old.clone().apply(by, event, self.now());
                let mut next = next.map_err(|e| Error::invalid("state", e.to_string()))?;
                next.peer_pid = Some(inbound.peer_pid.clone());
                amend(&mut next)?;
                Ok((next.remember(inbound.digest), by))
            };
            let (next, by) = match moved_by_peer() {
                Ok(moved) => moved,
                Err(error) => return Err(self.refuse(inbound.from, Kind::MessageRefused, facts, error).await),
            };
            let row = self.parts.store.agreement(&next.agreement).await?;
            let change = Change::new(self.draft(Kind::TransferTransition, moved(&next, by, row.as_ref())))
                .guard(Guard::Register(inbound.from.register))
                .write(Write::PutTransfer(Box::new(next.clone())));
            match self.parts.store.commit(change).await {
                Ok(logged) => {
                    self.advance_transfer(&next.id);
                    return Ok(Transition { process: next, logged: logged.into_iter().next() });
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the transfer changes all the time; try again".into()))
    }

    /// Consumer: data may flow; the address in the message must be one that the register has for the provider, and the
    /// token is kept wrapped. Provider: the consumer goes on with what it paused. DSP 2025-1, "Transfer Start Message".
    pub async fn transfer_started(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        address: Option<&DataAddress>,
    ) -> Result<Transition<Transfer>, Error> {
        let (trust, now) = (self.trust(), self.now());
        self.move_transfer(&inbound, Event::Start, |next| {
            if next.role == Role::Provider {
                let over = next.token_until.is_none_or(|until| until <= now);
                let reason = "the token of this transfer has expired: end it, and ask for another";
                return if over { Err(Error::invalid("state", reason)) } else { Ok(()) };
            }
            let missing = || Error::invalid("dataAddress", "`dataAddress` is missing");
            let address = address.ok_or_else(missing)?;
            if !trust.member(&next.peer)?.has_data_at(&address.endpoint) {
                let reason = format!("{} is none of the addresses that the register has for it", address.endpoint);
                return Err(Error::invalid("dataAddress", reason));
            }
            if next.format == SEALED && address.token.is_none() {
                return Err(Error::invalid("dataAddress", "`dataAddress` has no authorization"));
            }
            let wrap = |token: &String| self.parts.kek.wrap(token_cell(&next.id), token.as_bytes(), self.random());
            next.wrapped_token = address.token.as_ref().map(wrap);
            next.data = Some(address.endpoint.clone());
            next.token_until = address.until;
            Ok(())
        })
        .await
    }

    /// Either side: done.
    pub async fn transfer_completed(self: &Arc<Self>, inbound: Inbound<'_>) -> Result<Transition<Transfer>, Error> {
        self.move_transfer(&inbound, Event::Complete, |_| Ok(())).await
    }

    /// Either side: paused.
    pub async fn transfer_suspended(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Transition<Transfer>, Error> {
        self.move_transfer(&inbound, Event::Suspend, |next| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok(())
        })
        .await
    }

    /// Either side: over.
    pub async fn transfer_terminated(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Transition<Transfer>, Error> {
        self.move_transfer(&inbound, Event::Terminate, |next| {
            next.reason = Some(reason.chars().take(limits::TEXT_CHARS_MAX).collect());
            Ok(())
        })
        .await
    }

    /// A transfer as its other side may read it.
    pub async fn transfer_for(self: &Arc<Self>, from: &Counterparty, id: &ProcessId) -> Result<Transfer, Error> {
        let found = self.parts.store.transfer(id).await?.filter(|t| t.peer == from.participant);
        match found {
            Some(transfer) => Ok(transfer),
            None => {
                let facts = Facts { process: Some(id.clone()), ..Facts::default() };
                let error = Error::not_found(format!("there is no transfer {id}"));
                Err(self.refuse(from, Kind::AccessRefused, facts, error).await)
            }
        }
    }
}

/// What an agreement's policy says now.
pub fn evaluate_agreement(trust: &Trust, row: &AgreementRow, channel: Channel, now: Timestamp) -> Decision {
    let refused = |rule: &str, reason: &str| Decision::Refused { rule: rule.into(), reason: reason.into() };
    let member = trust.register.member(&row.peer).filter(|member| member.status == Status::Active);
    let Some(member) = member else { return refused("membership", "not an active member") };
    if !trust.register.is_current(now) {
        return refused("register", "the register has expired");
    }
    if !row.agreement.is_valid(now) {
        return refused("agreement", "the agreement has ended or not begun");
    }
    let Ok(policy) = row.agreement.policy() else { return refused("policy", "the policy is not understood") };
    let (purpose, groups) = (row.agreement.purpose.as_ref(), &member.groups);
    let (channel, approved) = (Some(channel), row.approved);
    policy.evaluate(&policy::Facts { recipient: &row.peer, groups, purpose, now, used: row.used, channel, approved })
}

/// A transfer that a consumer asks for under an agreement, not committed yet.
pub fn request_under(
    row: &AgreementRow,
    channel: Channel,
    trace: Option<TraceId>,
    random: &dyn Random,
    now: Timestamp,
) -> Transfer {
    Transfer {
        id: ProcessId::generate_at(now, random),
        role: Role::Consumer,
        peer: row.peer.clone(),
        peer_pid: None,
        state: State::Requested,
        revision: 1,
        agreement: row.id.clone(),
        negotiation: row.negotiation.clone(),
        format: channel.name().to_owned(),
        callback: None,
        data: None,
        paused_by: None,
        ended_by: None,
        pulled: None,
        token_until: None,
        wrapped_token: None,
        reason: None,
        seen: Vec::new(),
        trace,
        started: now,
        updated: now,
    }
}

/// The facts of a move.
pub fn moved(transfer: &Transfer, by: Role, row: Option<&AgreementRow>) -> Facts {
    let mut detail = object(json!({
        "state": transfer.state, "by": by, "role": transfer.role, "peerPid": transfer.peer_pid,
        "negotiation": transfer.negotiation,
    }));
    if let Some(reason) = &transfer.reason {
        detail.insert("reason".into(), reason.clone().into());
    }
    let agreement = row.map(|row| &row.agreement);
    Facts {
        parties: vec![transfer.peer.clone()],
        dataset: agreement.map(|agreement| agreement.dataset.clone()),
        process: Some(transfer.id.clone()),
        agreement: Some(transfer.agreement.clone()),
        enterprise: agreement.and_then(|agreement| agreement.enterprise.clone()),
        purpose: agreement.and_then(|agreement| agreement.purpose.clone()),
        detail,
        ..Facts::default()
    }
}
