//! Every problem code of the API, and the answers that carry them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::errors::ErrorCode;

/// Stands for the code of whatever error holds the session.
const ERROR_CODE: &str = "errorCode";

/// The codes with their status and an example of their detail.
pub(super) const PROBLEMS: [(&str, u16, &str); 48] = [
    ("malformedJson", 400, "EOF while parsing an object at line 1 column 1"),
    ("brokenBody", 400, "the body could not be read: a chunk of it is malformed"),
    ("invalidIdempotencyKey", 400, "Idempotency-Key: 1 to 255 visible characters are allowed"),
    ("unauthorized", 401, "the key belongs to no tenant"),
    (
        "adminKeyNotSet",
        403,
        "no admin key is configured, so that the admin API answers only GET from this machine; set admin.key",
    ),
    ("notFound", 404, "there is no such session"),
    ("bodyTimeout", 408, "nothing of the body came for 30 s"),
    ("sessionParked", 409, "the session is parked and takes no audio."),
    ("sessionFailed", 409, "the session is failed and takes no audio."),
    ("sessionStopped", 409, "the session is stopped, which is final; create a new one"),
    (ERROR_CODE, 409, "the session is parked and takes no audio."),
    ("tenantMinutesUsed", 409, "the tenant's connections have stood for the minutes that it has in a day"),
    ("requestEnded", 409, "the request has its outcome already"),
    ("notWatched", 409, "somebody else waits for this request; ask for its outcome by its id"),
    ("pauseUnsupported", 409, "the session has no egress: whoever plays its frames pauses them"),
    (
        "idempotencyKeyInUse",
        409,
        "a request with this Idempotency-Key is being carried out; ask again in a moment",
    ),
    (
        "configuredByClient",
        409,
        "the session is its client's, which says how it is configured; labels and continuity can be changed",
    ),
    (
        "managedByFile",
        409,
        "the configuration file says what this tenant is: change it there, and reload it with SIGHUP or POST /v1/config/reload",
    ),
    ("tenantExists", 409, "a tenant has this id already"),
    ("keyExists", 409, "the tenant has a key with this name already"),
    ("tooManyKeys", 409, "the tenant has 64 keys, which is the most; delete one first"),
    ("tooManyTenants", 409, "there are 10000 tenants, which is the most"),
    ("noConfigFile", 409, "this process was not started from a configuration file"),
    (
        "preconditionFailed",
        412,
        "the session was changed meanwhile; look at what is there now, and send its ETag as If-Match",
    ),
    ("bodyTooLarge", 413, "the body may have 65536 bytes at most"),
    ("invalidBody", 422, "avatar_id has 0 characters; 1 to 256 are allowed"),
    ("invalidQuery", 422, "limit is 0; 1 to 500 are allowed"),
    ("unknownTenant", 422, "no such tenant"),
    (
        "idempotencyKeyReused",
        422,
        "this Idempotency-Key was used for a request with another body; use a new key for a new request",
    ),
    (
        "noEncryptionKey",
        422,
        "the session holds secrets, and the store has no key to seal them with: set store.encryption_key",
    ),
    (
        "configRefused",
        422,
        "the configuration file is refused, and nothing has changed; mend what errors names",
    ),
    ("emptyAudio", 422, "the body holds no audio"),
    ("oddAudio", 422, "3 bytes are no whole number of 16-bit samples; nothing of an odd rest is sent"),
    ("wrongAudioFormat", 422, "the session takes 16000 Hz, and the WAV file has 24000 Hz"),
    ("badWav", 422, "the WAV file is cut off"),
    ("badOggOpus", 422, "the Ogg Opus stream has a gap before page 3"),
    ("tenantQuotaReached", 429, "the tenant has 200 sessions, which is its max_sessions; delete one first"),
    ("tenantStartsLimited", 429, "the tenant has started as many sessions as it may in a minute"),
    ("requestRateLimited", 429, "the tenant has made as many calls as it may in a second"),
    ("tooManyOpenRequests", 429, "the session has as many open requests as it may have"),
    ("tooManyStreams", 429, "32 streams of events are open, which is the most of a tenant; close one first"),
    ("storeError", 500, "the session's record is damaged"),
    ("internal", 500, "the request was not carried out to its end"),
    (
        "processFull",
        503,
        "this process has 20000 sessions, which is sessions.max; raise it, or delete sessions first",
    ),
    ("draining", 503, "this process is draining and takes no new session"),
    ("outboxFull", 503, "the outbox is full; nothing of it was sent for 15 s"),
    ("storeUnavailable", 503, "the store takes nothing: the disk is full; nothing of it is lost, try again"),
    ("unavailable", 503, "no answer within 5 s; this process is overloaded, try again"),
];

/// The header that every answer has.
pub(super) fn request_id_header() -> Value {
    json!({"description": "The request's id: the client's own, or one that was made.", "schema": {"type": "string"}})
}

/// The header of every answer that is a session.
pub(super) fn etag_header() -> Value {
    json!({"description": "Names the session's revision, which PATCH changes and its state does not, for `If-Match`.",
           "schema": {"type": "string"}, "example": "\"3\""})
}

/// The header of every 429 and 503.
pub(super) fn retry_after_header() -> Value {
    json!({"description": "Seconds after which to try again.", "schema": {"type": "integer", "minimum": 1}})
}

/// The answers for `codes`, by status. A code that is not in the table is left out; a test finds it.
pub(super) fn responses<'a>(codes: impl Iterator<Item = &'a str>) -> BTreeMap<String, Value> {
    let mut by_status = BTreeMap::<u16, BTreeMap<&str, &str>>::new();
    for code in codes {
        if let Some((code, status, detail)) = PROBLEMS.iter().find(|(known, ..)| *known == code) {
            by_status.entry(*status).or_default().insert(code, detail);
        }
    }
    by_status.into_iter().map(|(status, codes)| (status.to_string(), response(status, &codes))).collect()
}

fn response(status: u16, codes: &BTreeMap<&str, &str>) -> Value {
    let title = actix_web::http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    let mut names = Vec::new();
    let mut examples = serde_json::Map::new();
    for (code, detail) in codes {
        // An error that holds a session gives the problem its own name.
        let (names_here, shown) = if *code == ERROR_CODE {
            (ErrorCode::ALL.map(ErrorCode::as_str).to_vec(), ErrorCode::CreditsExhausted.as_str())
        } else {
            (vec![*code], *code)
        };
        names.extend(names_here);
        let value = json!({
            "type": "about:blank", "title": title, "status": status, "detail": detail, "code": shown,
            "request_id": "4f0c8a7d3e2b41959c6a0d8e7f1b2c3d",
        });
        examples.insert((*code).to_owned(), json!({"value": value}));
    }
    let mut headers = json!({"X-Request-Id": request_id_header()});
    if matches!(status, 429 | 503) {
        headers["Retry-After"] = retry_after_header();
    }
    if status == 412 {
        headers["ETag"] = etag_header();
    }
    if status == 401 {
        headers["WWW-Authenticate"] = json!({"description": "`Bearer`.", "schema": {"type": "string"}});
    }
    let codes: Vec<&str> = codes.keys().copied().collect();
    json!({
        "description": format!("{title}: `{}`.", codes.join("`, `")),
        "headers": headers,
        "content": {"application/problem+json": {
            "schema": {"allOf": [
                {"$ref": "#/components/schemas/Problem"},
                {"properties": {"status": {"const": status}, "code": {"enum": names}}},
            ]},
            "examples": examples,
        }},
    })
}
