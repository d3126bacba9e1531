//! Authentication of callers, repeated for every request, so that a newer register also takes effect on open and
//! resumed connections.

use super::Membership;
use crate::audit::entry::{Facts, Kind};
use crate::core::id::{KeyId, ParticipantId};
use crate::identity::bearer::{self, BearerError};
use crate::identity::key::KeyUse;
use crate::identity::register::{Member, Proof, Status};
use crate::identity::x509::{Presented, Side};
use crate::node::{CountedRefusal, Counterparty, Error, PeerError, Trust, detail};
use std::sync::atomic::Ordering;

impl Membership {
    /// The member that presents a certificate.
    pub async fn authenticate(&self, presented: Option<&Presented>) -> Result<Counterparty, Error> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let unknown = |reason: CountedRefusal, text: &str| {
            self.node.count_refusal(reason);
            Err(Error::forbidden("membership", text))
        };
        let Some(presented) = presented else {
            return unknown(CountedRefusal::NoCertificate, "present the client certificate that the alliance issued");
        };
        let pin = presented.pin();
        let Some(member) = trust.register.member_by_pin(&pin, now) else {
            return unknown(
                CountedRefusal::Unknown,
                "the key of the client certificate does not belong to a member of the alliance",
            );
        };
        let counterparty = Counterparty::new(member, &trust);
        // Other connectors may use certificates of other issuers: only the pinned key and the validity are checked.
        let checked = match member.connector {
            None => presented.check(trust.roots.ca(), Side::Client, now),
            Some(_) => presented.check_time(now),
        };
        if let Err(error) = checked {
            let facts = Facts { detail: detail("certificate", pin.to_string()), ..Facts::default() };
            let error = Error::forbidden("certificate", format!("the client certificate is not accepted: {error}"));
            return Err(self.node.refuse(&counterparty, Kind::AccessRefused, facts, error).await);
        }
        self.ensure_register_current(counterparty, &trust)
    }

    /// The connector that presents a bearer token; only for connectors that the register lists with tokens.
    pub async fn authenticate_bearer(&self, token: &str) -> Result<Counterparty, Error> {
        let trust = self.node.trust();
        let member = self.verify_bearer(&trust, token).map(|id| trust.register.member(&id));
        match member {
            Ok(Some(member)) => self.ensure_register_current(Counterparty::new(member, &trust), &trust),
            Ok(None) | Err(_) => {
                self.node.count_refusal(CountedRefusal::Unknown);
                let reason = member
                    .err()
                    .map_or("the key of the bearer token does not belong to a member".to_owned(), |error| {
                        error.to_string()
                    });
                Err(Error::forbidden("membership", reason))
            }
        }
    }

    fn verify_bearer(&self, trust: &Trust, token: &str) -> Result<ParticipantId, BearerError> {
        let now = self.node.now();
        let by_token = |member: &&Member| member.connector.as_ref().is_some_and(|c| c.proof == Proof::Token);
        let keys = |kid: &KeyId| {
            let member = trust.register.member(&kid.participant()).filter(by_token)?;
            member.key(kid, KeyUse::Document, now)
        };
        bearer::verify(token, self.node.me(), now, keys)
    }

    /// The connector that a bearer token proves, for limits only.
    pub fn connector_of(&self, token: &str) -> Option<ParticipantId> {
        self.verify_bearer(&self.node.trust(), token).ok()
    }

    fn ensure_register_current(&self, counterparty: Counterparty, trust: &Trust) -> Result<Counterparty, Error> {
        if !trust.register.is_current(self.node.now()) {
            self.node.count_refusal(CountedRefusal::RegisterExpired);
            return Err(Error::Unavailable(
                "this node's register has expired; the alliance operator must renew it".into(),
            ));
        }
        Ok(counterparty)
    }

    /// Fails unless the member is active.
    pub async fn require_active(&self, from: &Counterparty, what: &str) -> Result<(), Error> {
        if from.status == Status::Active {
            return Ok(());
        }
        let facts = Facts { detail: detail("asked", what), ..Facts::default() };
        let trust = self.node.trust();
        let reason = trust.register.member(&from.participant).and_then(|member| member.reason.as_ref());
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let error = Error::forbidden("suspended", format!("{} is suspended by the alliance{reason}", from.participant));
        Err(self.node.refuse(from, Kind::AccessRefused, facts, error).await)
    }

    /// Fails unless the caller has a certificate of the alliance; it need not be a member.
    pub fn require_certificate(&self, presented: Option<&Presented>) -> Result<(), Error> {
        let (trust, now) = (self.node.trust(), self.node.now());
        if presented.is_none_or(|presented| presented.check(trust.roots.ca(), Side::Client, now).is_err()) {
            self.node.count_refusal(CountedRefusal::NoCertificate);
            return Err(Error::forbidden("certificate", "present a client certificate that the alliance issued"));
        }
        Ok(())
    }

    /// Connects to the caller at its endpoint in the register, for the caller's diagnosis.
    pub async fn reach(&self, from: &Counterparty) -> Result<Result<(), PeerError>, Error> {
        self.node.charge_quota(&from.participant)?;
        let _permit = self.reach_checks.try_acquire().map_err(|_| Error::TooMany)?;
        let trust = self.node.trust();
        Ok(self.peer.reach(trust.member(&from.participant)?).await.map(drop))
    }

    /// Whether a peer or the alliance has confirmed since the start that this node's register is the newest.
    pub fn is_register_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// The consumer of a transfer, if it is a connector that authenticates with tokens: on the data plane it sends only
    /// the transfer token, because a request has only one `Authorization` header.
    pub fn token_connector(&self, peer: &ParticipantId) -> Result<Option<Counterparty>, Error> {
        let trust = self.node.trust();
        let by_token = |member: &&Member| member.connector.as_ref().is_some_and(|c| c.proof == Proof::Token);
        let member = trust.register.member(peer).filter(by_token);
        member.map(|member| self.ensure_register_current(Counterparty::new(member, &trust), &trust)).transpose()
    }
}
