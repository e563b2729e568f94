//! Server-sent events: reading them, and going on after a broken connection where the last one ended.
//!
//! The format is the WHATWG HTML standard's, section 9.2.6.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{
    client::{Client, Query},
    failure::Failure,
};

/// A stream says something every 15 s, if only a comment; after three times that long it is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// The first wait before a new connection; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// The longest wait before a new connection.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// The longest line: an event is a few KiB, and its bound protects memory.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its kind; `message` where the stream named none.
    pub(super) kind: String,
    /// What it says.
    pub(super) data: String,
}

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    kind: String,
    data: Option<String>,
    after_cr: bool,
    /// The id of the event that is being read: it counts once the event is whole.
    id: Option<String>,
    last_id: Option<String>,
}

/// A line without an end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Parser {
    /// The id of the latest event that was whole.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// Forgets what was begun: a new connection starts with a new line.
    fn reconnect(&mut self) {
        *self = Self { last_id: self.last_id.take(), ..Self::default() };
    }

    /// Takes a piece and gives the events that it completes.
    ///
    /// # Errors
    ///
    /// A line is longer than any of Greenroom's.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in piece {
            // CR, LF and CRLF each end a line once.
            let is_second_half = std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n';
            match byte {
                b'\n' if is_second_half => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.take_line(&String::from_utf8_lossy(&line)));
                }
                _ => self.line.push(byte),
            }
            let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
            if held > MAX_LINE_BYTES {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    fn take_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            if let Some(id) = self.id.take() {
                self.last_id = Some(id);
            }
            let kind = std::mem::take(&mut self.kind);
            let data = self.data.take()?;
            return Some(Event { kind: if kind.is_empty() { "message".to_owned() } else { kind }, data });
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.kind),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment has an empty name; fields that are not known are passed over, as the standard asks.
            _ => {}
        }
        None
    }
}

/// What following a stream tells.
#[derive(Debug)]
pub(super) enum Told {
    /// An event of Greenroom's: its kind and what it says.
    Event(String, Value),
    /// The connection broke, and is tried again.
    Broken { why: String, again_in: Duration },
    /// It is there again.
    Back,
}

/// Follows the events of `query` from behind `last_id` (from now where there is none), over broken connections,
/// until `tell` fails.
///
/// # Errors
///
/// The first connection failed; Greenroom refused; `tell`'s own.
pub(super) async fn follow(
    client: &Client,
    query: &Query,
    last_id: Option<String>,
    mut tell: impl FnMut(Told) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut parser = Parser { last_id, ..Parser::default() };
    let mut wait = WAIT_FIRST;
    let mut was_open = false;
    loop {
        let why = match client.events(query, parser.last_id()).await {
            Ok(mut stream) => {
                if std::mem::replace(&mut was_open, true) {
                    tell(Told::Back)?;
                }
                parser.reconnect();
                loop {
                    let piece = match timeout(SILENCE_MAX, stream.next()).await {
                        Ok(Some(Ok(piece))) => piece,
                        Ok(Some(Err(error))) => break error.to_string(),
                        Ok(None) => break "Greenroom ended the stream".to_owned(),
                        Err(_) => break format!("nothing was heard for {} s", SILENCE_MAX.as_secs()),
                    };
                    wait = WAIT_FIRST;
                    let Ok(events) = parser.push(&piece) else { break "an event without an end".to_owned() };
                    for event in events {
                        let data = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
                        tell(Told::Event(event.kind, data))?;
                    }
                }
            }
            // Somebody who has just typed the command wants to know that it cannot work.
            Err(failure) if was_open && failure.is_passing() => failure.to_string(),
            Err(failure) => return Err(failure),
        };
        tell(Told::Broken { why, again_in: wait })?;
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.to_owned(), data: data.to_owned() }
    }

    const STREAM: &str = ": hello\n\nevent: state\nid: 7\ndata: {\"a\":1}\n\nid: 8\ndata:one\ndata: two\n\n\
                          event: gap\r\ndata: x\r\n\r\nevent: lost\n\ndata\n\nid: 9\ndata: unfinished";

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let expected = [
            event("state", "{\"a\":1}"),
            event("message", "one\ntwo"),
            event("gap", "x"),
            event("message", ""),
        ];
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let pieces = STREAM.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| parser.push(piece).unwrap()).collect();
            assert_eq!(events, expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_was_begun_on_a_broken_connection_is_forgotten_and_the_id_is_not() {
        let mut parser = Parser::default();
        parser.push(b"id: 7\ndata: whole\n\nevent: state\nid: 8\ndata: ha").unwrap();
        parser.reconnect();
        assert_eq!(parser.last_id(), Some("7"));
        assert_eq!(parser.push(b"data: next\n\n").unwrap(), [event("message", "next")]);
    }

    #[test]
    fn a_line_without_an_end_is_not_kept() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; MAX_LINE_BYTES + 1]), Err(TooLong));
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "y".repeat(1000));
        assert!((0..1100).any(|_| parser.push(line.as_bytes()).is_err()));
    }
}
