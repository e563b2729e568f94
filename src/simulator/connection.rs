//! One WebSocket connection: the socket, the clock, and the faults that strike it.
//!
//! The loop owns the socket. Silence therefore is silence (nothing reads), a drop is the end of the socket
//! with nothing more written, and a client that does not read stops the making of frames.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};

use actix_http::ws::{self, CloseCode, CloseReason, Message, ProtocolError};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{TcpStream, tcp},
    sync::{mpsc, watch},
    time::{sleep, sleep_until, timeout},
};
use tokio_util::codec::{Encoder as _, FramedRead};

use super::{
    conversation::{Conversation, Output},
    faults::{Close, Effect, Nonsense, Point, Who},
    handshake::{self, INVALID_ARGUMENT, Refusal},
    hub::{Hub, LiveGuard},
    plan::Progress,
    socket::{Incoming, MessageDecoder},
};
use crate::wire::{
    self, Data,
    proto::{ServerConfirmSession, ServerError, ServerResponseAnimation},
};

/// How long a close frame may take to be written, and how long the client's answer to it is waited for.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How often a silent connection looks whether its client has left; it must not read to find out.
const HANG_UP_CHECK: Duration = Duration::from_millis(20);
/// Where nothing is due: only wakes the loop now and then.
const IDLE: Duration = Duration::from_secs(3600);
/// gRPC's UNAUTHENTICATED as a close code, used when a token expires under a live connection.
const CLOSE_AUTH_FAILED: u16 = 4010;

/// How far the session is.
enum Phase {
    /// ClientConfigureSession is due.
    Opening,
    Confirmed {
        conversation: Box<Conversation>,
        since: Instant,
    },
    /// A scripted fault took the confirm's place; what the client sends is read and left alone.
    Unconfirmed,
}

/// What wakes the loop.
enum Event {
    Command(Option<Effect>),
    Written(std::io::Result<usize>),
    Received(Option<Result<Incoming, ProtocolError>>),
    PlanChanged,
    Time,
}

/// `Break` ends the connection.
type Flow = ControlFlow<()>;

/// One connection.
pub(super) struct Connection {
    reader: FramedRead<tcp::OwnedReadHalf, MessageDecoder>,
    writer: tcp::OwnedWriteHalf,
    codec: ws::Codec,
    /// Encoded and not yet written.
    out: BytesMut,
    /// Since when the client has read nothing of `out`.
    stalled_since: Option<Instant>,
    live: LiveGuard,
    commands: mpsc::Receiver<Effect>,
    plan_changes: watch::Receiver<u64>,
    who: Who,
    token_expires: SystemTime,
    id: String,
    phase: Phase,
    chunks: u64,
    frames: u64,
    settled: BTreeSet<u64>,
    /// The connection ends with a reset.
    reset: bool,
}

impl Connection {
    /// Takes over a socket on which 101 was written. `early` is what the client sent right behind its request.
    pub(super) fn new(
        stream: TcpStream,
        early: BytesMut,
        (live, commands): (LiveGuard, mpsc::Receiver<Effect>),
        who: Who,
        token_expires: SystemTime,
    ) -> Self {
        let (reader, writer) = stream.into_split();
        let decoder = MessageDecoder::new(live.hub().config.max_message_bytes);
        let mut reader = FramedRead::new(reader, decoder);
        *reader.read_buffer_mut() = early;
        let plan_changes = live.hub().plan_changes();
        let id = format!("conn_{:016x}", rand::random::<u64>());
        Self {
            reader,
            writer,
            codec: ws::Codec::new(),
            out: BytesMut::new(),
            stalled_since: None,
            live,
            commands,
            plan_changes,
            who,
            token_expires,
            id,
            phase: Phase::Opening,
            chunks: 0,
            frames: 0,
            settled: BTreeSet::new(),
            reset: false,
        }
    }

    /// Serves until either side ends the connection.
    pub(super) async fn run(mut self) {
        while self.step().await.is_continue() {}
        if let Phase::Confirmed { conversation, .. } = &mut self.phase {
            for req_id in conversation.lose_all() {
                self.live.request_lost(&req_id, &self.id);
            }
        }
        // Before the client can see the end: what it does next must find the connection gone.
        self.live.end();
        let Self { reader, writer, reset, .. } = self;
        if reset && reader.get_ref().as_ref().set_zero_linger().is_ok() {
            // The writer alone would send a FIN when it is dropped, ahead of the reset.
            writer.forget();
        }
    }

    fn hub(&self) -> &Hub {
        self.live.hub()
    }

