//! The audit log: who did what to what on the admin listener, and what it was before and after.
//!
//! Written around the handlers and not in them, so that no handler can forget it. Bounded, in memory; each record
//! is a line of the log too, for whoever must keep them longer.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use actix_web::{
    Error, HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header},
    middleware::Next,
    web,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    App, Problem,
    auth::{self, Scope},
    body,
    problem::Code,
    request_id::RequestId,
    tenants,
};
use crate::{
    events::{Command, What},
    recovery::TenantId,
    session::SessionEntry,
};

/// Records that are kept: some days of an operator's work, in about a megabyte.
const MAX_RECORDS: usize = 1000;
/// Records on a page when the caller does not say.
const DEFAULT_LIMIT: usize = 50;
/// Records on a page at most.
const MAX_LIMIT: usize = 500;
/// Characters of a target's id that are kept: ids are shorter, and what a path says may be anything.
const MAX_TARGET: usize = 128;
/// What the one admin key is called. The operators' keys have no names of their own yet.
const ADMIN: &str = "admin";

/// What an action was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Target {
    /// `session`, `tenant`, `upstream`, `webhook`, or the thing's name in its path.
    kind: String,
    /// Which one, where there are several.
    id: Option<String>,
}

/// One action of an operator.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "seq": 7, "at": "2026-01-02T03:04:05.678Z", "who": "admin", "action": "session.park",
    "target": {"kind": "session", "id": "ses_01kc0x7w5pz8m3q1r9t2v4y6b8"},
    "before": {"tenant": "acme", "state": "running"}, "after": {"tenant": "acme", "state": "parked"},
    "status": 200, "code": null, "request_id": "4f0c8a7d3e2b41959c6a0d8e7f1b2c3d"
}))]
pub(super) struct AuditRecord {
    /// Its number, from 1 since the start of the process.
    seq: u64,
    /// When it ended; RFC 3339.
    at: String,
    /// The name of the key that was presented.
    who: String,
    /// What was done, as `THING.VERB`.
    action: String,
    target: Target,
    /// What the target was; null where it was not there.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What the target was afterwards; null where it was not there, or where the caller left before the end.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    /// The status of the answer; null where the caller left before it.
    status: Option<u16>,
    /// The problem's code, where it was refused.
    code: Option<String>,
    /// The request's id, as in the log.
    request_id: String,
}

/// The latest records.
#[derive(Debug, Default)]
pub(crate) struct AuditLog(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    /// The newest last.
    kept: VecDeque<AuditRecord>,
    last: u64,
}

impl AuditLog {
    fn push(&self, mut record: AuditRecord) {
        // A poisoned lock still guards whole records.
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.last += 1;
        record.seq = records.last;
        if records.kept.len() == MAX_RECORDS {
            records.kept.pop_front();
        }
        records.kept.push_back(record);
    }

    /// Up to `limit` records before the number `before`, newest first, and whether there are older ones.
    fn page(&self, before: u64, limit: usize) -> (Vec<AuditRecord>, bool) {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut older = records.kept.iter().rev().filter(|record| record.seq < before);
        let page = older.by_ref().take(limit).cloned().collect();
        (page, older.next().is_some())
    }
}

/// What a request is about and what it does, by its method and path; `None` where it is no operator's action.
/// Audio is none: a backend that speaks through this listener would wash the log away.
fn meaning(method: &Method, path: &str) -> Option<(String, Target)> {
    if method.is_safe() {
        return None;
    }
    let mut segments = path.strip_prefix("/v1/")?.split('/');
    let things = segments.next()?;
    let id = segments.next().map(|id| id.chars().take(MAX_TARGET).collect::<String>());
    let verb = segments.next();
    if things == "sessions" && matches!(verb, Some("requests")) {
        return None;
    }
    let Some(kind) = things.strip_suffix('s') else {
        // `POST /v1/drain`, `POST /v1/config/reload`.
        let action = id.map_or_else(|| format!("process.{things}"), |verb| format!("{things}.{verb}"));
        return Some((action, Target { kind: "process".to_owned(), id: None }));
    };
    let verb = verb.unwrap_or(match *method {
        Method::POST => "create",
        Method::DELETE => "delete",
        _ => "change",
    });
    Some((format!("{kind}.{verb}"), Target { kind: kind.to_owned(), id }))
}

