//! HTTP requests whose bodies are spoken in real time.
//!
//! Written by hand on a socket: awc as a client holds the chunks of a streamed body back until 8 KiB are together,
//! which would be 250 ms of speech and be measured as Greenroom's.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    time::{Duration, Instant as StdInstant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::schedule;
use crate::simulator::monotonic_now;

/// As much as the frames of a request need, and far more.
const MAX_ANSWER: usize = 16 << 20;
/// The server ends a connection that was idle for 5 s; one is taken again only well before.
const IDLE: Duration = Duration::from_secs(2);

/// Connections to one address that are kept for the next request.
pub(super) struct Uploads {
    address: SocketAddr,
    host: String,
    key: &'static str,
    idle: RefCell<Vec<(TcpStream, StdInstant)>>,
}

/// An answer, with the time of its head on the machine's monotonic clock.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    pub(super) here: Duration,
}

impl Uploads {
    /// To the server at `url`, such as `http://127.0.0.1:8080`.
    pub(super) fn new(url: &str, key: &'static str) -> io::Result<Self> {
        let host = url.trim_start_matches("http://").to_owned();
        let address = host.parse().map_err(io::Error::other)?;
        Ok(Self { address, host, key, idle: RefCell::default() })
    }

    async fn connection(&self) -> io::Result<TcpStream> {
        loop {
            let kept = self.idle.borrow_mut().pop();
            match kept {
                Some((stream, since)) if since.elapsed() < IDLE => return Ok(stream),
                Some(_) => {}
                None => {
                    let stream = TcpStream::connect(self.address).await?;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
            }
        }
    }

    /// Posts a request's chunks, the first at `begin`, each at its time, and reads the answer.
    pub(super) async fn speak(
        &self,
        path: &str,
        accept: &str,
        begin: Instant,
        chunk: &Bytes,
    ) -> io::Result<Answer> {
        let mut stream = self.connection().await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\
             Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.host, self.key
        );
        let mut piece = BytesMut::from(head.as_bytes());
        for number in 0..schedule::CHUNKS {
            sleep_until(begin + schedule::CHUNK * number).await;
            piece.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            piece.extend_from_slice(chunk);
            piece.extend_from_slice(if number + 1 == schedule::CHUNKS { b"\r\n0\r\n\r\n" } else { b"\r\n" });
            stream.write_all(&piece).await?;
            piece.clear();
        }
        let answer = timeout(schedule::ANSWER_PATIENCE, read(&mut stream)).await??;
        self.idle.borrow_mut().push((stream, StdInstant::now()));
        Ok(answer)
    }
}

/// Reads one answer that tells its length.
async fn read(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = BytesMut::with_capacity(4096);
    let ended = || io::Error::other("the connection ended within an answer");
    let head_end = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ended());
        }
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let here = monotonic_now();
    let head = bytes.split_to(head_end);
    let (status, length) = parse(&String::from_utf8_lossy(&head))
        .filter(|(_, length)| *length <= MAX_ANSWER)
        .ok_or_else(|| io::Error::other("an answer has no usable head"))?;
    bytes.reserve(length.saturating_sub(bytes.len()));
    while bytes.len() < length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ended());
        }
    }
    Ok(Answer { status, body: bytes.split_to(length).freeze(), here })
}

/// The status and the length of the body.
fn parse(head: &str) -> Option<(u16, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })?;
    Some((status, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_its_status_and_length() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\ndate: x\r\nContent-Length: 12\r\n\r\n"), Some((200, 12)));
        assert_eq!(parse("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), None);
        assert_eq!(parse("nonsense"), None);
    }
}
