//! Delivered records, in the formats that people and programs read.

use crate::contracts::RequestView;
use crate::core::id::{DatasetId, ProcessId};
use crate::core::limits;
use crate::dataset::manifest::Manifest;
use crate::dataset::open::Package;
use crate::delivery::Opened;
use crate::export::{Choice, Export, Filled, Format, Origin, Rows, archive};
use crate::management::app::App;
use crate::management::inputs::{PathId, Query};
use crate::management::outputs::{Body, Media};
use crate::management::problem::Problem;
use crate::management::roles::Caller;
use crate::management::routes::{Operation, Routes};
use crate::node::{Error, PlainData, User, UserRole};
use crate::schema::Schema;
use crate::storage::Holding;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

fn reading(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, summary, roles: &[UserRole::Requester] }
}

pub fn add(routes: Routes) -> Routes {
    macro_rules! latest {
        ($routes:expr, $($file:literal, $id:literal, $format:expr;)*) => {
            $routes$(.get(
                reading(
                    concat!("/v1/datasets/{id}/latest.", $file),
                    $id,
                    "Returns records of the newest version of a dataset that the enterprise has received.",
                ),
                async |app: State<App>, caller: Caller, id: PathId<DatasetId>, query: Query<DataQuery>| {
                    latest($format, app, caller, id, query).await
                },
            ))*
        };
    }
    let routes = routes.get(reading("/v1/requests/{id}/data", "getData", "Returns the delivered records."), data);
    latest! {
        routes,
        "ndjson", "getLatestNdjson", Format::Ndjson;
        "csv", "getLatestCsv", Format::Csv;
        "json", "getLatestJson", Format::Json;
        "xlsx", "getLatestXlsx", Format::Xlsx;
        "parquet", "getLatestParquet", Format::Parquet;
        "zip", "getLatestZip", Format::Zip;
    }
}

/// The query of delivered records.
#[derive(Debug, Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct DataQuery {
    /// Format of the records, if the path does not state it: ndjson by default.
    format: Option<Format>,
    /// Properties, separated by commas; all by default.
    columns: Option<String>,
    /// Conditions, such as `area=CHN and period>=2015`: `=`, `!=`, `<`, `<=`, `>`, `>=`, and `~` for a part of a text.
    r#where: Option<String>,
    /// Records of the dataset that are passed over.
    #[schemars(with = "Option<u64>")]
    offset: Option<String>,
    /// Records of the dataset that are looked at.
    #[schemars(with = "Option<u64>")]
    limit: Option<String>,
    /// Whether properties that no record has are left out.
    skip_empty: Option<Flag>,
    /// CSV: whether it begins with a byte order mark, which spreadsheets need.
    bom: Option<Flag>,
    /// CSV: whether texts that a spreadsheet would run as a formula stay as they are.
    raw: Option<Flag>,
}

/// A truth value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Flag {
    True,
    False,
}

impl DataQuery {
    fn choice(&self) -> Result<Choice, Error> {
        let invalid = |problem: String| Error::invalid("query", problem);
        let names = self.columns.as_deref().unwrap_or_default().split(',').map(str::trim);
        let rows: Rows = self.r#where.as_deref().unwrap_or_default().parse().map_err(invalid)?;
        Ok(Choice {
            columns: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            rows,
            mark: self.bom == Some(Flag::True),
            raw: self.raw == Some(Flag::True),
        })
    }

    /// The records that are looked at.
    fn range(&self, records: u64) -> Result<Range<u64>, Error> {
        let number = |name: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Error::invalid("query", format!("`{name}` must be a number of records"))),
            },
        };
        let offset = number("offset", &self.offset)?.unwrap_or(0).min(records);
        let limit = number("limit", &self.limit)?.unwrap_or(records);
        Ok(offset..offset.saturating_add(limit).min(records))
    }
}

/// Records in one of the formats; from another connector, in whatever format it sends.
struct Records;

impl Media for Records {
    const TYPES: &'static [&'static str] = &[
        "application/x-ndjson",
        "text/csv; charset=utf-8",
        "application/json",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.apache.parquet",
        "application/zip",
    ];
}

async fn latest(
    format: Format,
    State(app): State<App>,
    Caller(user): Caller,
    PathId(dataset): PathId<DatasetId>,
    Query(query): Query<DataQuery>,
) -> Result<Body<Records>, Problem> {
    if query.format.is_some_and(|other| other != format) {
        return Err(Error::invalid("query", "the path states the format").into());
    }
    let request = app.services.contracts.requests.latest(&user, &dataset).await?;
    records(&app, &user, &request, format, &query).await
}

async fn data(
    State(app): State<App>,
    Caller(user): Caller,
    PathId(id): PathId<ProcessId>,
    Query(query): Query<DataQuery>,
) -> Result<Body<Records>, Problem> {
    records(&app, &user, &id, query.format.unwrap_or(Format::Ndjson), &query).await
}

