//! `crosspark source`

use super::api::{Api, NodeArgs};
use super::outcome::{Outcome, done};
use super::output::{self, note, say};
use super::publication::PublicationArgs;
use super::publish::{records_part, refused, schema_of};
use super::reading::ReadingArgs;
use crate::core::id::{ConnectionName, SourceName};
use crate::core::json;
use crate::ingest::Chunks;
use crate::source::{Definition, Input, Outcome as Ended, Pages, Pattern, Schedule};
use crate::sources::{Ran, SourceReport};
use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::{Method, multipart};
use serde_json::{Value, json};
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// List where sources may read: the connections of the node's configuration.
    Connections(List),
    /// Define a source.
    Add(Box<Add>),
    /// List the sources, their last runs and the next ones.
    List(List),
    /// Run a source now, or send records to it.
    Run(Run),
    /// Pause a source.
    Pause(Named),
    /// Resume a paused source, or let one run on your behalf from now on.
    Resume(Named),
    /// Remove a source; its dataset stays as it is.
    Remove(Named),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Args)]
pub struct Named {
    #[command(flatten)]
    node: NodeArgs,
    /// Name of the source.
    name: SourceName,
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    node: NodeArgs,
    /// Name of the source.
    name: SourceName,
    /// File to send to a source that was added with --pushed; - is the standard input.
    #[arg(long)]
    file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Add {
    #[command(flatten)]
    node: NodeArgs,
    /// Name of the source: lower-case letters, digits, - and _.
    name: SourceName,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    pages: PagesArgs,
    /// When it runs: minute, hour, day, month, weekday and time zone, as in "0 2 * * * Asia/Shanghai"; without a zone, that
    /// of this machine. Without a schedule, a folder is watched, and other sources run on request.
    #[arg(long)]
    schedule: Option<Schedule>,
    /// Hours within which new content is expected; after them, there is a warning.
    #[arg(long)]
    expect_hours: Option<u32>,
    /// Define a source with this name again; it keeps its dataset.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    publication: PublicationArgs,
    /// A file such as the source will have, from which is found out how it is read.
    #[arg(long)]
    like: Option<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// Where the records come from.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct FromArgs {
    /// Connection of a folder: each file that arrives there becomes a version.
    #[arg(long)]
    folder: Option<ConnectionName>,
    /// Connection of an HTTP server.
    #[arg(long)]
    http: Option<ConnectionName>,
    /// Connection of a PostgreSQL, MySQL or MariaDB database.
    #[arg(long)]
    database: Option<ConnectionName>,
    /// Records are sent: crosspark source run NAME --file FILE.
    #[arg(long)]
    pushed: bool,
}

/// What is read there.
#[derive(Args)]
struct InputArgs {
    #[command(flatten)]
    from: FromArgs,
    /// Names of the files in the folder, with * and ?.
    #[arg(long, value_parser = Pattern::parse)]
    files: Option<Pattern>,
    /// Path and query of the resource, below the connection's URL.
    #[arg(long)]
    path: Option<String>,
    /// Query whose rows are the records; the columns are named as the schema's properties.
    #[arg(long, conflicts_with = "query_file")]
    query: Option<String>,
    /// File of the query.
    #[arg(long)]
    query_file: Option<PathBuf>,
}

/// How an HTTP resource is divided into pages, which are JSON.
#[derive(Args)]
#[group(multiple = false)]
struct PagesArgs {
    /// The header Link of a page names the next one.
    #[arg(long)]
    next_link: bool,
    /// JSON pointer of the next page's URL in a page, such as /next.
    #[arg(long)]
    next_at: Option<String>,
    /// Parameter that numbers the pages from 1; NAME=0 begins with 0.
    #[arg(long, value_name = "NAME")]
    page_number: Option<String>,
    /// Parameter that is the number of records before a page.
    #[arg(long, value_name = "NAME")]
    page_offset: Option<String>,
}

impl PagesArgs {
    fn pages(self) -> anyhow::Result<Option<Pages>> {
        let Self { next_link, next_at, page_number, page_offset } = self;
        let number = page_number.map(|text| {
            let (parameter, first) = text.split_once('=').unwrap_or((&text, "1"));
            let first = first.parse().with_context(|| format!("`{first}` is not the number of a page"))?;
            Ok::<_, anyhow::Error>(Pages::Number { parameter: parameter.to_owned(), first })
        });
        let others = next_link
            .then_some(Pages::Link {})
            .or(next_at.map(|at| Pages::Next { at }))
            .or(page_offset.map(|parameter| Pages::Offset { parameter }));
        Ok(number.transpose()?.or(others))
    }
}

impl InputArgs {
    fn input(self, pages: Option<Pages>) -> anyhow::Result<Input> {
        let FromArgs { folder, http, database, pushed: _ } = self.from;
        // What one kind of source has is refused for the others.
        let of_http = self.path.is_some() || pages.is_some();
        let of_database = self.query.is_some() || self.query_file.is_some();
        anyhow::ensure!(self.files.is_none() || folder.is_some(), "--files is for --folder");
        anyhow::ensure!(!of_http || http.is_some(), "--path and the options of pages are for --http");
        anyhow::ensure!(!of_database || database.is_some(), "--query is for --database");
        if let Some(connection) = folder {
            let files = self.files.map_or_else(|| Pattern::parse("*").map_err(anyhow::Error::msg), Ok)?;
            return Ok(Input::Folder { connection, files });
        }
        if let Some(connection) = http {
            return Ok(Input::Http { connection, path: self.path.unwrap_or_default(), pages });
        }
        let Some(connection) = database else { return Ok(Input::Pushed {}) };
        let file = self
            .query_file
            .map(|file| std::fs::read_to_string(&file).with_context(|| format!("the query {}", file.display())));
        let query = self.query.or(file.transpose()?).context("give --query or --query-file")?;
        Ok(Input::Query { connection, query })
    }
}

/// Adds the time zone of this machine to a schedule that has none.
fn zoned(schedule: Schedule) -> Schedule {
    let here = jiff::tz::TimeZone::system();
    match here.iana_name().filter(|_| !schedule.has_zone()) {
        Some(zone) => Schedule::parse(&format!("{} {zone}", schedule.as_str())).unwrap_or(schedule),
        None => schedule,
    }
}

/// A name that shows the format of what is read.
fn name_of(input: &Input) -> &str {
    match input {
        Input::Folder { files, .. } => files.as_str(),
        Input::Http { pages: Some(_), .. } => "pages.json",
        Input::Http { path, .. } => path.split('?').next().unwrap_or_default(),
        Input::Query { .. } => "rows.ndjson",
        Input::Pushed {} => "the records",
    }
}

pub async fn run(command: Command, as_json: bool) -> Outcome {
    match command {
        Command::Connections(args) => connections(&args, as_json).await,
        Command::Add(args) => add(*args, as_json).await,
        Command::List(args) => list(&args, as_json).await,
        Command::Run(args) => run_now(args, as_json).await,
        Command::Pause(args) => change(&args, Method::POST, "/pause", "paused", as_json).await,
        Command::Resume(args) => change(&args, Method::POST, "/resumption", "resumed", as_json).await,
        Command::Remove(args) => change(&args, Method::DELETE, "", "removed", as_json).await,
    }
}

async fn connections(args: &List, as_json: bool) -> Outcome {
    let found = Api::new(&args.node)?.get("/v1/connections").await?;
    if as_json {
        output::json(&found)?;
        return done();
    }
    let rows = output::list(&found, "connections").iter().map(|connection| {
        let [name, kind, place] = ["name", "kind", "place"].map(|member| output::text(connection, member));
        (format!("{name}  {kind}"), vec![place])
    });
    output::entries(rows, "The node's configuration has no connections; README.md shows how they are written.");
    done()
}

async fn add(args: Add, as_json: bool) -> Outcome {
    let Add { node, name, input, pages, schedule, expect_hours, replace, publication, like, reading } = args;
    let policy = match publication.policy()? {
        Ok(policy) => policy,
        Err(invalid) => return invalid.told(as_json),
    };
    let api = Api::new(&node)?;
    let input = input.input(pages.pages()?)?;
    let read = match like {
        Some(like) => {
            let schema = schema_of(&api, &publication.schema).await.ok();
            let found = reading.look_at(&like, schema.as_ref())?;
            if let Some(schema) = &schema {
                let text = found.text(BufReader::new(File::open(&like)?))?;
                let fits = Chunks::open(text, schema, found.mapping.as_ref()).map(drop);
                fits.with_context(|| like.display().to_string())?;
            }
            (found.format, found.reading, found.mapping)
        }
        None => reading.stated(name_of(&input))?,
    };
    let definition = Definition {
        input,
        schedule: schedule.map(zoned),
        expected_hours: expect_hours,
        publication: publication.with(policy, read)?,
    };
    let new = json!({"name": name, "definition": definition, "replace": replace});
    let made = api.post("/v1/sources", &new).await?;
    if as_json {
        output::json(&made)?;
        return done();
    }
    let made: SourceReport = json::read(&serde_json::to_vec(&made)?)?;
    say!("Defined the source {}; {}.", made.name, next_in_words(&made));
    done()
}

fn next_in_words(source: &SourceReport) -> String {
    match (&source.next, &source.definition.input) {
        _ if source.paused => "paused".into(),
        (Some(next), _) => format!("next run at {next}"),
        (None, Input::Folder { .. }) => "its folder is watched".into(),
        (None, Input::Pushed {}) => "it waits for records".into(),
        (None, _) => format!("run it with: crosspark source run {}", source.name),
    }
}

fn ended_in_words(outcome: &Ended) -> String {
    match outcome {
        Ended::Published { version, records } => {
            format!("published version {version}, {}", output::count(*records, "record", "records"))
        }
        Ended::Unchanged { version } => format!("unchanged since version {version}"),
        Ended::Nothing => "nothing new".into(),
        Ended::Failed { reason, .. } => format!("failed: {reason}"),
    }
}

fn input_in_words(source: &SourceReport) -> String {
    let definition = &source.definition;
    let from = match &definition.input {
        Input::Folder { connection, files } => format!("files {} in {connection}", files.as_str()),
        Input::Http { connection, path, .. } => format!("{path} at {connection}"),
        Input::Query { connection, .. } => format!("a query of {connection}"),
        Input::Pushed {} => "records that are sent".into(),
    };
    let schedule = definition.schedule.as_ref().map(|schedule| format!(", at {}", schedule.as_str()));
    format!("{from}{}", schedule.unwrap_or_default())
}

async fn list(args: &List, as_json: bool) -> Outcome {
    let found = Api::new(&args.node)?.get("/v1/sources").await?;
    if as_json {
        output::json(&found)?;
        return done();
    }
    let sources: Vec<SourceReport> =
        serde_json::from_value(found.get("sources").cloned().unwrap_or_default()).context("the node's answer")?;
    let rows = sources.iter().map(|source| {
        let mut lines = vec![input_in_words(source)];
        if let Some(dataset) = &source.dataset {
            lines.push(format!("dataset {dataset}"));
        }
        // A failure is told below.
        if let Some(last) = source.last.as_ref().filter(|_| source.failures == 0) {
            lines.push(format!("{} at {}", ended_in_words(&last.outcome), last.ended));
        }
        let running = source.running.map(|since| format!("running since {since}"));
        lines.push(running.unwrap_or_else(|| next_in_words(source)));
        lines.extend(source.warning.iter().map(|warning| format!("ATTENTION: {warning}")));
        (format!("{}  {}", source.name, source.definition.publication.title), lines)
    });
    output::entries(rows, "There are no sources.");
    done()
}

async fn run_now(args: Run, as_json: bool) -> Outcome {
    let api = Api::new(&args.node)?;
    let ran = match &args.file {
        None => api.post(&format!("/v1/sources/{}/runs", args.name), &json!({})).await,
        Some(file) => push(&api, &args.name, file).await,
    };
    let name = args.file.as_ref().map_or_else(|| args.name.to_string(), |file| file.display().to_string());
    let ran: Ran = match ran {
        Err(error) => return refused(error, &name, as_json),
        Ok(ran) => json::read(&serde_json::to_vec(&ran)?)?,
    };
    if as_json {
        output::json(&ran)?;
        return done();
    }
    say!("{}: {}.", ran.source, ended_in_words(&ran.outcome));
    if let Some(published) = ran.published {
        if let Some(changes) = &published.changes {
            say!("{}.", changes.in_words());
        }
        for remark in &published.remarks {
            note!("Note: {remark}.");
        }
    }
    done()
}

async fn push(api: &Api, name: &SourceName, file: &std::path::Path) -> anyhow::Result<Value> {
    let file = if file == std::path::Path::new("-") { std::path::Path::new("/dev/stdin") } else { file };
    let source = tokio::fs::File::open(file).await.with_context(|| file.display().to_string())?;
    let (records, bar) = records_part(source).await?;
    let form = multipart::Form::new().part("records", records);
    let sent = api.send(api.request(Method::POST, &format!("/v1/sources/{name}/records")).multipart(form)).await;
    bar.finish_and_clear();
    Ok(json::read(&sent?.bytes().await?)?)
}

async fn change(args: &Named, method: Method, action: &str, done_in_words: &str, as_json: bool) -> Outcome {
    let api = Api::new(&args.node)?;
    let sent = api.send(api.request(method, &format!("/v1/sources/{}{action}", args.name))).await?.bytes().await?;
    if !as_json {
        say!("{done_in_words}: {}", args.name);
    } else if !sent.is_empty() {
        output::json(&json::read::<Value>(&sent)?)?;
    }
    done()
}
