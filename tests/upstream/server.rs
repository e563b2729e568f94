//! A tiny scripted service: one listener, whose connections each test answers by hand.

use std::{future::Future, sync::Arc, time::Duration};

use actix_codec::Framed;
use actix_http::ws::{self, Codec, Frame, Message, hash_key};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use greenroom::{
    errors::Action,
    errors::{Egress, ErrorCode, SessionError},
    recovery::Policy,
    upstream::{Client, Opened, Target, Timings, UpstreamConfig},
    wire::{self, Data, proto},
};
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Long enough for a loaded machine, short enough for a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const API_KEY: &str = "key-8f2c91";
pub const TOKEN: &str = "token-41d0ae";

/// The output of `future`, or a failed test.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A policy that answers every code with `action`.
pub fn always(action: Action) -> Policy {
    ErrorCode::ALL.into_iter().fold(Policy::default(), |policy, code| policy.with(code, action))
}

pub fn target() -> Target {
    let configure = proto::ClientConfigureSession { sample_rate: 16_000, ..Default::default() };
    Target {
        app_id: "app_123".into(),
        api_key: SecretString::from(API_KEY),
        avatar_id: "avatar-1".into(),
        configure: Some(wire::encode(Data::ClientConfigureSession(configure))),
        egress: Egress::None,
    }
}

pub struct Server {
    listener: TcpListener,
}

impl Server {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// A configuration that names this server; deadlines that no healthy test reaches.
    pub fn config(&self) -> UpstreamConfig {
        let console = format!("http://{}", self.address()).parse().unwrap();
        let ingress = format!("http://{}/v2/driveningress", self.address()).parse().unwrap();
        UpstreamConfig::new(console, ingress)
    }

    /// Whether a connection waits to be accepted.
    pub async fn has_caller(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(1), self.listener.accept()).await.is_ok()
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = soon("a connection", self.listener.accept()).await.unwrap();
        // What a test writes has left when the write is done.
        stream.set_nodelay(true).unwrap();
        Peer { stream, buffer: BytesMut::new() }
    }

    /// Answers the token call with [`TOKEN`].
    pub async fn give_token(&self) -> Request {
        let mut peer = self.accept().await;
        let request = peer.request().await;
        let body = format!(r#"{{"session_token":"{TOKEN}","sessionToken":"{TOKEN}"}}"#);
        peer.answer("200 OK", "", &body).await;
        request
    }

    /// Gives a token and reads the request for the upgrade.
    pub async fn asked_to_upgrade(&self) -> (Peer, Request) {
        self.give_token().await;
        let mut peer = self.accept().await;
        let request = peer.request().await;
        (peer, request)
    }

    /// Gives a token and upgrades.
    pub async fn upgraded(&self) -> WsPeer {
        let (peer, request) = self.asked_to_upgrade().await;
        peer.upgrade(&request).await
    }

    /// Gives a token, upgrades and confirms.
    pub async fn confirmed(&self) -> WsPeer {
        let mut peer = self.upgraded().await;
        peer.confirm("con-1", &["playback_state"]).await;
        peer
    }
}

pub struct Request {
    pub line: String,
    pub head: String,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One accepted connection.
pub struct Peer {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Peer {
    pub async fn request(&mut self) -> Request {
        soon("a request", async {
            let end = loop {
                if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break at + 4;
                }
                assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "no whole request came");
            };
            let text = String::from_utf8(self.buffer.split_to(end).to_vec()).unwrap();
            let (line, head) = text.split_once("\r\n").unwrap();
            let mut request = Request { line: line.into(), head: head.into(), body: String::new() };
            let length = request.header("content-length").map_or(0, |value| value.parse().unwrap());
            while self.buffer.len() < length {
                assert_ne!(self.stream.read_buf(&mut self.buffer).await.unwrap(), 0, "no whole body came");
            }
            request.body = String::from_utf8(self.buffer.split_to(length).to_vec()).unwrap();
            request
        })
        .await
    }

