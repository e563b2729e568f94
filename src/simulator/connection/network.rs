//! A bad network under a connection: reading that stands still, writing that trickles.

use std::time::{Duration, Instant};

use bytes::Buf as _;
use futures_util::FutureExt as _;
use tokio::io::Interest;

use super::{Connection, Flow};

/// How many portions a second's bytes are cut into: smooth, and not a wake-up a byte.
const PORTIONS_PER_SECOND: u32 = 20;

/// How often a connection that does not read looks whether its client has left: one that has counts no more, though
/// nobody hears it say so.
pub(super) const HANG_UP_CHECK: Duration = Duration::from_millis(20);

/// A connection that writes only so fast.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulator) struct Trickle {
    bytes_per_s: u32,
    next_at: Instant,
}

impl Trickle {
    pub(in crate::simulator) fn new(bytes_per_s: u32) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), next_at: Instant::now() }
    }

    /// The bytes of the next portion, and how long they take.
    pub(in crate::simulator) fn portion(self) -> (usize, Duration) {
        let bytes = (self.bytes_per_s / PORTIONS_PER_SECOND).max(1);
        let time = Duration::from_secs_f64(f64::from(bytes) / f64::from(self.bytes_per_s));
        (usize::try_from(bytes).unwrap_or(usize::MAX), time)
    }
}

impl Connection {
    /// Whether nothing is read for now.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether the client has left while nothing is read.
    pub(super) fn has_left_unheard(&self) -> bool {
        let ready = || self.reader.get_ref().ready(Interest::READABLE).now_or_never();
        self.is_deaf() && ready().is_some_and(|ready| ready.map_or(true, |ready| ready.is_read_closed()))
    }

    /// When the network has something to do.
    pub(super) fn network_due(&self) -> Option<Instant> {
        let check = Instant::now() + HANG_UP_CHECK;
        let deaf = self.deaf_until.filter(|_| self.is_deaf()).map(|until| until.min(check));
        let trickle = self.trickle.filter(|_| !self.out.is_empty()).map(|trickle| trickle.next_at);
        [deaf, trickle].into_iter().flatten().min()
    }

    /// Writes the portion that is due.
    pub(super) fn trickle_out(&mut self) -> Flow {
        let now = Instant::now();
        let Some(trickle) = &mut self.trickle else { return Flow::Continue(()) };
        if self.out.is_empty() || now < trickle.next_at {
            return Flow::Continue(());
        }
        let (bytes, time) = trickle.portion();
        trickle.next_at = now + time;
        let bytes = bytes.min(self.out.len());
        match self.writer.try_write(&self.out[..bytes]) {
            Ok(written) => {
                self.out.advance(written);
                self.stalled_since = (!self.out.is_empty()).then(Instant::now);
                Flow::Continue(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Flow::Continue(()),
            Err(_) => self.left(),
        }
    }
}
