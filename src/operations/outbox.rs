//! The outbox: delivers committed messages, those of each process in order, until they are delivered. Commits wake it;
//! timers are only used for retries.

use crate::audit::entry::{Facts, Kind};
use crate::contracts::Negotiations;
use crate::core::id::{MessageId, ParticipantId, ProcessId};
use crate::core::limits;
use crate::core::time::{Timestamp, backoff};
use crate::delivery::{TransferTokens, Transfers};
use crate::evidence::Evidence;
use crate::negotiation::{self, Negotiation};
use crate::node::{Envelope, Message, Node, Peer, PeerError, trace};
use crate::storage::{Change, Due, Maintenance, Outgoing, StoreError, Write};
use crate::transfer::{self, Transfer};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Code of a termination because a message could not be delivered.
const ABANDONED: &str = "abandoned";

/// Receivers and ids of the messages being delivered.
type Sending = Arc<Mutex<HashSet<(ParticipantId, MessageId)>>>;

/// Registers a delivery, unless the message is being delivered, or too many are in total or to its receiver.
fn try_start(sending: &Sending, row: &Due) -> bool {
    let mut sending = sending.lock().unwrap_or_else(PoisonError::into_inner);
    let to_same = sending.iter().filter(|(to, _)| *to == row.to).count();
    sending.len() < limits::OUTBOX_DELIVERIES_MAX
        && to_same < limits::OUTBOX_PER_MEMBER_MAX
        && sending.insert((row.to.clone(), row.id.clone()))
}

/// Delivers the messages of the outbox.
pub struct Outbox {
    node: Arc<Node>,
    evidence: Arc<Evidence>,
    peer: Arc<dyn Peer>,
    negotiations: Arc<Negotiations>,
    transfers: Arc<Transfers>,
    tokens: Arc<TransferTokens>,
    /// Wakes the loop when a delivery ends.
    wake: Notify,
}

impl Outbox {
    /// Messages are sent to `peer`.
    pub fn new(
        node: Arc<Node>,
        evidence: Arc<Evidence>,
        peer: Arc<dyn Peer>,
        negotiations: Arc<Negotiations>,
        transfers: Arc<Transfers>,
        tokens: Arc<TransferTokens>,
    ) -> Arc<Self> {
        Arc::new(Self { node, evidence, peer, negotiations, transfers, tokens, wake: Notify::new() })
    }

