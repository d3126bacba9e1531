//! New transfers, and the facts of their transitions for the log.

use crate::audit::entry::Facts;
use crate::core::id::ProcessId;
use crate::core::random::Random;
use crate::core::time::Timestamp;
use crate::core::trace::TraceId;
use crate::keys::Cell;
use crate::negotiation::Role;
use crate::node::details;
use crate::policy::Channel;
use crate::storage::AgreementRow;
use crate::transfer::{State, Transfer};
use serde_json::json;

/// The cell that holds a consumer's wrapped transfer token.
pub fn token_cell(transfer: &ProcessId) -> Cell<'_> {
    Cell { table: "process", row: transfer.as_str(), column: "token" }
}

/// A new transfer of a consumer under an agreement, not committed yet.
pub fn new_transfer(
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
        suspended_by: None,
        ended_by: None,
        cancelled: false,
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

/// The facts of a transition.
pub fn transition_facts(transfer: &Transfer, by: Role, row: Option<&AgreementRow>) -> Facts {
    let mut detail = details(json!({
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
