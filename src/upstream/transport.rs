//! WebSocket messages over one socket: buffers, fragments, pings; no meaning and no clock.
//!
//! This is `actix_codec::Framed` with four differences that a relay needs: what was announced too long is
//! refused before it is buffered, the length and the progress of the write buffer can be seen, the buffers
//! shrink again after a large message, and reading does not depend on writing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_codec::{AsyncWrite as _, Decoder as _, Encoder as _, Framed, poll_read_buf};
use actix_http::ws::{CloseCode, CloseReason, Codec, Frame, Item, Message, ProtocolError};
use awc::BoxedSocket;
use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes that are read at once at the least, where messages come.
const READ_BYTES: usize = 8 * 1024;

/// The same where none come: room for pongs and small news. Most connections are silent most of the time, and the two buffers
/// of `Framed`, a page each, were a third of what a silent session took. A message that fills it is read in two, the first of
/// many; after that it is [`READ_BYTES`].
const RESTING_READ_BYTES: usize = 512;

/// A read buffer that grew beyond this for a large message is given back afterwards: thousands of idle connections
/// must not each keep the size of the largest clip they ever saw.
const KEEP_READ_BYTES: usize = 64 * 1024;

/// As much for the write buffer, which holds one piece of audio: 40 ms of speech have 1.3 KB at the usual rate and 4 KB at
/// the highest. It grows where many are said again after a break, or wait for a slow link; in time every connection has
/// met either, and would keep what that took.
const KEEP_WRITE_BYTES: usize = 8 * 1024;

/// Unsent bytes up to which a Pong is added to them. The peer has not read what stands before it anyway, and
/// only its latest ping needs an answer (RFC 6455, 5.5.3).
const PONG_ROOM_BYTES: usize = 64 * 1024;

/// The most that a control frame may carry (RFC 6455, 5.5).
const MAX_CONTROL_BYTES: u64 = 125;

/// What came from the peer.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A whole binary message.
    Message(Bytes),
    /// A close frame. Nothing comes after it.
    Close(Option<CloseReason>),
    /// The peer broke the protocol; the code is what our Close says about it.
    Violation(String, CloseCode),
    /// The socket ended without a close frame.
    Lost(String),
}

/// One upgraded connection.
pub(super) struct Transport {
    io: BoxedSocket,
    codec: Codec,
    max_bytes: usize,
    read_buf: BytesMut,
    /// Bytes that are read at once: [`READ_BYTES`], or [`RESTING_READ_BYTES`].
    read_bytes: usize,
    /// Whether the read buffer's allocation is larger than is kept. Its capacity does not say: what was split
    /// off or read away still belongs to the allocation, and is reclaimed by the next growth.
    is_read_grown: bool,
    /// The fragments of a message that is not complete.
    joining: Option<BytesMut>,
    received: u64,
    write_buf: BytesMut,
    is_write_grown: bool,
    written: u64,
    is_flushed: bool,
    /// The latest ping that was not answered yet.
    ping: Option<Bytes>,
    /// Why nothing can be written any more. What the peer said before is still read.
    write_error: Option<String>,
    /// Whether a message came or went since [`Transport::rest`] was last called.
    has_carried: bool,
}

impl Transport {
    /// Takes an upgraded connection over, with what was read of it already.
    pub(super) fn new(framed: Framed<BoxedSocket, Codec>, max_bytes: usize) -> Self {
        let parts = framed.into_parts();
        Self {
            io: parts.io,
            codec: parts.codec,
            max_bytes,
            read_buf: unless_empty(parts.read_buf),
            read_bytes: RESTING_READ_BYTES,
            is_read_grown: false,
            joining: None,
            received: 0,
            write_buf: unless_empty(parts.write_buf),
            is_write_grown: false,
            written: 0,
            is_flushed: true,
            ping: None,
            write_error: None,
            has_carried: false,
        }
    }

