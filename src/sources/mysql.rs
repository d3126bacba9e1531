//! Rows of MySQL and MariaDB databases: one transaction that only reads, in which all rows are of one moment.

use super::database::{Waiting, check_names, failed, in_time, last_cause, too_powerful};
use super::pipe::{self, Pipe, Stopped, Told};
use super::secrets::{certificates, secret};
use crate::config::Database;
use crate::core::{json, limits};
use crate::net::trusted_certificates;
use crate::node::Error;
use crate::publishing::Arriving;
use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Column, Conn, IsolationLevel, OptsBuilder, SslOpts, TxOpts, Value};
use std::fmt::Write;

const PORT: u16 = 3306;
/// Number of the character set of bytes that are no text.
const BINARY: u16 = 63;

/// Reads the rows of a query while they are published.
pub async fn open(database: &Database, query: &str) -> Result<(Arriving, Told), Error> {
    check_query(query)?;
    let connecting = async {
        let mut connection = connect(database).await?;
        check_rights(&mut connection, database).await?;
        // MariaDB and MySQL have different names for it.
        let seconds = limits::SOURCE_RUN_TIME_MAX.as_secs();
        let _ = connection.query_drop(format!("SET SESSION max_statement_time = {seconds}")).await;
        let _ = connection.query_drop(format!("SET SESSION max_execution_time = {}", seconds * 1_000)).await;
        // The query is checked before anything is published; a statement of the protocol is a single one.
        let query = query.trim().trim_end_matches(';').to_owned();
        let statement = connection.prep(query.as_str()).await;
        let statement =
            statement.map_err(|error| Error::invalid("query", format!("the query: {}", in_words(&error))))?;
        let names: Vec<String> = statement.columns().iter().map(|column| column.name_str().into_owned()).collect();
        check_names(&names)?;
        connection.close(statement).await.map_err(|error| failed(database, in_words(&error)))?;
        Ok::<_, Error>((connection, query))
    };
    let (connection, query) = in_time(database, connecting).await?;
    let (told, database) = (Told::default(), database.clone());
    let records = pipe::told_records(told.clone(), move |mut pipe| async move {
        let mut running = Running { database: Some(database), id: connection.id() };
        let done = rows(connection, &query, &mut pipe).await;
        if done.is_ok() {
            running.database = None;
        }
        (pipe, done)
    });
    Ok((records, told))
}

/// Ends the query when it is dropped before the rows were read: the server does not notice that its client is gone.
struct Running {
    database: Option<Database>,
    id: u32,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(database), id) = (self.database.take(), self.id) else { return };
        tokio::spawn(async move {
            if let Ok(mut connection) = connect(&database).await {
                // It may have ended by itself.
                let _ = connection.query_drop(format!("KILL {id}")).await;
            }
        });
    }
}

/// Fails unless the statement begins as a query does: others may change something even in a transaction that only reads.
fn check_query(query: &str) -> Result<(), Error> {
    let mut rest = query.trim_start();
    loop {
        let after = match rest {
            line if line.starts_with("--") || line.starts_with('#') => line.split_once('\n').map(|(_, after)| after),
            // Such a comment is carried out.
            hidden if hidden.starts_with("/*!") || hidden.starts_with("/*M!") => None,
            comment if comment.starts_with("/*") => comment.split_once("*/").map(|(_, after)| after),
            open if open.starts_with('(') => Some(&open[1..]),
            _ => break,
        };
        match after {
            Some(after) => rest = after.trim_start(),
            None => break,
        }
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    if ["SELECT", "WITH", "VALUES", "TABLE"].contains(&word.to_ascii_uppercase().as_str()) {
        return Ok(());
    }
    Err(Error::invalid("query", "the query must begin with SELECT, WITH, VALUES or TABLE"))
}

/// Fails if the user may do more than read tables: with FILE, queries read files of the server.
async fn check_rights(connection: &mut Conn, database: &Database) -> Result<(), Error> {
    let sql = "SELECT COUNT(*) FROM information_schema.user_privileges WHERE privilege_type = 'FILE'
               AND REPLACE(grantee, CHAR(39), '') = CURRENT_USER()";
    let found: Option<i64> = connection.query_first(sql).await.map_err(|error| failed(database, in_words(&error)))?;
    if found.unwrap_or(0) == 0 { Ok(()) } else { Err(too_powerful(database)) }
}

/// Connects as a source would.
pub async fn try_connect(database: &Database) -> Result<(), Error> {
    let trying = async {
        let mut connection = connect(database).await?;
        check_rights(&mut connection, database).await
    };
    in_time(database, trying).await
}

async fn connect(database: &Database) -> Result<Conn, Error> {
    Conn::new(options(database)?).await.map_err(|error| failed(database, in_words(&error)))
}

fn options(database: &Database) -> Result<OptsBuilder, Error> {
    let password = database.password_file.as_deref().map(secret).transpose()?;
    let mut options = OptsBuilder::default()
        .user(Some(&database.user))
        .pass(password.as_ref().map(|password| password.as_str()))
        .db_name(Some(&database.database))
        // `TIMESTAMP` is given in the zone of the session.
        .init(vec!["SET time_zone = '+00:00'"])
        .prefer_socket(false)
        .stmt_cache_size(0);
    if database.is_socket() {
        return Ok(options.socket(Some(&database.host)).prefer_socket(true));
    }
    options = options.ip_or_hostname(&database.host).tcp_port(database.port.unwrap_or(PORT));
    if database.is_encrypted() {
        let ca = certificates(database.ca_file.as_deref())?;
        let trusted = trusted_certificates(ca.as_deref()).map_err(|error| Error::Unavailable(error.to_string()))?;
        let trusted = trusted.into_iter().map(|certificate| certificate.to_vec().into()).collect();
        options = options.ssl_opts(SslOpts::default().with_root_certs(trusted).with_disable_built_in_roots(true));
    }
    Ok(options)
}

/// What the database or the connection says.
fn in_words(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(said) => said.message.clone(),
        other => last_cause(other),
    }
}

