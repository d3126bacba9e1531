//! A publication as multipart: a part `metadata` (JSON), then a part `records` (the file), then a part `files` for each file
//! that the records describe. All but the first are streamed.

use crate::core::{json, limits};
use crate::management::app::App;
use crate::management::inputs::expect;
use crate::management::problem::Problem;
use crate::node::Error;
use crate::publishing::Piece;
use crate::source::Publication;
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, RequestBody, SchemaObject};
use aide::operation::set_body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use schemars::JsonSchema;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The multipart form of a publication.
pub struct Upload(Multipart);

/// How the form is described.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "only described: the form is streamed")]
struct Form {
    /// What is published.
    metadata: Publication,
    /// The file of records.
    records: String,
    /// The files that the records describe, in their order.
    #[serde(default)]
    files: Vec<String>,
}

/// The multipart form of records alone.
pub struct RecordsUpload(Multipart);

/// How that form is described.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[allow(dead_code, reason = "only described: the form is streamed")]
struct RecordsForm {
    /// The file of records.
    records: String,
    /// The files that the records describe, in their order.
    #[serde(default)]
    files: Vec<String>,
}

fn broken(error: MultipartError) -> Error {
    Error::invalid("multipart", error.body_text())
}

/// The next part or piece, unless nothing arrives for too long.
async fn in_time<T>(next: impl Future<Output = Result<T, MultipartError>>) -> Result<T, Error> {
    match tokio::time::timeout(limits::UPLOAD_IDLE_TIME_MAX, next).await {
        Ok(next) => next.map_err(broken),
        Err(_) => Err(Error::invalid("multipart", "no data arrived for too long")),
    }
}

/// The rate of an upload, over the time that was spent waiting for it.
#[derive(Default)]
pub struct Rate {
    waited: Duration,
    bytes: usize,
}

impl Rate {
    /// Counts a piece and the time until it came; false if too little arrives.
    fn is_enough(&mut self, waited: Duration, bytes: usize) -> bool {
        (self.waited, self.bytes) = (self.waited + waited, self.bytes + bytes);
        if self.waited < limits::UPLOAD_PROGRESS_TIME {
            return true;
        }
        std::mem::take(self).bytes >= limits::UPLOAD_PROGRESS_BYTES_MIN
    }
}

async fn form_of(request: Request, app: &App) -> Result<Multipart, Problem> {
    expect(&request, "multipart/form-data")?;
    let form = Multipart::from_request(request, app).await;
    Ok(form.map_err(|error| Error::invalid("multipart", error.body_text()))?)
}

fn describe<F: JsonSchema>(context: &mut GenContext, operation: &mut Operation) {
    let json_schema = context.schema.subschema_for::<F>();
    let schema = Some(SchemaObject { json_schema, example: None, external_docs: None });
    let media = MediaType { schema, ..MediaType::default() };
    let content = [("multipart/form-data".to_owned(), media)].into_iter().collect();
    set_body(context, operation, RequestBody { content, required: true, ..RequestBody::default() });
}

impl FromRequest<App> for Upload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        form_of(request, app).await.map(Self)
    }
}

impl OperationInput for Upload {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        describe::<Form>(context, operation);
    }
}

impl FromRequest<App> for RecordsUpload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        form_of(request, app).await.map(Self)
    }
}

impl OperationInput for RecordsUpload {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        describe::<RecordsForm>(context, operation);
    }
}

impl RecordsUpload {
    /// The records.
    pub async fn records(&mut self) -> Result<Field<'_>, Error> {
        records_of(&mut self.0, "the first part must be `records`").await
    }

    /// Passes on the files that follow the records.
    pub async fn pass_files_on(&mut self, rate: &mut Rate, sender: mpsc::Sender<Piece>) {
        files_of(&mut self.0, rate, sender).await;
    }
}

async fn records_of<'a>(form: &'a mut Multipart, otherwise: &str) -> Result<Field<'a>, Error> {
    let part = in_time(form.next_field()).await?;
    part.filter(|part| part.name() == Some("records")).ok_or_else(|| Error::invalid("multipart", otherwise))
}