/// Streams the plaintext; it is never written to a file of the node. Plain data of another connector is passed on as it
/// arrives.
async fn records(
    app: &App,
    user: &User,
    id: &ProcessId,
    format: Format,
    query: &DataQuery,
) -> Result<Body<Records>, Problem> {
    let choice = query.choice()?;
    let view = app.services.contracts.requests.view(user, id).await?;
    let (mut package, holding) = match app.services.contracts.requests.open(user, id).await? {
        Opened::Kept(kept) => *kept,
        Opened::Plain(plain) => return Ok(Body::of(passed_on(plain))),
    };
    let downloads = &app.services.delivery.downloads;
    let schema = downloads.schema_of(&holding).await?;
    choice.check(&schema).map_err(|problem| Error::invalid("query", problem.to_string()))?;
    if format == Format::Zip && !schema.has_content() {
        return Err(Error::invalid("query", "the dataset has no files; choose a format of records").into());
    }
    let range = query.range(holding.records)?;
    let count = choice.rows.is_empty().then(|| range.end - range.start);
    if format == Format::Xlsx && count.is_some_and(|count| count >= limits::SHEET_ROWS_MAX) {
        let reason =
            format!("a sheet has at most {} records; choose some, or another format", limits::SHEET_ROWS_MAX - 1);
        return Err(Error::invalid("query", reason).into());
    }
    let manifest = downloads.manifest_of(&holding).await?.body().clone();
    let changes = manifest.changes.and_then(|changes| HeaderValue::from_str(&changes.in_words()).ok());
    let mut origin = origin(&holding, &manifest, &view);
    origin.push(("read by".into(), user.person.to_string()));
    origin.push(("read at".into(), app.services.node.now().to_string()));
    let skip_empty = query.skip_empty == Some(Flag::True) && choice.columns.is_empty();
    let write = move |out: Pieces| {
        let mut choice = choice;
        if skip_empty {
            choice.columns = filled(&mut package, range.clone(), &schema)?;
        }
        if format == Format::Zip {
            return archive(&mut package, range, &schema, choice, &origin, out).map(drop);
        }
        let mut export = Export::begin(format, &schema, choice, &origin, out)?;
        package.read_records(range, |text| export.text(text)).map_err(io::Error::other)?;
        export.finish().map(drop)
    };
    let mut response = streamed(write).await?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    if let Some(count) = count {
        headers.insert(HeaderName::from_static("crosspark-records"), count.into());
    }
    if let Some(changes) = changes {
        headers.insert(HeaderName::from_static("crosspark-changes"), changes);
    }
    Ok(Body::of(response))
}

/// Where the records come from, for people who have nothing but the file.
fn origin(holding: &Holding, manifest: &Manifest, view: &RequestView) -> Origin {
    let of_request = [
        ("manifest", holding.manifest_digest.to_string()),
        ("agreement", holding.agreement.to_string()),
        ("request", view.id.to_string()),
        ("purpose", view.purpose.as_str().to_owned()),
        ("enterprise", view.enterprise.as_str().to_owned()),
    ];
    let mut origin: Origin = vec![("title".into(), holding.title.as_str().to_owned())];
    origin.extend(manifest.origin());
    origin.extend(of_request.map(|(name, value)| (name.to_owned(), value)));
    origin
}

/// What `write` writes, while it writes. As long as nothing was sent, an error is an answer of its own.
async fn streamed(write: impl FnOnce(Pieces) -> io::Result<()> + Send + 'static) -> Result<Response, Problem> {
    let (send, mut pieces) = mpsc::channel::<io::Result<Piece>>(4);
    tokio::task::spawn_blocking(move || {
        let out = Pieces { send, piece: Arc::default() };
        let written = write(out.clone()).and_then(|()| out.send());
        // What is wrong may quote a record: it is for the user, not for the log.
        if written.is_err() {
            tracing::info!("an export ended early");
        }
        let _ = out.send.blocking_send(written.map(|()| Piece::End));
    });
    let first = match pieces.recv().await {
        Some(Err(error)) => return Err(Error::invalid("export", error.to_string()).into()),
        first => first,
    };
    let stream = futures_util::stream::unfold(Some((first, pieces)), async |state| {
        let (piece, mut pieces) = state?;
        match piece {
            Some(Ok(Piece::End)) => None,
            Some(Ok(Piece::Bytes(bytes))) => {
                let next = pieces.recv().await;
                Some((Ok(bytes), Some((next, pieces))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            // Without its end, a part of the records is not taken for all of them.
            None => Some((Err(io::Error::other("the export ended early")), None)),
        }
    });
    Ok(HttpBody::from_stream(stream).into_response())
}

/// The properties that some record has.
fn filled(package: &mut Package<File>, range: Range<u64>, schema: &Schema) -> io::Result<Vec<String>> {
    let mut filled = Filled::default();
    package.read_records(range, |text| filled.text(text)).map_err(io::Error::other)?;
    Ok(filled.columns(schema))
}

/// A piece of a body. The end is explicit: a writer that panics must not look like one that is done.
enum Piece {
    Bytes(Bytes),
    End,
}

/// A body in pieces. What a writer that fails has written last is not sent.
#[derive(Clone)]
struct Pieces {
    send: mpsc::Sender<io::Result<Piece>>,
    piece: Arc<Mutex<Vec<u8>>>,
}

/// Size of a piece.
const PIECE_BYTES: usize = 256 * 1024;

impl Pieces {
    /// Sends what was written.
    fn send(&self) -> io::Result<()> {
        let piece = self.piece.lock().map(|mut piece| std::mem::take(&mut *piece)).unwrap_or_default();
        let gone = |_| io::Error::other("the reader is gone");
        if piece.is_empty() { Ok(()) } else { self.send.blocking_send(Ok(Piece::Bytes(piece.into()))).map_err(gone) }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.piece.lock().map_or(0, |mut piece| {
            piece.extend_from_slice(bytes);
            piece.len()
        });
        if length >= PIECE_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    /// Writers flush between parts of a file; a piece is sent when it is large enough, and at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn passed_on(plain: PlainData) -> Response {
    let kind = plain.kind.and_then(|kind| HeaderValue::from_str(&kind).ok());
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(HttpBody::from_stream(plain.stream));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(length) = plain.length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}
