//! The accepted TCP connection, and the WebSocket framing over it.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::ws::{self, Item, ProtocolError};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::codec::Decoder;

/// Lets a request handler end the TCP connection that it answers on.
#[derive(Debug, Default)]
pub(super) struct Switch {
    cut: Notify,
    reset: Cell<bool>,
    /// A connection that has asked for `/_sim` outlives an outage, so that its client can end the outage.
    pub(super) control: Cell<bool>,
}

impl Switch {
    /// Ends the connection without an answer.
    pub(super) fn cut(&self, reset: bool) {
        self.reset.set(reset);
        self.cut.notify_one();
    }

    pub(super) async fn is_cut(&self) {
        self.cut.notified().await;
    }
}

/// An accepted connection with its switch.
pub(super) struct Io {
    /// `None` once the WebSocket has taken it.
    stream: Option<TcpStream>,
    pub(super) switch: Rc<Switch>,
}

impl Io {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), switch: Rc::default() }
    }

    /// Takes the socket out.
    pub(super) const fn take(&mut self) -> Option<TcpStream> {
        self.stream.take()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream
            && self.switch.reset.get()
        {
            // A socket that cannot be told to reset ends with a FIN instead.
            let _ = stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

/// A whole message of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Binary(Bytes),
    Text,
    Ping(Bytes),
    Pong,
    Close(Option<ws::CloseReason>),
}

/// Reads WebSocket frames and joins fragmented messages, within a bound.
#[derive(Debug)]
pub(super) struct MessageDecoder {
    codec: ws::Codec,
    max_bytes: usize,
    joined: BytesMut,
    text: bool,
}

impl MessageDecoder {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { codec: ws::Codec::new().max_size(max_bytes), max_bytes, joined: BytesMut::new(), text: false }
    }

    /// `actix_http` gathers a whole frame before it compares its length with the limit.
    fn check_length(&self, src: &[u8]) -> Result<(), ProtocolError> {
        let length = match src.get(1).map(|byte| byte & 0x7f) {
            Some(126) => src
                .get(2..4)
                .and_then(|len| len.try_into().ok())
                .map(|len| u64::from(u16::from_be_bytes(len))),
            Some(127) => src.get(2..10).and_then(|len| len.try_into().ok()).map(u64::from_be_bytes),
            Some(_) | None => None,
        };
        match length {
            Some(length) if length > self.max_bytes as u64 => Err(ProtocolError::Overflow),
            Some(_) | None => Ok(()),
        }
    }

    fn join(&mut self, part: &[u8]) -> Result<(), ProtocolError> {
        if self.joined.len() + part.len() > self.max_bytes {
            return Err(ProtocolError::Overflow);
        }
        self.joined.extend_from_slice(part);
        Ok(())
    }
}

impl Decoder for MessageDecoder {
    type Item = Incoming;
    type Error = ProtocolError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Incoming>, ProtocolError> {
        loop {
            self.check_length(src)?;
            let Some(frame) = self.codec.decode(src)? else { return Ok(None) };
            return Ok(Some(match frame {
                ws::Frame::Binary(bytes) => Incoming::Binary(bytes),
                ws::Frame::Text(_) => Incoming::Text,
                ws::Frame::Ping(bytes) => Incoming::Ping(bytes),
                ws::Frame::Pong(_) => Incoming::Pong,
                ws::Frame::Close(reason) => Incoming::Close(reason),
                ws::Frame::Continuation(item) => match item {
                    Item::FirstText(_) => {
                        self.text = true;
                        continue;
                    }
                    Item::FirstBinary(part) => {
                        self.text = false;
                        self.join(&part)?;
                        continue;
                    }
                    Item::Continue(part) => {
                        self.join(&part)?;
                        continue;
                    }
                    Item::Last(part) => {
                        self.join(&part)?;
                        let whole = self.joined.split().freeze();
                        if self.text { Incoming::Text } else { Incoming::Binary(whole) }
                    }
                },
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_http::ws::Message;
    use tokio_util::codec::Encoder as _;

    use super::*;

    fn sent(messages: Vec<Message>) -> BytesMut {
        let mut codec = ws::Codec::new().client_mode();
        let mut bytes = BytesMut::new();
        for message in messages {
            codec.encode(message, &mut bytes).unwrap();
        }
        bytes
    }

    #[test]
    fn fragments_are_joined_and_a_ping_may_come_between() {
        let mut bytes = sent(vec![
            Message::Continuation(Item::FirstBinary(Bytes::from_static(b"ab"))),
            Message::Ping(Bytes::from_static(b"p")),
            Message::Continuation(Item::Continue(Bytes::from_static(b"cd"))),
            Message::Continuation(Item::Last(Bytes::from_static(b"e"))),
            Message::Text("t".into()),
        ]);
        let mut decoder = MessageDecoder::new(1024);
        let mut seen = Vec::new();
        while let Some(message) = decoder.decode(&mut bytes).unwrap() {
            seen.push(message);
        }
        let ping = Incoming::Ping(Bytes::from_static(b"p"));
        assert_eq!(seen, [ping, Incoming::Binary(Bytes::from_static(b"abcde")), Incoming::Text]);
    }

    #[test]
    fn a_message_over_the_bound_is_refused_before_it_is_gathered() {
        let whole = sent(vec![Message::Binary(Bytes::from(vec![0; 2000]))]);
        let mut head = BytesMut::from(&whole[..8]);
        assert!(matches!(MessageDecoder::new(1024).decode(&mut head), Err(ProtocolError::Overflow)));
        let part = Bytes::from(vec![0; 600]);
        let mut parts = sent(vec![
            Message::Continuation(Item::FirstBinary(part.clone())),
            Message::Continuation(Item::Last(part)),
        ]);
        assert!(matches!(MessageDecoder::new(1024).decode(&mut parts), Err(ProtocolError::Overflow)));
    }
}
