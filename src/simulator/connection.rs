//! One WebSocket connection: the socket, the clock, and the faults that strike it.
//!
//! The loop owns the socket. Silence therefore is silence (nothing reads), a drop is the end of the socket
//! with nothing more written, and a client that does not read stops the making of frames.

mod effects;
mod limits;
mod network;

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    time::{Duration, Instant, SystemTime},
};

pub(super) use network::Trickle;

use actix_http::ws::{self, CloseCode, CloseReason, Message, ProtocolError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, tcp},
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};
use tokio_util::codec::{Encoder as _, FramedRead};

use super::{
    conversation::{Conversation, Output},
    fault_check::MAX_REASON_BYTES,
    faults::{Effect, Point, Who},
    handshake::{self, INVALID_ARGUMENT, Refusal},
    hub::{Hub, LiveGuard},
    payload::{monotonic_now, stamp},
    record::Happening,
    socket::{Incoming, MessageDecoder},
};
use crate::wire::{self, Data, proto::ServerConfirmSession};

/// How long a close frame may take to be written, and how long the client's answer to it is waited for.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Where nothing is due: only wakes the loop now and then.
const IDLE: Duration = Duration::from_secs(3600);

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

/// A refusal that arrives after an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doom {
    pub(super) code: u16,
    pub(super) reason: String,
    /// As a ServerError with the code, not as a close frame with it.
    pub(super) as_error: bool,
}

