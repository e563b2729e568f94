//! The shell around the machines, as small as it can be: mailboxes, a socket, an operator.

use std::{collections::VecDeque, sync::Arc};

use greenroom::{
    errors::SessionError,
    recovery::{
        AttemptOutcome, Fleet, FleetConfig, FleetEffect, FleetInput, Generation, Lifecycle, Moment,
        ParkCause, RecoveryConfig, SessionId, TenantId,
        lifecycle::{Effect, Hold, Input, Pass, State},
    },
};

/// How many of each disturbance a walk may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) breaks: u8,
    pub(crate) commands: u8,
    pub(crate) crashes: u8,
    pub(crate) waits: u8,
}

/// A session's socket, as the service has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) generation: Generation,
    pub(crate) standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Opening,
    /// The service has upgraded, and the session's client has not configured it yet.
    Upgraded,
    Open,
    Closing,
}

/// What a session tells the fleet.
#[derive(Clone, Debug)]
pub(crate) enum News {
    Ask(Generation, Pass),
    Withdraw,
    Upgraded,
    Settled(Option<Arc<SessionError>>),
    Parked(Hold),
    Unparked,
    SlotFreed,
    Gone,
}

/// What a socket tells its session.
#[derive(Clone, Debug)]
pub(crate) enum LinkNews {
    Upgraded(Generation),
    Connected(Generation),
    Gone(Generation, Option<Arc<SessionError>>),
}

/// What can happen next.
#[derive(Clone, Debug)]
pub(crate) enum Move {
    FleetHears(usize),
    SessionHears(usize),
    SocketIsHeard(usize),
    Upgrade(usize),
    Confirm(usize),
    Break(usize, Arc<SessionError>),
    Close(usize),
    Command(usize, Input),
    Audio(usize),
    Crash(usize, Arc<SessionError>),
    Wait,
}

#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) machine: Lifecycle,
    pub(crate) socket: Option<Socket>,
    pub(crate) to_fleet: VecDeque<News>,
    pub(crate) from_fleet: VecDeque<Input>,
    pub(crate) from_socket: VecDeque<LinkNews>,
    /// The manager's note of the latest ask, by which it names the generation of a grant.
    asked: Option<Generation>,
    pub(crate) is_gone: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) seats: Vec<Seat>,
    pub(crate) fleet: Fleet,
    pub(crate) now: Moment,
    pub(crate) left: Budget,
    /// What the product did that it must not do, found while it did it.
    pub(crate) breach: Option<String>,
}

fn session(index: usize) -> SessionId {
    SessionId::from(format!("ses_{index}"))
}

fn index(session: &SessionId) -> usize {
    session.as_str()[4..].parse().unwrap()
}

fn tenant() -> TenantId {
    TenantId::from("acme".to_owned())
}

impl World {
    pub(crate) fn new(sessions: usize, fleet: FleetConfig, left: Budget) -> Self {
        let config = Arc::new(RecoveryConfig::default());
        let mut world =
            Self { seats: Vec::new(), fleet: Fleet::new(fleet), now: Moment::ZERO, left, breach: None };
        for index in 0..sessions {
            world.seats.push(Seat {
                machine: Lifecycle::new(Arc::clone(&config)),
                socket: None,
                to_fleet: VecDeque::new(),
                from_fleet: VecDeque::new(),
                from_socket: VecDeque::new(),
                asked: None,
                is_gone: false,
            });
            world.give(index, Input::Start);
        }
        world
    }

    /// Everything that can happen next.
    pub(crate) fn moves(&self, errors: &[Arc<SessionError>]) -> Vec<Move> {
        let mut moves = Vec::new();
        for (i, seat) in self.seats.iter().enumerate() {
            if !seat.to_fleet.is_empty() {
                moves.push(Move::FleetHears(i));
            }
            if seat.is_gone {
                continue;
            }
            if !seat.from_fleet.is_empty() {
                moves.push(Move::SessionHears(i));
            }
            if !seat.from_socket.is_empty() {
                moves.push(Move::SocketIsHeard(i));
            }
            self.socket_moves(i, seat, errors, &mut moves);
            if self.left.commands > 0 {
                let commands = [Input::Restart, Input::Park, Input::Unpark, Input::Respec, Input::Delete];
                moves.extend(commands.into_iter().map(|command| Move::Command(i, command)));
            }
            if *seat.machine.state() == State::Dormant {
                moves.push(Move::Audio(i));
            }
            if self.left.crashes > 0 {
                moves.push(Move::Crash(i, Arc::clone(&errors[errors.len() - 1])));
            }
        }
        if self.left.waits > 0 && self.next_timeout().is_some() {
            moves.push(Move::Wait);
        }
        moves
    }