    async fn step(&mut self) -> Flow {
        let room = self.out.len() < self.hub().config.outgoing_limit_bytes;
        let wake = tokio::time::Instant::from_std(self.wake_at(room));
        let event = tokio::select! {
            biased;
            command = self.commands.recv() => Event::Command(command),
            written = self.writer.write_buf(&mut self.out), if !self.out.is_empty() => Event::Written(written),
            message = self.reader.next(), if room => Event::Received(message),
            _ = self.plan_changes.changed() => Event::PlanChanged,
            () = sleep_until(wake) => Event::Time,
        };
        match event {
            Event::Command(Some(effect)) => self.happen(effect).await,
            Event::Written(Ok(written)) if written > 0 => {
                self.stalled_since = (!self.out.is_empty()).then(Instant::now);
                Flow::Continue(())
            }
            Event::Command(None) | Event::Written(_) => Flow::Break(()),
            Event::Received(Some(Ok(message))) => self.receive(message).await,
            Event::Received(Some(Err(error))) => self.broken_framing(&error).await,
            Event::Received(None) => Flow::Break(()),
            Event::PlanChanged => self.strike().await,
            Event::Time => self.time(room).await,
        }
    }

    /// When the clock has something to do.
    fn wake_at(&self, room: bool) -> Instant {
        let config = &self.hub().config;
        let mut wake = Instant::now() + IDLE;
        if let Some(since) = self.stalled_since {
            wake = wake.min(since + config.stall_timeout);
        }
        if config.token_expiry_closes {
            let left = self.token_expires.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            wake = wake.min(Instant::now() + left);
        }
        let Phase::Confirmed { conversation, since } = &self.phase else { return wake };
        let fault = self.hub().next_fault_due(&self.who, &self.settled);
        let frame = if room { conversation.next_at() } else { None };
        [fault, frame].into_iter().flatten().fold(wake, |wake, due| wake.min(*since + due))
    }

    async fn time(&mut self, room: bool) -> Flow {
        let config = &self.hub().config;
        if self.stalled_since.is_some_and(|since| since.elapsed() >= config.stall_timeout) {
            return Flow::Break(());
        }
        if config.token_expiry_closes && self.token_expires <= SystemTime::now() {
            return self.close(CLOSE_AUTH_FAILED, "session token expired").await;
        }
        self.strike().await?;
        let limit = self.hub().config.outgoing_limit_bytes;
        while room && self.out.len() < limit {
            let Phase::Confirmed { conversation, since } = &mut self.phase else { break };
            let now = since.elapsed();
            let frames_before = conversation.frames_made();
            let Some(outputs) = conversation.advance(now) else { break };
            self.frames += conversation.frames_made() - frames_before;
            self.put_all(outputs).await?;
            self.strike().await?;
        }
        Flow::Continue(())
    }

    async fn receive(&mut self, message: Incoming) -> Flow {
        match message {
            Incoming::Binary(bytes) => self.message(bytes).await,
            Incoming::Text => {
                self.violation("a text frame where binary is due");
                self.refuse(INVALID_ARGUMENT, "expected a binary message, got a text frame", 1003).await
            }
            Incoming::Ping(payload) => self.send_raw(Message::Pong(payload)),
            Incoming::Pong => Flow::Continue(()),
            Incoming::Close(reason) => {
                self.live.end();
                let reason = reason.map(|reason| CloseReason { code: reason.code, description: None });
                self.send_raw(Message::Close(reason))?;
                self.write_out().await;
                Flow::Break(())
            }
        }
    }

    async fn message(&mut self, bytes: Bytes) -> Flow {
        match &mut self.phase {
            Phase::Unconfirmed => Flow::Continue(()),
            Phase::Opening => match handshake::judge(bytes, SystemTime::now()) {
                Ok(session) => self.confirm(session).await,
                Err(Refusal { code, message, violation }) => {
                    if violation {
                        self.violation(&message);
                    }
                    self.refuse(code, &message, 1008).await
                }
            },
            Phase::Confirmed { conversation, since } => match wire::decode(bytes) {
                Ok(None) => Flow::Continue(()),
                Ok(Some(data)) => {
                    let outputs = conversation.receive(data, since.elapsed());
                    self.put_all(outputs).await?;
                    self.strike().await
                }
                Err(error) => {
                    let text = error.to_string();
                    self.violation(&text);
                    self.refuse(INVALID_ARGUMENT, &text, 1007).await
                }
            },
        }
    }

