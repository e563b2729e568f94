//! What is kept of audio that was sent: that it was taken, what was answered, and what became of it.
//!
//! A request without an `Idempotency-Key` is written while its audio streams, and its 202 waits for that; one with a
//! key before any of its audio is taken, together with the key. Who waits for the outcome waits for its writing too.

use actix_web::{HttpResponse, http::StatusCode, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{Context, SHA256};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Problem, body, idempotency};
use crate::{
    manager::Unreachable,
    outbox::Record,
    session::{AskRequest, SessionEntry, open_request, request_of_record},
    store::{
        StoreError,
        records::{AskedAudio, BegunAudio, StoredAnswer, Ticket, UnixMillis},
    },
};

/// Keys of audio are apart from those of other calls by this, and from one session to the next.
fn route(entry: &SessionEntry) -> String {
    format!("POST /v1/sessions/{}/requests", entry.id)
}

/// The request that a body belongs to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) req_id: String,
    /// Whether the body begins it.
    pub(super) begins: bool,
    /// Whether the body ends it.
    pub(super) ends: bool,
}

impl Target {
    /// The digest of a body that is sent to it.
    fn digest(&self) -> Context {
        let mut digest = Context::new(&SHA256);
        // The id of a request that the body begins is drawn anew with each try.
        let continues = if self.begins { "" } else { &self.req_id };
        digest.update(format!("{}:{continues}:{}\n", continues.len(), self.ends).as_bytes());
        digest
    }
}

fn told(digest: Context) -> String {
    STANDARD.encode(digest.finish())
}

/// Audio that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sent {
    /// The request that it belongs to.
    req_id: String,
    /// Bytes of audio in this body.
    audio_bytes: u64,
}

/// What is answered to audio that was taken.
pub(super) fn accepted(req_id: &str, audio_bytes: u64) -> StoredAnswer {
    StoredAnswer {
        status: StatusCode::ACCEPTED.as_u16(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: serde_json::to_string(&Sent { req_id: req_id.to_owned(), audio_bytes }).unwrap_or_default(),
    }
}

/// Whether audio is to be taken.
pub(super) enum Turn {
    /// It is; with its key, where it has one.
    Take(Option<Box<Keyed>>),
    /// Audio with the same key was taken before.
    Before { req_id: String, body: Option<String>, answer: Option<StoredAnswer> },
}

/// Audio that is being taken under a key. Dropped with its handler, it is given up.
pub(super) struct Keyed {
    held: Option<Held>,
    digest: Option<Context>,
}

struct Held {
    app: web::Data<App>,
    ticket: Ticket,
    session: crate::recovery::SessionId,
    target: Target,
    /// Bytes that were taken; `None` while it is certain that nothing was.
    taken: Option<u64>,
}

impl Held {
    /// What was not taken may be sent again; what was is never taken twice, though it broke off.
    async fn give_up(self) {
        let Self { app, ticket, session, target: Target { req_id, begins, .. }, taken } = self;
        let given_up = match taken {
            Some(bytes) => app.records.answer_audio(&ticket, None, &accepted(&req_id, bytes)).await,
            None => {
                let begun = begins.then_some((&session, req_id.as_str()));
                app.records.abandon_audio(&ticket, begun).await
            }
        };
        if let Err(error) = given_up {
            // It expires after a day; until then whoever sends it again is told that it is in use.
            tracing::warn!(%error, "an idempotency key could not be given up");
        }
    }
}

impl Drop for Keyed {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            actix_rt::spawn(held.give_up());
        }
    }
}

impl Keyed {
    /// Notes a piece of the body as it came.
    pub(super) fn digest(&mut self, piece: &[u8]) {
        if let Some(digest) = &mut self.digest {
            digest.update(piece);
        }
    }

    /// Notes that so many bytes were taken, or may have been; `None` that nothing was.
    pub(super) fn note_taken(&mut self, bytes: Option<usize>) {
        if let Some(held) = &mut self.held {
            held.taken = bytes.map(|bytes| bytes as u64);
        }
    }