fn describe_session(entry: &SessionEntry) -> Value {
    let (snapshot, spec) = (entry.snapshot.load(), entry.spec.load());
    json!({
        "tenant": entry.tenant, "avatar_id": spec.avatar_id, "state": snapshot.state_name().as_str(),
        "code": snapshot.code(), "restarts": snapshot.restarts, "revision": spec.revision.0,
    })
}

/// What the target is now, of what every operator may see.
async fn describe(app: &App, target: &Target) -> Option<Value> {
    let id = target.id.as_deref();
    match target.kind.as_str() {
        "session" => app.manager.registry().get(id?).map(|entry| describe_session(&entry)),
        "tenant" => tenants::described(app, id?),
        "upstream" => {
            let upstreams = serde_json::to_value(app.manager.upstreams().await.ok()?).ok()?;
            upstreams.as_array()?.iter().find(|upstream| upstream["name"].as_str() == id).cloned()
        }
        "webhook" => serde_json::to_value(app.webhooks.get(id?)?).ok(),
        "process" => Some(json!({"draining": app.lifecycle.is_draining()})),
        _ => None,
    }
}

/// A record that is written when it is dropped: a caller who leaves early does not take it along.
struct Pending {
    app: web::Data<App>,
    record: Option<AuditRecord>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        let clock = self.app.manager.clock();
        record.at = clock.rfc3339(clock.now());
        tracing::info!(
            who = record.who,
            action = record.action,
            target_kind = record.target.kind,
            target_id = record.target.id,
            status = record.status,
            code = record.code,
            before = record.before.as_ref().map(tracing::field::display),
            after = record.after.as_ref().map(tracing::field::display),
            "audit"
        );
        tell(&self.app, &record);
        self.app.audit.push(record);
    }
}

/// Tells everybody of an action; of one on a session its history too.
fn tell(app: &App, record: &AuditRecord) {
    let (manager, target) = (&app.manager, &record.target);
    let (now, chronicle) = (manager.clock().now(), manager.journal().chronicle());
    let what = What::Operator(Command {
        action: record.action.clone(),
        who: record.who.clone(),
        status: record.status,
        request_id: record.request_id.clone(),
    });
    let id = target.id.as_deref();
    let entry = id.filter(|_| target.kind == "session").and_then(|id| manager.registry().get(id));
    match entry {
        Some(entry) => chronicle.tell_of(now, &entry.tenant, &entry.id, what),
        None => {
            let tenant = id.filter(|_| target.kind == "tenant").map(TenantId::from);
            chronicle.tell(now, tenant, what);
        }
    }
}

/// Who asks for an action on the admin listener; `None` where it is not recorded, or is refused for its key.
fn actor(request: &HttpRequest) -> Option<(web::Data<App>, &'static str)> {
    let app = request.app_data::<web::Data<App>>()?;
    let is_operator = matches!(auth::identify(request), Ok(Scope::Operator));
    is_operator.then(|| (app.clone(), ADMIN))
}

/// Records what operators do.
pub(super) async fn layer(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let meant = meaning(request.method(), request.path());
    let (Some((action, target)), Some((app, who))) = (meant, actor(request.request())) else {
        return next.call(request).await;
    };
    let before = describe(&app, &target).await;
    let mut pending = Pending {
        app: app.clone(),
        record: Some(AuditRecord {
            seq: 0,
            at: String::new(),
            who: who.to_owned(),
            action,
            target,
            before,
            after: None,
            status: None,
            code: None,
            request_id: RequestId::current().map(|id| id.to_string()).unwrap_or_default(),
        }),
    };
    let response = next.call(request).await?;
    if let Some(record) = &mut pending.record {
        // What was created is named by the answer alone.
        if record.target.id.is_none() && response.status().is_success() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            record.target.id = location.and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        }
        record.after = describe(&app, &record.target).await;
        record.status = Some(response.status().as_u16());
        record.code = response.response().extensions().get::<Code>().map(|Code(code)| code.clone());
    }
    Ok(response)
}

/// The query of `GET /v1/audit`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of the audit log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditPage {
    records: Vec<AuditRecord>,
    /// The cursor of the next page; null on the last one.
    next_cursor: Option<String>,
}

