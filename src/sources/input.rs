//! What a source has to publish now.

use super::folder::{self, Arrived, Listing, Looks};
use super::pipe::Told;
use super::{Connections, http, mysql, postgres};
use crate::config::{Connection, Folder};
use crate::core::limits;
use crate::node::Error;
use crate::publishing::Records;
use crate::source::{Input, Pattern, Seen, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was found.
pub enum Found {
    /// Records to publish.
    Records(Opened),
    /// The same as in this version, which is the newest.
    Unchanged(u64),
    /// Nothing new; what is known of the input.
    Nothing(Seen),
}

/// Records to publish, and what is known of the input once they are.
pub struct Opened {
    pub records: Box<dyn Records>,
    /// If they are published.
    pub seen: Seen,
    /// The file that they are from, which is passed over if they are refused.
    pub file: Option<Arrived>,
    /// Whether there is more to read.
    pub more: bool,
    /// What may be kept of a failure, if its text may quote records.
    pub told: Told,
    pub kept: Kept,
}

/// Whether a file was read as a whole, and has not changed meanwhile.
#[derive(Default)]
pub struct Kept(Arc<AtomicBool>);

impl Kept {
    pub fn is_whole(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

impl Opened {
    pub fn new(records: impl Records, seen: Seen) -> Self {
        let (told, kept) = (Told::default(), Kept::default());
        Self { records: Box::new(records), seen, file: None, more: false, told, kept }
    }
}

/// How the files of a folder are looked at.
#[derive(Default)]
pub struct Look {
    /// Whether a file that was refused is read again.
    pub again: bool,
    /// What the folder had some time ago, if that is known: a file that has not changed since is complete.
    pub before: Option<Listing>,
}

/// Opens the input of a source, whose dataset has the version `newest`.
pub async fn open(
    source: &Source,
    (connections, looks): (&Connections, &Looks),
    look: Look,
    newest: Option<u64>,
) -> Result<Found, Error> {
    let (definition, seen) = (&source.definition, &source.progress.seen);
    let connection = definition.input.connection().map(|name| {
        let gone =
            || Error::invalid("connection", format!("the node's configuration has no connection {name} any more"));
        connections.get(name).ok_or_else(gone)
    });
    match (&definition.input, connection.transpose()?) {
        (Input::Folder { files, .. }, Some(Connection::Folder(folder))) => {
            arrived((folder, files, looks), seen, look).await
        }
        (Input::Http { path, pages, .. }, Some(Connection::Http(server))) => {
            let at = &definition.publication.reading.at;
            // What the server said then is true of that version only.
            let nothing = Seen::default();
            let (seen, version) = match newest.filter(|newest| seen.version == Some(*newest)) {
                Some(version) => (seen, version),
                None => (&nothing, 0),
            };
            Ok(match http::open(server, path, pages.as_ref(), at, seen).await? {
                http::Fetched::Records(records, seen) => Found::Records(Opened::new(records, seen)),
                http::Fetched::Unchanged => Found::Unchanged(version),
            })
        }
        (Input::Query { query, .. }, Some(Connection::Postgres(database))) => {
            let (records, told) = postgres::open(database, query).await?;
            Ok(Found::Records(Opened { told, ..Opened::new(records, Seen::default()) }))
        }
        (Input::Query { query, .. }, Some(Connection::Mysql(database))) => {
            let (records, told) = mysql::open(database, query).await?;
            Ok(Found::Records(Opened { told, ..Opened::new(records, Seen::default()) }))
        }
        (input, _) => {
            let reason = format!("the connection of {} is no longer one for {}", source.name, input.kind());
            Err(Error::invalid("connection", reason))
        }
    }
}

/// The oldest file that is new and has not changed for a while.
async fn arrived((folder, files, looks): (&Folder, &Pattern, &Looks), seen: &Seen, look: Look) -> Result<Found, Error> {
    let list = || folder::list_apart(looks, folder, files);
    let (waited, before) = match look.before {
        Some(before) => (true, before),
        None => (false, list().await?),
    };
    let mut known = before.still_here(&seen.files);
    let mut refused = seen.refused.clone();
    refused.retain(|file, _| known.contains(file));
    if look.again {
        // All of them, one after the other.
        known.retain(|file| !refused.contains_key(file));
        refused.clear();
    }
    let nothing = |files: BTreeSet<String>, refused: BTreeMap<String, String>| {
        Ok(Found::Nothing(Seen { files, refused, ..Seen::default() }))
    };
    if before.next(&known).is_none() {
        return nothing(known, refused);
    }
    if !waited {
        tokio::time::sleep(limits::FOLDER_LOOK_INTERVAL).await;
    }
    let now = list().await?;
    let Some(file) = now.next(&known) else { return nothing(known, refused) };
    if !before.has(&file) {
        return Err(Error::Unavailable(format!("{} is still being written", file.name)));
    }
    let kept = Kept::default();
    let records = folder::open(folder, &file, kept.0.clone())?;
    known.insert(file.fingerprint());
    let more = now.next(&known).is_some();
    let seen = Seen { files: known, refused, ..Seen::default() };
    Ok(Found::Records(Opened { file: Some(file), more, kept, ..Opened::new(records, seen) }))
}
