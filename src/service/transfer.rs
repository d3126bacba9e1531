//! Transfer processes, both roles, and the tokens under which sealed bytes are served.

use super::message::Message;
use super::negotiate::{Moved, Pause, check_callback};
use super::ports::TransferStep;
use super::refusal::Error;
use super::register::object;
use super::{Counterparty, Inbound, Node, Trust, trace};
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::blob::{Blobs, name_of};
use crate::core::digest::Digest;
use crate::core::id::{AgreementId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::identity::endpoint::Endpoint;
use crate::identity::key::base64url;
use crate::identity::register::Status;
use crate::keys::Place;
use crate::negotiation::Role;
use crate::policy::{self, Decision};
use crate::storage::{AgreementRow, Change, Guard, StoreError, Write};
use crate::transfer::{Event, SEALED, State, Transfer};
use ring::hmac;
use serde_json::json;
use std::sync::Arc;

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

/// Sealed bytes that may be served.
pub struct Served {
    /// The blob.
    pub file: std::fs::File,
    /// Its size.
    pub size: u64,
}

impl Node {
    /// Provider: a consumer asks for a transfer.
    pub async fn transfer_requested(
        self: &Arc<Self>,
        from: &Counterparty,
        request: TransferRequest,
    ) -> Result<Moved<Transfer>, Error> {
        self.take_quota(&from.participant)?;
        if let Some(id) = self.parts.store.process_by_peer(&from.participant, &request.consumer_pid).await? {
            let known = self.parts.store.transfer(&id).await?;
            if let Some(known) = known.filter(|known| known.seen.contains(&request.digest)) {
                self.go_on_transfer(&known.id);
                return Ok(Moved::repeated(known));
            }
            let error = Error::invalid("pid", format!("the process {} exists already", request.consumer_pid));
            return Err(self.refuse(from, Kind::MessageRefused, Facts::default(), error).await);
        }
        match self.open_transfer(from, &request).await {
            Ok(opened) => {
                self.go_on_transfer(&opened.process.id);
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

    async fn open_transfer(&self, from: &Counterparty, request: &TransferRequest) -> Result<Moved<Transfer>, Error> {
        check_callback(&self.trust(), from, &request.callback)?;
        let row = self.parts.store.agreement(&request.agreement).await?;
        let row = row.filter(|row| row.peer == from.participant && row.agreement.provider == *self.me());
        let row = row.ok_or_else(|| Error::not_found(format!("there is no agreement {}", request.agreement)))?;
        if request.format != SEALED {
            return Err(Error::invalid("format", format!("the only format here is {SEALED}")));
        }
        let now = self.now();
        let transfer = Transfer {
            id: ProcessId::generate(self.random()),
            role: Role::Provider,
            peer: from.participant.clone(),
            peer_pid: Some(request.consumer_pid.clone()),
            state: State::Requested,
            revision: 1,
            agreement: row.id.clone(),
            negotiation: row.negotiation.clone(),
            format: request.format.clone(),
            token_until: None,
            wrapped_token: None,
            reason: None,
            seen: vec![request.digest],
            trace: trace::current(),
            started: now,
            updated: now,
        };
        let facts = moved(&transfer, Role::Consumer, Some(&row));
        let change = Change::new(self.draft(Kind::TransferMoved, facts))
            .guard(Guard::Register(from.register))
            .guard(Guard::OpenProcesses(from.participant.clone(), limits::OPEN_PROCESSES_PER_MEMBER_MAX))
            .write(Write::PutTransfer(Box::new(transfer.clone())));
        match self.parts.store.commit(change).await {
            Ok(mut logged) => Ok(Moved { process: transfer, logged: logged.pop() }),
            Err(StoreError::Conflict("the number of open processes")) => Err(Error::TooMany),
            Err(error) => Err(error.into()),
        }
    }

    async fn move_transfer(
        self: &Arc<Self>,
        inbound: &Inbound<'_>,
        event: Event,
        amend: impl Fn(&mut Transfer) -> Result<(), Error>,
    ) -> Result<Moved<Transfer>, Error> {
        self.take_quota(&inbound.from.participant)?;
        let mut facts = Facts { process: Some(inbound.pid.clone()), ..Facts::default() };
        facts.detail.insert("event".into(), format!("{event:?}").to_lowercase().into());
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let found = self.parts.store.transfer(inbound.pid).await?;
            let Some(old) = found.filter(|t| t.peer == inbound.from.participant) else {
                let error = Error::not_found(format!("there is no transfer {}", inbound.pid));
                return Err(self.refuse(inbound.from, Kind::MessageRefused, facts, error).await);
            };
            if old.seen.contains(&inbound.digest) {
                self.go_on_transfer(&old.id);
                return Ok(Moved::repeated(old));
            }
            let moved_by_peer = || {
                let by = if old.role == Role::Consumer { Role::Provider } else { Role::Consumer };
                if old.peer_pid.as_ref().is_some_and(|pid| pid != inbound.peer_pid) {
                    return Err(Error::invalid("pid", "the message names another process of the sender"));
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
            let change = Change::new(self.draft(Kind::TransferMoved, moved(&next, by, row.as_ref())))
                .guard(Guard::Register(inbound.from.register))
                .write(Write::PutTransfer(Box::new(next.clone())));
            match self.parts.store.commit(change).await {
                Ok(logged) => {
                    self.go_on_transfer(&next.id);
                    return Ok(Moved { process: next, logged: logged.into_iter().next() });
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the transfer changes all the time; try again".into()))
    }

    /// Consumer: data may flow. The address in the message must be the provider's in the register; the token is kept
    /// wrapped.
    pub async fn transfer_started(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        endpoint: &Endpoint,
        token: &str,
        until: Option<Timestamp>,
    ) -> Result<Moved<Transfer>, Error> {
        let trust = self.trust();
        self.move_transfer(&inbound, Event::Start, |next| {
            if next.role == Role::Provider {
                return Err(Error::invalid("state", "only the provider starts a transfer here"));
            }
            if !trust.member(&next.peer)?.endpoint.covers(endpoint) {
                return Err(Error::invalid("dataAddress", format!("{endpoint} is not at the provider's endpoint")));
            }
            next.wrapped_token = Some(self.parts.kek.wrap(token_place(&next.id), token.as_bytes(), self.random()));
            next.token_until = until;
            Ok(())
        })
        .await
    }

    /// Either side: done.
    pub async fn transfer_completed(self: &Arc<Self>, inbound: Inbound<'_>) -> Result<Moved<Transfer>, Error> {
        self.move_transfer(&inbound, Event::Complete, |_| Ok(())).await
    }

    /// Either side: paused.
    pub async fn transfer_suspended(
        self: &Arc<Self>,
        inbound: Inbound<'_>,
        reason: &str,
    ) -> Result<Moved<Transfer>, Error> {
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
    ) -> Result<Moved<Transfer>, Error> {
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

    /// Does this side's next step, if there is one, in the background.
    pub(super) fn go_on_transfer(self: &Arc<Self>, id: &ProcessId) {
        let (node, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let found = node.parts.store.transfer(&id).await.ok().flatten().and_then(|t| t.trace);
            let steps = async {
                let mut pause = Pause::default();
                while let Err(error) = node.step_transfer(&id).await {
                    pause.after(&error, &id).await;
                }
            };
            trace::within(found, steps).await;
        });
    }

    async fn step_transfer(self: &Arc<Self>, id: &ProcessId) -> Result<(), StoreError> {
        let Some(old) = self.parts.store.transfer(id).await? else { return Ok(()) };
        if old.role == Role::Consumer && old.state == State::Started {
            self.deliver(&old.id);
            return Ok(());
        }
        let Some(row) = self.parts.store.agreement(&old.agreement).await? else { return Ok(()) };
        let (trust, now) = (self.trust(), self.now());
        trust.must_be_current(now)?;
        let said = (old.role == Role::Provider).then(|| policy_says(&trust, &row, now));
        let step = self.parts.decisions.transfer(&old, said.as_ref());
        let guards = [Guard::Register(trust.register.body().sequence), Guard::Count(row.id.clone(), row.used)];
        let (next, message, rule, decision) = match (step, said) {
            (TransferStep::Wait, _) => return Ok(()),
            (TransferStep::Start, Some(Decision::Permitted { rule, .. })) => {
                let Ok(mut next) = old.apply(Role::Provider, Event::Start, now) else { return Ok(()) };
                let until = now.plus_ms(limits::TRANSFER_TOKEN_LIFE_MS).min(row.agreement.valid_until);
                next.token_until = Some(until);
                let Some(peer_pid) = next.peer_pid.clone() else { return Ok(()) };
                let message = Message::TransferStart { pid: next.id.clone(), peer_pid, until };
                (next, Some(message), rule, Logged::Permitted)
            }
            (step, said) => {
                let by = old.role;
                let (rule, why) = match said {
                    Some(Decision::Refused { rule, reason }) => (rule, reason),
                    Some(Decision::Undetermined { rule }) => (rule, "undetermined".into()),
                    _ => ("decision".into(), "refused".into()),
                };
                let reason = if let TransferStep::Terminate(reason) = step { reason } else { why };
                let Ok(mut next) = old.apply(by, Event::Terminate, now) else { return Ok(()) };
                let message = Message::end_of_transfer(&next, "refused", &reason);
                next.reason = Some(reason);
                (next, message, rule, Logged::Refused)
            }
        };
        let mut facts = moved(&next, next.role, Some(&row));
        (facts.rule, facts.decision) = (Some(rule), Some(decision));
        let mut change = Change::new(self.draft(Kind::TransferMoved, facts));
        change.guards.extend(guards);
        change.outbox.extend(message.map(|message| message.outgoing(&next.peer, &next.id, self.random())));
        self.parts.store.commit(change.write(Write::PutTransfer(Box::new(next)))).await.map(drop)
    }

    /// The token of a started transfer: it names its end, and is bound to the transfer, its consumer, and the consumer's
    /// TLS key. It stands nowhere; it is derived when it is sent and when it is checked.
    pub fn transfer_token(&self, transfer: &ProcessId, to: &ParticipantId, pin: &Digest, until: Timestamp) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.parts.token_key[..]);
        let tag = hmac::sign(&key, &token_text(transfer, to, pin, until));
        format!("{}.{}", until.ms(), base64url(tag.as_ref()))
    }

    fn token_is_good(&self, token: &str, transfer: &Transfer, from: &Counterparty) -> bool {
        let parse = |token: &str| {
            let (until, tag) = token.split_once('.')?;
            Some((Timestamp::from_ms(until.parse().ok()?), crate::identity::key::from_base64url(tag)?))
        };
        let Some((until, tag)) = parse(token) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.parts.token_key[..]);
        // Any of the member's keys will do: it may have changed to a new one since the token was made. Constant time.
        let genuine =
            |pin: &Digest| hmac::verify(&key, &token_text(&transfer.id, &from.participant, pin, until), &tag).is_ok();
        let pins = self.trust().register.member(&from.participant).map(|member| member.pins(self.now()));
        pins.is_some_and(|pins| pins.iter().any(genuine)) && self.now() < until && transfer.token_until == Some(until)
    }

    /// Provider: sealed bytes for a transfer, if its token is good and it is under way.
    pub async fn serve_data(
        self: &Arc<Self>,
        from: &Counterparty,
        id: &ProcessId,
        token: Option<&str>,
    ) -> Result<Served, Error> {
        match self.try_serve(from, id, token).await {
            Ok(served) => Ok(served),
            Err(error) => {
                let facts = Facts { process: Some(id.clone()), ..Facts::default() };
                Err(self.refuse(from, Kind::DataRefused, facts, error).await)
            }
        }
    }

    async fn try_serve(&self, from: &Counterparty, id: &ProcessId, token: Option<&str>) -> Result<Served, Error> {
        // While the state here may be an old one, nothing is served by it.
        self.must_be_writable()?;
        let transfer = self.parts.store.transfer(id).await?;
        let transfer = transfer.filter(|t| t.peer == from.participant && t.role == Role::Provider);
        let transfer = transfer.ok_or_else(|| Error::not_found(format!("there is no transfer {id}")))?;
        if !token.is_some_and(|token| self.token_is_good(token, &transfer, from)) {
            return Err(Error::forbidden("token", "the transfer token is missing, wrong or expired"));
        }
        if transfer.state != State::Started {
            return Err(Error::forbidden("state", format!("the transfer is {}", transfer.state.name())));
        }
        let row = self.parts.store.agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| Error::Internal("a transfer without agreement".into()))?;
        if !row.agreement.is_valid(self.now()) {
            return Err(Error::forbidden("agreement", "the agreement has ended"));
        }
        let manifest = row.agreement.manifest.ok_or_else(|| Error::Internal("no manifest".into()))?;
        let version = self.parts.store.version_by_manifest(&manifest).await?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version is gone"))?;
        let file = self.parts.blobs.read(&name_of(&version.blob));
        let file = file.map_err(|error| Error::Unavailable(format!("the sealed bytes cannot be read: {error}")))?;
        Ok(Served { file, size: version.bytes })
    }
}

impl Served {
    /// Reads a range.
    pub fn range(&self, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
        Blobs::range(&self.file, offset, length)
    }
}

fn token_text(transfer: &ProcessId, to: &ParticipantId, pin: &Digest, until: Timestamp) -> Vec<u8> {
    format!("crosspark/transfer-token/v1\0{transfer}\0{to}\0{pin}\0{}", until.ms()).into_bytes()
}

/// Where a consumer's copy of a token is wrapped.
pub fn token_place(transfer: &ProcessId) -> Place<'_> {
    Place { table: "process", row: transfer.as_str(), column: "token" }
}

/// What an agreement's policy says now.
pub fn policy_says(trust: &Trust, row: &AgreementRow, now: Timestamp) -> Decision {
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
    let (purpose, groups) = (Some(&row.agreement.purpose), &member.groups);
    policy.evaluate(&policy::Facts { recipient: &row.peer, groups, purpose, now, used: row.used })
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
        enterprise: agreement.map(|agreement| agreement.enterprise.clone()),
        purpose: agreement.map(|agreement| agreement.purpose.clone()),
        detail,
        ..Facts::default()
    }
}