    /// All of the body was taken: writes its answer.
    pub(super) async fn answer(mut self: Box<Self>) -> Result<(), StoreError> {
        let (Some(held), Some(digest)) = (&self.held, self.digest.take()) else { return Ok(()) };
        let answer = accepted(&held.target.req_id, held.taken.unwrap_or_default());
        held.app.records.answer_audio(&held.ticket, Some(told(digest)), &answer).await?;
        self.held = None;
        Ok(())
    }

    /// The body was not taken, or not wholly.
    pub(super) async fn give_up(mut self: Box<Self>) {
        if let Some(held) = self.held.take() {
            held.give_up().await;
        }
    }
}

fn now(app: &App) -> UnixMillis {
    let since = app.manager.clock().now().since_start();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Begins to take audio, where none was taken with its key before.
pub(super) async fn begin(
    app: &web::Data<App>,
    entry: &SessionEntry,
    target: &Target,
    key: Option<&str>,
) -> Result<Turn, Problem> {
    let Some(key) = key else { return Ok(Turn::Take(None)) };
    let begins = target.begins.then(|| open_request(&target.req_id, &app.process, app.manager.clock().now()));
    let asked = AskedAudio {
        tenant: &entry.tenant,
        route: &route(entry),
        key,
        process: &app.process,
        now: now(app),
        session: &entry.id,
        req_id: &target.req_id,
        begins: begins.as_ref(),
    };
    match app.records.begin_audio(asked).await? {
        BegunAudio::New(ticket) => {
            let (app, session, target) = (app.clone(), entry.id.clone(), target.clone());
            let digest = Some(target.digest());
            let held = Some(Held { app, ticket, session, target, taken: None });
            Ok(Turn::Take(Some(Box::new(Keyed { held, digest }))))
        }
        BegunAudio::InFlight => Err(idempotency::in_use()),
        BegunAudio::Before { req_id, body, answer } => Ok(Turn::Before { req_id, body, answer }),
    }
}

/// That the body is the one that was sent with the same key before. All of it is read, and none of it taken.
pub(super) async fn is_the_same(
    app: &App,
    target: &Target,
    mut payload: web::Payload,
    before: Option<&str>,
) -> Result<(), Problem> {
    let (mut digest, mut received) = (target.digest(), 0);
    while let Some(piece) = body::next_piece(&mut payload).await? {
        received += piece.len();
        if received > app.max_body_bytes {
            return Err(Problem::too_large(app.max_body_bytes));
        }
        digest.update(&piece);
    }
    let digest = told(digest);
    if before.is_none_or(|before| before == digest) { Ok(()) } else { Err(idempotency::reused()) }
}

/// Begins to write that a request was accepted.
pub(super) fn note_accepted(
    app: &web::Data<App>,
    entry: &SessionEntry,
    req_id: &str,
) -> actix_rt::task::JoinHandle<Result<(), StoreError>> {
    let request = open_request(req_id, &app.process, app.manager.clock().now());
    let (records, session) = (app.records.clone(), entry.id.clone());
    actix_rt::spawn(async move { records.accept_request(&session, &request).await })
}

/// The account of a request, from the session or, where that does not know it any more, from the store.
pub(super) async fn account(
    app: &App,
    entry: &SessionEntry,
    req_id: &str,
) -> Result<Option<Record>, Problem> {
    let asked = app.manager.ask(entry, || AskRequest(req_id.to_owned())).await;
    // What is told to have ended has ended for good.
    app.manager.journal().settled_request(&entry.id, req_id).await?;
    match asked {
        Ok(Some(record)) => return Ok(Some(record)),
        Ok(None) | Err(Unreachable::Ended) => {}
        Err(late @ Unreachable::Late) => return Err(late.into()),
    }
    let kept = app.records.request(&entry.id, req_id).await?;
    Ok(kept.map(|kept| request_of_record(kept, &app.process)))
}

/// The answer to audio that was taken before, without waiting for its outcome.
pub(super) fn again(req_id: &str, answer: Option<StoredAnswer>, record: Option<&Record>) -> HttpResponse {
    let bytes = record.map_or(0, |record| record.audio_bytes);
    idempotency::response(&answer.unwrap_or_else(|| accepted(req_id, bytes)), true)
}
