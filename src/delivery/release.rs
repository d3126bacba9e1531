//! Key release and receipts of the provider. The policy is evaluated when a key is requested; log entry, use count and
//! sealed answer are one commit, guarded by the facts of the decision; the key is sent only after it.

use super::DataPlane;
use super::evaluation::{ensure_not_withdrawn, evaluate_agreement, is_withdrawn, state_code};
use crate::audit::entry::{Decision as Logged, Facts, Kind};
use crate::audit::receipt::Receipt;
use crate::core::digest::Digest;
use crate::core::id::ProcessId;
use crate::core::limits;
use crate::core::time::Timestamp;
use crate::dataset::release::{HPKE, KeyAnswer, KeyRequest, seal};
use crate::identity::document::{self, Signed};
use crate::identity::key::{Bytes, base64url};
use crate::negotiation::Role;
use crate::node::{Counterparty, Error, Trust, details};
use crate::policy::{Channel, Decision};
use crate::storage::{self, AgreementRow, Change, Conflict, Guard, ReleaseRow, StoreError, Write};
use crate::transfer::{SEALED, State, Transfer};
use serde_json::json;

/// Bytes of a nonce.
const NONCE_BYTES: usize = 32;

/// The transfer and agreement of a key request.
struct Case {
    transfer: Transfer,
    row: AgreementRow,
}

impl DataPlane {
    /// Answers a key request: the answer, JWS, and its log entry (none if the request was answered before).
    pub async fn release_key(
        &self,
        from: &Counterparty,
        id: &ProcessId,
        request: &str,
    ) -> Result<(String, Option<storage::Logged>), Error> {
        self.node.charge_quota(&from.participant)?;
        self.node.ensure_writable()?;
        for _ in 0..limits::CONFLICT_RETRIES_MAX {
            let mut facts = Facts { process: Some(id.clone()), ..Facts::default() };
            match self.try_release(from, id, request, &mut facts).await {
                Err(Some(error)) => return Err(self.node.refuse(from, Kind::KeyRefused, facts, error).await),
                // A fact changed between decision and commit: decide again.
                Err(None) => {}
                Ok(answer) => return Ok(answer),
            }
        }
        Err(Error::Unavailable("the transfer keeps changing; try again".into()))
    }

    /// Decides once. `Err(None)` if a fact changed between decision and commit.
    async fn try_release(
        &self,
        from: &Counterparty,
        id: &ProcessId,
        jws: &str,
        facts: &mut Facts,
    ) -> Result<(String, Option<storage::Logged>), Option<Error>> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let request = document::verify::<KeyRequest>(jws, |kid| trust.register.document_key(kid, now))
            .map_err(|error| trust.signature_error("key-request", &error))?;
        let case = self.case(from, id, &request, now).await?;
        let agreement = &case.row.agreement;
        facts.dataset = Some(agreement.dataset.clone());
        facts.agreement = Some(agreement.id.clone());
        facts.enterprise.clone_from(&agreement.enterprise);
        facts.purpose.clone_from(&agreement.purpose);
        facts.detail = details(json!({
            "request": request.digest(), "agreement": case.row.digest, "manifest": agreement.manifest,
            "nonce": base64url(&request.body().nonce.0), "used": case.row.used,
        }));

