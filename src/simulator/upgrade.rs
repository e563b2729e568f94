//! `GET {prefix}/v2/driveningress/websocket`: who may connect.

use std::{sync::Arc, time::Duration};

use actix_codec::Framed;
use actix_http::{
    HttpMessage as _, Request, h1,
    ws::{hash_key, verify_handshake},
};
use http::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    accounts::Exhausted,
    config::Arrival,
    connection::{Connection, Doom, Fate, Trickle},
    faults::{Effect, Nonsense, Point, Who},
    hub::{Counted, Hub},
    socket::Io,
    tokens::{Token, TokenRefusal},
};

const PATH: &str = "/v2/driveningress/websocket";
/// For an answer that the client does not read.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// As in the connection: silence must not read to see whether the client has left.
const HANG_UP_CHECK: Duration = Duration::from_millis(20);
/// More than any client's limit for headers.
pub(super) const HUGE_HEADERS: usize = 256 * 1024;

/// What an upgrade request says.
struct Asked {
    avatar_id: String,
    app_id: String,
    session_key: String,
}

impl Asked {
    /// Headers win over the query, each on its own.
    fn read(request: &Request) -> Self {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let of_query = |name: &str| {
            let found = url::form_urlencoded::parse(query).find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        let of_header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let either =
            |header, name| of_header(header).map_or_else(|| of_query(name), std::borrow::ToOwned::to_owned);
        Self {
            avatar_id: of_query("id"),
            app_id: either("x-app-id", "appId"),
            session_key: either("x-session-key", "sessionKey"),
        }
    }
}

/// A refused upgrade, in the service's form.
struct Refused {
    status: u16,
    message: String,
    /// How it can arrive instead, after an upgrade that was granted.
    doom: Option<Doom>,
}

/// Close codes of refusals whose form is not known.
const AUTH_FAILED: u16 = 4010;
const CONCURRENCY_LIMIT: u16 = 4003;

impl Refused {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), doom: None }
    }

    /// A refusal that the service has a close code for, in the form that is configured.
    fn coded(status: u16, code: u16, message: &str, arrival: Arrival) -> Self {
        let doom = Doom { code, reason: message.into(), as_error: arrival == Arrival::ServerError };
        Self { doom: (arrival != Arrival::Http).then_some(doom), ..Self::new(status, message) }
    }
}

fn judge(
    hub: &Hub,
    asked: &Asked,
    token: Result<Token, (TokenRefusal, Option<Token>)>,
) -> Result<Token, Refused> {
    let arrives = hub.config.unknowns.auth_arrives;
    let token = token.map_err(|(refusal, _)| match refusal {
        TokenRefusal::Unknown => Refused::coded(400, AUTH_FAILED, "Invalid session token", arrives),
        TokenRefusal::Used => {
            let text = format!("a session token presented twice (avatar {})", asked.avatar_id);
            hub.record(|recorder| recorder.violation(text));
            Refused::coded(400, AUTH_FAILED, "Invalid session token", arrives)
        }
        TokenRefusal::Expired => Refused::coded(401, AUTH_FAILED, "Session token expired", arrives),
    })?;
    if asked.app_id.is_empty() {
        return Err(Refused::new(400, "missing app id"));
    }
    if asked.avatar_id.is_empty() {
        return Err(Refused::new(400, "missing avatar id"));
    }
    if asked.avatar_id.starts_with("missing") {
        return Err(Refused::new(404, format!("Avatar not found: {}", asked.avatar_id)));
    }
    Ok(token)
}

/// Answers one upgrade request, and serves the connection if it is granted.
pub(super) async fn serve(hub: Arc<Hub>, request: Request, framed: Framed<Io, h1::Codec>) {
    let mut parts = framed.into_parts();
    let Some(mut stream) = parts.io.take() else { return };
    if !request.path().ends_with(PATH) {
        return answer(&mut stream, 404, "", "{\"message\":\"not found\"}\n").await;
    }
    let asked = Asked::read(&request);
    let now = hub.now();
    hub.record(|recorder| recorder.upgrade_called(&asked.avatar_id, now));
    let token = hub.redeem_token(&asked.session_key);
    let api_key = match &token {
        Ok(token) | Err((_, Some(token))) => Some(token.api_key.clone()),
        Err((_, None)) => None,
    };
    let who = Who {
        avatar_id: Some(asked.avatar_id.clone()),
        api_key,
        app_id: Some(asked.app_id.clone()),
        region: Who::region_of(request.path(), PATH),
    };
    let mut key = request.headers().get("sec-websocket-key").map(|key| key.as_bytes().to_vec());
    let mut trickle = None;
    match hub.strike(Point::Upgrade, &who) {
        None => {}
        Some(Effect::Trickle { bytes_per_s }) => trickle = Some(Trickle::new(bytes_per_s)),
        Some(Effect::Delay { ms }) => sleep(Duration::from_millis(ms)).await,
        Some(Effect::Nonsense(Nonsense::WrongAccept)) => key = Some(b"of another handshake".to_vec()),
        Some(effect) => return struck(&hub, &mut stream, &who, effect).await,
    }
    let verdict = judge(&hub, &asked, token).and_then(|token| match verify_handshake(request.head()) {
        Ok(()) => Ok(token),
        Err(error) => Err(Refused::new(400, error.to_string())),
    });
    let Some(key) = key else {
        return refuse(&hub, &mut stream, &who, &Refused::new(400, "no WebSocket key")).await;
    };
    let admitted = match verdict {
        Ok(token) => admit(&hub, &who, &token).await,
        Err(refused) => doomed(&hub, &who, refused),
    };
    let (live, fate) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => return refuse(&hub, &mut stream, &who, &refused).await,
    };
    let accept = hash_key(&key);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        String::from_utf8_lossy(&accept)
    );
    let written = match trickle {
        None => timeout(WRITE_DEADLINE, stream.write_all(head.as_bytes())).await,
        // As slow as it is to be: its deadline is the client's.
        Some(trickle) => Ok(write_slowly(&mut stream, head.as_bytes(), trickle).await),
    };
    if matches!(written, Ok(Ok(()))) {
        // A task of its own: the HTTP dispatcher's memory is not held for the connection's life.
        let connection = Connection::new(stream, parts.read_buf, live, who, fate, trickle);
        actix_rt::spawn(connection.run());
    }
}

