//! What the databases have in common.

use super::pipe::Stopped;
use crate::config::Database;
use crate::core::limits;
use crate::node::Error;
use std::collections::BTreeSet;
use std::error::Error as Cause;
use std::future::Future;
use std::time::Duration;

/// Connects and prepares in time.
pub async fn in_time<T>(database: &Database, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let silent = |_| Error::Unavailable(format!("{}: the database did not respond in time", database.address()));
    tokio::time::timeout(limits::CONNECT_TIME_MAX * 3, work).await.map_err(silent)?
}

/// That the user of a connection could read more than tables.
pub fn too_powerful(database: &Database) -> Error {
    let user = &database.user;
    let reason = format!("{user} may read files of the database server: give the connection a user who may not");
    Error::invalid("connection", reason)
}

/// That the database cannot be used now.
pub fn failed(database: &Database, reason: String) -> Error {
    Error::Unavailable(format!("{}: {reason}", database.address()))
}

/// The last cause of a failed connection: those before name the library's layers.
pub fn last_cause(error: &(dyn Cause + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

/// Fails unless the names of columns can be members of a record.
pub fn check_names(names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        let reason = "the query gives no columns: it must begin with SELECT, WITH, VALUES or TABLE";
        return Err(Error::invalid("query", reason));
    }
    let mut known = BTreeSet::new();
    match names.iter().find(|name| !known.insert(*name)) {
        Some(twice) => Err(Error::invalid("query", format!("two columns of the query are called `{twice}`: use AS"))),
        None => Ok(()),
    }
}

/// How long the next row may take: the first one longer than the others.
pub struct Waiting(Duration);

impl Default for Waiting {
    fn default() -> Self {
        Self(limits::SOURCE_ANSWER_TIME_MAX)
    }
}

impl Waiting {
    /// What the database sends next, if that comes in time.
    pub async fn next<T>(&self, sent: impl Future<Output = T>) -> Result<T, Stopped> {
        let silent = |_| Stopped::Failed(format!("the database sent nothing for {} seconds", self.0.as_secs()));
        tokio::time::timeout(self.0, sent).await.map_err(silent)
    }

    /// The first row has come.
    pub fn begun(&mut self) {
        self.0 = limits::SOURCE_IDLE_TIME_MAX;
    }
}
