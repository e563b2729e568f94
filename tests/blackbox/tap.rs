//! A listener on the way to the service that keeps what clients say.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What came over each connection, from its client, in the order of connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Passes every connection on, and listens in.
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    heard: Heard,
}

impl Tap {
    /// A tap before `service`. Its threads end with their connections, the listener with the test.
    pub(crate) fn before(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Heard::default();
        let keep = Arc::clone(&heard);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(service)) = (client, TcpStream::connect(service)) else { return };
                pass_on(client, service, &keep);
            }
        });
        Self { address, heard }
    }

    /// The code of the Close that ended each connection that was upgraded; `None` where there was none.
    pub(crate) fn closes(&self) -> Vec<Option<u16>> {
        self.heard.lock().unwrap().iter().map(|bytes| last_close(bytes)).collect()
    }
}

fn pass_on(client: TcpStream, service: TcpStream, heard: &Heard) {
    let position = {
        let mut heard = heard.lock().unwrap();
        heard.push(Vec::new());
        heard.len() - 1
    };
    let (from, to) = (service.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || copy(from, to, |_| ()));
    let heard = Arc::clone(heard);
    thread::spawn(move || copy(client, service, |bytes| heard.lock().unwrap()[position].extend(bytes)));
}

fn copy(mut from: TcpStream, mut to: TcpStream, keep: impl Fn(&[u8])) {
    let mut piece = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        keep(&piece[..count]);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    // Already gone where the other direction ended first.
    let _ = to.shutdown(Shutdown::Write);
}

/// The code of the last frame, if that is a Close. Frames of clients are masked (RFC 6455, 5.3).
fn last_close(bytes: &[u8]) -> Option<u16> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut rest = &bytes[head + 4..];
    let mut close = None;
    while rest.len() >= 2 {
        let (extended, length) = match rest[1] & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?))),
            127 => (8, usize::try_from(u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?)).ok()?),
            short => (0, usize::from(short)),
        };
        let mask = rest.get(2 + extended..6 + extended)?;
        let payload = rest.get(6 + extended..6 + extended + length)?;
        close = (rest[0] & 0x0f == 8 && length >= 2)
            .then(|| u16::from_be_bytes([payload[0] ^ mask[0], payload[1] ^ mask[1]]));
        rest = &rest[6 + extended + length..];
    }
    close
}