        // A repeated request is evaluated again, not counted again, and gets the stored answer.
        let earlier = self.node.store().release(&request.digest()).await.map_err(Error::from)?;
        let counted = u64::from(earlier.is_some());
        let as_before = AgreementRow { used: case.row.used.saturating_sub(counted), ..case.row.clone() };
        let (rule, count_max) = match evaluate_agreement(&trust, &as_before, Channel::Sealed, now) {
            Decision::Permitted { rule, count_max } => (rule, count_max),
            Decision::Refused { rule, reason } => {
                facts.rule = Some(rule);
                return Err(Some(Error::forbidden("policy", reason)));
            }
            Decision::Undetermined { rule, .. } => {
                facts.rule = Some(rule);
                return Err(Some(Error::forbidden("policy", "the policy neither permits nor refuses this transfer")));
            }
        };
        if is_withdrawn(&self.node, &case.row).await.map_err(Error::from)? {
            return Err(Some(Error::forbidden("withdrawn", "the provider withdrew the dataset")));
        }
        if let Some(earlier) = earlier {
            return Ok((earlier.answer, None));
        }
        let mut facts = facts.clone();
        (facts.parties, facts.decision, facts.rule) =
            (vec![from.participant.clone()], Some(Logged::Permitted), Some(rule));
        self.commit_release(&trust, from, case, &request, facts, count_max, now).await
    }

    /// Checks that the request belongs to this transfer, agreement and consumer, so that it is of no use elsewhere.
    async fn case(
        &self,
        from: &Counterparty,
        id: &ProcessId,
        request: &Signed<KeyRequest>,
        now: Timestamp,
    ) -> Result<Case, Error> {
        let body = request.body();
        let transfer = self.node.store().transfer(id).await?;
        let transfer = transfer.filter(|t| t.peer == from.participant && t.role == Role::Provider);
        let transfer = transfer.ok_or_else(|| Error::not_found(format!("there is no transfer {id}")))?;
        let row = self.node.store().agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| Error::Internal("a transfer has no agreement".into()))?;
        let agreement = &row.agreement;
        let skew = limits::SKEW_MS_MAX;
        let wrong = [
            ("consumer", body.consumer != from.participant),
            ("provider", body.provider != *self.node.me()),
            ("transfer", body.transfer != *id),
            ("agreement", body.agreement != row.digest),
            ("manifest", Some(body.manifest) != agreement.manifest),
            ("purpose", Some(&body.purpose) != agreement.purpose.as_ref()),
            ("enterprise", Some(&body.enterprise) != agreement.enterprise.as_ref()),
            ("hpke", body.hpke != HPKE),
            ("nonce", body.nonce.0.len() != NONCE_BYTES),
            ("issued", body.issued > now.plus_ms(skew)),
            ("expires", body.expires <= now || body.expires > body.issued.plus_ms(limits::KEY_REQUEST_LIFE_MS)),
        ];
        if let Some((what, _)) = wrong.into_iter().find(|(_, wrong)| *wrong) {
            let reason = format!("`{what}` of the key request does not match this transfer and agreement");
            return Err(Error::invalid("key-request", reason));
        }
        if transfer.state != State::Started || transfer.format != SEALED {
            let reason = format!("the transfer is {} with the format {}", transfer.state.name(), transfer.format);
            return Err(Error::forbidden(state_code(transfer.state), reason));
        }
        Ok(Case { transfer, row })
    }

    async fn commit_release(
        &self,
        trust: &Trust,
        from: &Counterparty,
        case: Case,
        request: &Signed<KeyRequest>,
        facts: Facts,
        count_max: Option<u64>,
        now: Timestamp,
    ) -> Result<(String, Option<storage::Logged>), Option<Error>> {
        let manifest =
            case.row.agreement.manifest.ok_or_else(|| Error::Internal("the agreement names no manifest".into()))?;
        let version = self.node.store().version_by_manifest(&manifest).await.map_err(Error::from)?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version no longer exists"))?;
        ensure_not_withdrawn(&version)?;
        let key = self.data_key(&version)?;
        let one_time = &request.body().key.0;
        let (enc, sealed) =
            seal(&key, one_time, &request.digest()).map_err(|error| Error::invalid("key", error.to_string()))?;
        let answer = KeyAnswer {
            provider: self.node.me().clone(),
            consumer: from.participant.clone(),
            request: request.digest(),
            enc: Bytes(enc),
            sealed: Bytes(sealed),
            issued: now,
        };
        let answer = document::sign(answer, &self.node.document_key()).jws().to_owned();
        let release = ReleaseRow {
            request: request.digest(),
            peer: from.participant.clone(),
            nonce: base64url(&request.body().nonce.0),
            one_time_key: Digest::of(one_time),
            transfer: case.transfer.id.clone(),
            answer: answer.clone(),
            expires: request.body().expires,
        };
        let change = Change::new(self.node.draft(Kind::KeyReleased, facts))
            .guard(Guard::Register(trust.register.body().sequence))
            .guard(Guard::Process(case.transfer.id, case.transfer.revision))
            .guard(Guard::Count(case.row.id.clone(), case.row.used))
            .guard(Guard::NotWithdrawn(manifest))
            .guard(Guard::DecidedAt(now))
            .write(Write::CountUse { agreement: case.row.id, max: count_max })
            .write(Write::InsertRelease(Box::new(release)));
        match self.node.store().commit(change).await {
            Ok(mut logged) => {
                tracing::info!(peer = %from.participant, dataset = %version.dataset, "data key released");
                Ok((answer, logged.pop()))
            }
            Err(StoreError::Conflict(Conflict::KeyRequest)) => {
                // A concurrent identical request finds the stored answer; any other request reuses the nonce or key.
                match self.node.store().release(&request.digest()).await.map_err(Error::from)? {
                    Some(_) => Err(None),
                    None => Err(Some(Error::forbidden("reuse", "the nonce or one-time key was used before"))),
                }
            }
            Err(StoreError::Conflict(_)) => Err(None),
            Err(error) => Err(Some(error.into())),
        }
    }

    /// Stores a receipt. A repeated receipt changes nothing; another one for the same transfer is refused.
    pub async fn accept_receipt(
        &self,
        from: &Counterparty,
        id: &ProcessId,
        jws: &str,
    ) -> Result<Option<storage::Logged>, Error> {
        self.node.charge_quota(&from.participant)?;
        match self.try_receipt(from, id, jws).await {
            Ok(logged) => Ok(logged),
            Err(error) => {
                let facts = Facts { process: Some(id.clone()), ..Facts::default() };
                Err(self.node.refuse(from, Kind::ReceiptRefused, facts, error).await)
            }
        }
    }

    async fn try_receipt(
        &self,
        from: &Counterparty,
        id: &ProcessId,
        jws: &str,
    ) -> Result<Option<storage::Logged>, Error> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let receipt = document::verify::<Receipt>(jws, |kid| trust.register.document_key(kid, now))
            .map_err(|error| Error::invalid("receipt", error.to_string()))?;
        let transfer = self.node.store().transfer(id).await?;
        let transfer = transfer.filter(|t| t.peer == from.participant && t.role == Role::Provider);
        let transfer = transfer.ok_or_else(|| Error::not_found(format!("there is no transfer {id}")))?;
        let row = self.node.store().agreement(&transfer.agreement).await?;
        let row = row.ok_or_else(|| Error::Internal("a transfer has no agreement".into()))?;
        let body = receipt.body();
        let manifest =
            row.agreement.manifest.ok_or_else(|| Error::Internal("the agreement names no manifest".into()))?;
        let version = self.node.store().version_by_manifest(&manifest).await?;
        let version = version.ok_or_else(|| Error::not_found("the dataset version no longer exists"))?;
        let wrong = [
            ("bytes", body.bytes != version.bytes),
            ("records", body.records != version.records),
            ("consumer", body.consumer != from.participant),
            ("provider", body.provider != *self.node.me()),
            ("transfer", body.transfer != *id),
            ("agreement", body.agreement != row.digest),
            ("manifest", Some(body.manifest) != row.agreement.manifest),
        ];
        if let Some((what, _)) = wrong.into_iter().find(|(_, wrong)| *wrong) {
            return Err(Error::invalid("receipt", format!("`{what}` of the receipt does not match this transfer")));
        }
        if let Some(known) = self.node.store().receipt(id).await? {
            let same = known == jws;
            return if same { Ok(None) } else { Err(Error::invalid("receipt", "there is already another receipt")) };
        }
        let facts = Facts {
            parties: vec![from.participant.clone()],
            dataset: Some(row.agreement.dataset.clone()),
            process: Some(id.clone()),
            agreement: Some(row.id.clone()),
            enterprise: row.agreement.enterprise.clone(),
            purpose: row.agreement.purpose.clone(),
            detail: details(json!({"receipt": jws, "bytes": body.bytes, "records": body.records})),
            ..Facts::default()
        };
        let write = Write::InsertReceipt { transfer: id.clone(), jws: jws.to_owned() };
        match self.node.store().commit(Change::new(self.node.draft(Kind::ReceiptReceived, facts)).write(write)).await {
            Ok(mut logged) => Ok(logged.pop()),
            // Stored concurrently: fine if it is the same receipt.
            Err(StoreError::Conflict(_)) if self.node.store().receipt(id).await?.as_deref() == Some(jws) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