/// What was decided at the upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served {
        token_expires: SystemTime,
    },
    /// In the place of the confirm.
    Refused(Doom),
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
    /// Nothing is read until then.
    deaf_until: Option<Instant>,
    trickle: Option<Trickle>,
    live: LiveGuard,
    commands: mpsc::Receiver<Effect>,
    plan_changes: watch::Receiver<u64>,
    who: Who,
    fate: Fate,
    id: String,
    phase: Phase,
    chunks: u64,
    /// Of the last audio; of the confirm before that.
    audio_at: Instant,
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
        fate: Fate,
        trickle: Option<Trickle>,
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
            deaf_until: None,
            trickle,
            live,
            commands,
            plan_changes,
            who,
            fate,
            id,
            phase: Phase::Opening,
            chunks: 0,
            audio_at: Instant::now(),
            frames: 0,
            settled: BTreeSet::new(),
            reset: false,
        }
    }

    /// Serves until either side ends the connection.
    pub(super) async fn run(mut self) {
        self.note(Happening::UpgradeGranted);
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

    /// Writes into the record.
    fn note(&self, what: Happening) {
        self.hub().note(&self.who, Some(&self.id), what);
    }

    fn hub(&self) -> &Hub {
        self.live.hub()
    }

    async fn step(&mut self) -> Flow {
        let room = self.out.len() < self.hub().config.outgoing_limit_bytes;
        let wake = tokio::time::Instant::from_std(self.wake_at(room));
        let (reads, writes) = (room && !self.is_deaf(), !self.out.is_empty() && self.trickle.is_none());
        let event = tokio::select! {
            biased;
            command = self.commands.recv() => Event::Command(command),
            written = self.writer.write_buf(&mut self.out), if writes => Event::Written(written),
            message = self.reader.next(), if reads => Event::Received(message),
            _ = self.plan_changes.changed() => Event::PlanChanged,
            () = sleep_until(wake) => Event::Time,
        };
        match event {
            Event::Command(Some(effect)) => self.happen(effect).await,
            Event::Written(Ok(written)) if written > 0 => {
                self.stalled_since = (!self.out.is_empty()).then(Instant::now);
                Flow::Continue(())
            }
            Event::Command(None) => Flow::Break(()),
            Event::Written(_) => self.left(),
            Event::Received(Some(Ok(message))) => self.receive(message).await,
            Event::Received(Some(Err(error))) => self.broken_framing(&error).await,
            Event::Received(None) => self.left(),
            Event::PlanChanged => self.strike().await,
            Event::Time => self.time(room).await,
        }
    }

    /// The client has ended the connection without a close frame. The record tells every connection's end.
    fn left(&self) -> Flow {
        self.note(Happening::Left);
        Flow::Break(())
    }

    /// When the clock has something to do.
    fn wake_at(&self, room: bool) -> Instant {
        let config = &self.hub().config;
        let mut wake = Instant::now() + IDLE;
        if let Some(since) = self.stalled_since {
            wake = wake.min(since + config.stall_timeout);
        }
        for due in [self.limit_due(), self.network_due()].into_iter().flatten() {
            wake = wake.min(due);
        }
        let Phase::Confirmed { conversation, since } = &self.phase else { return wake };
        let fault = self.hub().next_fault_due(&self.who, &self.settled);
        let frame = if room { conversation.next_at() } else { None };
        [fault, frame].into_iter().flatten().fold(wake, |wake, due| wake.min(*since + due))
    }

    async fn time(&mut self, room: bool) -> Flow {
        let config = &self.hub().config;
        if self.stalled_since.is_some_and(|since| since.elapsed() >= config.stall_timeout) {
            self.note(Happening::Dropped { reset: false });
            return Flow::Break(());
        }
        if self.has_left_unheard() {
            return self.left();
        }
        self.enforce_limits().await?;
        self.trickle_out()?;
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
                let code = reason.as_ref().map(|reason| u16::from(reason.code));
                self.note(Happening::CloseReceived { code });
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
        if let Fate::Refused(doom) = &self.fate {
            let doom = doom.clone();
            return self.end_refused(doom).await;
        }
        match self.hub().strike(Point::Handshake, &self.who) {
            None => {}
            Some(Effect::Delay { ms }) => self.pause(Duration::from_millis(ms)).await?,
            Some(effect @ (Effect::Stall { .. } | Effect::Trickle { .. } | Effect::Refuse { .. })) => {
                self.happen(effect).await?;
            }
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
        self.audio_at = Instant::now();
        self.phase = Phase::Confirmed { conversation, since: self.audio_at };
        self.live.confirmed();
        self.note(Happening::Confirmed);
        self.send(confirm)?;
        self.strike().await
    }

    async fn put_all(&mut self, outputs: Vec<Output>) -> Flow {
        for output in outputs {
            match output {
                Output::Send(data) => self.send(*data)?,
                Output::Audio { req_id, first, audio } => {
                    self.chunks += 1;
                    self.audio_at = Instant::now();
                    self.hub().audio(&self.who, &self.id, &req_id, first, &audio);
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

    fn send(&mut self, mut data: Data) -> Flow {
        if let Data::ServerResponseAnimation(frame) = &mut data {
            self.hub().frame(&self.who, &self.id, &frame.req_id, frame.end);
            if self.hub().config.stamp_frames {
                frame.animation = stamp(std::mem::take(&mut frame.animation), monotonic_now());
            }
        }
        if let Data::ServerError(error) = &data {
            let (message, req_id) = (error.message.clone(), error.req_id.clone());
            self.note(Happening::ErrorSent { code: error.code, message, req_id });
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
            return self.left();
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

    /// Sends a close frame and waits for the client's, as the protocol's closing handshake goes.
    async fn close(&mut self, code: u16, reason: &str) -> Flow {
        // A text of the client's may be in it, of any length.
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
        self.note(Happening::CloseSent { code, reason: reason.into() });
        let description = (!reason.is_empty()).then(|| reason.to_owned());
        self.send_raw(Message::Close(Some(CloseReason { code: CloseCode::from(code), description })))?;
        self.write_out().await;
        self.live.end();
        let answered = async {
            while let Some(Ok(message)) = self.reader.next().await {
                if let Incoming::Close(reason) = message {
                    return Some(reason.map(|reason| u16::from(reason.code)));
                }
            }
            None
        };
        // A client that does not answer is left: its close code is known by now.
        if let Ok(Some(code)) = timeout(CLOSE_DEADLINE, answered).await {
            self.note(Happening::CloseReceived { code });
        }
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
