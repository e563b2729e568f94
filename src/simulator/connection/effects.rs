//! Carries out what strikes a connection.

use std::time::{Duration, Instant};

use actix_http::ws::Message;
use bytes::{Buf as _, Bytes};
use tokio::{io::Interest, time::sleep};

use super::{Connection, Flow, Phase, Trickle};
use crate::{
    simulator::{
        conversation::Output,
        faults::{Close, Effect, Nonsense},
        plan::Progress,
        record::Happening,
    },
    wire::{
        Data,
        proto::{ServerConfirmSession, ServerError, ServerResponseAnimation},
    },
};

impl Connection {
    /// Lets the faults strike that are due.
    pub(super) async fn strike(&mut self) -> Flow {
        let Phase::Confirmed { since, .. } = &self.phase else { return Flow::Continue(()) };
        let progress = Progress { chunks: self.chunks, frames: self.frames, elapsed: since.elapsed() };
        match self.live.hub().strike_live(progress, &self.who, &mut self.settled) {
            Some(effect) => self.happen(effect).await,
            None => Flow::Continue(()),
        }
    }

    pub(super) async fn happen(&mut self, effect: Effect) -> Flow {
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
            Effect::Stall { ms } => {
                self.deaf_until = Instant::now().checked_add(Duration::from_millis(ms));
                Flow::Continue(())
            }
            Effect::Trickle { bytes_per_s } => {
                self.trickle = Some(Trickle::new(bytes_per_s));
                Flow::Continue(())
            }
            Effect::Refuse { for_ms } => {
                self.live.hub().refuse_for(Duration::from_millis(for_ms));
                Flow::Continue(())
            }
            Effect::Http { .. } => Flow::Continue(()),
        }
    }

    pub(super) fn server_error(&mut self, code: i32, message: &str, name_request: bool) -> Flow {
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
    pub(super) async fn pause(&mut self, time: Duration) -> Flow {
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
        self.note(Happening::Dropped { reset });
        self.reset = reset;
        Flow::Break(())
    }

    /// Gives the kernel what it takes at once, so that what was made before a fault is on its way. What
    /// trickles is cut off where it is.
    fn write_now(&mut self) {
        if self.trickle.is_some() {
            return;
        }
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
                return self.left();
            }
            // Unread bytes keep the socket readable: there is no event to wait for.
            sleep(super::network::HANG_UP_CHECK).await;
        }
    }

    async fn close_later(&mut self, close: Close) -> Flow {
        if close.after_ms > 0 {
            // What was said before must be on its way while the close frame waits.
            self.write_out().await;
            self.pause(Duration::from_millis(close.after_ms)).await?;
        }
        self.close(close.code, &close.reason).await
    }
}
