//! Visibility of stored dataset versions.

use crate::catalog::Offered;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::node::Counterparty;
use crate::policy::{Channel, Decision, EVERYBODY, Facts, Policy};
use crate::storage::VersionRow;
use std::collections::BTreeSet;

/// The audience keys of a member.
pub fn audience_keys(to: &Counterparty) -> Vec<String> {
    let groups = to.groups.iter().map(|group| format!("g:{group}"));
    let own = [EVERYBODY.to_owned(), format!("p:{}", to.participant)];
    own.into_iter().chain(groups).take(limits::AUDIENCE_KEYS_MAX).collect()
}

/// A stored offer as shown to a member, evaluated without purpose and approval; `None` if it is hidden.
pub fn visible_offer(row: VersionRow, to: &Counterparty, now: Timestamp) -> Option<Offered> {
    let (recipient, groups) = (&to.participant, &to.groups);
    let facts = Facts { recipient, groups, purpose: None, now, used: 0, channel: None, approved: false };
    // An offer whose policy this software version does not understand is hidden.
    let decision = Policy::from_value(&row.policy).ok()?.evaluate(&facts);
    let (listed, mut offered) = (row.about.listed, offered(row));
    if let Decision::Refused { reason, .. } = decision {
        offered.refused = Some(reason);
    }
    (offered.refused.is_none() || listed).then_some(offered)
}

/// A stored version as shown to its publisher.
pub fn offered(row: VersionRow) -> Offered {
    let policy = Policy::from_value(&row.policy).ok();
    let permissions = policy.iter().flat_map(Policy::permissions);
    let channels: BTreeSet<Channel> = permissions.flat_map(|permission| permission.channels()).collect();
    Offered {
        formats: channels.into_iter().map(|channel| channel.name().to_owned()).collect(),
        dataset: row.dataset,
        title: row.title,
        description: row.description,
        offer: row.offer,
        policy: row.policy,
        version: Some(row.version),
        manifest: Some(row.manifest_digest),
        schema: Some(row.schema),
        shared: None,
        records: Some(row.records),
        bytes: Some(row.bytes),
        published: Some(row.published),
        about: row.about,
        quality: row.quality,
        refused: None,
    }
}
