//! `crosspark publish`

use super::api::{Api, ApiError, NodeArgs};
use super::outcome::{Outcome, exit, in_words};
use super::output::{self, note, say};
use super::parts::{self, Source};
use super::publication::PublicationArgs;
use super::reading::{Local, ReadingArgs};
use super::{folder, offer, report, skip};
use crate::core::id::in_url;
use crate::core::json;
use crate::dataset::report::Rejection;
use crate::ingest::{Format, Reading};
use crate::publishing::Published;
use crate::schema::Schema;
use crate::source::Publication;
use anyhow::Context;
use futures_util::StreamExt;
use indicatif::ProgressBar;
use reqwest::{Body, Method, header, multipart};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::io::AsyncReadExt;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// File of records: NDJSON, JSON, CSV or a workbook, also compressed. The columns of a table have the names or titles of
    /// the schema's properties. Or a folder of files, under a schema whose records describe files.
    file: PathBuf,
    /// File of what is known of the files of a folder: records with their `path` in the folder.
    #[arg(long, value_name = "FILE")]
    records: Option<PathBuf>,
    #[command(flatten)]
    publication: PublicationArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Publish the valid records only. The others go to a file, each with the reason; everyone who sees the dataset reads
    /// how many they are.
    #[arg(long)]
    skip_invalid: bool,
    /// File of the records that are left out; by default FILE.rejects.csv or FILE.rejects.ndjson.
    #[arg(long, requires = "skip_invalid")]
    rejects: Option<PathBuf>,
}

/// Bytes read from the file in one step.
const PIECE_BYTES: usize = 256 * 1024;

/// The schema with this name, as the node has it.
pub async fn schema_of(api: &Api, name: &str) -> anyhow::Result<Schema> {
    let text = api.get(&format!("/v1/schemas/{}", in_url(name))).await.context("the schema")?;
    Ok(Schema::checked_before(&serde_json::to_vec(&text)?)?)
}

pub async fn run(args: Args, as_json: bool) -> Outcome {
    let name = args.file.display().to_string();
    let policy = match args.publication.policy()? {
        Ok(policy) => policy,
        Err(invalid) => return invalid.told(as_json),
    };
    let api = Api::new(&args.node)?;
    let by = match schema_of(&api, &args.publication.schema).await {
        Err(error) if args.skip_invalid => return Err(error),
        // If there is no such schema, the node says so.
        by => by.ok(),
    };
    if args.file.is_dir() {
        let by = match by {
            Some(by) => by,
            None => schema_of(&api, &args.publication.schema).await?,
        };
        return publish_folder(&api, args, (policy, by), as_json).await;
    }
    anyhow::ensure!(args.records.is_none(), "--records is for the files of a folder; {name} is no folder");
    let local = args.reading.look_at(&args.file, by.as_ref())?;
    let Local { mut format, mut reading, mapping, .. } = local.clone();
    let rejects = args.rejects.unwrap_or_else(|| skip::rejects_beside(&args.file, format.form()));
    let (mut schema, mut valid) = (args.publication.schema.clone(), None);
    if let Some(by) = by.as_ref().filter(|_| args.skip_invalid) {
        valid = Some(skip::divide_file(&local, by, &rejects)?);
        // The very schema by which the records were chosen, and their text.
        (schema, (format, reading)) = (by.digest().to_string(), local.divided());
    }
    // A node does not read this format.
    let mut rewritten = None;
    if valid.is_none() && local.format == Format::Xls {
        rewritten = Some(local.rewritten().with_context(|| name.clone())?);
        (format, reading) = local.divided();
    }
    let skipped = valid.as_ref().map_or(0, |valid| valid.skipped);
    let told = valid.as_ref().filter(|valid| valid.skipped > 0).map(|valid| skip::told(valid, &rejects));
    let publication = args.publication.with(policy, (format, reading, mapping))?;
    let publication = Publication { schema, skipped, ..publication };
    let published = match valid.map(|valid| valid.file).or(rewritten) {
        Some(file) => send_file(&api, &publication, tokio::fs::File::from_std(file)).await,
        None => send(&api, &publication, &args.file).await,
    };
    match (told, &published) {
        (Some(told), Ok(_)) => note!("{told}"),
        // The same command can be given again.
        (Some(_), Err(_)) => std::fs::remove_file(&rejects).with_context(|| rejects.display().to_string())?,
        (None, _) => {}
    }
    let published = match published {
        Err(error) => {
            let title = error.downcast_ref::<ApiError>().and_then(|error| error.body["title"].as_str());
            let misfit = title.is_some_and(|title| ["source", "invalid-records"].contains(&title));
            let ended = refused(error, &name, as_json);
            let Some(by) = by.filter(|_| misfit && !as_json) else { return ended };
            let code = ended.unwrap_or_else(|error| {
                note!("error: {}", in_words(&error));
                ExitCode::from(exit::REFUSED)
            });
            offer::mapping(&local, &by, &publication.schema)?;
            return Ok(code);
        }
        Ok(published) => published,
    };
    tell(&published, as_json)
}

