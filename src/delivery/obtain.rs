//! Key requests of the consumer: the wrapped one-time key is stored before the request is sent, and the wrapped data
//! key before it is used.

use super::downloads::{Delivery, Downloads, Failure, key_cell, permanent};
use crate::audit::entry::Kind;
use crate::core::limits;
use crate::core::random;
use crate::dataset::container::DataKey;
use crate::dataset::release::{HPKE, KeyAnswer, KeyRequest, OneTimeKey};
use crate::identity::document;
use crate::identity::key::Bytes;
use crate::keys::Cell;
use crate::node::PeerError;
use crate::storage::{Holding, HoldingState};
use serde_json::json;

impl Downloads {
    /// Signs a key request, and stores it with its wrapped one-time key before it is sent.
    pub(super) async fn prepare_request(&self, delivery: &Delivery, holding: Holding) -> Result<Holding, Failure> {
        let seen = self.membership.observe_checkpoint(&delivery.provider).await;
        let one_time = OneTimeKey::generate(self.node.random());
        let (agreement, now) = (&delivery.row.agreement, self.node.now());
        let request = KeyRequest {
            provider: agreement.provider.clone(),
            consumer: self.node.me().clone(),
            transfer: delivery.provider_pid.clone(),
            agreement: delivery.row.digest,
            manifest: holding.manifest_digest,
            purpose: agreement.purpose.clone().ok_or_else(|| permanent("the agreement names no purpose"))?,
            enterprise: agreement.enterprise.clone().ok_or_else(|| permanent("the agreement names no enterprise"))?,
            hpke: HPKE.to_owned(),
            key: Bytes(one_time.public()),
            nonce: Bytes(random::bytes::<32>(self.node.random()).to_vec()),
            seen,
            issued: now,
            expires: now.plus_ms(limits::KEY_REQUEST_LIFE_MS),
        };
        let signed = document::sign(request, &self.node.document_key());
        let cell = Cell { table: "holding", row: holding.id.as_str(), column: "one-time-key" };
        let wrapped = self.kek.wrap(cell, one_time.expose(), self.node.random());
        let next = Holding {
            revision: holding.revision + 1,
            state: HoldingState::Asked,
            key_request: Some(signed.jws().to_owned()),
            wrapped_one_time_key: Some(wrapped),
            updated: now,
            ..holding
        };
        self.put_holding(delivery, Kind::KeyRequested, &next, json!({"request": signed.digest()})).await?;
        Ok(next)
    }

    pub(super) async fn obtain_key(
        &self,
        delivery: &Delivery,
        holding: Holding,
    ) -> Result<(DataKey, Holding), Failure> {
        let missing = || permanent("the key request is missing");
        let jws = holding.key_request.clone().ok_or_else(missing)?;
        let request = document::verify::<KeyRequest>(&jws, |kid| self.node.own_key(kid)).map_err(permanent)?;
        if request.body().expires <= self.node.now() {
            // Expired without an answer: make a new request.
            let fresh = self.prepare_request(delivery, holding).await?;
            return Box::pin(self.obtain_key(delivery, fresh)).await;
        }
        let wrapped = holding.wrapped_one_time_key.clone().ok_or_else(missing)?;
        let cell = Cell { table: "holding", row: holding.id.as_str(), column: "one-time-key" };
        let one_time = self.kek.unwrap(cell, &wrapped).map_err(permanent)?;
        let one_time = OneTimeKey::from_slice(&one_time).ok_or_else(missing)?;
        let answered = self.peer.key(&delivery.provider, &delivery.provider_pid, &jws).await;
        if let Err(PeerError::Refused { promise, .. }) = &answered {
            self.evidence.store_promise(&delivery.provider.id, promise.clone()).await;
        }
        let answered = answered?;
        self.evidence.store_promise(&delivery.provider.id, answered.promise).await;
        let (trust, now) = (self.node.trust(), self.node.now());
        let answer = document::verify::<KeyAnswer>(&answered.body, |kid| trust.register.document_key(kid, now));
        let answer = answer.map_err(permanent)?.into_body();
        if answer.provider != delivery.provider.id
            || answer.consumer != *self.node.me()
            || answer.request != request.digest()
        {
            return Err(permanent("the provider's answer belongs to another key request"));
        }
        let key = one_time.open(&request.digest(), &answer.enc.0, &answer.sealed.0).map_err(permanent)?;
        // Stored before the long verification: a crash during it must not cost another release.
        let next = Holding {
            revision: holding.revision + 1,
            state: HoldingState::Keyed,
            wrapped_key: Some(self.kek.wrap(key_cell(&holding.id), key.expose(), self.node.random())),
            wrapped_one_time_key: None,
            updated: now,
            ..holding
        };
        self.put_holding(delivery, Kind::KeyObtained, &next, json!({"request": request.digest()})).await?;
        Ok((key, next))
    }

    pub(super) fn kept_key(&self, holding: &Holding) -> Result<DataKey, Failure> {
        let wrapped =
            holding.wrapped_key.as_deref().ok_or_else(|| permanent("the data key of the holding is missing"))?;
        let key = self.kek.unwrap(key_cell(&holding.id), wrapped).map_err(permanent)?;
        DataKey::from_slice(&key).ok_or_else(|| permanent("the data key does not have 32 bytes"))
    }
}
