//! Rows of PostgreSQL databases: one transaction that only reads, in which all rows are of one moment. PostgreSQL writes the
//! values as JSON, so that its numbers, times and documents are not read again.

use super::database::{Waiting, check_names, failed, in_time, last_cause, too_powerful};
use super::pipe::{self, Pipe, Stopped, Told};
use super::secrets::{certificates, secret};
use crate::config::Database;
use crate::core::json;
use crate::core::limits;
use crate::net::PostgresTls;
use crate::node::Error;
use crate::publishing::Arriving;
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsConnect;
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
        client.batch_execute(&begin).await.map_err(|error| failed(database, in_words(&error)))?;
        let (statement, names) = prepare(&client, query).await?;
        Ok::<_, Error>((client, statement, names))
    };
    let (client, statement, names) = in_time(database, connecting).await?;
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
    let found = client.query_one(&query, &[]).await.map_err(|error| failed(database, in_words(&error)))?;
    match found.try_get::<_, bool>(0) {
        Ok(false) => Ok(()),
        Ok(true) => Err(too_powerful(database)),
        Err(error) => Err(failed(database, in_words(&error))),
    }
}

/// Connects as a source would.
pub async fn try_connect(database: &Database) -> Result<(), Error> {
    in_time(database, async { check_rights(&connect(database).await?, database).await }).await
}

async fn connect(database: &Database) -> Result<Client, Error> {
    let mut config = Config::new();
    config.user(&database.user).dbname(&database.database).application_name("crosspark");
    if let Some(file) = &database.password_file {
        config.password(secret(file)?.as_bytes());
    }
    let port = database.port.unwrap_or(PORT);
    let unreachable = |error: std::io::Error| failed(database, error.to_string());
    if database.is_socket() {
        let path = format!("{}/.s.PGSQL.{port}", database.host.trim_end_matches('/'));
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        return begin(&config, database, stream, NoTls).await;
    }
    let stream = TcpStream::connect((database.host.as_str(), port)).await.map_err(unreachable)?;
    if !database.is_encrypted() {
        config.ssl_mode(SslMode::Disable);
        return begin(&config, database, stream, NoTls).await;
    }
    let ca = certificates(database.ca_file.as_deref())?;
    let tls = PostgresTls::new(&database.host, ca.as_deref());
    config.ssl_mode(SslMode::Require);
    begin(&config, database, stream, tls.map_err(|error| Error::Unavailable(error.to_string()))?).await
}

/// Begins a session on a connection, which is served as long as the client lives.
async fn begin<S, T>(config: &Config, database: &Database, stream: S, tls: T) -> Result<Client, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S, Stream: Send + Unpin + 'static>,
{
    let begun = config.connect_raw(stream, tls).await;
    let (client, connection) = begun.map_err(|error| failed(database, in_words(&error)))?;
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
        None => last_cause(error),
    }
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
    let mut waiting = Waiting::default();
    let rows = waiting.next(client.query_raw(statement, no_parameters)).await?.map_err(broken)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = waiting.next(rows.next()).await? {
        waiting.begun();
        let row = row.map_err(broken)?;
        let mut line = pipe.line();
        for (n, member) in members.iter().enumerate() {
            if let Some(value) = row.try_get::<_, Option<&str>>(n).map_err(broken)? {
                line.push(member, value);
            }
        }
        line.end();
        pipe.flush_if_full().await?;
    }
    client.batch_execute("COMMIT").await.map_err(broken)?;
    Ok(())
}
