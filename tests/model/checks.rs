//! What holds in every world, and what holds in a world where nothing is under way.

use greenroom::recovery::lifecycle::{BackingOff, Hold, Starting, State};

use crate::world::{Seat, Standing, World};

/// What is wrong with this world.
pub(crate) fn breach(world: &World) -> Option<String> {
    if let Some(breach) = &world.breach {
        return Some(breach.clone());
    }
    let always = world.seats.iter().find_map(held_still);
    let quiet = world.seats.iter().all(is_quiet);
    always.or_else(|| if quiet { at_rest(world) } else { None })
}

/// Nothing of a held session knocks: at most the old socket is still closing, or has ended and was not heard of.
fn held_still(seat: &Seat) -> Option<String> {
    let state = seat.machine.state();
    let is_held = match state {
        State::Parked(_) | State::Dormant | State::Failed | State::Stopped { .. } => true,
        State::Starting(_) | State::Running { .. } | State::BackingOff(_) => false,
    };
    match seat.socket {
        Some(socket) if is_held && socket.standing != Standing::Closing => {
            Some(format!("a session that is {} has {socket:?}", state.name().as_str()))
        }
        Some(_) | None => None,
    }
}

fn is_quiet(seat: &Seat) -> bool {
    seat.to_fleet.is_empty() && seat.from_fleet.is_empty() && seat.from_socket.is_empty()
}

/// With all mailboxes empty, whoever wants something is known to whoever gives it: nobody waits for ever.
fn at_rest(world: &World) -> Option<String> {
    for seat in world.seats.iter().filter(|seat| !seat.is_gone) {
        if let Some(stuck) = stuck(world, seat) {
            return Some(stuck);
        }
    }
    let opening = world.seats.iter().filter(|seat| holds_a_turn(seat)).count();
    // The fleet may have taken a turn back at its deadline, but it must not keep one that nobody has.
    if world.fleet.in_flight() > opening {
        return Some(format!("{} turns are out and {opening} sessions have one", world.fleet.in_flight()));
    }
    let queued = world.seats.iter().filter(|seat| is_queued(seat)).count();
    if world.fleet.waiting() != queued {
        return Some(format!("the fleet has {} asks, and {queued} sessions wait", world.fleet.waiting()));
    }
    None
}

fn holds_a_turn(seat: &Seat) -> bool {
    !seat.is_gone && matches!(seat.machine.state(), State::Starting(Starting::Connecting(_)))
}

fn is_queued(seat: &Seat) -> bool {
    !seat.is_gone
        && matches!(
            seat.machine.state(),
            State::Starting(Starting::Queued(_)) | State::BackingOff(BackingOff::Queued { .. })
        )
}

fn stuck(world: &World, seat: &Seat) -> Option<String> {
    let socket = seat.socket;
    let state = seat.machine.state();
    let is_served = match state {
        State::Starting(Starting::Draining(_)) => socket.is_some_and(|s| s.standing == Standing::Closing),
        State::Starting(Starting::Connecting(generation)) => {
            socket.is_some_and(|s| s.generation == *generation && s.standing == Standing::Opening)
        }
        State::Starting(Starting::Upgraded(generation)) => {
            socket.is_some_and(|s| s.generation == *generation && s.standing == Standing::Upgraded)
        }
        State::Running { generation, .. } => {
            socket.is_some_and(|s| s.generation == *generation && s.standing == Standing::Open)
        }
        State::Starting(Starting::Queued(_)) | State::BackingOff(BackingOff::Queued { .. }) => {
            world.fleet.next_timeout().is_some() || world.fleet.in_flight() > 0
        }
        State::BackingOff(BackingOff::Until(_)) => seat.machine.next_timeout().is_some(),
        // These are called by the fleet's timer or by a person.
        State::Parked(
            Hold::Error(_) | Hold::KeyRefused | Hold::Suspension(_) | Hold::Minutes | Hold::Operator,
        ) => true,
        State::Dormant | State::Failed | State::Stopped { .. } => true,
    };
    if is_served {
        None
    } else {
        Some(format!("nothing will ever wake a session that is {state:?}, {socket:?}"))
    }
}