    /// Continues the processes that a restart interrupted, then delivers messages until the node is dropped.
    pub async fn run(self: Arc<Self>) {
        while let Err(error) = self.advance_all().await {
            tracing::error!(%error, "interrupted processes could not be continued; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let sending: Sending = Arc::default();
        loop {
            let pause = match self.send_due(&sending).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "the outbox could not be read");
                    Some(Duration::from_secs(1))
                }
            };
            let timer = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.node.store().outbox_filled() => {}
                () = self.wake.notified() => {}
                () = timer => {}
            }
        }
    }

    /// Takes the next steps of all open processes, after a restart and periodically: a process may wait for something
    /// that has expired.
    pub async fn advance_all(self: &Arc<Self>) -> Result<(), StoreError> {
        let (negotiations, transfers) = self.node.store().open_processes().await?;
        negotiations.iter().for_each(|id| self.negotiations.advance(id));
        transfers.iter().for_each(|id| self.transfers.advance(id));
        Ok(())
    }

    /// Starts the deliveries that are due, and returns the time until the next one.
    async fn send_due(self: &Arc<Self>, sending: &Sending) -> Result<Option<Duration>, StoreError> {
        let now = self.node.now();
        for row in self.node.store().outbox_due(now, limits::PAGE_ROWS_MAX).await? {
            if !try_start(sending, &row) {
                continue;
            }
            let (outbox, sending) = (self.clone(), sending.clone());
            tokio::spawn(async move {
                let key = (row.to, row.id);
                match outbox.node.store().outgoing(&key.1).await {
                    Ok(Some(row)) => trace::within(row.trace, outbox.send(row)).await,
                    // The message was abandoned in the meantime.
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a message of the outbox could not be read");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                sending.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                outbox.wake.notify_one();
            });
        }
        // Due messages are being delivered, or wait until the end of another delivery wakes the loop.
        let (next, _) = self.node.store().outbox_next(now).await?;
        Ok(next.map(|next| Duration::from_millis(next.ms().saturating_sub(now.ms()).max(1) as u64)))
    }

    async fn send(self: &Arc<Self>, row: Outgoing) {
        let outcome = self.try_send(&row).await;
        let done = match outcome {
            Ok(()) => self.node.store().maintain(vec![Maintenance::Sent(row.id.clone())]).await,
            Err(error) if self.may_pass(&row, &error) => {
                tracing::debug!(%error, to = %row.to, process = %row.process, attempts = row.attempts, "message not delivered yet");
                let conflict = is_conflict(&error);
                let earlier = if conflict { row.conflicts } else { row.attempts };
                let at = self.node.now().plus_ms(backoff(earlier).as_millis() as i64);
                let task = Maintenance::Retry { id: row.id.clone(), at, failure: error.to_string(), conflict };
                self.node.store().maintain(vec![task]).await
            }
            Err(error) => self.abandon(&row, &error).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the outbox could not be updated; the message will be sent again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Whether the message is to be sent again after this failure. A conflict (RFC 9110 section 15.5.10) of another
    /// connector can pass: EDC answers so while another of its threads has leased the process, at most a minute.
    fn may_pass(&self, row: &Outgoing, error: &PeerError) -> bool {
        let trust = self.node.trust();
        let is_connector = || trust.register.member(&row.to).is_some_and(|member| member.connector.is_some());
        match is_conflict(error) {
            true => row.conflicts < limits::OUTBOX_CONFLICTS_MAX && is_connector(),
            false => error.is_transient() && row.attempts + 1 < limits::OUTBOX_ATTEMPTS_MAX,
        }
    }

    async fn try_send(self: &Arc<Self>, row: &Outgoing) -> Result<(), PeerError> {
        let message = Message::read(row).ok_or_else(|| {
            PeerError::Invalid("this software version does not understand the message in the outbox".into())
        })?;
        // A request that was cancelled before it was sent. Once it was sent, the peer may have it: it is sent until its
        // process id is known, and then the peer is told of the end.
        if row.attempts == 0
            && matches!(message, Message::ContractRequest { peer_pid: None, .. })
            && let Ok(Some(negotiation)) = self.node.store().negotiation(&row.process).await
            && negotiation.state == negotiation::State::Terminated
        {
            return Ok(());
        }
        let (trust, now) = (self.node.trust(), self.node.now());
        trust.ensure_current(now).map_err(|error| PeerError::Unreachable(error.to_string()))?;
        let member = trust.register.member(&row.to);
        let member = member.ok_or_else(|| PeerError::Unreachable(format!("{} is not in the register", row.to)))?;
        let token = match &message {
            Message::TransferStart { pid, until, .. } => {
                let pin = member.pins(now).first().copied();
                let pin = pin.ok_or_else(|| PeerError::Unreachable(format!("{} has no valid TLS key", row.to)))?;
                Some(self.tokens.issue(pid, &row.to, &pin, *until))
            }
            _ => None,
        };
        let callback = row.callback.as_ref().filter(|address| member.callbacks.iter().any(|all| all.covers(address)));
        let envelope = Envelope { id: &row.id, callback, message: &message, token: token.as_deref() };
        let delivered = self.peer.deliver(member, &envelope).await;
        if let Err(PeerError::Refused { promise, .. }) = &delivered {
            self.evidence.store_promise(&row.to, promise.clone()).await;
        }
        let delivered = delivered?;
        self.evidence.store_promise(&row.to, delivered.promise).await;
        if let Some(peer_pid) = delivered.body {
            self.learn_peer_pid(&message, &row.process, peer_pid).await;
        }
        Ok(())
    }

    /// Stores the peer's process id, which this side's next message needs. If this fails, the peer's next message
    /// states it again.
    async fn learn_peer_pid(self: &Arc<Self>, message: &Message, process: &ProcessId, peer_pid: ProcessId) {
        let task = Maintenance::PeerPid { process: process.clone(), peer_pid };
        if let Err(error) = self.node.store().maintain(vec![task]).await {
            tracing::warn!(%error, %process, "the peer's process id could not be stored");
        }
        match message {
            Message::TransferRequest { .. } => self.transfers.advance(process),
            _ => {
                if let Err(error) = self.negotiations.tell_end(process).await {
                    tracing::warn!(%error, %process, "the peer could not be told of the end");
                }
                self.negotiations.advance(process);
            }
        }
    }

    /// Abandons a message that cannot be delivered: logs it, and terminates the process on both sides.
    async fn abandon(self: &Arc<Self>, row: &Outgoing, error: &PeerError) -> Result<(), StoreError> {
        tracing::warn!(%error, to = %row.to, process = %row.process, "an undeliverable message was abandoned");
        let mut facts = Facts { parties: vec![row.to.clone()], process: Some(row.process.clone()), ..Facts::default() };
        facts.detail.insert("message".into(), row.message.get("message").cloned().unwrap_or_default());
        facts.detail.insert("reason".into(), error.to_string().into());
        let mut change = Change::new(self.node.draft(Kind::MessageAbandoned, facts));
        let (now, reason) = (self.node.now(), format!("{} {error}", row.to));
        // The peer may be waiting, so it is notified, with its own reason for the refusal but no details of this node.
        let reason_for_peer = match error {
            PeerError::Refused { reason, .. } => format!("you refused a message of this process: {reason}"),
            _ => "a message of this process could not be delivered".to_owned(),
        };
        let left = Message::read(row).and_then(|message| message.negotiation_state());
        let ended = if let Some(negotiation) = self.node.store().negotiation(&row.process).await? {
            // The negotiation may have moved on since the message was written.
            let stands = left.is_none_or(|state| state == negotiation.state);
            let negotiation = Some(negotiation).filter(|_| stands);
            negotiation.and_then(|negotiation| end_negotiation(negotiation, &reason, &reason_for_peer, now))
        } else if let Some(transfer) = self.node.store().transfer(&row.process).await? {
            end_transfer(transfer, &reason, &reason_for_peer, now)
        } else {
            None
        };
        // A process that has ended stays as it is.
        if let Some((write, message)) = ended {
            change.writes.push(write);
            let to = |message: Message| {
                message.outgoing(&row.to, &row.process, self.node.random()).with_callback(&row.callback)
            };
            change.outbox.extend(message.map(to));
        }
        let change = change.write(Write::DropMessage(row.id.clone()));
        // After a conflict the process has changed: the message stays in the outbox and is tried again.
        self.node.store().commit(change).await.map(drop)
    }
}

fn is_conflict(error: &PeerError) -> bool {
    matches!(error, PeerError::Refused { status: 409, .. })
}

/// The end of a negotiation whose message could not be delivered, and the message of it; `None` if it has ended.
fn end_negotiation(
    old: Negotiation,
    reason: &str,
    reason_for_peer: &str,
    now: Timestamp,
) -> Option<(Write, Option<Message>)> {
    let by = old.role;
    let mut ended = old.apply(by, negotiation::Event::Abandon, now).ok()?;
    ended.reason = Some(reason.to_owned());
    let message = Message::end_of_negotiation(&ended, ABANDONED, reason_for_peer);
    Some((Write::PutNegotiation(Box::new(ended)), message))
}

/// The end of a transfer, as in [`end_negotiation`].
fn end_transfer(
    old: Transfer,
    reason: &str,
    reason_for_peer: &str,
    now: Timestamp,
) -> Option<(Write, Option<Message>)> {
    let by = old.role;
    let mut ended = old.apply(by, transfer::Event::Terminate, now).ok()?;
    ended.reason = Some(reason.to_owned());
    let message = Message::end_of_transfer(&ended, ABANDONED, reason_for_peer);
    Some((Write::PutTransfer(Box::new(ended)), message))
}
