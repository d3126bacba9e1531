//! Keys in quarantine: new keys of a member that its old keys did not sign.

use super::Membership;
use crate::audit::entry::{Facts, FieldOpening, Kind};
use crate::core::digest::Digest;
use crate::core::id::KeyId;
use crate::identity::register::KeyName;
use crate::node::{Error, Trust, User, details};
use crate::storage::{Change, Write};
use serde_json::json;

impl Membership {
    /// Releases a key from quarantine after an administrator compared its fingerprint with the member.
    pub async fn confirm_key(&self, user: &User, key: &KeyId, fingerprint: &Digest) -> Result<(), Error> {
        let trust = self.node.trust();
        let named = |(waiting, public): &&(KeyId, Digest)| waiting == key && public == fingerprint;
        let Some(name) = trust.quarantine.iter().find(named).cloned() else {
            let waiting = trust.quarantine.iter().find(|(waiting, _)| waiting == key);
            let error = match waiting {
                Some((_, public)) => Error::invalid(
                    "key",
                    format!(
                        "the key {key} in quarantine has the fingerprint\n  {}\nnot the given one: do not confirm it, and ask the alliance operator",
                        public.fingerprint()
                    ),
                ),
                None => Error::not_found(format!("there is no key {key} in quarantine")),
            };
            return Err(self.node.refuse_user(Kind::ManagementRefused, Facts::default(), error).await);
        };
        let facts = Facts {
            parties: vec![key.participant()],
            detail: details(json!({"key": key, "public": fingerprint, "token": user.token})),
            ..Facts::default()
        };
        let person = FieldOpening::new("person", user.person.clone(), self.node.random());
        let entry = self.node.draft(Kind::KeyConfirmed, facts).with_field(person);
        self.confirm(Change::new(entry), vec![name]).await
    }

    /// Releases this node's own keys, which need no confirmation because the node has them in its folder.
    pub async fn confirm_own_keys(&self, keys: Vec<KeyName>) -> Result<(), Error> {
        let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        let facts = Facts { detail: details(json!({"own": names})), ..Facts::default() };
        self.confirm(Change::new(self.node.draft(Kind::KeyConfirmed, facts)), keys).await
    }

    async fn confirm(&self, mut change: Change, keys: Vec<KeyName>) -> Result<(), Error> {
        change.writes.extend(keys.iter().cloned().map(Write::ConfirmKey));
        self.node.store().commit(change).await?;
        self.node.update_trust(|current| {
            let mut quarantine = current.quarantine.clone();
            quarantine.retain(|name| !keys.contains(name));
            let register = current.register.clone().without(&quarantine);
            Some(Trust { roots: current.roots.clone(), register, quarantine })
        });
        Ok(())
    }
}
