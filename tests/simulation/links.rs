//! Connections to the service: what becomes of attempts, and how what stood ends.

use std::sync::Arc;

use greenroom::{
    errors::{ErrorCode, Phase},
    recovery::{Generation, lifecycle::Input},
};

use crate::{
    seat::Link,
    service::{self, Fault},
    world::{Event, World},
};

/// Keep-alives of the service notice a half-open connection after this long, in ms.
const GHOST_MS: (u64, u64) = (15_000, 80_000);

impl World {
    pub(crate) fn connect(&mut self, seat: usize, generation: Generation) {
        if self.seats[seat].link.is_some() {
            self.breach_at(seat, &format!("a second connection: {generation:?}"));
        }
        self.seats[seat].link =
            Some(Link { generation, established: false, closing: None, heard_at: self.now });
        self.seats[seat].attempts += 1;
        self.tally.attempts += 1;
        if let Err(what) = self.watch.attempt(self.now) {
            self.breach(&what);
        }
        let latency = self.service.latency(&mut self.rng);
        self.after(latency, Event::AttemptEnds(seat, generation));
    }

    pub(crate) fn close(&mut self, seat: usize, generation: Generation) {
        let now = self.now;
        match &mut self.seats[seat].link {
            Some(link) if link.generation == generation && link.closing.is_none() => {
                link.closing = Some(now);
            }
            Some(_) | None => self.breach_at(seat, &format!("closes what it does not have: {generation:?}")),
        }
        let span = self.rng.between(0, 1000);
        self.after(span, Event::Gone(seat, generation));
    }

    pub(crate) fn attempt_ends(&mut self, seat: usize, generation: Generation) {
        let Some(link) = self.seats[seat].link.filter(|link| link.generation == generation) else { return };
        let tenant = self.seats[seat].tenant;
        let answer = self.service.answer(tenant, self.seats[seat].misconfigured, &mut self.rng);
        match answer {
            Err(error) => {
                self.drop_link(seat, false);
                self.give(seat, Input::Broke { generation, error });
            }
            Ok(()) if !self.seats[seat].is_configured => self.upgraded(seat, generation),
            Ok(()) => {
                self.seats[seat].has_stood = true;
                self.service.accounts[tenant].counted += 1;
                let mut link = link;
                link.established = true;
                link.heard_at = self.now;
                self.seats[seat].link = Some(link);
                self.plan_its_end(seat, generation);
                let connection_id = format!("conn-{seat}-{}", generation.0);
                self.give(seat, Input::Connected { generation, connection_id, capabilities: vec![] });
            }
        }
    }

    /// Takes the link away; with `ghost` the service has not noticed.
    pub(crate) fn drop_link(&mut self, seat: usize, ghost: bool) {
        let Some(link) = self.seats[seat].link.take() else { return };
        if self.mischief && self.rng.chance(0.03) {
            self.send_late(seat, link.generation);
        }
        if !link.established {
            return;
        }
        let tenant = self.seats[seat].tenant;
        if ghost {
            let span = self.rng.between(GHOST_MS.0, GHOST_MS.1);
            self.after(span, Event::GhostGone(tenant));
        } else {
            self.service.accounts[tenant].counted -= 1;
        }
    }

    /// Something comes from a connection after its end.
    fn send_late(&mut self, seat: usize, generation: Generation) {
        let input = match self.rng.below(4) {
            0 => Input::Closed(generation),
            1 => Input::Granted(generation),
            2 => Input::Connected { generation, connection_id: "late".into(), capabilities: vec![] },
            _ => {
                let error = service::error(ErrorCode::AvatarNotFound, Phase::WebsocketRuntime, "late");
                Input::Broke { generation, error: Arc::new(error) }
            }
        };
        let span = self.rng.between(1, 5000);
        self.after(span, Event::ToSession(seat, input));
    }

    pub(crate) fn link_breaks(&mut self, seat: usize, generation: Generation, fault: Fault) {
        if !self.seats[seat].link.is_some_and(|link| link.generation == generation && link.established) {
            return;
        }
        let (code, close_code, ghost) = match fault {
            Fault::Told(code, close_code) => (code, close_code, false),
            Fault::HalfOpen => (ErrorCode::ConnectionClosed, Some(1006), self.rng.chance(0.5)),
            Fault::Crash => (ErrorCode::Unknown, None, true),
        };
        let mut error = service::error(code, Phase::WebsocketRuntime, "the connection ends");
        error.close_code = close_code;
        let error = Arc::new(error);
        self.drop_link(seat, ghost);
        self.tally.breaks += 1;
        match fault {
            Fault::Crash => self.give(seat, Input::Crashed(error)),
            Fault::Told(..) | Fault::HalfOpen => self.give(seat, Input::Broke { generation, error }),
        }
    }

    pub(crate) fn link_gone(&mut self, seat: usize, generation: Generation) {
        if self.seats[seat].link.is_none_or(|link| link.generation != generation) {
            return;
        }
        // One close in ten is never acknowledged.
        let broke = self.mischief && self.rng.chance(0.1);
        self.drop_link(seat, broke);
        if broke {
            let mut error =
                service::error(ErrorCode::ConnectionClosed, Phase::WebsocketRuntime, "no acknowledgement");
            error.close_code = Some(1006);
            self.give(seat, Input::Broke { generation, error: Arc::new(error) });
        } else {
            self.give(seat, Input::Closed(generation));
        }
    }
}
