//! A client's connection after its upgrade: the one file that knows the WebSocket actor's crate.
//!
//! What may be said is the [`Protocol`]'s to judge, what flows is the [`Flow`]'s; here is what connects them.

use std::{collections::VecDeque, rc::Rc};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, AsyncContext as _, SpawnHandle, StreamHandler,
    fut::wrap_future,
};
use actix_http::ws::{Codec, Item};
use actix_web::{Error, HttpRequest, HttpResponse, body::BoxBody, web};
use actix_web_actors::ws::{
    CloseCode, CloseReason, Message, ProtocolError, WebsocketContext, WsResponseBuilder,
};
use bytes::Bytes;

use super::{
    super::fed::Fed,
    flow::{self, Flow, FromSession, Inbound, Input, Metered},
    parting::{Parting, Words},
    protocol::{Frame, Protocol, Step},
    rendering::{Row, UNAVAILABLE},
    seated::{Seated, Told, kept},
};
use crate::{
    config::{self, PartialFailure},
    errors::ErrorCode,
    session::{ClientLine, Departure, ToClient},
    wire::{
        self, Data,
        proto::{ServerError, ServerResponseAnimation},
    },
};

/// "Try again later" (the registry of RFC 6455's codes): a client that was too slow.
const SLOW: u16 = 1013;

type Socket = WebsocketContext<Client>;

/// What a client's message waits for its turn as.
enum Incoming {
    Data(Frame),
    Close(Option<CloseReason>),
}

/// A connected client.
pub(super) struct Client {
    seated: Rc<Seated>,
    flow: Rc<Flow>,
    protocol: Protocol,
    settings: config::Ingress,
    avatar_id: String,
    /// What the client knows its connection by; empty until its session is confirmed.
    connection_id: String,
    /// Ends the connection when no confirmation comes.
    unconfirmed: Option<SpawnHandle>,
    /// What was read before the message that is being handed over was.
    waiting: VecDeque<Incoming>,
    /// A message is being handed over; the next one waits.
    is_busy: bool,
    /// The request that was not begun, of which more audio may come.
    not_begun: Option<String>,
}

/// What a connection is made from.
pub(super) struct Parts {
    pub(super) seated: Seated,
    pub(super) line: ClientLine,
    pub(super) settings: config::Ingress,
    pub(super) avatar_id: String,
    /// What came before the upgrade was answered.
    pub(super) early: VecDeque<Bytes>,
}

/// Answers an upgrade and serves the connection. The request's handshake was checked.
pub(super) fn accept(
    request: &HttpRequest,
    payload: web::Payload,
    parts: Parts,
) -> Result<HttpResponse, Error> {
    let Parts { seated, line, settings, avatar_id, early } = parts;
    seated.is_connected();
    let flow = Rc::new(Flow::new(line));
    let max = settings.max_message_bytes;
    let inbound = Inbound::new(early, Fed::new(payload), max, Rc::clone(&flow));
    actix_rt::spawn(flow::watch(Rc::downgrade(&flow), settings.slow_client));
    let client = Client {
        seated: Rc::new(seated),
        flow: Rc::clone(&flow),
        protocol: Protocol::new(max),
        settings,
        avatar_id,
        connection_id: String::new(),
        unconfirmed: None,
        waiting: VecDeque::new(),
        is_busy: false,
        not_begun: None,
    };
    let response =
        WsResponseBuilder::new(client, request, inbound).codec(Codec::new().max_size(max)).start()?;
    Ok(response.map_body(|_, body| BoxBody::new(Metered::new(body, flow))))
}

impl Actor for Client {
    type Context = Socket;

    fn started(&mut self, ctx: &mut Socket) {
        ctx.add_stream(FromSession(Rc::clone(&self.flow)));
        ctx.run_interval(self.settings.ping, |client, ctx| {
            if client.flow.silent_for() >= client.settings.half_open {
                client.flow.end();
                ctx.stop();
            } else {
                ctx.ping(b"");
            }
        });
        self.unconfirmed = Some(ctx.run_later(self.settings.confirm, |client, ctx| {
            let text = "the session was not confirmed in time";
            client.part(&Parting::told(UNAVAILABLE.into(), UNAVAILABLE, text), ctx);
        }));
    }
}

/// What the client says.
impl StreamHandler<Result<Message, ProtocolError>> for Client {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Socket) {
        let incoming = match message {
            Ok(Message::Ping(payload)) => return ctx.pong(&payload),
            Ok(Message::Pong(_) | Message::Nop) => return,
            Ok(Message::Close(reason)) => Incoming::Close(reason),
            Ok(Message::Text(_) | Message::Continuation(Item::FirstText(_))) => Incoming::Data(Frame::Text),
            Ok(Message::Binary(bytes)) => Incoming::Data(Frame::Binary(bytes)),
            Ok(Message::Continuation(Item::FirstBinary(bytes))) => Incoming::Data(Frame::First(bytes)),
            Ok(Message::Continuation(Item::Continue(bytes))) => Incoming::Data(Frame::Continue(bytes)),
            Ok(Message::Continuation(Item::Last(bytes))) => Incoming::Data(Frame::Last(bytes)),
            Err(error) => return self.broken(&error, ctx),
        };
        self.waiting.push_back(incoming);
        self.advance(ctx);
    }
}

/// What its session says.
impl StreamHandler<ToClient> for Client {
    fn handle(&mut self, message: ToClient, ctx: &mut Socket) {
        match message {
            // The upgrade has been answered with it.
            ToClient::Ready => {}
            ToClient::Message(bytes) => self.relay(bytes, ctx),
            ToClient::RequestFailed { req_id, code, reason } => {
                self.request_failed(req_id, code, &reason, ctx)
            }
            ToClient::RequestInterrupted { req_id } => self.final_frame(req_id, ctx),
            ToClient::Ended(farewell) => self.part(&Parting::of(&farewell, &self.avatar_id), ctx),
        }
    }