    /// Gives the buffers back where no message came or went since this was last called: to be called now and then.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.has_carried) {
            return;
        }
        self.read_buf = unless_empty(std::mem::take(&mut self.read_buf));
        self.read_bytes = RESTING_READ_BYTES;
        self.write_buf = unless_empty(std::mem::take(&mut self.write_buf));
    }

    /// Bytes that came so far; each is a sign of life, also of a message that is not complete.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the socket took so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that wait to be written.
    pub(super) fn unsent(&self) -> usize {
        self.write_buf.len()
    }

    /// Why nothing can be written any more.
    pub(super) fn write_error(&self) -> Option<&str> {
        self.write_error.as_deref()
    }

    /// Adds a message to the write buffer. It goes out as [`Transport::poll_flush`] is polled.
    pub(super) fn queue(&mut self, message: Message) {
        if self.write_error.is_some() {
            return;
        }
        self.has_carried |= matches!(message, Message::Binary(_));
        // The codec refuses only fragments out of order, and none are sent.
        if let Err(error) = self.codec.encode(message, &mut self.write_buf) {
            self.write_error = Some(error.to_string());
        }
        self.is_write_grown |= self.write_buf.capacity() > KEEP_WRITE_BYTES;
        self.is_flushed = false;
    }

    /// Writes what waits. `Pending` says that the socket takes no more for now; an error is kept for
    /// [`Transport::write_error`], and then there is nothing more to write.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_error.is_some() {
            return Poll::Ready(());
        }
        if self.write_buf.len() <= PONG_ROOM_BYTES
            && let Some(ping) = self.ping.take()
        {
            self.queue(Message::Pong(ping));
        }
        let written = ready!(self.poll_write_out(cx));
        if let Err(error) = written {
            self.write_error = Some(error.to_string());
            self.write_buf = BytesMut::new();
            self.ping = None;
        }
        Poll::Ready(())
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.write_buf.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.write_buf))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.write_buf.advance(count);
            self.written += count as u64;
        }
        if self.is_write_grown {
            self.write_buf = BytesMut::new();
            self.is_write_grown = false;
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads until something came that has a meaning. After anything but a message it must not be polled again.
    pub(super) fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            if let Some((what, code)) = self.announced_too_long() {
                return Poll::Ready(Incoming::Violation(what, code));
            }
            match self.codec.decode(&mut self.read_buf) {
                Ok(Some(frame)) => {
                    self.shrink_read_buf();
                    if let Some(incoming) = self.accept(frame) {
                        return Poll::Ready(incoming);
                    }
                    continue;
                }
                Ok(None) => self.is_read_grown |= self.read_buf.capacity() > KEEP_READ_BYTES,
                Err(error) => {
                    return Poll::Ready(Incoming::Violation(broken_frame(&error), CloseCode::Protocol));
                }
            }
            // Half of it holds a usual frame: with less room most frames would be read in two.
            if self.read_buf.capacity() - self.read_buf.len() < self.read_bytes / 2 {
                self.read_buf.reserve(self.read_bytes);
            }
            match ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.read_buf)) {
                Ok(0) => return Poll::Ready(Incoming::Lost("it ended without a close frame".into())),
                Ok(count) => {
                    self.received += count as u64;
                    if self.read_buf.len() == self.read_buf.capacity() {
                        self.read_bytes = READ_BYTES;
                    }
                }
                Err(error) => return Poll::Ready(Incoming::Lost(error.to_string())),
            }
        }
    }

    /// Writes and reads, for those who have nothing else to watch.
    pub(super) fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        let _ = self.poll_flush(cx);
        let incoming = self.poll_incoming(cx);
        if incoming.is_pending() {
            // A ping may have come.
            let _ = self.poll_flush(cx);
        }
        incoming
    }

    /// Queues a Close and writes what the socket takes at once. Nobody waits for the rest: the connection is
    /// given up, and the Close is a courtesy.
    pub(super) fn part(&mut self, code: Option<CloseCode>, cx: &mut Context<'_>) {
        self.queue(Message::Close(code.map(CloseReason::from)));
        let _ = self.poll_flush(cx);
    }

    /// Ends the writing side, which for TLS includes its own goodbye.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.io).poll_shutdown(cx).map(|_| ())
    }

    /// The codec waits for a whole frame before it looks at the length, and would buffer up to 2^63 bytes for
    /// a peer that announces them.
    fn announced_too_long(&self) -> Option<(String, CloseCode)> {
        let (is_control, length) = announced(&self.read_buf)?;
        if is_control && length > MAX_CONTROL_BYTES {
            return Some((format!("a control frame of {length} bytes"), CloseCode::Protocol));
        }
        let joined = if is_control { 0 } else { self.joining.as_ref().map_or(0, BytesMut::len) };
        let most = self.max_bytes.saturating_sub(joined) as u64;
        (length > most).then(|| (format!("a message of more than {} bytes", self.max_bytes), CloseCode::Size))
    }

    fn accept(&mut self, frame: Frame) -> Option<Incoming> {
        self.has_carried |= matches!(frame, Frame::Binary(_) | Frame::Continuation(_));
        match frame {
            Frame::Binary(bytes) => Some(Incoming::Message(bytes)),
            Frame::Text(_) | Frame::Continuation(Item::FirstText(_)) => Some(Incoming::Violation(
                "a text message where a binary one is due".into(),
                CloseCode::Unsupported,
            )),
            Frame::Continuation(Item::FirstBinary(bytes)) => {
                self.joining = Some(BytesMut::from(&bytes[..]));
                None
            }
            Frame::Continuation(Item::Continue(bytes)) => {
                self.joining.get_or_insert_default().extend_from_slice(&bytes);
                None
            }
            Frame::Continuation(Item::Last(bytes)) => {
                let mut whole = self.joining.take().unwrap_or_default();
                whole.extend_from_slice(&bytes);
                Some(Incoming::Message(whole.freeze()))
            }
            Frame::Ping(bytes) => {
                self.ping = Some(bytes);
                None
            }
            Frame::Pong(_) => None,
            Frame::Close(reason) => Some(Incoming::Close(reason)),
        }
    }

    /// Lets go of an allocation that a large message left behind. Messages share the read buffer's memory, so
    /// the rest of a large allocation would be held as long as the connection.
    fn shrink_read_buf(&mut self) {
        if self.is_read_grown && self.read_buf.len() < READ_BYTES {
            self.read_buf = BytesMut::from(&self.read_buf[..]);
            self.is_read_grown = false;
        }
    }
}

/// A buffer, or none of its memory where nothing is in it.
fn unless_empty(buffer: BytesMut) -> BytesMut {
    if buffer.is_empty() { BytesMut::new() } else { buffer }
}

/// Whether the frame that `bytes` begin with is a control frame, and how long its payload is announced.
fn announced(bytes: &[u8]) -> Option<(bool, u64)> {
    let is_control = bytes.first()? & 0b1000 != 0;
    let length = match bytes.get(1)? & 0x7f {
        126 => u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?),
        short => u64::from(short),
    };
    Some((is_control, length))
}

fn broken_frame(error: &ProtocolError) -> String {
    format!("a WebSocket frame that breaks the protocol: {error}")
}

#[cfg(test)]
mod tests;
