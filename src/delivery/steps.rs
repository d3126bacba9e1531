//! The next steps of this side in a transfer: decided on the normal path and after a restart, or requested by a user.

use super::Transfers;
use super::evaluation::{evaluate_agreement, is_withdrawn};
use super::facts::{new_transfer, transition_facts};
use crate::audit::entry::{Decision as Logged, FieldOpening, Kind};
use crate::core::id::{AgreementId, ProcessId};
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::negotiation::Role;
use crate::node::{Error, Message, TransferStep, User, run_steps, trace};
use crate::policy::{Channel, Decision};
use crate::storage::{AgreementRow, Change, Guard, StoreError, Write};
use crate::transfer::{Event, SEALED, State, Transfer};
use std::sync::Arc;

impl Transfers {
    /// Takes this side's next steps in the background, as long as there are any.
    pub fn advance(self: &Arc<Self>, id: &ProcessId) {
        let (transfers, id) = (self.clone(), id.clone());
        run_steps(id.clone(), move || {
            let (transfers, id) = (transfers.clone(), id.clone());
            async move {
                match transfers.node.store().transfer(&id).await? {
                    Some(old) => trace::within(old.trace, transfers.step(old)).await,
                    None => Ok(false),
                }
            }
        });
    }

    /// Takes one step; false if there is none.
    async fn step(self: &Arc<Self>, old: Transfer) -> Result<bool, StoreError> {
        if old.role == Role::Consumer && old.state == State::Started && old.format == SEALED {
            self.downloads.start(&old.id);
            return Ok(false);
        }
        if old.state.is_final() {
            if old.role == Role::Consumer {
                self.downloads.clean_up(&old.id).await?;
            }
            return Ok(false);
        }
        let Some(row) = self.node.store().agreement(&old.agreement).await? else { return Ok(false) };
        let (trust, now) = (self.node.trust(), self.node.now());
        trust.ensure_current(now)?;
        let channel = Channel::named(&old.format).unwrap_or(Channel::Sealed);
        let said = (old.role == Role::Provider)
            .then(|| evaluate_agreement(&trust, &without_own_use(&row, &old), channel, now));
        let withdrawn = old.role == Role::Provider && is_withdrawn(&self.node, &row).await?;
        let step = match withdrawn {
            true => TransferStep::Terminate("the provider withdrew the dataset".into()),
            false => self.decisions.transfer(&old, said.as_ref()),
        };
        let Some(change) = self.step_change(old, step, said, &row, now) else { return Ok(false) };
        let change = change
            .guard(Guard::Register(trust.register.body().sequence))
            .guard(Guard::Count(row.id.clone(), row.used))
            .guard(Guard::DecidedAt(now));
        self.node.store().commit(change).await.map(|_| true)
    }

    /// A step of this side as a change; `None` if there is nothing to do, or the step is not possible now.
    fn step_change(
        &self,
        old: Transfer,
        step: TransferStep,
        said: Option<Decision>,
        row: &AgreementRow,
        now: Timestamp,
    ) -> Option<Change> {
        let by = old.role;
        let (rule, refusal) = match said {
            Some(Decision::Permitted { rule, .. }) => (Some(rule), None),
            Some(Decision::Refused { rule, reason }) => (Some(rule), Some(reason)),
            Some(Decision::Undetermined { rule, .. }) => {
                (Some(rule), Some("the policy neither permits nor refuses this transfer".to_owned()))
            }
            None => (None, None),
        };
        // The decision maker may be stricter than the policy, never laxer.
        let step = match (step, refusal) {
            (TransferStep::Start, Some(reason)) => TransferStep::Terminate(reason),
            (step, _) => step,
        };
        let (next, message, decision) = match step {
            TransferStep::Wait => return None,
            TransferStep::Start if old.suspended_by.is_some_and(|side| side != by) => return None,
            TransferStep::Start => {
                let mut next = old.apply(by, Event::Start, now).ok()?;
                let (pid, peer_pid) = (next.id.clone(), next.peer_pid.clone()?);
                let message = if by == Role::Provider {
                    let until = now.plus_ms(limits::TRANSFER_TOKEN_LIFE_MS).min(row.agreement.valid_until);
                    next.token_until = Some(until);
                    Message::TransferStart { pid, peer_pid, until }
                } else {
                    Message::TransferResumption { pid, peer_pid }
                };
                (next, Some(message), Logged::Permitted)
            }
            TransferStep::Suspend(reason) => {
                let mut next = old.apply(by, Event::Suspend, now).ok()?;
                let message = Message::pause_of_transfer(&next, &reason);
                next.reason = Some(reason);
                (next, message, Logged::Refused)
            }
            TransferStep::Complete => {
                let next = old.apply(by, Event::Complete, now).ok()?;
                let (pid, peer_pid) = (next.id.clone(), next.peer_pid.clone()?);
                (next, Some(Message::TransferCompletion { role: by, pid, peer_pid }), Logged::Permitted)
            }
            TransferStep::Terminate(reason) => {
                let mut next = old.apply(by, Event::Terminate, now).ok()?;
                let code = if next.cancelled { "cancelled" } else { "refused" };
                let message = Message::end_of_transfer(&next, code, &reason);
                next.reason = Some(reason);
                (next, message, Logged::Refused)
            }
        };
        let mut facts = transition_facts(&next, by, Some(row));
        (facts.rule, facts.decision) = match next.cancelled {
            true => (Some("person".into()), None),
            false => (rule.or_else(|| Some("decision".into())), Some(decision)),
        };
        let mut change = Change::new(self.node.draft(Kind::TransferTransition, facts));
        let message = message
            .map(|message| message.outgoing(&next.peer, &next.id, self.node.random()).with_callback(&next.callback));
        change.outbox.extend(message);
        Some(change.write(Write::PutTransfer(Box::new(next))))
    }

