//! A client of the drop-in ingress that shares nothing with the product but the messages.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use actix_http::Method;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use greenroom::wire::{
    self, Data,
    proto::{
        ClientAudioInput, ClientConfigureSession, ClientInterrupt, ServerConfirmSession, ServerError,
        ServerResponseAnimation,
    },
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::world::{Answer, DEADLINE, World, tenant_key};

pub(crate) const INGRESS: &str = "/v2/driveningress/websocket";

/// Asks for a session token as an SDK does.
pub(crate) async fn ask_token(world: &World, path: &str, key: &str, body: &Value) -> Answer {
    let url = format!("http://{}{path}", world.process.data_address());
    let client = awc::Client::builder().timeout(DEADLINE).finish();
    let request = client.request(Method::POST, url).insert_header(("X-Api-Key", key)).force_close();
    world.call(request.send_json(body)).await
}

/// Unix seconds, so many ahead.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

pub(crate) async fn token(world: &World, tenant: &str) -> String {
    let body = json!({"expireAt": in_seconds(600)});
    let answer = ask_token(world, "/v1/auth/session-token", &tenant_key(tenant), &body).await.expect(200);
    answer["session_token"].as_str().unwrap().to_owned()
}

/// An upgrade that is yet to be asked for.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    address: SocketAddr,
    path: String,
    avatar: String,
    app_id: String,
    token: String,
    in_query: bool,
}

/// An upgrade that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Refused {
    pub(crate) fn message(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        assert!(self.body.ends_with("}\n"), "{:?}", self.body);
        body["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Upgrade {
    pub(crate) async fn new(world: &World, tenant: &str, avatar: &str) -> Self {
        Self::with(world, tenant, avatar, token(world, tenant).await)
    }

    pub(crate) fn with(world: &World, tenant: &str, avatar: &str, token: String) -> Self {
        Self {
            address: world.process.data_address(),
            path: INGRESS.into(),
            avatar: avatar.into(),
            app_id: format!("app-{tenant}"),
            token,
            in_query: false,
        }
    }

    pub(crate) fn path(self, path: &str) -> Self {
        Self { path: path.into(), ..self }
    }

    pub(crate) fn app_id(self, app_id: &str) -> Self {
        Self { app_id: app_id.into(), ..self }
    }

    pub(crate) fn in_query(self) -> Self {
        Self { in_query: true, ..self }
    }

    /// The request's head, for clients that write their own bytes.
    pub(crate) fn head(&self) -> String {
        format!(
            "GET {}?id={} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             X-App-ID: {}\r\nX-Session-Key: {}\r\n\r\n",
            self.path, self.avatar, self.address, self.app_id, self.token
        )
    }

    pub(crate) async fn socket(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects; within the deadline there is an answer.
    pub(crate) async fn connect(&self) -> Result<Client, Refused> {
        let mut url = format!("ws://{}{}?id={}", self.address, self.path, self.avatar);
        if self.in_query {
            url.push_str(&format!("&appId={}&sessionKey={}", self.app_id, self.token));
        }
        let mut request = url.into_client_request().unwrap();
        if !self.in_query {
            request.headers_mut().insert("X-App-ID", self.app_id.parse().unwrap());
            request.headers_mut().insert("X-Session-Key", self.token.parse().unwrap());
        }
        let answered = client_async(request, self.socket().await);
        match tokio::time::timeout(DEADLINE, answered).await.expect("an answer to the upgrade") {
            Ok((socket, _)) => Ok(Client { socket }),
            Err(Error::Http(response)) => {
                let headers = response.headers().iter();
                Err(Refused {
                    status: response.status().as_u16(),
                    headers: headers
                        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                        .collect(),
                    body: String::from_utf8(response.body().clone().unwrap_or_default()).unwrap(),
                })
            }
            Err(error) => panic!("the upgrade failed: {error}"),
        }
    }

    /// Connects and configures.
    pub(crate) async fn start(&self) -> (Client, ServerConfirmSession) {
        let mut client = self.connect().await.unwrap();
        client.configure().await;
        let confirm = client.confirmation().await;
        (client, confirm)
    }
}

/// What the server says.
#[allow(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Message(Data),
    /// A close frame.
    Close(Option<u16>, String),
    /// The connection ended without a close frame.
    Ended,
}

/// A connected client.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    pub(crate) async fn say(&mut self, data: Data) {
        self.send(Message::Binary(wire::encode(data))).await;
    }

    pub(crate) fn configuration() -> Data {
        Data::ClientConfigureSession(ClientConfigureSession {
            sample_rate: 16_000,
            ..ClientConfigureSession::default()
        })
    }

    pub(crate) async fn configure(&mut self) {
        self.say(Self::configuration()).await;
    }

    pub(crate) async fn confirmation(&mut self) -> ServerConfirmSession {
        match self.hear().await {
            Said::Message(Data::ServerConfirmSession(confirm)) => confirm,
            said => panic!("no confirmation: {said:?}"),
        }
    }

    pub(crate) async fn audio(&mut self, req_id: &str, audio: Bytes, end: bool) {
        self.say(Data::ClientAudioInput(ClientAudioInput { req_id: req_id.into(), end, audio })).await;
    }

    pub(crate) async fn interrupt(&mut self, req_id: &str) {
        self.say(Data::ClientInterrupt(ClientInterrupt { req_id: req_id.into() })).await;
    }

    /// What is said next, within the deadline; pings and pongs are the library's.
    pub(crate) async fn hear(&mut self) -> Said {
        self.hear_within(DEADLINE).await.expect("something to be said")
    }

    pub(crate) async fn hear_within(&mut self, patience: Duration) -> Option<Said> {
        let said = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        return Said::Message(wire::decode(bytes).unwrap().unwrap());
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let (code, reason) = match frame {
                            Some(CloseFrame { code, reason }) => (Some(code.into()), reason.to_string()),
                            None => (None, String::new()),
                        };
                        return Said::Close(code, reason);
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Text(text))) => panic!("a text frame: {text}"),
                    Some(Err(_)) | None => return Said::Ended,
                }
            }
        };
        tokio::time::timeout(patience, said).await.ok()
    }

    pub(crate) async fn frame(&mut self) -> ServerResponseAnimation {
        match self.hear().await {
            Said::Message(Data::ServerResponseAnimation(frame)) => frame,
            said => panic!("no frame: {said:?}"),
        }
    }

    /// The frames of a request up to its last, which are its only frames meanwhile.
    pub(crate) async fn frames(&mut self, req_id: &str) -> Vec<ServerResponseAnimation> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            assert_eq!(frame.req_id, req_id);
            let end = frame.end;
            frames.push(frame);
            if end {
                return frames;
            }
        }
    }

    /// The end: a ServerError where there is one, and the close; frames before it are passed over.
    pub(crate) async fn end(&mut self) -> (Option<ServerError>, u16, String) {
        let mut error = None;
        loop {
            match self.hear().await {
                Said::Message(Data::ServerError(said)) if said.req_id.is_empty() => error = Some(said),
                Said::Message(_) => {}
                Said::Close(code, reason) => return (error, code.expect("a close code"), reason),
                Said::Ended => panic!("ended without a close frame, after {error:?}"),
            }
        }
    }

    /// Says good-bye, and waits for the answer.
    pub(crate) async fn leave(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.socket.close(Some(frame)).await.unwrap();
        while !matches!(self.hear().await, Said::Close(..) | Said::Ended) {}
    }
}