/// `GET /v1/audit`.
#[utoipa::path(
    get, path = "/v1/audit", tag = "operators", summary = "What operators did, newest first",
    description = "Every action on this listener that is no GET, but for audio: who did it, to what, what it was \
                   before and after, and the request's id. The latest 1000 since the start of the process; each \
                   is a line `audit` of the log too.",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "Records on a page; 50 without it."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", format = "audit-cursor"),
    ),
    responses((status = 200, description = "A page.", body = AuditPage)),
    extensions(("x-problem-codes" = json!(["invalidQuery"])))
)]
pub(super) async fn list(
    app: web::Data<App>,
    _scope: Scope,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let Query { limit, cursor } = body::query(&request)?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        let detail = format!("limit is {limit}; 1 to {MAX_LIMIT} are allowed");
        return Err(Problem::unprocessable("invalidQuery", detail));
    }
    let before = cursor.as_deref().map_or(Ok(u64::MAX), decode_cursor)?;
    let (records, has_older) = app.audit.page(before, limit);
    let next_cursor = records
        .last()
        .filter(|_| has_older)
        .map(|record| URL_SAFE_NO_PAD.encode(format!("audit_{}", record.seq)));
    Ok(HttpResponse::Ok().json(AuditPage { records, next_cursor }))
}

fn decode_cursor(cursor: &str) -> Result<u64, Problem> {
    URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("audit_")?.parse().ok())
        .ok_or_else(|| {
            Problem::unprocessable("invalidQuery", "cursor: use the next_cursor of the page before, as it is")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(action: &str) -> AuditRecord {
        AuditRecord {
            seq: 0,
            at: String::new(),
            who: ADMIN.to_owned(),
            action: action.to_owned(),
            target: Target { kind: "session".to_owned(), id: None },
            before: None,
            after: None,
            status: None,
            code: None,
            request_id: String::new(),
        }
    }

    #[test]
    fn every_way_to_change_something_has_its_name_and_audio_and_reading_have_none() {
        let named =
            |method, path| meaning(&method, path).map(|(action, target)| (action, target.kind, target.id));
        let is = |action: &str, kind: &str, id: Option<&str>| {
            Some((action.to_owned(), kind.to_owned(), id.map(str::to_owned)))
        };
        assert_eq!(named(Method::POST, "/v1/sessions"), is("session.create", "session", None));
        assert_eq!(named(Method::DELETE, "/v1/sessions/s"), is("session.delete", "session", Some("s")));
        assert_eq!(named(Method::PATCH, "/v1/sessions/s"), is("session.change", "session", Some("s")));
        assert_eq!(named(Method::POST, "/v1/sessions/s/park"), is("session.park", "session", Some("s")));
        assert_eq!(named(Method::POST, "/v1/tenants/t/unpark"), is("tenant.unpark", "tenant", Some("t")));
        assert_eq!(named(Method::POST, "/v1/upstreams/u/open"), is("upstream.open", "upstream", Some("u")));
        assert_eq!(named(Method::POST, "/v1/drain"), is("process.drain", "process", None));
        assert_eq!(named(Method::POST, "/v1/config/reload"), is("config.reload", "process", None));
        assert_eq!(named(Method::POST, "/v1/sessions/s/requests"), None);
        assert_eq!(named(Method::GET, "/v1/sessions/s"), None);
        assert_eq!(named(Method::HEAD, "/v1/sessions/s"), None);
    }

    #[test]
    fn the_oldest_records_go_first_and_numbers_are_not_given_twice() {
        let log = AuditLog::default();
        for number in 0..MAX_RECORDS + 5 {
            log.push(record(&number.to_string()));
        }
        let (page, has_older) = log.page(u64::MAX, MAX_RECORDS + 1);
        assert_eq!((page.len(), has_older), (MAX_RECORDS, false));
        assert_eq!((page[0].seq, page[0].action.as_str()), (1005, "1004"));
        assert_eq!(page[MAX_RECORDS - 1].seq, 6);
        let (page, has_older) = log.page(8, 1);
        assert_eq!((page[0].seq, has_older), (7, true));
        let (page, has_older) = log.page(7, 1);
        assert_eq!((page[0].seq, has_older), (6, false));
    }
}
