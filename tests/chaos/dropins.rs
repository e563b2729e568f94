//! Drop-in clients, as a backend with an official SDK: they speak in real time, and come again when they are put out.

use std::{sync::Arc, thread::JoinHandle, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use greenroom::wire::{
    self, Data,
    proto::{ClientAudioInput, ClientConfigureSession},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{
    actors::{Clip, Shared, audio},
    ground::{DATA, tenant_key},
};

pub(crate) const TENANT: &str = "initech";
/// 40 ms each.
const CHUNKS: usize = 10;
const CHUNK_BYTES: usize = 1280;
/// Longer than a token call, an upgrade and a confirmation together may take here.
const PATIENCE: Duration = Duration::from_secs(15);
/// The deadline of a request is its audio and 30 s; then it has its outcome, or the client its close.
const OUTCOME: Duration = Duration::from_secs(45);
const AGAIN: Duration = Duration::from_millis(200);

/// A thread with `count` clients.
pub(crate) fn start(shared: &Arc<Shared>, count: usize) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clients = (0..count).map(|number| client(&shared, number));
        runtime.block_on(futures_util::future::join_all(clients));
    })
}

async fn client(shared: &Shared, number: usize) {
    let mut turn = 0;
    while !shared.ends() {
        turn += 1;
        let avatar = format!("dropin-{number}-{turn}");
        if let Some(mut socket) = timeout(PATIENCE, connect(&avatar)).await.ok().flatten() {
            converse(shared, &mut socket, &avatar, number).await;
            // It may be gone.
            let _ = timeout(PATIENCE, socket.close(None)).await;
        }
        sleep(AGAIN).await;
    }
}

async fn connect(avatar: &str) -> Option<WebSocketStream<TcpStream>> {
    let token = token().await?;
    let url = format!("ws://{DATA}/v2/driveningress/websocket?id={avatar}");
    let mut request = url.into_client_request().ok()?;
    request.headers_mut().insert("X-App-ID", format!("app-of-{TENANT}").parse().ok()?);
    request.headers_mut().insert("X-Session-Key", token.parse().ok()?);
    let stream = TcpStream::connect(DATA).await.ok()?;
    let (mut socket, _) = client_async(request, stream).await.ok()?;
    let configure = ClientConfigureSession { sample_rate: 16_000, ..ClientConfigureSession::default() };
    say(&mut socket, Data::ClientConfigureSession(configure)).await?;
    matches!(hear(&mut socket).await?, Data::ServerConfirmSession(_)).then_some(socket)
}

async fn token() -> Option<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let body = format!("{{\"expireAt\":{}}}", now.as_secs() + 3600);
    let head = format!(
        "POST /v1/auth/session-token HTTP/1.1\r\nHost: {DATA}\r\nConnection: close\r\nX-Api-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        tenant_key(TENANT),
        body.len()
    );
    let mut stream = TcpStream::connect(DATA).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    Some(body["session_token"].as_str()?.to_owned())
}

async fn say(socket: &mut WebSocketStream<TcpStream>, data: Data) -> Option<()> {
    socket.send(Message::Binary(wire::encode(data))).await.ok()
}

/// The next message, or nothing where the connection ends.
async fn hear(socket: &mut WebSocketStream<TcpStream>) -> Option<Data> {
    loop {
        match socket.next().await?.ok()? {
            Message::Binary(bytes) => return Some(wire::decode(bytes).unwrap().unwrap()),
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            Message::Text(text) => panic!("a text frame: {text}"),
        }
    }
}

async fn converse(shared: &Shared, socket: &mut WebSocketStream<TcpStream>, avatar: &str, number: usize) {
    for clip in 0_u64.. {
        let seed = clip << 32 | number as u64;
        let req_id = format!("20260101000000_{avatar}_{clip:04}");
        let whole = audio(seed, CHUNKS * CHUNK_BYTES);
        let told = timeout(OUTCOME, speak(socket, &req_id, &whole)).await;
        let told = told.unwrap_or_else(|_| panic!("{avatar} waits for the outcome of {req_id}"));
        shared.clips.lock().unwrap().push(Clip {
            avatar: avatar.to_owned(),
            seed,
            bytes: whole.len(),
            req_id: Some(req_id),
            completed: told == Some(true),
        });
        if told.is_none() || shared.ends() {
            return;
        }
    }
}

/// Says a clip and waits for its end: true where it was completed, nothing where the connection ended.
async fn speak(socket: &mut WebSocketStream<TcpStream>, req_id: &str, whole: &[u8]) -> Option<bool> {
    for (number, piece) in whole.chunks(CHUNK_BYTES).enumerate() {
        let audio = bytes::Bytes::copy_from_slice(piece);
        let input = ClientAudioInput { req_id: req_id.to_owned(), end: number + 1 == CHUNKS, audio };
        say(socket, Data::ClientAudioInput(input)).await?;
        sleep(Duration::from_millis(40)).await;
    }
    let (mut frames, mut failed) = (0, false);
    loop {
        let heard = hear(socket).await?;
        if let Data::ServerError(error) = heard {
            failed |= error.req_id == req_id;
        } else if let Data::ServerResponseAnimation(frame) = heard {
            // A frame of a request that has its end is a second outcome, unless nobody ever began it.
            let is_ours = frame.req_id == req_id;
            assert!(is_ours || !frame.req_id.contains("dropin"), "{} after its end", frame.req_id);
            frames += usize::from(is_ours && !frame.animation.is_empty());
            if is_ours && frame.end {
                assert!(failed || frames == CHUNKS, "{req_id} was completed with {frames} frames");
                return Some(!failed);
            }
        }
    }
}