    /// Sends `text` as it is.
    pub async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends an answer with its length, and says that the connection closes.
    pub async fn answer(&mut self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        self.write(&format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        ))
        .await;
    }

    /// Sends `chunk` again and again until the client is gone, at most 1 GiB, and says how much went out.
    pub async fn flood(&mut self, chunk: &[u8]) -> usize {
        soon("the client to go", async {
            let mut sent = 0;
            while sent < 1 << 30 && self.stream.write_all(chunk).await.is_ok() {
                sent += chunk.len();
            }
            sent
        })
        .await
    }

    /// Waits until the client has dropped the connection.
    pub async fn gone(&mut self) {
        soon("the client to go", async {
            while !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(0) | Err(_)) {}
        })
        .await;
    }

    pub async fn upgrade(mut self, request: &Request) -> WsPeer {
        let accept = hash_key(request.header("sec-websocket-key").unwrap().as_bytes());
        self.write(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-accept: {}\r\n\r\n",
            std::str::from_utf8(&accept).unwrap()
        ))
        .await;
        WsPeer { framed: Framed::new(self.stream, Codec::new().max_size(64 << 20)) }
    }
}

/// An upgraded connection.
pub struct WsPeer {
    pub framed: Framed<TcpStream, Codec>,
}

impl WsPeer {
    pub async fn send(&mut self, message: Message) {
        soon("the message to be taken", self.framed.send(message)).await.unwrap();
    }

    pub async fn say(&mut self, data: Data) {
        self.send(Message::Binary(wire::encode(data))).await;
    }

    pub async fn error(&mut self, code: i32, req_id: &str, message: &str) {
        self.say(Data::ServerError(proto::ServerError {
            connection_id: "con-1".into(),
            req_id: req_id.into(),
            code,
            message: message.into(),
        }))
        .await;
    }

    pub async fn close(&mut self, code: u16, reason: &str) {
        let reason = ws::CloseReason {
            code: code.into(),
            description: (!reason.is_empty()).then(|| reason.to_owned()),
        };
        self.send(Message::Close(Some(reason))).await;
    }

    /// Sends bytes past the codec.
    pub async fn raw(&mut self, bytes: &[u8]) {
        soon("the bytes to be taken", self.framed.io_mut().write_all(bytes)).await.unwrap();
    }

    /// The next frame; `None` where the client is gone.
    pub async fn next(&mut self) -> Option<Frame> {
        soon("a frame", self.framed.next()).await?.ok()
    }

    /// The next frame that is no ping.
    pub async fn next_quiet(&mut self) -> Option<Frame> {
        loop {
            match self.next().await {
                Some(Frame::Ping(_)) => {}
                other => return other,
            }
        }
    }

    /// The next message.
    pub async fn message(&mut self) -> Bytes {
        match self.next_quiet().await {
            Some(Frame::Binary(bytes)) => bytes,
            other => panic!("a message was due, not {other:?}"),
        }
    }

    /// The code of the Close that is due.
    pub async fn close_code(&mut self) -> Option<u16> {
        match self.next_quiet().await {
            Some(Frame::Close(reason)) => reason.map(|reason| reason.code.into()),
            other => panic!("a Close was due, not {other:?}"),
        }
    }

    /// Reads the configuration and confirms it.
    pub async fn confirm(&mut self, connection_id: &str, capabilities: &[&str]) -> Bytes {
        let configure = self.message().await;
        self.say(Data::ServerConfirmSession(proto::ServerConfirmSession {
            connection_id: connection_id.into(),
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        }))
        .await;
        configure
    }
}

pub async fn open(config: UpstreamConfig, target: &Target) -> Result<Opened, SessionError> {
    let client = Client::new(Arc::new(config));
    soon("the attempt to end", client.open(target, &mut Timings::default())).await
}

/// The error of an attempt against what `script` does.
pub async fn refused<T>(config: UpstreamConfig, script: impl Future<Output = T>) -> (SessionError, T) {
    let target = target();
    let (result, done) = tokio::join!(open(config, &target), script);
    (result.expect_err("the attempt must fail"), done)
}

/// A confirmed connection and its other end.
pub async fn opened(server: &Server, config: UpstreamConfig) -> (Opened, WsPeer) {
    let target = target();
    let (result, peer) = tokio::join!(open(config, &target), server.confirmed());
    (result.expect("the attempt must succeed"), peer)
}