impl Upload {
    /// The publication, and its text as it was sent, if it arrives in time.
    pub async fn metadata(&mut self) -> Result<(Publication, Vec<u8>), Error> {
        let read = tokio::time::timeout(limits::UPLOAD_IDLE_TIME_MAX, self.read_metadata()).await;
        read.map_err(|_| Error::invalid("multipart", "the part `metadata` did not arrive in time"))?
    }

    async fn read_metadata(&mut self) -> Result<(Publication, Vec<u8>), Error> {
        let first = in_time(self.0.next_field()).await?;
        let Some(mut first) = first.filter(|part| part.name() == Some("metadata")) else {
            return Err(Error::invalid("multipart", "the first part must be `metadata`, the second `records`"));
        };
        let mut text = Vec::new();
        while let Some(piece) = in_time(first.chunk()).await? {
            text.extend_from_slice(&piece);
            if text.len() > limits::PUBLICATION_METADATA_BYTES_MAX {
                let max = limits::PUBLICATION_METADATA_BYTES_MAX;
                return Err(Error::invalid("multipart", format!("the part `metadata` is longer than {max} bytes")));
            }
        }
        let publication = json::read(&text).map_err(|error| Error::invalid("metadata", error.to_string()))?;
        Ok((publication, text))
    }

    /// The records.
    pub async fn records(&mut self) -> Result<Field<'_>, Error> {
        records_of(&mut self.0, "the second part must be `records`").await
    }

    /// Passes on the files that follow the records.
    pub async fn pass_files_on(&mut self, rate: &mut Rate, sender: mpsc::Sender<Piece>) {
        files_of(&mut self.0, rate, sender).await;
    }
}

const TOO_SLOW: &str = "the upload is too slow";

/// Passes the pieces of a part on until its end; false if it is not complete, or nobody reads it any more.
pub async fn pass_on(mut part: Field<'_>, rate: &mut Rate, sender: &mpsc::Sender<Piece>) -> bool {
    loop {
        let begun = Instant::now();
        let piece = match tokio::time::timeout(limits::UPLOAD_IDLE_TIME_MAX, part.chunk()).await {
            Ok(Ok(Some(piece))) if !rate.is_enough(begun.elapsed(), piece.len()) => Piece::Broken(TOO_SLOW.into()),
            Err(_) => Piece::Broken("no data arrived for too long".into()),
            Ok(Ok(Some(piece))) => Piece::Bytes(piece),
            Ok(Ok(None)) => return true,
            Ok(Err(error)) => Piece::Broken(format!("the upload was interrupted: {}", error.body_text())),
        };
        let last = !matches!(piece, Piece::Bytes(_));
        // The reader is gone when the publication has failed; its result says why.
        if sender.send(piece).await.is_err() || last {
            return false;
        }
    }
}

/// Passes on the files after the records, and the end of all.
async fn files_of(form: &mut Multipart, rate: &mut Rate, sender: mpsc::Sender<Piece>) {
    let last = loop {
        let begun = Instant::now();
        match in_time(form.next_field()).await {
            Ok(Some(_)) if !rate.is_enough(begun.elapsed(), 0) => break Piece::Broken(TOO_SLOW.into()),
            Ok(Some(part)) if part.name() == Some("files") => {
                if sender.send(Piece::File).await.is_err() || !pass_on(part, rate, &sender).await {
                    return;
                }
            }
            Ok(Some(_)) => break Piece::Broken("the parts after `records` must be `files`".into()),
            Ok(None) => break Piece::End,
            Err(error) => break Piece::Broken(error.to_string()),
        }
    };
    // Likewise.
    let _ = sender.send(last).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_slow_is_told_from_slow() {
        let second = Duration::from_secs(1);
        for (bytes_per_second, enough) in [(1, false), (1_000, false), (2_300, true), (1 << 20, true)] {
            let mut rate = Rate::default();
            assert_eq!((0..300).all(|_| rate.is_enough(second, bytes_per_second)), enough, "{bytes_per_second}");
        }
        // The time in which the node works does not count.
        let mut rate = Rate::default();
        assert!((0..10_000).all(|_| rate.is_enough(Duration::from_millis(1), 10)));
    }
}