    fn socket_moves(&self, i: usize, seat: &Seat, errors: &[Arc<SessionError>], moves: &mut Vec<Move>) {
        let Some(socket) = seat.socket else { return };
        match socket.standing {
            // One session is enough to show it, and two square the number of worlds.
            Standing::Opening if self.seats.len() == 1 => moves.extend([Move::Upgrade(i), Move::Confirm(i)]),
            Standing::Opening => moves.push(Move::Confirm(i)),
            Standing::Upgraded => moves.push(Move::Confirm(i)),
            Standing::Open => {}
            Standing::Closing => moves.push(Move::Close(i)),
        }
        if self.left.breaks > 0 {
            moves.extend(errors.iter().map(|error| Move::Break(i, Arc::clone(error))));
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Moment> {
        let sessions = self.seats.iter().filter(|seat| !seat.is_gone);
        sessions.filter_map(|seat| seat.machine.next_timeout()).chain(self.fleet.next_timeout()).min()
    }

    pub(crate) fn make(&mut self, step: &Move) {
        match step {
            Move::FleetHears(i) => self.fleet_hears(*i),
            Move::SessionHears(i) => {
                let input = self.seats[*i].from_fleet.pop_front().unwrap();
                self.give(*i, input);
            }
            Move::SocketIsHeard(i) => {
                let input = match self.seats[*i].from_socket.pop_front().unwrap() {
                    LinkNews::Upgraded(generation) => Input::Upgraded(generation),
                    LinkNews::Connected(generation) => Input::Connected {
                        generation,
                        connection_id: "conn".to_owned(),
                        capabilities: Vec::new(),
                    },
                    LinkNews::Gone(generation, Some(error)) => Input::Broke { generation, error },
                    LinkNews::Gone(generation, None) => Input::Closed(generation),
                };
                self.give(*i, input);
            }
            Move::Upgrade(i) => {
                let seat = &mut self.seats[*i];
                let socket = seat.socket.as_mut().unwrap();
                socket.standing = Standing::Upgraded;
                seat.from_socket.push_back(LinkNews::Upgraded(socket.generation));
            }
            Move::Confirm(i) => {
                let seat = &mut self.seats[*i];
                let socket = seat.socket.as_mut().unwrap();
                socket.standing = Standing::Open;
                seat.from_socket.push_back(LinkNews::Connected(socket.generation));
            }
            Move::Break(i, error) => {
                self.left.breaks -= 1;
                self.end_socket(*i, Some(Arc::clone(error)));
            }
            Move::Close(i) => self.end_socket(*i, None),
            Move::Command(i, command) => {
                self.left.commands -= 1;
                if matches!(command, Input::Unpark) {
                    self.run_fleet(FleetInput::Unsuspend { tenant: tenant() });
                }
                self.give(*i, command.clone());
            }
            Move::Audio(i) => self.give(*i, Input::Audio),
            Move::Crash(i, error) => self.crash(*i, error),
            Move::Wait => self.wait(),
        }
    }

    fn end_socket(&mut self, i: usize, error: Option<Arc<SessionError>>) {
        let seat = &mut self.seats[i];
        let socket = seat.socket.take().unwrap();
        seat.from_socket.push_back(LinkNews::Gone(socket.generation, error));
    }

    /// The actor's mailbox dies with it, and its connection is ended before the next actor begins.
    fn crash(&mut self, i: usize, error: &Arc<SessionError>) {
        self.left.crashes -= 1;
        let seat = &mut self.seats[i];
        seat.socket = None;
        seat.from_fleet.clear();
        seat.from_socket.clear();
        self.give(i, Input::Crashed(Arc::clone(error)));
    }

    fn wait(&mut self) {
        self.left.waits -= 1;
        let Some(due) = self.next_timeout() else { return };
        self.now = self.now.max(due);
        self.run_fleet(FleetInput::Tick);
        for i in 0..self.seats.len() {
            if !self.seats[i].is_gone && self.seats[i].machine.next_timeout().is_some_and(|at| at <= self.now)
            {
                self.give(i, Input::Tick);
            }
        }
    }

    fn give(&mut self, i: usize, input: Input) {
        let was_stopped = matches!(self.seats[i].machine.state(), State::Stopped { .. });
        self.seats[i].machine.handle(input, self.now, 0.5);
        while let Some(effect) = self.seats[i].machine.next_effect() {
            self.carry_out(i, effect);
        }
        let seat = &mut self.seats[i];
        let is_stopped = matches!(seat.machine.state(), State::Stopped { .. });
        if was_stopped && !is_stopped {
            self.breach = Some("a stopped session has started again".to_owned());
        }
        let has_link = seat.socket.is_some() || !seat.from_socket.is_empty();
        if is_stopped && !has_link && !seat.is_gone {
            seat.is_gone = true;
            seat.to_fleet.push_back(News::Gone);
        }
    }

    fn carry_out(&mut self, i: usize, effect: Effect) {
        let seat = &mut self.seats[i];
        match effect {
            Effect::Ask { generation, pass } => seat.to_fleet.push_back(News::Ask(generation, pass)),
            Effect::Upgraded => seat.to_fleet.push_back(News::Upgraded),
            Effect::Withdraw => seat.to_fleet.push_back(News::Withdraw),
            Effect::Settled(error) => seat.to_fleet.push_back(News::Settled(error)),
            Effect::Connect(generation) => self.connect(i, generation),
            Effect::Close(generation) => {
                if let Some(socket) = &mut seat.socket
                    && socket.generation == generation
                {
                    socket.standing = Standing::Closing;
                }
            }
            Effect::Parked(hold) => seat.to_fleet.push_back(News::Parked(hold)),
            Effect::Unparked => seat.to_fleet.push_back(News::Unparked),
            Effect::SlotFreed => seat.to_fleet.push_back(News::SlotFreed),
            Effect::EndRequests(_) | Effect::Count(_) => {}
        }
    }

    fn connect(&mut self, i: usize, generation: Generation) {
        let seat = &mut self.seats[i];
        if let Some(socket) = seat.socket {
            self.breach = Some(format!("a second socket {generation:?} beside {socket:?}"));
        }
        seat.socket = Some(Socket { generation, standing: Standing::Opening });
    }

    fn fleet_hears(&mut self, i: usize) {
        let (session, tenant) = (session(i), tenant());
        let news = self.seats[i].to_fleet.pop_front().unwrap();
        let asked = &mut self.seats[i].asked;
        let input = match news {
            News::Ask(generation, pass) => {
                *asked = Some(generation);
                FleetInput::Ask { session, tenant, pass }
            }
            News::Withdraw => {
                *asked = None;
                FleetInput::Withdraw { session }
            }
            News::Upgraded => FleetInput::Upgraded { session },
            News::Settled(error) => {
                *asked = None;
                let outcome = AttemptOutcome::of(error.as_deref());
                FleetInput::Settled { session, outcome, retry_after: None }
            }
            News::Parked(hold) => FleetInput::Parked { session, tenant, cause: ParkCause::of(&hold) },
            News::SlotFreed => FleetInput::SlotFreed { tenant },
            News::Unparked | News::Gone => FleetInput::Left { session },
        };
        self.run_fleet(input);
    }

    fn run_fleet(&mut self, input: FleetInput) {
        for effect in self.fleet.handle(input, self.now) {
            let (i, answer) = match effect {
                FleetEffect::Grant { session } => {
                    let i = index(&session);
                    let Some(generation) = self.seats[i].asked else { continue };
                    (i, Input::Granted(generation))
                }
                FleetEffect::Suspended { session, code } => {
                    let i = index(&session);
                    let Some(generation) = self.seats[i].asked.take() else { continue };
                    (i, Input::Suspended(generation, code))
                }
                FleetEffect::OutOfMinutes { session } => (index(&session), Input::MinutesUsed),
                FleetEffect::Probe { session } => (index(&session), Input::Probe),
                FleetEffect::Release { session } => (index(&session), Input::Release),
                FleetEffect::GrantExpired { .. } => {
                    // The model's sockets may open for as long as they like; the product's have deadlines.
                    continue;
                }
                FleetEffect::TenantSuspended { .. }
                | FleetEffect::TenantReleased { .. }
                | FleetEffect::BreakerChanged { .. } => continue,
            };
            if !self.seats[i].is_gone {
                self.seats[i].from_fleet.push_back(answer);
            }
        }
    }
}