    /// Takes a step that a user requested: suspend, resume or end a transfer.
    pub async fn apply_user_step(
        self: &Arc<Self>,
        user: &User,
        id: &ProcessId,
        step: TransferStep,
    ) -> Result<Transfer, Error> {
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let missing = || Error::not_found(format!("there is no transfer {id}"));
            let old = self.node.store().transfer(id).await?.ok_or_else(missing)?;
            let row = self.node.store().agreement(&old.agreement).await?.ok_or_else(missing)?;
            let (trust, now, state) = (self.node.trust(), self.node.now(), old.state);
            trust.ensure_current(now)?;
            let channel = Channel::named(&old.format).unwrap_or(Channel::Sealed);
            let said = (old.role == Role::Provider)
                .then(|| evaluate_agreement(&trust, &without_own_use(&row, &old), channel, now));
            let cancelled = matches!(step, TransferStep::Terminate(_));
            let old = Transfer { cancelled, ..old };
            let Some(change) = self.step_change(old, step.clone(), said, &row, now) else {
                let reason = format!("this step is not possible: the transfer is {}", state.name());
                return Err(Error::invalid("conflict", reason));
            };
            let person = FieldOpening::new("person", user.person.clone(), self.node.random());
            let change = change
                .by(person)
                .guard(Guard::Register(trust.register.body().sequence))
                .guard(Guard::Count(row.id.clone(), row.used))
                .guard(Guard::DecidedAt(now));
            match self.node.store().commit(change).await {
                Ok(_) => {
                    self.advance(id);
                    return self.node.store().transfer(id).await?.ok_or_else(missing);
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("the transfer keeps changing; try again".into()))
    }

    /// Transfers that are not in a final state, at most `limit`.
    pub async fn open(&self, limit: usize) -> Result<Vec<Transfer>, Error> {
        let (_, open) = self.node.store().open_processes().await?;
        let mut found = Vec::new();
        for id in open.iter().take(limit) {
            found.extend(self.node.store().transfer(id).await?);
        }
        Ok(found)
    }

    /// Requests a transfer under an existing agreement.
    pub async fn request(self: &Arc<Self>, agreement: &AgreementId, channel: Channel) -> Result<ProcessId, Error> {
        let row = self.node.store().agreement(agreement).await?;
        let row = row.filter(|row| row.agreement.consumer == *self.node.me());
        let row = row.ok_or_else(|| Error::not_found(format!("there is no agreement {agreement}")))?;
        let transfer = new_transfer(&row, channel, trace::current(), self.node.random(), self.node.now());
        let message = Message::TransferRequest {
            pid: transfer.id.clone(),
            agreement: row.id.clone(),
            format: channel.name().to_owned(),
        };
        let id = transfer.id.clone();
        let change = Change::new(
            self.node.draft(Kind::TransferTransition, transition_facts(&transfer, Role::Consumer, Some(&row))),
        )
        .send(message.outgoing(&row.peer, &id, self.node.random()))
        .write(Write::PutTransfer(Box::new(transfer)));
        self.node.store().commit(change).await?;
        Ok(id)
    }
}

/// The agreement without the use that a suspended transfer may have counted itself, so that it can be resumed. Key
/// release and the first byte of plain data are decided again with all uses.
fn without_own_use(row: &AgreementRow, transfer: &Transfer) -> AgreementRow {
    let own = u64::from(transfer.state == State::Suspended);
    AgreementRow { used: row.used.saturating_sub(own), ..row.clone() }
}
