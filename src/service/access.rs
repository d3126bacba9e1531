//! Who is at the other end of a connection, decided anew at every request: a resumed or long-lived connection gives
//! no right that the register has taken away.

use super::refusal::{CountedRefusal, Error, detail};
use super::{Node, Trust};
use crate::audit::entry::{Facts, Kind};
use crate::core::id::{KeyId, ParticipantId, Text};
use crate::identity::bearer;
use crate::identity::key::KeyUse;
use crate::identity::register::{Member, Proof, Status};
use crate::identity::x509::{Presented, Side};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All.
    Active,
    /// Only receipts, destruction statements, terminations and checkpoints.
    Suspended,
}

/// A member at the other end of a connection, as the register with this sequence has it.
#[derive(Debug, Clone)]
pub struct Counterparty {
    /// Who.
    pub participant: ParticipantId,
    /// What it may do.
    pub standing: Standing,
    /// Its groups.
    pub groups: BTreeSet<Text>,
    /// The register that says so.
    pub register: u64,
}

pub(super) fn counterparty(member: &Member, trust: &Trust) -> Counterparty {
    Counterparty {
        participant: member.id.clone(),
        standing: match member.status {
            Status::Active => Standing::Active,
            Status::Suspended => Standing::Suspended,
        },
        groups: member.groups.clone(),
        register: trust.register.body().sequence,
    }
}

impl Node {
    /// The member behind a certificate.
    pub async fn authenticate(self: &Arc<Self>, presented: Option<&Presented>) -> Result<Counterparty, Error> {
        let (trust, now) = (self.trust(), self.now());
        let stranger = |node: &Arc<Self>, reason: CountedRefusal, text: &str| {
            node.count_refusal(reason);
            Err(Error::forbidden("membership", text))
        };
        let Some(presented) = presented else {
            return stranger(
                self,
                CountedRefusal::NoCertificate,
                "present the client certificate that the alliance issued",
            );
        };
        let pin = presented.pin();
        let Some(member) = trust.register.member_by_pin(&pin, now) else {
            return stranger(
                self,
                CountedRefusal::Unknown,
                "the certificate's key belongs to no member of the alliance",
            );
        };
        let counterparty = counterparty(member, &trust);
        // Another connector may bring a certificate of its own: there the pin alone decides.
        let checked = match member.connector {
            None => presented.check(trust.roots.ca(), Side::Client, now),
            Some(_) => presented.check_time(now),
        };
        if let Err(error) = checked {
            let facts = Facts { detail: detail("certificate", pin.to_string()), ..Facts::default() };
            let error = Error::forbidden("certificate", format!("the client certificate is not accepted: {error}"));
            return Err(self.refuse(&counterparty, Kind::AccessRefused, facts, error).await);
        }
        self.on_a_current_register(counterparty, &trust)
    }

    /// The connector whose bearer token this is: only for those that the register has as such.
    pub async fn authenticate_bearer(self: &Arc<Self>, token: &str) -> Result<Counterparty, Error> {
        let (trust, now) = (self.trust(), self.now());
        let by_token = |member: &&Member| member.connector.as_ref().is_some_and(|c| c.proof == Proof::Token);
        let keys = |kid: &KeyId| {
            let member = trust.register.member(&kid.participant()).filter(by_token)?;
            member.key(kid, KeyUse::Document, now)
        };
        let member = bearer::verify(token, self.me(), now, keys).map(|id| trust.register.member(&id));
        match member {
            Ok(Some(member)) => self.on_a_current_register(counterparty(member, &trust), &trust),
            Ok(None) | Err(_) => {
                self.count_refusal(CountedRefusal::Unknown);
                let reason = member.err().map_or("no member has this key".to_owned(), |error| error.to_string());
                Err(Error::forbidden("membership", reason))
            }
        }
    }

    pub(super) fn on_a_current_register(
        self: &Arc<Self>,
        counterparty: Counterparty,
        trust: &Trust,
    ) -> Result<Counterparty, Error> {
        if !trust.register.is_current(self.now()) {
            self.count_refusal(CountedRefusal::RegisterExpired);
            return Err(Error::Unavailable(
                "this node's register has expired; the alliance operator must renew it".into(),
            ));
        }
        Ok(counterparty)
    }

    /// The member, if it is active.
    pub async fn require_active(self: &Arc<Self>, from: &Counterparty, what: &str) -> Result<(), Error> {
        if from.standing == Standing::Active {
            return Ok(());
        }
        let facts = Facts { detail: detail("asked", what), ..Facts::default() };
        let error = Error::forbidden("suspended", format!("{} is suspended by the alliance", from.participant));
        Err(self.refuse(from, Kind::AccessRefused, facts, error).await)
    }
}
