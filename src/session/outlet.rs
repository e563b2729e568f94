//! The way out of a session: from its ledger to the socket of the connection that stands.
//!
//! Whoever has put audio into the ledger sends it on the spot, as far as the socket takes it: to wake the connection for
//! it would be one more turn of the thread for every piece. What the socket does not take at once, and whatever goes wrong, is
//! left to the connection.

use std::{cell::RefCell, future::poll_fn};

use super::{SessionContext, state::Session};
use crate::{
    recovery::{Generation, Policy},
    telemetry::Direction,
    upstream::{SendRefused, Socket, SocketEvent},
};

/// The socket of a connection, which owns this: when the connection's future ends, so does the socket.
pub(super) struct Outlet {
    generation: Generation,
    socket: RefCell<Socket>,
    /// Why the socket refused a message, until the connection hears of it.
    refused: RefCell<Option<SendRefused>>,
}

impl Outlet {
    pub(super) const fn new(generation: Generation, socket: Socket) -> Self {
        Self { generation, socket: RefCell::new(socket), refused: RefCell::new(None) }
    }

    /// What happens next on the socket, as [`Socket::next`] tells it.
    pub(super) async fn next(&self, policy: &Policy) -> SocketEvent {
        // Borrowed for each poll, and not while it waits.
        poll_fn(|cx| self.socket.borrow_mut().poll_next(policy, cx)).await
    }

    /// Hands what waits to the socket, as far as that has room; it goes out as [`Outlet::next`] is polled.
    ///
    /// # Errors
    ///
    /// The socket refused a message, now or earlier, which is lost with the connection.
    pub(super) fn pump(&self, session: &mut Session, context: &SessionContext) -> Result<(), SendRefused> {
        if let Some(refused) = self.refused.take() {
            return Err(refused);
        }
        if self.fill(session, context)? {
            // What waited makes room for others.
            context.outbox.settle(&mut session.ledger);
        }
        Ok(())
    }

    /// Sends what waits, as far as the system takes it at once; gives whether nothing is left for the connection to do.
    pub(super) fn push(&self, session: &mut Session, context: &SessionContext) -> bool {
        match self.fill(session, context) {
            Ok(_) => self.socket.borrow_mut().write_now(),
            Err(refused) => {
                self.refused.replace(Some(refused));
                false
            }
        }
    }

    fn fill(&self, session: &mut Session, context: &SessionContext) -> Result<bool, SendRefused> {
        let mut socket = self.socket.borrow_mut();
        let mut has_sent = false;
        while socket.has_room() {
            let Some(message) = session.next_message(self.generation) else { break };
            let bytes = message.len();
            socket.send(message)?;
            context.metrics.traffic(Direction::Up).message(bytes);
            has_sent = true;
        }
        Ok(has_sent)
    }

    /// The socket, to be closed.
    pub(super) fn into_socket(self) -> Socket {
        self.socket.into_inner()
    }
}