    async fn confirm(&mut self, session: handshake::Session) -> Flow {
        match self.hub().strike(Point::Handshake, &self.who) {
            None => {}
            Some(Effect::Delay { ms }) => self.pause(Duration::from_millis(ms)).await?,
            Some(effect) => {
                self.phase = Phase::Unconfirmed;
                return self.happen(effect).await;
            }
        }
        let config = self.hub().config.clone();
        let avatar_id = self.who.avatar_id.clone().unwrap_or_default();
        let confirm = Data::ServerConfirmSession(ServerConfirmSession {
            connection_id: self.id.clone(),
            capabilities: config.capabilities.clone(),
        });
        let conversation = Box::new(Conversation::new(self.id.clone(), avatar_id, session, config));
        self.phase = Phase::Confirmed { conversation, since: Instant::now() };
        self.live.confirmed();
        self.send(confirm)?;
        self.strike().await
    }

    /// Lets the faults strike that are due.
    async fn strike(&mut self) -> Flow {
        let Phase::Confirmed { since, .. } = &self.phase else { return Flow::Continue(()) };
        let progress = Progress { chunks: self.chunks, frames: self.frames, elapsed: since.elapsed() };
        match self.live.hub().strike_live(progress, &self.who, &mut self.settled) {
            Some(effect) => self.happen(effect).await,
            None => Flow::Continue(()),
        }
    }

    async fn happen(&mut self, effect: Effect) -> Flow {
        match effect {
            Effect::Drop { reset } => self.cut(reset),
            Effect::Silence {} => self.silence().await,
            Effect::Close(close) => self.close_later(close).await,
            Effect::ServerError { code, message, req_id, then_close } => {
                self.server_error(code, &message, req_id)?;
                match then_close {
                    Some(close) => self.close_later(close).await,
                    None => Flow::Continue(()),
                }
            }
            Effect::Nonsense(nonsense) => self.nonsense(nonsense),
            Effect::Delay { ms } => self.pause(Duration::from_millis(ms)).await,
            Effect::Http { .. } => Flow::Continue(()),
        }
    }

    fn server_error(&mut self, code: i32, message: &str, name_request: bool) -> Flow {
        let mut req_id = String::new();
        if name_request && let Phase::Confirmed { conversation, .. } = &mut self.phase {
            req_id = conversation.latest().unwrap_or_default().to_owned();
            if let Some(Output::Ended { req_id, state }) = conversation.fail(&req_id) {
                self.live.hub().record(|recorder| recorder.request_ended(&req_id, &self.id, state));
            }
        }
        let connection_id = self.id.clone();
        let message = message.to_owned();
        self.send(Data::ServerError(ServerError { connection_id, req_id, code, message }))
    }

    fn nonsense(&mut self, nonsense: Nonsense) -> Flow {
        let frame = |req_id: &str| {
            let (connection_id, req_id) = (self.id.clone(), req_id.to_owned());
            let animation = Bytes::from_static(b"nobody asked");
            let avatar_id = self.who.avatar_id.clone().unwrap_or_default();
            let frame = ServerResponseAnimation { connection_id, req_id, end: true, animation, avatar_id };
            Data::ServerResponseAnimation(frame)
        };
        match nonsense {
            Nonsense::TextFrame => self.send_raw(Message::Text("{\"type\":\"hello\"}".into())),
            // Field 2, length-delimited, 100 bytes, of which two come.
            Nonsense::BadProtobuf => self.send_raw(Message::Binary(Bytes::from_static(&[0x12, 100, 1, 2]))),
            // Type 99 with a field 99 of three bytes.
            Nonsense::UnknownType => {
                self.send_raw(Message::Binary(Bytes::from_static(&[0x08, 99, 0x9a, 0x06, 3, 1, 2, 3])))
            }
            Nonsense::UnknownRequest | Nonsense::WrongFirstMessage => {
                let frame = frame("20200101000000_nobodyasked0");
                self.send(frame)
            }
            Nonsense::EmptyConnectionId => {
                self.send(Data::ServerConfirmSession(ServerConfirmSession::default()))
            }
            // Reserved bits and a reserved opcode.
            Nonsense::BadFrame => {
                self.out.extend_from_slice(&[0xff, 0x05, b'n', b'o', b'i', b's', b'e']);
                Flow::Continue(())
            }
            Nonsense::TokenWithoutToken
            | Nonsense::ErrorsIn200
            | Nonsense::NotJson
            | Nonsense::HugeBody
            | Nonsense::HugeHeaders
            | Nonsense::WrongAccept => Flow::Continue(()),
        }
    }

    /// Waits; the only thing that can happen meanwhile is a drop from outside.
    async fn pause(&mut self, time: Duration) -> Flow {
        tokio::select! {
            command = self.commands.recv() => match command {
                Some(Effect::Drop { reset }) => self.cut(reset),
                Some(_) => Flow::Continue(()),
                None => Flow::Break(()),
            },
            () = sleep(time) => Flow::Continue(()),
        }
    }

