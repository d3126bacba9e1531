//! Rows of PostgreSQL databases: one transaction that only reads, in which all rows are of one moment. PostgreSQL writes the
//! values as JSON, so that its numbers, times and documents are not read again.

use super::pipe::{self, Pipe, Stopped, Told};
use super::secrets::{certificates, secret};
use crate::config::Database;
use crate::core::json;
use crate::core::limits;
use crate::net::PostgresTls;
use crate::node::Error;
use crate::publishing::Arriving;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, Statement};

const PORT: u16 = 5432;

/// Reads the rows of a query while they are published.
pub async fn open(database: &Database, query: &str) -> Result<(Arriving, Told), Error> {
    let connecting = async {
        let client = connect(database).await?;
        check_rights(&client, database).await?;
        // Ends the query of a client that is gone; older servers do not know it.
        let _ = client.batch_execute("SET client_connection_check_interval = '10s'").await;
        let seconds = limits::SOURCE_RUN_TIME_MAX.as_secs();
        // Times as RFC 3339 has them, in UTC.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{seconds}s'; \
             SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL extra_float_digits = 1"
        );
        client.batch_execute(&begin).await.map_err(|error| failed(database, &error))?;
        let (statement, names) = prepare(&client, query).await?;
        Ok::<_, Error>((client, statement, names))
    };
    let connected = tokio::time::timeout(limits::CONNECT_TIME_MAX * 3, connecting).await;
    let (client, statement, names) = connected.map_err(|_| silent(database))??;
    let told = Told::default();
    let records = pipe::told_records(told.clone(), move |mut pipe| async move {
        let done = rows(&client, &statement, &names, &mut pipe).await;
        (pipe, done)
    });
    Ok((records, told))
}

/// Fails if the user may do more than read tables: functions that read files of the server, or run programs there, are
/// called in queries.
async fn check_rights(client: &Client, database: &Database) -> Result<(), Error> {
    let roles = ["pg_read_server_files", "pg_write_server_files", "pg_execute_server_program"];
    let member = roles.map(|role| format!("pg_has_role(current_user, '{role}', 'MEMBER')")).join(" OR ");
    let query = format!("SELECT rolsuper OR {member} FROM pg_roles WHERE rolname = current_user");
    let found = client.query_one(&query, &[]).await.map_err(|error| failed(database, &error))?;
    match found.try_get::<_, bool>(0) {
        Ok(false) => Ok(()),
        Ok(true) => Err(too_powerful(database)),
        Err(error) => Err(failed(database, &error)),
    }
}

/// That the user of a connection could read more than tables.
pub fn too_powerful(database: &Database) -> Error {
    let user = &database.user;
    let reason = format!("{user} may read files of the database server: give the connection a user who may not");
    Error::invalid("connection", reason)
}

/// Connects as a source would.
pub async fn try_connect(database: &Database) -> Result<(), Error> {
    let trying = async { check_rights(&connect(database).await?, database).await };
    tokio::time::timeout(limits::CONNECT_TIME_MAX * 3, trying).await.map_err(|_| silent(database))?
}

/// That a database does not respond.
pub fn silent(database: &Database) -> Error {
    Error::Unavailable(format!("{}: the database did not respond in time", database.address()))
}

async fn connect(database: &Database) -> Result<Client, Error> {
    let mut config = Config::new();
    config.user(&database.user).dbname(&database.database).application_name("crosspark");
    if let Some(file) = &database.password_file {
        config.password(secret(file)?.as_bytes());
    }
    let port = database.port.unwrap_or(PORT);
    let unreachable = |error: std::io::Error| Error::Unavailable(format!("{}: {error}", database.address()));
    if database.is_socket() {
        let path = format!("{}/.s.PGSQL.{port}", database.host.trim_end_matches('/'));
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| failed(database, &error))?;
        tokio::spawn(connection);
        return Ok(client);
    }
    let stream = TcpStream::connect((database.host.as_str(), port)).await.map_err(unreachable)?;
    if database.is_encrypted() {
        let ca = certificates(database.ca_file.as_deref())?;
        let tls = PostgresTls::new(&database.host, ca.as_deref());
        let tls = tls.map_err(|error| Error::Unavailable(error.to_string()))?;
        config.ssl_mode(SslMode::Require);
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|error| failed(database, &error))?;
        tokio::spawn(connection);
        return Ok(client);
    }
    config.ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| failed(database, &error))?;
    tokio::spawn(connection);
    Ok(client)
}