/// A connection that is granted, if the API key may have it.
async fn admit(hub: &Arc<Hub>, who: &Who, token: &Token) -> Result<(Counted, Fate), Refused> {
    hub.wait_for_earlier(who).await;
    let refused = match hub.connect(who) {
        Ok(counted) => return Ok((counted, Fate::Served { token_expires: token.expires_at })),
        Err(Exhausted::Credits) => Refused::new(402, "session denied: credits exhausted"),
        Err(Exhausted::Concurrency) => {
            let arrives = hub.config.unknowns.concurrency_arrives;
            Refused::coded(429, CONCURRENCY_LIMIT, "concurrency limit reached", arrives)
        }
    };
    doomed(hub, who, refused)
}

/// A connection that is granted only to carry its refusal, where that is the form.
fn doomed(hub: &Arc<Hub>, who: &Who, mut refused: Refused) -> Result<(Counted, Fate), Refused> {
    match refused.doom.take() {
        Some(doom) => Ok((hub.connect_refused(who), Fate::Refused(doom))),
        None => Err(refused),
    }
}

async fn refuse(hub: &Hub, stream: &mut TcpStream, who: &Who, refused: &Refused) {
    hub.upgrade_refused(who, refused.status);
    let body = format!("{}\n", json!({"message": refused.message}));
    answer(stream, refused.status, "Content-Type: application/json\r\n", &body).await;
}

/// Carries out a fault of the upgrade.
async fn struck(hub: &Hub, stream: &mut TcpStream, who: &Who, effect: Effect) {
    match effect {
        Effect::Http { status, body, headers } => {
            hub.upgrade_refused(who, status);
            let mut head: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let body = match body {
                Some(serde_json::Value::String(text)) => text,
                Some(json) => json.to_string(),
                None => {
                    head.push_str("Content-Type: application/json\r\n");
                    format!("{}\n", json!({"message": default_message(status)}))
                }
            };
            answer(stream, status, &head, &body).await;
        }
        Effect::Nonsense(Nonsense::HugeHeaders) => {
            let head = format!("X-Padding: {}\r\n", "x".repeat(HUGE_HEADERS));
            answer(stream, 503, &head, "").await;
        }
        Effect::Drop { reset } => {
            if reset {
                // A socket that cannot be told to reset ends with a FIN instead.
                let _ = stream.set_zero_linger();
            }
        }
        Effect::Silence {} => hang(stream).await,
        Effect::Refuse { for_ms } => {
            hub.refuse_for(Duration::from_millis(for_ms));
            hang(stream).await;
        }
        Effect::ServerError { .. }
        | Effect::Close(_)
        | Effect::Delay { .. }
        | Effect::Stall { .. }
        | Effect::Trickle { .. }
        | Effect::Nonsense(_) => {}
    }
}

/// What the service says with a status.
fn default_message(status: u16) -> String {
    match status {
        400 => "Invalid session token".into(),
        401 => "Session token expired".into(),
        402 => "session denied: credits exhausted".into(),
        404 => "app not found".into(),
        429 => "too many requests".into(),
        _ => reason(status).to_lowercase(),
    }
}

fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused")
}

async fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let text = format!(
        "HTTP/1.1 {status} {}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        reason(status),
        body.len()
    );
    let written = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await
    };
    // A client that has left, or does not read, has no use for the answer.
    let _ = timeout(WRITE_DEADLINE, written).await;
}

async fn write_slowly(stream: &mut TcpStream, bytes: &[u8], trickle: Trickle) -> std::io::Result<()> {
    let (portion, time) = trickle.portion();
    for portion in bytes.chunks(portion) {
        stream.write_all(portion).await?;
        sleep(time).await;
    }
    Ok(())
}

/// Keeps the socket and says nothing until the client has left.
async fn hang(stream: &TcpStream) {
    while let Ok(ready) = stream.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        sleep(HANG_UP_CHECK).await;
    }
}
