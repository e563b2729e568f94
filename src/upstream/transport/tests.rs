//! Buffers, pings and closes, towards a peer in memory.

use std::{cell::RefCell, rc::Rc};

use super::*;

#[test]
fn a_frame_announces_its_length_before_its_payload() {
    assert_eq!(announced(&[]), None);
    assert_eq!(announced(&[0x82]), None);
    assert_eq!(announced(&[0x82, 125]), Some((false, 125)));
    assert_eq!(announced(&[0x89, 5]), Some((true, 5)));
    assert_eq!(announced(&[0x82, 126, 1]), None);
    assert_eq!(announced(&[0x82, 126, 1, 0]), Some((false, 256)));
    assert_eq!(announced(&[0x02, 127, 0, 0, 0, 1, 0, 0, 0]), None);
    assert_eq!(announced(&[0x02, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Some((false, 1 << 32)));
}

/// A peer in memory: what it said, and how many bytes it still takes.
struct Peer {
    said: BytesMut,
    takes: usize,
    taken: Rc<RefCell<BytesMut>>,
}

impl actix_codec::AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut actix_codec::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            return Poll::Pending;
        }
        let count = self.said.len().min(buffer.remaining());
        buffer.put_slice(&self.said.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl actix_codec::AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = self.takes.min(bytes.len());
        if count == 0 {
            return Poll::Pending;
        }
        self.takes -= count;
        self.taken.borrow_mut().extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A transport whose peer says `messages` and takes `takes` bytes, and what it took.
fn towards(messages: Vec<Message>, takes: usize) -> (Transport, Rc<RefCell<BytesMut>>) {
    let mut said = BytesMut::new();
    for message in messages {
        Codec::new().encode(message, &mut said).unwrap();
    }
    let taken = Rc::new(RefCell::new(BytesMut::new()));
    let io: BoxedSocket = Box::new(Peer { said, takes, taken: Rc::clone(&taken) });
    let codec = Codec::new().client_mode().max_size(16 << 20);
    (Transport::new(Framed::new(io, codec), 16 << 20), taken)
}

fn poll<T>(mut step: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    step(&mut Context::from_waker(std::task::Waker::noop()))
}

fn message_bytes(transport: &mut Transport) -> usize {
    match poll(|cx| transport.poll_incoming(cx)) {
        Poll::Ready(Incoming::Message(bytes)) => bytes.len(),
        other @ (Poll::Ready(_) | Poll::Pending) => panic!("a message was due, not {other:?}"),
    }
}

#[test]
fn a_large_message_leaves_no_large_buffer_behind() {
    let large = Bytes::from(vec![1; 5_000_000]);
    let small = Bytes::from_static(b"small");
    let (mut transport, taken) =
        towards(vec![Message::Binary(large.clone()), Message::Binary(small.clone())], usize::MAX);
    assert_eq!(message_bytes(&mut transport), large.len());
    assert_eq!(message_bytes(&mut transport), small.len());
    assert!(poll(|cx| transport.poll_incoming(cx)).is_pending());
    assert!(transport.read_buf.capacity() <= KEEP_READ_BYTES, "{}", transport.read_buf.capacity());

    for message in [large, small] {
        transport.queue(Message::Binary(message));
        assert!(poll(|cx| transport.poll_flush(cx)).is_ready());
    }
    assert!(!has_kept(&mut transport, 10_000));
    assert_eq!(transport.written(), taken.borrow().len() as u64);
}

/// Whether the write buffer, in which nothing waits, has room for so much without an allocation.
fn has_kept(transport: &mut Transport, bytes: usize) -> bool {
    transport.write_buf.try_reclaim(bytes)
}

#[test]
fn what_was_said_again_after_a_break_leaves_no_large_buffer_behind() {
    let piece = || Message::Binary(Bytes::from(vec![1; 1300]));
    let (mut transport, _) = towards(Vec::new(), usize::MAX);
    for _ in 0..20 {
        transport.queue(piece());
    }
    assert!(poll(|cx| transport.poll_flush(cx)).is_ready());
    assert!(!has_kept(&mut transport, 10_000), "a thousand connections would keep as much");

    // Of one piece it is kept, and used again for the next.
    transport.queue(piece());
    assert!(poll(|cx| transport.poll_flush(cx)).is_ready());
    assert!(has_kept(&mut transport, 1300));
}

#[test]
fn a_silent_connection_holds_no_page_for_what_does_not_come() {
    let is_resting = |transport: &mut Transport| {
        assert!(poll(|cx| transport.poll_both(cx)).is_pending());
        transport.read_buf.capacity() <= RESTING_READ_BYTES && !has_kept(transport, 100)
    };
    let frame = || Message::Binary(Bytes::from(vec![1; 1300]));
    let (mut transport, taken) = towards(vec![frame(), frame(), frame()], usize::MAX);
    assert_eq!(
        transport.read_buf.capacity() + transport.write_buf.capacity(),
        0,
        "those of the handshake are kept"
    );
    assert_eq!(message_bytes(&mut transport), 1300);
    // Whatever was read of the next messages is still there afterwards.
    transport.rest();
    transport.rest();
    assert_eq!(message_bytes(&mut transport), 1300);
    assert_eq!(message_bytes(&mut transport), 1300);
    transport.queue(frame());
    assert!(!is_resting(&mut transport));
    assert!(transport.read_buf.try_reclaim(READ_BYTES / 2), "frames that come one by one are read in two");
    transport.rest();
    assert!(!is_resting(&mut transport), "it carried something a moment ago");
    // Nor is what waits to be written.
    transport.queue(Message::Ping(Bytes::new()));
    transport.rest();
    assert!(!is_resting(&mut transport));
    transport.rest();
    assert!(is_resting(&mut transport));
    assert_eq!(taken.borrow().len() as u64, transport.written(), "something that waited was given away");
}

#[test]
fn a_flood_of_pings_towards_a_blocked_write_is_one_pong() {
    let pings = (0..10_000_u32).map(|number| Message::Ping(number.to_be_bytes().to_vec().into())).collect();
    let (mut transport, _) = towards(pings, 0);
    transport.queue(Message::Binary(vec![0; PONG_ROOM_BYTES + 1].into()));
    let before = transport.unsent();
    assert!(poll(|cx| transport.poll_both(cx)).is_pending());
    assert_eq!(transport.unsent(), before, "pongs were queued behind what the peer does not read");
    assert_eq!(transport.ping.as_deref(), Some(&9_999_u32.to_be_bytes()[..]));
}

#[test]
fn a_close_is_read_though_nothing_can_be_written_any_more() {
    let (mut transport, _) = towards(vec![Message::Close(None)], 0);
    transport.write_error = Some("broken pipe".into());
    transport.queue(Message::Binary(Bytes::from_static(b"lost")));
    assert!(matches!(poll(|cx| transport.poll_both(cx)), Poll::Ready(Incoming::Close(None))));
    assert_eq!(transport.unsent(), 0);
}