/// Publishes a folder of files.
async fn publish_folder(api: &Api, args: Args, (policy, by): (Value, Schema), as_json: bool) -> Outcome {
    anyhow::ensure!(!args.skip_invalid, "--skip-invalid is for records without files");
    let table = args.records.as_deref().map(|table| args.reading.look_at(table, Some(&by))).transpose()?;
    let found = match folder::read(&args.file, table.as_ref(), &by)? {
        Ok(found) => found,
        Err(misfits) => return folder::refused(&misfits, &args.file, as_json),
    };
    if found.hidden > 0 {
        let files = output::count(found.hidden, "name that begins", "names that begin");
        note!("{files} with a dot: left out.");
    }
    // The very schema by which the records were checked.
    let publication = args.publication.with(policy, (Format::Ndjson, Reading::default(), None))?;
    let publication = Publication { schema: by.digest().to_string(), ..publication };
    let bar = output::bytes_bar(Some(found.size), "publishing");
    let first = [
        ("metadata", Source::Text(serde_json::to_string(&publication)?)),
        ("records", Source::Open(tokio::fs::File::from_std(found.records))),
    ];
    let files = found.files.into_iter().map(|(_, path, size)| ("files", Source::Path(path, size)));
    let (kind, body) = parts::body(first.into_iter().chain(files).collect(), bar.clone());
    let request = api.request(Method::POST, "/v1/datasets").header(header::CONTENT_TYPE, kind).body(body);
    let sent = api.send(request).await;
    bar.finish_and_clear();
    tell(&json::read(&sent?.bytes().await?)?, as_json)
}

/// Says what was published.
fn tell(published: &Published, as_json: bool) -> Outcome {
    if as_json {
        output::json(published)?;
    } else {
        match published.unchanged {
            true => say!(
                "{} has this content already, in version {}; nothing was published.",
                published.dataset,
                published.version
            ),
            false => say!("Published {} version {}.", published.dataset, published.version),
        }
        if let Some(changes) = &published.changes {
            say!("{}.", changes.in_words());
        }
        let text = output::bytes(published.text_bytes);
        let records = output::count(published.records, "record", "records");
        let files = published.file_bytes.map(|bytes| format!(", and their files, {}", output::bytes(bytes)));
        say!("{records}, {text}{}; sealed {}.", files.unwrap_or_default(), output::bytes(published.sealed_bytes));
        say!("manifest {}", published.manifest);
        for remark in &published.remarks {
            note!("Note: {remark}.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Streams a file to the node.
pub async fn send(api: &Api, publication: &Publication, file: &std::path::Path) -> anyhow::Result<Published> {
    let source = tokio::fs::File::open(file).await.with_context(|| format!("{}", file.display()))?;
    send_file(api, publication, source).await
}

async fn send_file(api: &Api, publication: &Publication, source: tokio::fs::File) -> anyhow::Result<Published> {
    let (records, bar) = records_part(source).await?;
    let form = multipart::Form::new().text("metadata", serde_json::to_string(publication)?).part("records", records);
    let sent = api.send(api.request(Method::POST, "/v1/datasets").multipart(form)).await;
    bar.finish_and_clear();
    Ok(json::read(&sent?.bytes().await?)?)
}

/// A file as it is sent, and the progress of that.
pub async fn records_part(source: tokio::fs::File) -> anyhow::Result<(multipart::Part, ProgressBar)> {
    let meta = source.metadata().await?;
    let bar = output::bytes_bar(meta.is_file().then_some(meta.len()), "publishing");
    let counted = bar.clone();
    let stream = futures_util::stream::try_unfold(source, async |mut source| {
        let mut piece = vec![0; PIECE_BYTES];
        let read = source.read(&mut piece).await?;
        piece.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then_some((piece, source)))
    });
    let stream = stream.inspect(move |piece| counted.inc(piece.as_ref().map_or(0, |piece| piece.len() as u64)));
    Ok((multipart::Part::stream(Body::wrap_stream(stream.boxed())), bar))
}

/// Prints the invalid records.
pub fn refused(error: anyhow::Error, file: &str, as_json: bool) -> Outcome {
    let rejection = error.downcast_ref::<ApiError>().and_then(|error| error.body.get("rejection").cloned());
    let Some(rejection) = rejection else { return Err(error) };
    if as_json {
        output::json(&rejection)?;
        return Ok(ExitCode::from(exit::REFUSED));
    }
    let found: Rejection = serde_json::from_value(rejection)?;
    report::print(&found, None, file);
    report::nothing_published(&found);
    Ok(ExitCode::from(exit::REFUSED))
}
