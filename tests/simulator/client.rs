//! A client written for these tests: HTTP by hand over a TCP socket, WebSocket frames with the codec alone.
//! Nothing of the product's client is in it.

use std::{future::Future, net::SocketAddr, time::Duration};

use actix_http::ws::{self, CloseReason, Message};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use greenroom::{
    simulator::{Pace, Simulator, SimulatorConfig, Stats, start},
    wire::{
        self, Data,
        proto::{ClientAudioInput, ClientConfigureSession, ServerResponseAnimation},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_util::codec::{Decoder as _, Encoder as _};

/// Beyond it something hangs.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing must come for "nothing comes" to be believed.
pub const QUIET: Duration = Duration::from_millis(150);

pub async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(DEADLINE, what).await.expect("this should not take ten seconds")
}

pub async fn fast() -> Simulator {
    with(|_| ()).await
}

pub async fn with(change: impl FnOnce(&mut SimulatorConfig)) -> Simulator {
    let mut config = SimulatorConfig { pace: Pace::Fast, ..SimulatorConfig::default() };
    change(&mut config);
    start(config).await.unwrap()
}

/// Waits until the statistics say what they should.
pub async fn until(simulator: &Simulator, holds: impl Fn(&Stats) -> bool) -> Stats {
    in_time(async {
        loop {
            let stats = simulator.stats();
            if holds(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads one answer. `Err` says how the connection ended before it was whole.
pub async fn read_answer(stream: &mut TcpStream) -> Result<(Answer, BytesMut), String> {
    let mut bytes = BytesMut::new();
    let mut want = None;
    loop {
        if want.is_none()
            && let Some(end) = head_end(&bytes)
        {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            want = Some((end + length.unwrap_or_default(), end, status, head));
        }
        if let Some((whole, end, status, head)) = &want
            && bytes.len() >= *whole
        {
            let rest = bytes.split_off(*whole);
            let body = String::from_utf8_lossy(&bytes[*end..]).into_owned();
            return Ok((Answer { status: *status, head: head.clone(), body }, rest));
        }
        match in_time(stream.read_buf(&mut bytes)).await {
            Ok(0) => return Err(format!("end after {} bytes", bytes.len())),
            Ok(_) => {}
            Err(error) => return Err(error.kind().to_string()),
        }
    }
}

/// One HTTP call on a connection of its own.
pub async fn http(
    addr: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, String> {
    let mut stream = TcpStream::connect(addr).await.map_err(|error| error.kind().to_string())?;
    send_request(&mut stream, line, headers, body).await;
    Ok(read_answer(&mut stream).await?.0)
}

pub async fn send_request(stream: &mut TcpStream, line: &str, headers: &[(&str, &str)], body: &str) {
    let mut text = format!("{line} HTTP/1.1\r\nHost: simulator\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes()).await.unwrap();
}

pub async fn control(simulator: &Simulator, line: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http(simulator.addr(), line, &[("Content-Type", "application/json")], &body).await.unwrap()
}

pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

pub async fn ask_token(simulator: &Simulator, path: &str, key: &str) -> Result<Answer, String> {
    let body = json!({"expireAt": unix_now() + 3600}).to_string();
    http(simulator.addr(), &format!("POST {path}"), &[("X-Api-Key", key)], &body).await
}

pub async fn token(simulator: &Simulator, key: &str) -> String {
    let answer = ask_token(simulator, "/v1/auth/session-token", key).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["session_token"].as_str().unwrap().to_owned()
}

/// What comes on a WebSocket.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Message(Data),
    UnknownType,
    Undecodable,
    Text,
    Pong(Bytes),
    Close(Option<(u16, String)>),
    BrokenFrame,
    /// FIN without a close frame.
    End,
    /// RST.
    Reset,
}

pub struct Client {
    pub stream: TcpStream,
    codec: ws::Codec,
    buffer: BytesMut,
    pub connection_id: String,
    pub capabilities: Vec<String>,
}

/// Any 16 bytes will do; the answer to them is known.
const KEY: [u8; 16] = *b"the sample nonce";

impl Client {
    /// Upgrades at a path with headers.
    pub async fn upgrade(
        addr: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Result<Answer, String>> {
        let mut stream =
            in_time(TcpStream::connect(addr)).await.map_err(|error| Err(error.kind().to_string()))?;
        stream.set_nodelay(true).unwrap();
        let key = BASE64_STANDARD.encode(KEY);
        let mut text = format!(
            "GET {path} HTTP/1.1\r\nHost: simulator\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let (answer, buffer) = read_answer(&mut stream).await.map_err(Err)?;
        let accept = String::from_utf8(ws::hash_key(key.as_bytes()).to_vec()).unwrap();
        if answer.status != 101 || !answer.head.contains(&format!("Sec-WebSocket-Accept: {accept}\r\n")) {
            return Err(Ok(answer));
        }
        let codec = ws::Codec::new().client_mode().max_size(32 * 1024 * 1024);
        Ok(Self { stream, codec, buffer, connection_id: String::new(), capabilities: Vec::new() })
    }

    /// Upgrades as the SDKs do, with a fresh token.
    pub async fn open(simulator: &Simulator, avatar: &str) -> Result<Self, Result<Answer, String>> {
        let token = token(simulator, "key").await;
        Self::present(simulator, avatar, &token).await
    }

    pub async fn present(
        simulator: &Simulator,
        avatar: &str,
        token: &str,
    ) -> Result<Self, Result<Answer, String>> {
        let path = format!("/v2/driveningress/websocket?id={avatar}");
        Self::upgrade(simulator.addr(), &path, &[("X-App-ID", "app"), ("X-Session-Key", token)]).await
    }

    /// A confirmed session, PCM at 16 kHz.
    pub async fn session(simulator: &Simulator, avatar: &str) -> Self {
        Self::configured(simulator, avatar, |_| ()).await
    }

    pub async fn configured(
        simulator: &Simulator,
        avatar: &str,
        change: impl FnOnce(&mut ClientConfigureSession),
    ) -> Self {
        let mut client = Self::open(simulator, avatar).await.map_err(|answer| format!("{answer:?}")).unwrap();
        client.configure(change).await;
        let Seen::Message(Data::ServerConfirmSession(confirm)) = client.next().await else {
            panic!("the session was not confirmed")
        };
        assert!(!confirm.connection_id.is_empty());
        client.connection_id = confirm.connection_id;
        client.capabilities = confirm.capabilities;
        client
    }

    pub async fn configure(&mut self, change: impl FnOnce(&mut ClientConfigureSession)) {
        let mut configure = ClientConfigureSession { sample_rate: 16_000, ..Default::default() };
        change(&mut configure);
        self.send(Data::ClientConfigureSession(configure)).await;
    }

    pub async fn send(&mut self, data: Data) {
        self.send_raw(Message::Binary(wire::encode(data))).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        let mut bytes = BytesMut::new();
        self.codec.encode(message, &mut bytes).unwrap();
        in_time(self.stream.write_all(&bytes)).await.unwrap();
    }

    pub async fn audio(&mut self, req_id: &str, bytes: usize, end: bool) {
        let audio = Bytes::from(vec![7; bytes]);
        self.send(Data::ClientAudioInput(ClientAudioInput { req_id: req_id.into(), end, audio })).await;
    }

    /// The next thing that comes.
    pub async fn next(&mut self) -> Seen {
        in_time(self.next_soon()).await
    }

    async fn next_soon(&mut self) -> Seen {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(frame)) => return seen(frame),
                Ok(None) => {}
                Err(_) => return Seen::BrokenFrame,
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Seen::End,
                Ok(_) => {}
                Err(_) => return Seen::Reset,
            }
        }
    }

    /// Nothing comes, and the connection stays open.
    pub async fn expect_quiet(&mut self) {
        if let Ok(seen) = timeout(QUIET, self.next_soon()).await {
            panic!("this should not come: {seen:?}");
        }
    }

    pub async fn frame(&mut self) -> ServerResponseAnimation {
        match self.next().await {
            Seen::Message(Data::ServerResponseAnimation(frame)) => frame,
            other => panic!("expected a frame: {other:?}"),
        }
    }

    /// The frames of a request up to the last, all of them this request's.
    pub async fn frames(&mut self, req_id: &str) -> Vec<ServerResponseAnimation> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            assert_eq!(frame.req_id, req_id);
            frames.push(frame);
            if frames.last().is_some_and(|frame| frame.end) {
                return frames;
            }
        }
    }

    /// A ServerError with its code and text.
    pub async fn error(&mut self) -> (i32, String) {
        match self.next().await {
            Seen::Message(Data::ServerError(error)) => (error.code, error.message),
            other => panic!("expected a ServerError: {other:?}"),
        }
    }

    /// A close frame with its code, and then the end.
    pub async fn closed(&mut self) -> u16 {
        let Seen::Close(Some((code, reason))) = self.next().await else { panic!("expected a close frame") };
        let answer = CloseReason { code: ws::CloseCode::from(code), description: Some(reason) };
        self.send_raw(Message::Close(Some(answer))).await;
        assert_eq!(self.next().await, Seen::End);
        code
    }
}

fn seen(frame: ws::Frame) -> Seen {
    match frame {
        ws::Frame::Binary(bytes) => match wire::decode(bytes) {
            Ok(Some(data)) => Seen::Message(data),
            Ok(None) => Seen::UnknownType,
            Err(_) => Seen::Undecodable,
        },
        ws::Frame::Text(_) => Seen::Text,
        ws::Frame::Pong(bytes) => Seen::Pong(bytes),
        ws::Frame::Close(reason) => {
            Seen::Close(reason.map(|reason| (u16::from(reason.code), reason.description.unwrap_or_default())))
        }
        ws::Frame::Ping(_) | ws::Frame::Continuation(_) => panic!("the simulator sends neither"),
    }
}
