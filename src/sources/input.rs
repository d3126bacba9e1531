//! What a source has to publish now.

use super::folder::{self, Listing};
use super::{Connections, http, mysql, postgres};
use crate::config::{Connection, Folder};
use crate::core::limits;
use crate::node::Error;
use crate::publishing::Records;
use crate::source::{Input, Pattern, Seen, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What was found.
pub enum Found {
    /// Records to publish.
    Records(Opened),
    /// The same as before.
    Unchanged,
    /// Nothing new; what is known of the input.
    Nothing(Seen),
}

/// Records to publish, and what is known of the input once they are.
pub struct Opened {
    pub records: Box<dyn Records>,
    /// If they are published.
    pub seen: Seen,
    /// If they are refused, unless this is empty.
    pub passed: Option<Seen>,
    /// Whether they were changed while they were read.
    pub changed: Arc<AtomicBool>,
}

impl Opened {
    pub fn new(records: impl Records, seen: Seen) -> Self {
        Self { records: Box::new(records), seen, passed: None, changed: Arc::default() }
    }

    /// What is known of the input after the records were refused: a file that cannot be published does not keep later ones
    /// waiting.
    pub fn seen_if_refused(passed: Option<Seen>, changed: &AtomicBool) -> Option<Seen> {
        passed.filter(|_| !changed.load(Ordering::Relaxed))
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

/// Opens the input of a source.
pub async fn open(source: &Source, connections: &Connections, look: Look) -> Result<Found, Error> {
    let (definition, seen) = (&source.definition, &source.progress.seen);
    let connection = definition.input.connection().map(|name| {
        let gone =
            || Error::invalid("connection", format!("the node's configuration has no connection {name} any more"));
        connections.get(name).ok_or_else(gone)
    });
    match (&definition.input, connection.transpose()?) {
        (Input::Folder { files, .. }, Some(Connection::Folder(folder))) => arrived(folder, files, seen, look).await,
        (Input::Http { path, pages, .. }, Some(Connection::Http(server))) => {
            let at = &definition.publication.reading.at;
            Ok(match http::open(server, path, pages.as_ref(), at, seen).await? {
                http::Fetched::Records(records, seen) => Found::Records(Opened::new(records, seen)),
                http::Fetched::Unchanged => Found::Unchanged,
            })
        }
        (Input::Query { query, .. }, Some(Connection::Postgres(database))) => {
            Ok(Found::Records(Opened::new(postgres::open(database, query).await?, Seen::default())))
        }
        (Input::Query { query, .. }, Some(Connection::Mysql(database))) => {
            Ok(Found::Records(Opened::new(mysql::open(database, query).await?, Seen::default())))
        }
        (Input::Pushed {}, _) => {
            let reason = format!(
                "the records of {} are sent to it: crosspark source run {} --file FILE",
                source.name, source.name
            );
            Err(Error::invalid("source", reason))
        }
        (input, _) => {
            let reason = format!("the connection of {} is no longer one for {}", source.name, input.kind());
            Err(Error::invalid("connection", reason))
        }
    }
}

/// The oldest file that is new and has not changed for a while.
async fn arrived(folder: &Folder, files: &Pattern, seen: &Seen, look: Look) -> Result<Found, Error> {
    let (waited, before) = match look.before {
        Some(before) => (true, before),
        None => (false, folder::list(folder, files)?),
    };
    let mut known = before.still_here(&seen.files);
    if look.again
        && let Some(failed) = &seen.failed
    {
        known.remove(failed);
    }
    if before.next(&known).is_none() {
        return Ok(Found::Nothing(Seen { files: known, ..seen.clone() }));
    }
    if !waited {
        tokio::time::sleep(limits::FOLDER_LOOK_INTERVAL).await;
    }
    let now = folder::list(folder, files)?;
    let Some(file) = now.next(&known) else { return Ok(Found::Nothing(Seen { files: known, ..seen.clone() })) };
    if !before.has(&file) {
        return Err(Error::Unavailable(format!("{} is still being written", file.name)));
    }
    let changed = Arc::new(AtomicBool::new(false));
    let records = folder::open(folder, &file, changed.clone())?;
    known.insert(file.fingerprint());
    let passed = Seen { files: known.clone(), failed: Some(file.fingerprint()), ..Seen::default() };
    let seen = Seen { files: known, ..Seen::default() };
    Ok(Found::Records(Opened { records: Box::new(records), seen, passed: Some(passed), changed }))
}
