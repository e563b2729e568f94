//! Drop-in clients: each comes, is given a session of its own, configures it late or never, and leaves as it likes.

use std::{sync::Arc, time::Duration};

use greenroom::{
    errors::{ErrorCode, Phase},
    recovery::{
        Attendance, Departure, Generation, Moment,
        lifecycle::{Input, Starting, State},
    },
};

use crate::{
    seat::Seat,
    service,
    world::{Event, World},
};

/// How long a session waits for a client that has vanished.
pub(crate) const LINGER: Duration = Duration::from_secs(30);

/// How long a connection waits for its client's configuration.
const CONFIGURE_WITHIN: Duration = Duration::from_secs(10);

/// How long a client stays in the mean.
const STAY: Duration = Duration::from_secs(1200);

/// Between a client's leaving and the coming of the one after it.
const ABSENCE: Duration = Duration::from_secs(120);

impl World {
    /// The clients of a tenant come, one after the other in each of so many places.
    pub(crate) fn expect_drop_ins(&mut self, tenant: usize, places: usize) {
        for _ in 0..places {
            let pause = self.rng.after_mean(ABSENCE);
            self.after(pause, Event::ClientComes(tenant));
        }
    }

    pub(crate) fn client_comes(&mut self, tenant: usize) {
        if self.healed {
            return;
        }
        let id = self.tenant_id(tenant);
        let first = match self.fleet.suspension(&id) {
            None => Input::Start,
            Some(_) if self.fleet.wants_volunteer(&id, self.now) => Input::Volunteer,
            Some(_) => {
                self.tally.turned_away += 1;
                self.next_client(tenant);
                return;
            }
        };
        let seat = self.seats.len();
        let mut it = Seat::new(seat, tenant, &self.recovery, self.now);
        (it.attendance, it.is_configured) = (Attendance::Attended, false);
        self.seats.push(it);
        self.current.push(seat);
        self.tally.clients += 1;
        self.give(seat, first);
        if self.options.lively {
            let (pause, stay) = (self.rng.after_mean(STAY / 4), self.rng.after_mean(STAY));
            self.after(pause, Event::Speak(seat));
            let how = self.rng.pick(&[Departure::Closed, Departure::Vanished, Departure::Abandoned]);
            self.after(stay, Event::ClientLeaves(seat, how));
        }
    }

    pub(crate) fn next_client(&mut self, tenant: usize) {
        let pause = self.rng.after_mean(ABSENCE);
        self.after(pause, Event::ClientComes(tenant));
    }

    pub(crate) fn client_leaves(&mut self, seat: usize, how: Departure) {
        if self.seats[seat].attendance != Attendance::Attended {
            return;
        }
        let now = self.now;
        let it = &mut self.seats[seat];
        it.attendance.leave(how, it.has_stood, LINGER, now);
        self.deserted(seat);
        if self.rng.chance(0.5) {
            let span = self.rng.between(0, 40_000);
            self.after(span, Event::ClientReturns(seat));
        }
    }

    pub(crate) fn client_returns(&mut self, seat: usize) {
        let it = &mut self.seats[seat];
        let rests = matches!(it.machine.state(), State::Parked(_) | State::Failed | State::Stopped { .. });
        if rests || it.attendance == Attendance::Attended {
            return;
        }
        it.attendance.join();
        self.tally.returned += 1;
        let stay = self.rng.after_mean(STAY);
        self.after(stay, Event::ClientLeaves(seat, Departure::Closed));
    }

    /// A client is told that its session does not go on.
    pub(crate) fn dismiss(&mut self, seat: usize) {
        let rests = matches!(
            self.seats[seat].machine.state(),
            State::Parked(_) | State::Failed | State::Stopped { .. }
        );
        if rests && self.seats[seat].attendance == Attendance::Attended {
            let now = self.now;
            self.seats[seat].attendance.dismiss(LINGER, now);
            self.deserted(seat);
        }
    }

    fn deserted(&mut self, seat: usize) {
        if let Some(at) = self.seats[seat].attendance.next_timeout() {
            self.after(at.since(self.now), Event::Deserted(seat));
        }
    }

    pub(crate) fn end_deserted(&mut self, seat: usize) {
        let is_stopped = matches!(self.seats[seat].machine.state(), State::Stopped { .. });
        if self.seats[seat].attendance.is_over(self.now) && !is_stopped {
            self.current.retain(|other| *other != seat);
            self.give(seat, Input::Delete);
            self.next_client(self.seats[seat].tenant);
        }
    }

    /// Whether the session would hear this: nobody revives one whose client is gone.
    pub(crate) fn hears(&self, seat: usize, input: &Input) -> bool {
        let revives =
            matches!(input, Input::Probe | Input::Release | Input::Unpark | Input::Restart | Input::Respec);
        !revives || self.seats[seat].attendance.may_revive()
    }

    /// The service has upgraded, and waits for the client.
    pub(crate) fn upgraded(&mut self, seat: usize, generation: Generation) {
        self.tally.dawdled += 1;
        let dawdles = if self.dawdle || (self.mischief && self.rng.chance(0.05)) {
            CONFIGURE_WITHIN
        } else {
            self.rng.between(1, 100)
        };
        self.after(dawdles, Event::Configures(seat, generation, dawdles));
        self.give(seat, Input::Upgraded(generation));
    }

    pub(crate) fn configures(&mut self, seat: usize, generation: Generation, after: Duration) {
        if *self.seats[seat].machine.state() != State::Starting(Starting::Upgraded(generation)) {
            return;
        }
        if after >= CONFIGURE_WITHIN {
            self.drop_link(seat, false);
            let error =
                service::error(ErrorCode::InvalidRequest, Phase::WebsocketHandshake, "no configuration");
            self.give(seat, Input::Broke { generation, error: Arc::new(error) });
            return;
        }
        self.seats[seat].is_configured = true;
        let latency = self.service.latency(&mut self.rng);
        self.after(latency, Event::AttemptEnds(seat, generation));
    }

    /// What holds for every session of a client.
    pub(crate) fn check_attendance(&self, seat: usize) {
        let it = &self.seats[seat];
        let rests = matches!(it.machine.state(), State::Parked(_) | State::Failed | State::Stopped { .. });
        if it.attendance == Attendance::Attended && rests {
            self.breach_at(seat, "its client was not told that it does not go on");
        }
        let overdue = |until: Moment| self.now > until;
        let is_stopped = matches!(it.machine.state(), State::Stopped { .. });
        if it.attendance.next_timeout().is_some_and(overdue) && !is_stopped {
            self.breach_at(seat, "its client is gone, and it goes on");
        }
    }
}
