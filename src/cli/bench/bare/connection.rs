//! One connection of the bare client.

use std::{io, time::SystemTime};

use actix_codec::Framed;
use awc::{BoxedSocket, ws};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::super::schedule;
use crate::wire::{self, Data, proto};

/// Opens connections, a bounded number at a time.
pub(in super::super) struct Dialer {
    pub(in super::super) http: awc::Client,
    pub(in super::super) console: String,
    pub(in super::super) ingress: String,
    pub(in super::super) key: String,
    pub(in super::super) gate: Semaphore,
}

/// A session of the bare client.
pub(in super::super) struct Connection(Framed<BoxedSocket, ws::Codec>);

#[derive(Deserialize)]
struct Token {
    session_token: Option<String>,
    #[serde(rename = "sessionToken")]
    session_token_camel: Option<String>,
}

impl Dialer {
    /// Opens the session of an avatar: token, upgrade, handshake.
    pub(in super::super) async fn open(&self, avatar: &str) -> io::Result<Connection> {
        let _turn = self.gate.acquire().await.map_err(io::Error::other)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut answer = self
            .http
            .post(format!("{}/v1/auth/session-token", self.console))
            .insert_header(("X-Api-Key", self.key.as_str()))
            .send_json(&json!({"expireAt": now + 3600}))
            .await
            .map_err(failed)?;
        let token: Token = answer.json().await.map_err(failed)?;
        let token = token.session_token.or(token.session_token_camel).unwrap_or_default();
        let (_, socket) = self
            .http
            .ws(format!("{}/websocket?id={avatar}", self.ingress))
            .header("X-App-ID", "bench")
            .header("X-Session-Key", token)
            .connect()
            .await
            .map_err(failed)?;
        let mut connection = Connection(socket);
        let rate = i32::try_from(schedule::SAMPLE_RATE).unwrap_or(i32::MAX);
        let configure = proto::ClientConfigureSession { sample_rate: rate, ..Default::default() };
        connection.send(Data::ClientConfigureSession(configure)).await?;
        match connection.next().await? {
            Some(Data::ServerConfirmSession(_)) => Ok(connection),
            other => Err(io::Error::other(format!("no confirm but {other:?}"))),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

impl Connection {
    /// Sends a message, and waits until the socket has it.
    pub(super) async fn send(&mut self, data: Data) -> io::Result<()> {
        self.0.send(ws::Message::Binary(wire::encode(data))).await.map_err(failed)
    }

    /// Sends one chunk of a request.
    pub(super) async fn audio(&mut self, req_id: &str, audio: Bytes, end: bool) -> io::Result<()> {
        let input = proto::ClientAudioInput { req_id: req_id.to_owned(), end, audio };
        self.send(Data::ClientAudioInput(input)).await
    }

    /// The next message; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> io::Result<Option<Data>> {
        loop {
            match self.0.next().await {
                Some(Ok(ws::Frame::Binary(bytes))) => {
                    if let Some(data) = wire::decode(bytes).map_err(failed)? {
                        return Ok(Some(data));
                    }
                }
                Some(Ok(ws::Frame::Ping(text))) => {
                    self.0.send(ws::Message::Pong(text)).await.map_err(failed)?;
                }
                Some(Ok(ws::Frame::Close(_)) | Err(_)) | None => return Ok(None),
                Some(Ok(ws::Frame::Text(_) | ws::Frame::Continuation(_) | ws::Frame::Pong(_))) => {}
            }
        }
    }

    /// The socket itself.
    pub(in super::super) fn into_socket(self) -> Framed<BoxedSocket, ws::Codec> {
        self.0
    }

    /// Ends it with a close handshake.
    pub(super) async fn close(mut self) -> io::Result<()> {
        self.0.send(ws::Message::Close(None)).await.map_err(failed)?;
        while self.next().await?.is_some() {}
        Ok(())
    }
}