    /// Ends the connection without a close frame.
    fn cut(&mut self, reset: bool) -> Flow {
        self.write_now();
        self.reset = reset;
        Flow::Break(())
    }

    /// Gives the kernel what it takes at once, so that what was made before a fault is on its way.
    fn write_now(&mut self) {
        while let Ok(written @ 1..) = self.writer.try_write(&self.out) {
            self.out.advance(written);
        }
    }

    /// Neither reads nor writes until the client has left, or a drop from outside.
    async fn silence(&mut self) -> Flow {
        self.write_now();
        loop {
            let ready = tokio::select! {
                ready = self.reader.get_ref().ready(Interest::READABLE) => ready,
                command = self.commands.recv() => match command {
                    Some(Effect::Drop { reset }) => return self.cut(reset),
                    Some(_) => continue,
                    None => return Flow::Break(()),
                },
            };
            if ready.map_or(true, |ready| ready.is_read_closed()) {
                return Flow::Break(());
            }
            // Unread bytes keep the socket readable: there is no event to wait for.
            sleep(HANG_UP_CHECK).await;
        }
    }

    async fn put_all(&mut self, outputs: Vec<Output>) -> Flow {
        for output in outputs {
            match output {
                Output::Send(data) => self.send(*data)?,
                Output::Audio { req_id, first, bytes } => {
                    self.chunks += 1;
                    let of = (self.id.as_str(), self.who.avatar_id.as_deref().unwrap_or_default());
                    self.live.hub().record(|recorder| recorder.audio(&req_id, first, bytes, of));
                }
                Output::Ended { req_id, state } => {
                    self.live.hub().record(|recorder| recorder.request_ended(&req_id, &self.id, state));
                }
                Output::Violation(text) => self.violation(&text),
                Output::Fatal(text) => {
                    self.violation(&text);
                    return self.refuse(INVALID_ARGUMENT, &text, 1008).await;
                }
            }
        }
        Flow::Continue(())
    }

    fn send(&mut self, data: Data) -> Flow {
        if let Data::ServerResponseAnimation(frame) = &data {
            self.live.hub().record(|recorder| recorder.frame(&frame.req_id));
        }
        self.send_raw(Message::Binary(wire::encode(data)))
    }

    fn send_raw(&mut self, message: Message) -> Flow {
        if self.out.is_empty() {
            self.stalled_since = Some(Instant::now());
        }
        match self.codec.encode(message, &mut self.out) {
            Ok(()) => Flow::Continue(()),
            Err(_) => Flow::Break(()),
        }
    }

    fn violation(&self, text: &str) {
        let avatar_id = self.who.avatar_id.as_deref().unwrap_or_default();
        self.hub().record(|recorder| recorder.violation(format!("{} ({avatar_id}): {text}", self.id)));
    }

    async fn broken_framing(&mut self, error: &ProtocolError) -> Flow {
        if matches!(error, ProtocolError::Io(error) if error.kind() != std::io::ErrorKind::InvalidData) {
            return Flow::Break(());
        }
        let code = if matches!(error, ProtocolError::Overflow) { 1009 } else { 1002 };
        self.violation(&format!("broken WebSocket framing: {error}"));
        self.close(code, "protocol error").await
    }

    /// A ServerError, then a close frame.
    async fn refuse(&mut self, code: i32, message: &str, close_code: u16) -> Flow {
        self.server_error(code, message, false)?;
        self.close(close_code, message).await
    }

    async fn close_later(&mut self, close: Close) -> Flow {
        if close.after_ms > 0 {
            // What was said before must be on its way while the close frame waits.
            self.write_out().await;
            self.pause(Duration::from_millis(close.after_ms)).await?;
        }
        self.close(close.code, &close.reason).await
    }

    /// Sends a close frame and waits for the client's, as the protocol's closing handshake goes.
    async fn close(&mut self, code: u16, reason: &str) -> Flow {
        let description = (!reason.is_empty()).then(|| reason.chars().take(100).collect());
        self.send_raw(Message::Close(Some(CloseReason { code: CloseCode::from(code), description })))?;
        self.write_out().await;
        self.live.end();
        let answered = async {
            while let Some(Ok(message)) = self.reader.next().await {
                if matches!(message, Incoming::Close(_)) {
                    break;
                }
            }
        };
        // A client that does not answer is left: its close code is known by now.
        let _ = timeout(CLOSE_DEADLINE, answered).await;
        Flow::Break(())
    }

    /// Writes what is waiting, within the deadline; an error shows at the next read.
    async fn write_out(&mut self) {
        let written = timeout(CLOSE_DEADLINE, self.writer.write_all_buf(&mut self.out)).await;
        if !matches!(written, Ok(Ok(()))) {
            self.out.clear();
        }
    }
}
