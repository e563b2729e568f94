//! A drop-in client's bytes under the fuzzer, from its frames to what follows from them.

use actix_http::ws::{self, Codec, Item};
use bytes::BytesMut;
use tokio_util::codec::Decoder as _;

use super::{
    protocol::{Frame, Protocol, Step},
    scanner::Scanner,
};

/// Small, so that the fuzzer reaches it.
const MAX_MESSAGE: usize = 4096;

/// The first byte says how the stream of frames behind it is cut.
pub(crate) fn ingress_messages(bytes: &[u8]) {
    let [cut, stream @ ..] = bytes else { return };
    let mut pieces = Scanner::new(MAX_MESSAGE);
    let by_pieces = stream.chunks(usize::from(*cut) + 1).try_for_each(|piece| pieces.scan(piece));
    assert_eq!(Scanner::new(MAX_MESSAGE).scan(stream), by_pieces, "the cut decides what is too long");

    let mut codec = Codec::new().max_size(MAX_MESSAGE);
    let mut buffer = BytesMut::from(stream);
    let mut protocol = Protocol::new(MAX_MESSAGE);
    let (mut is_over, mut is_configured) = (false, false);
    while let Ok(Some(frame)) = codec.decode(&mut buffer) {
        let frame = match frame {
            ws::Frame::Text(_) | ws::Frame::Continuation(Item::FirstText(_)) => Frame::Text,
            ws::Frame::Binary(bytes) => Frame::Binary(bytes),
            ws::Frame::Continuation(Item::FirstBinary(bytes)) => Frame::First(bytes),
            ws::Frame::Continuation(Item::Continue(bytes)) => Frame::Continue(bytes),
            ws::Frame::Continuation(Item::Last(bytes)) => Frame::Last(bytes),
            ws::Frame::Ping(_) | ws::Frame::Pong(_) => continue,
            ws::Frame::Close(_) => break,
        };
        let step = protocol.receive(frame);
        if is_over {
            assert_eq!(step, Step::Ignore, "something counts that a refused client says");
        }
        match step {
            Step::Ignore => {}
            Step::Configure(message) => {
                assert!(!is_configured, "a session is configured once");
                assert!(message.len() <= MAX_MESSAGE);
                is_configured = true;
            }
            Step::Audio { req_id, audio, .. } => {
                assert!(is_configured && !req_id.is_empty() && audio.len() <= MAX_MESSAGE);
            }
            Step::Control { req_id, .. } => assert!(is_configured && !req_id.is_empty()),
            Step::Refuse(_) => is_over = true,
        }
    }
}