async fn rows(mut connection: Conn, query: &str, pipe: &mut Pipe) -> Result<(), Stopped> {
    let broken = |error: mysql_async::Error| {
        let reason = format!("the database: {}", in_words(&error));
        match &error {
            mysql_async::Error::Server(said) => {
                Stopped::FailedWith(reason, format!("the database ended the query: error {}", said.code))
            }
            _ => Stopped::Failed(reason),
        }
    };
    let mut reading = TxOpts::new();
    reading.with_consistent_snapshot(true).with_isolation_level(IsolationLevel::RepeatableRead).with_readonly(true);
    let mut transaction = connection.start_transaction(reading).await.map_err(broken)?;
    let mut waiting = Waiting::default();
    let mut result = waiting.next(transaction.exec_iter(query, ())).await?.map_err(broken)?;
    let columns = result.columns().unwrap_or_default();
    let members: Vec<Vec<u8>> = columns.iter().map(|column| json::to_canonical(&column.name_str())).collect();
    while let Some(row) = waiting.next(result.next()).await?.map_err(broken)? {
        waiting.begun();
        let mut line = pipe.line();
        for ((n, column), member) in columns.iter().enumerate().zip(&members) {
            if let Some(value) = row.as_ref(n).map(|value| to_json(value, column)).transpose()?.flatten() {
                line.push(member, &value);
            }
        }
        line.end();
        pipe.flush_if_full().await?;
    }
    drop(result);
    transaction.commit().await.map_err(broken)?;
    let _ = connection.disconnect().await;
    Ok(())
}

/// A value as JSON; none for NULL.
fn to_json(value: &Value, column: &Column) -> Result<Option<String>, String> {
    let kind = column.column_type();
    Ok(Some(match value {
        Value::NULL => return Ok(None),
        // `BOOLEAN` is a name of `TINYINT(1)`.
        Value::Int(n @ (0 | 1)) if kind == ColumnType::MYSQL_TYPE_TINY && column.column_length() == 1 => {
            (*n == 1).to_string()
        }
        Value::Int(n) => n.to_string(),
        Value::UInt(n) => n.to_string(),
        Value::Float(n) if n.is_finite() => n.to_string(),
        Value::Double(n) if n.is_finite() => serde_json::json!(n).to_string(),
        Value::Float(_) | Value::Double(_) => return Err(unreadable(column, "is no number")),
        Value::Date(..) => format!("\"{}\"", date(value, kind)),
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if *negative { "-" } else { "" };
            let hours = u64::from(*days) * 24 + u64::from(*hours);
            format!("\"{sign}{hours:02}:{minutes:02}:{seconds:02}{}\"", fraction(*micros))
        }
        Value::Bytes(bytes) if kind == ColumnType::MYSQL_TYPE_BIT => bit(bytes, column)?,
        Value::Bytes(bytes) => text(bytes, column)?,
    }))
}

/// Bytes as JSON: a number of `DECIMAL`, a document, or a text.
fn text(bytes: &[u8], column: &Column) -> Result<String, String> {
    let binary = || unreadable(column, "is binary: select HEX or TO_BASE64 of it");
    let text = std::str::from_utf8(bytes).map_err(|_| binary())?;
    match column.column_type() {
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => Ok(decimal(text)),
        ColumnType::MYSQL_TYPE_BLOB | ColumnType::MYSQL_TYPE_STRING | ColumnType::MYSQL_TYPE_VAR_STRING
            if column.character_set() == BINARY =>
        {
            Err(binary())
        }
        ColumnType::MYSQL_TYPE_JSON => Ok(text.to_owned()),
        _ => serde_json::to_string(text).map_err(|error| unreadable(column, &error.to_string())),
    }
}

/// A number of `DECIMAL`, without the zeros that `ZEROFILL` puts before it.
fn decimal(text: &str) -> String {
    let kept = text.trim_start_matches('0');
    if kept.len() == text.len() || kept.starts_with(|c: char| c.is_ascii_digit()) {
        kept.to_owned()
    } else {
        format!("0{kept}")
    }
}

fn unreadable(column: &Column, why: &str) -> String {
    format!("column {} {why}", column.name_str())
}

fn fraction(micros: u32) -> String {
    if micros == 0 { String::new() } else { format!(".{micros:06}").trim_end_matches('0').to_owned() }
}

/// A day, or a time; `TIMESTAMP` is in UTC, `DATETIME` has no zone.
fn date(value: &Value, kind: ColumnType) -> String {
    let Value::Date(year, month, day, hour, minute, second, micros) = value else { return String::new() };
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if kind != ColumnType::MYSQL_TYPE_DATE {
        let zone = if kind == ColumnType::MYSQL_TYPE_TIMESTAMP { "Z" } else { "" };
        // Writing to a string does not fail.
        let _ = write!(text, "T{hour:02}:{minute:02}:{second:02}{}{zone}", fraction(*micros));
    }
    text
}

/// `BIT(1)` is a truth value, a longer one a number.
fn bit(bytes: &[u8], column: &Column) -> Result<String, String> {
    if column.column_length() == 1 {
        return Ok((bytes.last() == Some(&1)).to_string());
    }
    if bytes.len() > 8 {
        return Err(unreadable(column, "has too many bits"));
    }
    Ok(bytes.iter().fold(0_u64, |n, byte| n << 8 | u64::from(*byte)).to_string())
}
