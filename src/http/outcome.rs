//! What a request for audio became, as an answer.

use std::{convert::Infallible, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::{StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::{Problem, idempotency};
use crate::{
    outbox::{Outcome, Record},
    session::{Finished, SessionEntry},
};

/// The media type of frames as length-delimited protobuf.
const PROTOBUF: &str = "application/x-protobuf";

/// A request in JSON.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Request, example = json!({
    "req_id": "20260102030405_1k9ff0", "outcome": "completed", "code": null, "reason": null,
    "audio_bytes": 64000, "audio_ms": 2000, "frame_count": 50, "breaks": 0, "first_frame_ms": 120, "total_ms": 2105
}))]
pub(super) struct RequestView {
    /// Its id.
    req_id: String,
    /// `completed`, `interrupted` or `failed`; null while it is open.
    outcome: Option<&'static str>,
    /// The code of a failure.
    code: Option<&'static str>,
    /// Why it failed, in words.
    reason: Option<String>,
    /// Bytes of its audio that were accepted.
    audio_bytes: u64,
    /// The length of the audio, where the format tells.
    audio_ms: Option<u64>,
    /// Frames that came.
    frame_count: u64,
    /// Connections that ended while it was answered on them.
    breaks: u32,
    /// From its first accepted audio until its first frame.
    first_frame_ms: Option<u64>,
    /// From its first accepted audio until its outcome.
    total_ms: Option<u64>,
    /// Its frames in base64, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<String>>,
    /// Frames beyond what is kept for an answer.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    frames_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl RequestView {
    pub(super) fn of(entry: &SessionEntry, record: &Record) -> Self {
        Self {
            req_id: record.req_id.clone(),
            outcome: record.outcome.map(Outcome::as_str),
            code: record.outcome.and_then(Outcome::code).map(crate::errors::ErrorCode::as_str),
            reason: record.reason.clone(),
            audio_bytes: record.audio_bytes,
            audio_ms: entry
                .spec
                .load()
                .bytes_per_second()
                .map(|rate| record.audio_bytes.saturating_mul(1000) / u64::from(rate.max(1))),
            frame_count: record.frames,
            breaks: record.breaks,
            first_frame_ms: record.first_frame_after().map(millis),
            total_ms: record.total().map(millis),
            frames: None,
            frames_left_out: 0,
        }
    }
}

/// The outcome of a request that was sent before. Its frames went to whoever waited for them then.
pub(super) fn replayed(entry: &SessionEntry, record: &Record) -> HttpResponse {
    HttpResponse::Ok().insert_header((idempotency::REPLAYED, "true")).json(RequestView::of(entry, record))
}

/// Waits for a request's outcome and for its writing, and answers with it: with the frames themselves, where the caller
/// wants protobuf.
///
/// # Errors
///
/// Somebody else waits for it, or it could not be written.
pub(super) async fn when_finished(
    entry: &SessionEntry,
    finished: oneshot::Receiver<Finished>,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    // The ledger gives every request its outcome by a deadline, so this wait has the same.
    let mut finished = finished.await.map_err(|_| {
        Problem::new(
            StatusCode::CONFLICT,
            "notWatched",
            "somebody else waits for this request; ask for its outcome by its id",
        )
    })?;
    let written = finished.written.take().map(|written| (written, finished.record.req_id.clone()));
    // Made while it is being written.
    let answer = rendered(entry, finished, request);
    if let Some((written, req_id)) = written {
        written.done().await.map_err(|error| Problem::unwritten(&req_id, error))?;
    }
    Ok(answer)
}

fn rendered(entry: &SessionEntry, finished: Finished, request: &HttpRequest) -> HttpResponse {
    let accept =
        request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains(PROTOBUF) {
        return delimited(finished);
    }
    let mut view = RequestView::of(entry, &finished.record);
    view.frames_left_out = finished.frames_left_out;
    if !finished.frames.is_empty() {
        view.frames = Some(finished.frames.into_messages().map(|frame| STANDARD.encode(frame)).collect());
    }
    HttpResponse::Ok().json(view)
}

/// Frames as the service sent them, each behind its length as a varint.
fn delimited(finished: Finished) -> HttpResponse {
    let record = &finished.record;
    let mut response = HttpResponse::Ok();
    response
        .content_type(PROTOBUF)
        .insert_header(("Greenroom-Req-Id", record.req_id.as_str()))
        .insert_header(("Greenroom-Outcome", record.outcome.map_or("open", Outcome::as_str)));
    if let Some(code) = record.outcome.and_then(Outcome::code) {
        response.insert_header(("Greenroom-Code", code.as_str()));
    }
    if finished.frames_left_out > 0 {
        response.insert_header(("Greenroom-Frames-Left-Out", finished.frames_left_out));
    }
    // Of known length, and put together nowhere but in the connection's buffer.
    let length = finished.frames.bytes() as u64;
    let pieces = finished.frames.into_pieces().into_iter().map(Ok::<Bytes, Infallible>);
    response.body(SizedStream::new(length, stream::iter(pieces)))
}
