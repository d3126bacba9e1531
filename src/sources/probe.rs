//! Whether a connection works, without reading records.

use super::server::Caller;
use super::{folder, mysql, postgres};
use crate::config::Connection;
use crate::node::Error;
use crate::source::Pattern;

/// Tries a connection with its secrets: what is found there, for people.
pub async fn probe(connection: &Connection) -> Result<String, Error> {
    match connection {
        Connection::Folder(inner) => {
            let all = Pattern::parse("*").map_err(Error::Internal)?;
            let files = folder::list_apart(&folder::looks(), inner, &all).await?.count();
            Ok(format!("{} is readable and has {files} files", connection.place()))
        }
        Connection::Http(server) => {
            let status = Caller::new(server)?.status().await?;
            match status.as_u16() {
                401 | 403 => {
                    Err(Error::forbidden("response", format!("the server answers {status}: check its secret_headers")))
                }
                _ => Ok(format!("{} answers {status}", connection.place())),
            }
        }
        Connection::Postgres(database) => postgres::try_connect(database).await.map(|()| in_words(connection)),
        Connection::Mysql(database) => mysql::try_connect(database).await.map(|()| in_words(connection)),
    }
}

fn in_words(connection: &Connection) -> String {
    format!("{} can be read", connection.place())
}