/// What the database or the connection says.
fn in_words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => {
            let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}{hint}", said.message())
        }
        None => {
            let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
            causes.last().map_or_else(|| error.to_string(), ToString::to_string)
        }
    }
}

fn failed(database: &Database, error: &tokio_postgres::Error) -> Error {
    Error::Unavailable(format!("{}: {}", database.address(), in_words(error)))
}

/// One statement that gives each column of the query as JSON, and the names of the columns.
async fn prepare(client: &Client, query: &str) -> Result<(Statement, Vec<String>), Error> {
    let wrong = |error: tokio_postgres::Error| Error::invalid("query", format!("the query: {}", in_words(&error)));
    // By itself first: what is no single query that reads does not become one by what is written around it.
    let query = query.trim().trim_end_matches(';');
    let own = client.prepare(query).await.map_err(wrong)?;
    let names: Vec<String> = own.columns().iter().map(|column| column.name().to_owned()).collect();
    check_names(&names)?;
    let quoted = names.iter().map(|name| format!("to_json(q.\"{}\")::text", name.replace('"', "\"\"")));
    let columns = quoted.collect::<Vec<_>>().join(", ");
    // The query may end with a comment.
    let statement = client.prepare(&format!("SELECT {columns} FROM (\n{query}\n) AS q")).await;
    let statement = statement.map_err(|error| {
        let reason = format!("the query cannot be part of another one, without a semicolon: {}", in_words(&error));
        Error::invalid("query", reason)
    })?;
    Ok((statement, names))
}

/// Fails unless the names of columns can be members of a record.
pub fn check_names(names: &[String]) -> Result<(), Error> {
    if names.is_empty() {
        return Err(Error::invalid(
            "query",
            "the query gives no columns: it must begin with SELECT, WITH, VALUES or TABLE",
        ));
    }
    let mut known = BTreeSet::new();
    match names.iter().find(|name| !known.insert(*name)) {
        Some(twice) => Err(Error::invalid("query", format!("two columns of the query are called `{twice}`: use AS"))),
        None => Ok(()),
    }
}

/// That a query took too long before its first row.
pub fn late(_: tokio::time::error::Elapsed) -> Stopped {
    let minutes = limits::SOURCE_ANSWER_TIME_MAX.as_secs() / 60;
    Stopped::Failed(format!("the database gave no row in {minutes} minutes"))
}

async fn rows(client: &Client, statement: &Statement, names: &[String], pipe: &mut Pipe) -> Result<(), Stopped> {
    let broken = |error: tokio_postgres::Error| {
        let reason = format!("the database: {}", in_words(&error));
        match error.code() {
            Some(code) => {
                Stopped::FailedWith(reason, format!("the database ended the query: SQLSTATE {}", code.code()))
            }
            None => Stopped::Failed(reason),
        }
    };
    let members: Vec<Vec<u8>> = names.iter().map(json::to_canonical).collect();
    let no_parameters: [&str; 0] = [];
    let asked = client.query_raw(statement, no_parameters);
    let rows = tokio::time::timeout(limits::SOURCE_ANSWER_TIME_MAX, asked).await.map_err(late)?.map_err(broken)?;
    let mut rows = std::pin::pin!(rows);
    let mut idle_max = limits::SOURCE_ANSWER_TIME_MAX;
    loop {
        let next = tokio::time::timeout(idle_max, rows.next()).await;
        let seconds = idle_max.as_secs();
        idle_max = limits::SOURCE_IDLE_TIME_MAX;
        let silent = |_| Stopped::Failed(format!("the database sent nothing for {seconds} seconds"));
        let Some(row) = next.map_err(silent)? else { break };
        let row = row.map_err(broken)?;
        let line = pipe.buffer();
        let start = line.len();
        for (n, member) in members.iter().enumerate() {
            let Some(value) = row.try_get::<_, Option<&str>>(n).map_err(broken)? else { continue };
            line.push(if line.len() == start { b'{' } else { b',' });
            line.extend_from_slice(member);
            line.push(b':');
            // A document of type json keeps its line breaks, which are between its tokens.
            line.extend(value.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
        }
        line.extend_from_slice(if line.len() == start { b"{}\n" } else { b"}\n" });
        pipe.flush_if_full().await?;
    }
    client.batch_execute("COMMIT").await.map_err(broken)?;
    Ok(())
}
