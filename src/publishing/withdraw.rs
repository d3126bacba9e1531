//! Withdrawal of a dataset: its offers and transfers end, no version is delivered any more, and the parks that have an
//! agreement on it or see it in the catalog are notified. Consumers store the provider's notice.

use super::Publishing;
use crate::agreement::Withdrawal;
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::id::{DatasetId, ProcessId, Text};
use crate::discovery::visible_offer;
use crate::identity::document;
use crate::identity::register::Status;
use crate::negotiation::Role;
use crate::node::{Counterparty, Error, Message, User, details};
use crate::storage::{Change, Logged, StoreError, Write};
use serde_json::json;

impl Publishing {
    /// Withdraws a dataset of this node, and returns the number of peers to be notified.
    pub async fn withdraw(&self, user: &User, dataset: &DatasetId, reason: &Text) -> Result<usize, Error> {
        let now = self.node.now();
        let missing = || Error::not_found(format!("this node has no dataset {dataset}, or it was withdrawn"));
        let offered = self.node.store().dataset(dataset).await?.ok_or_else(missing)?;
        let statement =
            Withdrawal { publisher: self.node.me().clone(), dataset: dataset.clone(), reason: reason.clone(), at: now };
        let statement = document::sign(statement, &self.node.document_key());
        let facts = Facts {
            dataset: Some(dataset.clone()),
            detail: details(json!({"reason": reason, "withdrawal": statement.jws(), "token": user.token})),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let mut change = Change::new(self.node.draft(Kind::DatasetWithdrawn, facts).with_field(person))
            .write(Write::Withdraw { dataset: dataset.clone(), at: now });
        let trust = self.node.trust();
        let holders = self.node.store().holders(dataset).await?;
        let notified = trust.register.body().members.iter().filter(|member| {
            let sees = || {
                let member = Counterparty::new(member, &trust);
                visible_offer(offered.clone(), &member, now).is_some()
            };
            // Other connectors only see the end of their transfers.
            let node = member.connector.is_none() && member.id != *self.node.me();
            node && (holders.contains(&member.id) || (member.status == Status::Active && sees()))
        });
        for peer in notified {
            let message = Message::Withdrawal { statement: statement.jws().to_owned() };
            change.outbox.push(message.outgoing(
                &peer.id,
                &ProcessId::generate(self.node.random()),
                self.node.random(),
            ));
        }
        let notified = change.outbox.len();
        match self.node.store().commit(change).await {
            Ok(_) => {}
            Err(StoreError::Conflict(_)) => return Err(missing()),
            Err(error) => return Err(error.into()),
        }
        self.end_transfers_of(dataset).await?;
        self.negotiations.reconsider(dataset).await?;
        Ok(notified)
    }

    /// Advances the open transfers of the dataset, whose next step ends them. After a crash, recovery does the same.
    async fn end_transfers_of(&self, dataset: &DatasetId) -> Result<(), Error> {
        let (_, open) = self.node.store().open_processes().await?;
        for id in open {
            let Some(transfer) = self.node.store().transfer(&id).await? else { continue };
            let row = self.node.store().agreement(&transfer.agreement).await?;
            if transfer.role == Role::Provider && row.is_some_and(|row| row.agreement.dataset == *dataset) {
                self.transfers.advance(&id);
            }
        }
        Ok(())
    }

    /// Stores a provider's notice of withdrawal. A repeated notice changes nothing.
    pub async fn accept_withdrawal(&self, from: &Counterparty, jws: &str) -> Result<Option<Logged>, Error> {
        self.node.charge_quota(&from.participant)?;
        match self.try_withdrawal(from, jws).await {
            Ok(logged) => Ok(logged),
            Err(error) => Err(self.node.refuse(from, Kind::MessageRefused, Facts::default(), error).await),
        }
    }

    async fn try_withdrawal(&self, from: &Counterparty, jws: &str) -> Result<Option<Logged>, Error> {
        let (trust, now) = (self.node.trust(), self.node.now());
        let signed = document::verify::<Withdrawal>(jws, |kid| trust.register.document_key(kid, now))
            .map_err(|error| Error::invalid("withdrawal", error.to_string()))?;
        let body = signed.body();
        if body.publisher != from.participant {
            return Err(Error::invalid("withdrawal", "the notice is not signed by the member that sent it"));
        }
        let ours = self.node.store().holders(&body.dataset).await?.contains(&from.participant);
        if !ours {
            // Without an agreement, the dataset is only no longer found.
            self.discovery.forget(&from.participant, &body.dataset).await;
            return Ok(None);
        }
        if self.node.store().recalled(&from.participant, &body.dataset).await?.is_some() {
            return Ok(None);
        }
        let facts = Facts {
            parties: vec![from.participant.clone()],
            dataset: Some(body.dataset.clone()),
            detail: details(json!({"reason": body.reason, "withdrawal": jws})),
            ..Facts::default()
        };
        let write = Write::Recall {
            provider: from.participant.clone(),
            dataset: body.dataset.clone(),
            reason: body.reason.to_string(),
        };
        match self.node.store().commit(Change::new(self.node.draft(Kind::DatasetRecalled, facts)).write(write)).await {
            Ok(mut logged) => {
                self.discovery.forget(&from.participant, &body.dataset).await;
                Ok(logged.pop())
            }
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