    fn finished(&mut self, ctx: &mut Socket) {
        // Only where the last word got lost with the session's thread.
        self.part(&Parting::of_code(ErrorCode::ConnectionClosed, &self.avatar_id), ctx);
    }
}

impl Client {
    /// Hands over what waits, one message at a time.
    fn advance(&mut self, ctx: &mut Socket) {
        while !self.is_busy {
            let Some(incoming) = self.waiting.pop_front() else { return self.flow.read_on() };
            let step = match incoming {
                Incoming::Data(frame) => self.protocol.receive(frame),
                Incoming::Close(reason) => return self.closed(reason, ctx),
            };
            let seated = Rc::clone(&self.seated);
            match step {
                Step::Ignore => {}
                Step::Refuse(parting) => return self.part(&parting, ctx),
                Step::Configure(message) => {
                    self.hand_over(async move { seated.configure(message).await }, ctx)
                }
                Step::Control { req_id, control } => {
                    self.hand_over(async move { seated.control(req_id, control).await }, ctx);
                }
                Step::Audio { req_id, .. } if self.not_begun.as_ref() == Some(&req_id) => {}
                Step::Audio { req_id, audio, end } => {
                    let audio = kept(audio);
                    if !self.seated.audio_at_once(&req_id, &audio, end) {
                        self.hand_over(async move { seated.audio(req_id, audio, end).await }, ctx);
                    }
                }
            }
        }
    }

    /// Waits for `told`; meanwhile the socket is not read.
    fn hand_over(&mut self, told: impl Future<Output = Told> + 'static, ctx: &mut Socket) {
        self.is_busy = true;
        self.flow.stop_reading();
        ctx.spawn(wrap_future(told).map(|told, client: &mut Self, ctx: &mut Socket| {
            client.is_busy = false;
            match told {
                Told::Done => {}
                Told::NotBegun { req_id, code, reason } => {
                    client.not_begun = Some(req_id.clone());
                    client.request_failed(req_id, code, &reason, ctx);
                }
                Told::Lost(parting) => return client.part(&parting, ctx),
            }
            client.advance(ctx);
        }));
    }

    fn relay(&mut self, bytes: Bytes, ctx: &mut Socket) {
        if let Some(timer) = self.unconfirmed
            && let Ok(Some(Data::ServerConfirmSession(confirm))) = wire::decode(bytes.clone())
        {
            self.connection_id = confirm.connection_id;
            ctx.cancel_future(timer);
            self.unconfirmed = None;
        }
        self.flow.give(bytes.len());
        ctx.binary(bytes);
    }

    fn request_failed(&mut self, req_id: String, code: ErrorCode, reason: &str, ctx: &mut Socket) {
        if self.settings.partial_failure == PartialFailure::Error {
            let Words { code, text } = Row::of(code).request_error(&self.avatar_id, reason);
            self.server_error(req_id.clone(), code, text, ctx);
        }
        self.final_frame(req_id, ctx);
    }

    /// What every waiting for a request ends with.
    fn final_frame(&self, req_id: String, ctx: &mut Socket) {
        ctx.binary(wire::encode(Data::ServerResponseAnimation(ServerResponseAnimation {
            connection_id: self.connection_id.clone(),
            req_id,
            end: true,
            animation: Bytes::new(),
            avatar_id: self.avatar_id.clone(),
        })));
    }

    fn server_error(&self, req_id: String, code: i32, message: String, ctx: &mut Socket) {
        let connection_id = self.connection_id.clone();
        ctx.binary(wire::encode(Data::ServerError(ServerError { connection_id, req_id, code, message })));
    }

    /// The last word. The HTTP server then reads and drops what the client still sends, for a second at most, so
    /// that the close frame is not lost to a reset.
    fn part(&mut self, parting: &Parting, ctx: &mut Socket) {
        if let Some(connection_id) = parting.connection_id.as_ref().filter(|_| self.connection_id.is_empty())
        {
            self.connection_id.clone_from(connection_id);
        }
        if let Some(Words { code, text }) = &parting.error {
            self.server_error(String::new(), *code, text.clone(), ctx);
        }
        let description = Some(parting.reason()).filter(|reason| !reason.is_empty()).map(str::to_owned);
        ctx.close(Some(CloseReason { code: CloseCode::from(parting.close), description }));
        // It was told, and has nothing to come back for; unless it was only too slow.
        self.seated.leave(if parting.close == SLOW { Departure::Vanished } else { Departure::Closed });
        self.flow.end();
        ctx.stop();
    }

    /// The client says good-bye: it is answered with its own code, as the protocol of closing goes.
    fn closed(&self, reason: Option<CloseReason>, ctx: &mut Socket) {
        let code = reason.as_ref().map(|reason| u16::from(reason.code));
        self.seated.leave(match code {
            None | Some(1000 | 1001) => Departure::Closed,
            Some(_) => Departure::Vanished,
        });
        ctx.close(reason.map(|reason| CloseReason { code: reason.code, description: None }));
        self.flow.end();
        ctx.stop();
    }

    fn broken(&mut self, error: &ProtocolError, ctx: &mut Socket) {
        match self.flow.input() {
            Input::TooLong => {
                if let Step::Refuse(parting) = self.protocol.too_long() {
                    self.part(&parting, ctx);
                }
            }
            Input::Lost => {
                self.flow.end();
                ctx.stop();
            }
            Input::Open => {
                tracing::debug!(session = %self.seated.entry().id, %error, "a client's framing is broken");
                self.part(&Parting::silent(1002, "protocol error"), ctx);
            }
        }
    }
}
