//! The clock of this node and those of its peers: a clock that was ahead is followed again only if most peers agree.

use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::id::ParticipantId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::node::{Error, Node, Peer, User, details};
use crate::storage::{Change, Write};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// The clock of this node, compared with its log and its peers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct ClockReport {
    /// Time of the machine.
    pub system: Timestamp,
    /// Time of the node: that of the machine, but never before its log.
    pub node: Timestamp,
    /// What is wrong, if the machine's clock is behind.
    pub behind: Option<String>,
    /// Active peers that were asked.
    pub asked: usize,
    /// Those that answered.
    pub peers: Vec<PeerTime>,
}

/// The time at a peer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields)]
pub struct PeerTime {
    /// Peer.
    pub peer: ParticipantId,
    /// Its time, to the second.
    pub time: Timestamp,
    /// How far it is ahead of this machine, in seconds; negative if it is behind.
    pub ahead_seconds: i64,
}

/// Compares and corrects the clock.
pub struct Clocks {
    node: Arc<Node>,
    peer: Arc<dyn Peer>,
}

impl Clocks {
    /// Compares the clock of `node` with those behind `peer`.
    pub fn new(node: Arc<Node>, peer: Arc<dyn Peer>) -> Self {
        Self { node, peer }
    }

    /// The clocks of this node and of its active peers.
    pub async fn report(&self) -> ClockReport {
        let trust = self.node.trust();
        let asked = trust.register.body().peers(self.node.me()).map(|member| async move {
            let time = tokio::time::timeout(limits::CATCH_UP_TIME_MAX, self.peer.reach(member)).await.ok()?.ok()??;
            let ahead_seconds = (time.ms() - self.node.clock().system_now().ms()).div_euclid(1_000);
            Some(PeerTime { peer: member.id.clone(), time, ahead_seconds })
        });
        let answers = futures_util::future::join_all(asked).await;
        let (asked, peers) = (answers.len(), answers.into_iter().flatten().collect());
        let (clock, node) = (self.node.clock(), self.node.now());
        ClockReport { system: clock.system_now(), node, behind: clock.behind(), asked, peers }
    }

    /// Lets the node follow a machine's clock that was ahead and is right now: more than half of the active peers must
    /// confirm its time. The log states the correction, and every later verification reports it.
    pub async fn correct(&self, user: &User) -> Result<ClockReport, Error> {
        let report = self.report().await;
        if report.behind.is_none() {
            return Err(Error::invalid("conflict", "the clock is not behind; there is nothing to correct"));
        }
        let agrees = |peer: &&PeerTime| peer.ahead_seconds.abs() <= limits::SKEW_MS_MAX / 1_000;
        let (asked, agreeing) = (report.asked, report.peers.iter().filter(agrees).count());
        // One peer alone, which may be an accomplice or wrong itself, neither confirms nor prevents it among many.
        if agreeing * 2 <= asked {
            let others = report.peers.iter().filter(|peer| !agrees(peer));
            let others: Vec<String> = others.map(|peer| format!("; {} shows {}", peer.peer, peer.time)).collect();
            let reason = format!(
                "{agreeing} of {asked} parks confirm this machine's time, and more than half must{}",
                others.concat()
            );
            return Err(Error::invalid("conflict", reason));
        }
        let facts = Facts {
            detail: details(json!({"before": report.node, "peers": report.peers, "token": user.token})),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let change = Change::new(self.node.draft(Kind::ClockCorrected, facts).with_field(person))
            .write(Write::HastenOutbox(report.system));
        self.node.store().commit(change).await?;
        tracing::warn!(before = %report.node, now = %report.system, "the clock was ahead, and is followed again");
        Ok(self.report().await)
    }
}
