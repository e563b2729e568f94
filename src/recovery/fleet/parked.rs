//! The parked sessions: which tenants are suspended, and who tries on behalf of the others.
//!
//! A parked session waits in one of two queues of its tenant. Those *blocked* are held up by the tenant's
//! account or key, so the tenant is suspended as long as there are any, and all of them are released together.
//! Those short of a connection (*concurrency*) go one by one, as slots get free.
//!
//! A session that is called leaves its queue but is remembered until it has tried. It comes back at the end
//! of a queue or not at all, so that the next call is another's.

mod volunteer;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use super::{FleetEffect, Pass};
use crate::{
    errors::ErrorCode,
    recovery::{Moment, SessionId, TenantId},
};

/// Why nothing new of a tenant knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// The code of the error that began it.
    pub code: ErrorCode,
    /// When it began.
    pub since: Moment,
}

/// What a parked session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// The end of its tenant's suspension.
    Blocked,
    /// A free connection of its tenant.
    Concurrency,
}

/// What brought a session into its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It has just been refused by the service.
    Refused,
    /// It has not knocked.
    Unheard,
}

/// The part that a session played when it was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It waited to be called or released.
    Waiting,
    /// It was the tenant's one attempt of the interval, and came from this queue.
    IntervalProbe(Queue),
    /// It was called since a connection of its tenant may be free.
    SlotProbe,
    /// It was the tenant's one attempt of the interval, and nobody had called it.
    Volunteer,
}

#[derive(Clone, Debug)]
struct Entry {
    tenant: TenantId,
    queue: Queue,
    spot: Spot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    /// In the queue.
    Queued(u64),
    /// Called, and expected to ask before this moment.
    Called(Moment),
    /// Called, and waits at the gate or has its attempt under way.
    Asked,
    /// As [`Spot::Asked`], without having been parked before.
    Volunteered,
}

/// The parked sessions of one tenant.
#[derive(Clone, Debug)]
struct Ward {
    suspension: Option<Suspension>,
    /// Whether a connection became free while nothing new might knock, and was offered to nobody.
    is_slot_missed: bool,
    blocked: BTreeMap<u64, SessionId>,
    concurrency: BTreeMap<u64, SessionId>,
    called: BTreeSet<SessionId>,
    interval: Interval,
}

/// The time between two attempts of a tenant, counted from `since`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Interval {
    /// There is nobody to call when it has passed.
    Idle { since: Moment },
    /// Somebody is called when it has passed: there is a timer.
    Running { since: Moment },
    /// This session tries; the next interval begins when it has.
    Probing(SessionId),
}

impl Ward {
    const fn new(now: Moment) -> Self {
        Self {
            suspension: None,
            is_slot_missed: false,
            blocked: BTreeMap::new(),
            concurrency: BTreeMap::new(),
            called: BTreeSet::new(),
            interval: Interval::Idle { since: now },
        }
    }

    const fn queue(&mut self, queue: Queue) -> &mut BTreeMap<u64, SessionId> {
        match queue {
            Queue::Blocked => &mut self.blocked,
            Queue::Concurrency => &mut self.concurrency,
        }
    }

    fn has_queued(&self) -> bool {
        !(self.blocked.is_empty() && self.concurrency.is_empty())
    }

    fn is_needless(&self) -> bool {
        self.suspension.is_none() && !self.has_queued() && self.called.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Interval(TenantId),
    Call(SessionId),
}

/// All parked sessions that may be called or released, by tenant.
#[derive(Clone, Debug)]
pub(super) struct ParkedSessions {
    interval: Option<Duration>,
    /// How long a called session may take to ask.
    answer_within: Duration,
    entries: BTreeMap<SessionId, Entry>,
    wards: BTreeMap<TenantId, Ward>,
    timers: BTreeSet<(Moment, Timer)>,
    next_place: u64,
}

impl ParkedSessions {
    pub(super) const fn new(interval: Option<Duration>, answer_within: Duration) -> Self {
        Self {
            interval,
            answer_within,
            entries: BTreeMap::new(),
            wards: BTreeMap::new(),
            timers: BTreeSet::new(),
            next_place: 0,
        }
    }

    pub(super) fn suspension(&self, tenant: &TenantId) -> Option<&Suspension> {
        self.wards.get(tenant)?.suspension.as_ref()
    }

    /// Why a session may not knock with this pass, if it may not.
    pub(super) fn refusal(&self, session: &SessionId, tenant: &TenantId, pass: Pass) -> Option<ErrorCode> {
        let ward = self.wards.get(tenant)?;
        let suspension = ward.suspension?;
        let may_knock = match pass {
            Pass::Normal => false,
            Pass::Unparked => true,
            // A suspended tenant has one attempt for each interval, whoever else was called before.
            Pass::Probe | Pass::Volunteer => {
                matches!(&ward.interval, Interval::Probing(probing) if probing == session)
            }
        };
        (!may_knock).then_some(suspension.code)
    }

    /// Whether nothing is remembered of anybody.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.wards.is_empty() && self.timers.is_empty()
    }

    /// Suspends a tenant; returns whether it was not suspended before.
    pub(super) fn suspend(&mut self, tenant: &TenantId, code: ErrorCode, now: Moment) -> bool {
        let ward = self.wards.entry(tenant.clone()).or_insert_with(|| Ward::new(now));
        if ward.suspension.is_some() {
            return false;
        }
        ward.suspension = Some(Suspension { code, since: now });
        self.restart_interval(tenant, now);
        true
    }

    /// Puts a session at the end of a queue; one that is in it already keeps its place.
    pub(super) fn park(
        &mut self,
        session: SessionId,
        tenant: &TenantId,
        queue: Queue,
        arrival: Arrival,
        now: Moment,
    ) {
        let known = self.entries.get(&session);
        if known.is_some_and(|entry| entry.queue == queue && matches!(entry.spot, Spot::Queued(_))) {
            return;
        }
        self.forget(&session, now);
        self.next_place += 1;
        let place = self.next_place;
        let ward = self.wards.entry(tenant.clone()).or_insert_with(|| Ward::new(now));
        ward.queue(queue).insert(place, session.clone());
        if let Interval::Idle { since } = &mut ward.interval
            && arrival == Arrival::Refused
        {
            *since = now;
        }
        let entry = Entry { tenant: tenant.clone(), queue, spot: Spot::Queued(place) };
        self.entries.insert(session, entry);
        self.mend_timer(tenant);
    }

    /// Forgets a session, and returns the part that it played; where it was the tenant's probe, the next
    /// interval begins.
    pub(super) fn forget(&mut self, session: &SessionId, now: Moment) -> Option<(TenantId, Role)> {
        let Entry { tenant, queue, spot } = self.entries.remove(session)?;
        let ward = self.wards.get_mut(&tenant)?;
        match spot {
            Spot::Queued(place) => {
                ward.queue(queue).remove(&place);
            }
            Spot::Called(deadline) => {
                self.timers.remove(&(deadline, Timer::Call(session.clone())));
                ward.called.remove(session);
            }
            Spot::Asked | Spot::Volunteered => {
                ward.called.remove(session);
            }
        }
        let role = match &ward.interval {
            Interval::Probing(probing) if probing == session => {
                ward.interval = Interval::Idle { since: now };
                if spot == Spot::Volunteered { Role::Volunteer } else { Role::IntervalProbe(queue) }
            }
            Interval::Probing(_) | Interval::Idle { .. } | Interval::Running { .. } => match spot {
                Spot::Queued(_) => Role::Waiting,
                Spot::Called(_) | Spot::Asked | Spot::Volunteered => Role::SlotProbe,
            },
        };
        self.mend_timer(&tenant);
        Some((tenant, role))
    }

    /// A session asks as a probe; returns whether it was called.
    pub(super) fn answer(&mut self, session: &SessionId) -> bool {
        let Some(entry) = self.entries.get_mut(session) else { return false };
        match entry.spot {
            Spot::Queued(_) => false,
            Spot::Asked | Spot::Volunteered => true,
            Spot::Called(deadline) => {
                entry.spot = Spot::Asked;
                self.timers.remove(&(deadline, Timer::Call(session.clone())));
                true
            }
        }
    }

    /// A connection of the tenant may be free: calls who has waited longest for one. A suspended tenant has
    /// no use for it before its suspension ends.
    pub(super) fn offer_slot(&mut self, tenant: &TenantId, now: Moment, effects: &mut Vec<FleetEffect>) {
        let Some(ward) = self.wards.get_mut(tenant) else { return };
        if ward.suspension.is_some() {
            ward.is_slot_missed = true;
            return;
        }
        if let Some((_, session)) = ward.concurrency.pop_first() {
            self.call(tenant, session, now, effects);
            self.mend_timer(tenant);
        }
    }

    /// Ends a suspension and releases whoever it blocked, longest parked first.
    pub(super) fn release(&mut self, tenant: &TenantId, now: Moment, effects: &mut Vec<FleetEffect>) {
        let Some(ward) = self.wards.get_mut(tenant) else { return };
        if ward.suspension.take().is_none() {
            return;
        }
        let blocked = mem::take(&mut ward.blocked);
        let is_slot_missed = mem::take(&mut ward.is_slot_missed);
        effects.push(FleetEffect::TenantReleased { tenant: tenant.clone() });
        if let Interval::Probing(probing) = &ward.interval {
            let probing = probing.clone();
            self.release_probe(probing, now, effects);
        }
        for session in blocked.into_values() {
            self.entries.remove(&session);
            effects.push(FleetEffect::Release { session });
        }
        self.restart_interval(tenant, now);
        if is_slot_missed {
            self.offer_slot(tenant, now, effects);
        }
    }

    /// The probe of a suspension that has ended goes on as an attempt like any other.
    fn release_probe(&mut self, session: SessionId, now: Moment, effects: &mut Vec<FleetEffect>) {
        let Some(entry) = self.entries.get(&session).filter(|entry| entry.queue == Queue::Blocked) else {
            return;
        };
        let is_parked_still = matches!(entry.spot, Spot::Called(_));
        self.forget(&session, now);
        if is_parked_still {
            effects.push(FleetEffect::Release { session });
        }
    }

    /// Calls whoever is due.
    pub(super) fn tick(&mut self, now: Moment, effects: &mut Vec<FleetEffect>) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            match self.timers.pop_first() {
                Some((_, Timer::Interval(tenant))) => self.probe(&tenant, now, effects),
                Some((_, Timer::Call(session))) => self.requeue(session, now),
                None => return,
            }
        }
    }

    /// When [`ParkedSessions::tick`] is due.
    pub(super) fn next_timeout(&self) -> Option<Moment> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Forgets a tenant with all its sessions.
    pub(super) fn remove_tenant(&mut self, tenant: &TenantId) {
        let Some(ward) = self.wards.remove(tenant) else { return };
        if let (Interval::Running { since }, Some(span)) = (&ward.interval, self.interval) {
            self.timers.remove(&(*since + span, Timer::Interval(tenant.clone())));
        }
        for session in ward.blocked.into_values().chain(ward.concurrency.into_values()).chain(ward.called) {
            if let Some(Entry { spot: Spot::Called(deadline), .. }) = self.entries.remove(&session) {
                self.timers.remove(&(deadline, Timer::Call(session)));
            }
        }
    }

    fn probe(&mut self, tenant: &TenantId, now: Moment, effects: &mut Vec<FleetEffect>) {
        let Some(ward) = self.wards.get_mut(tenant) else { return };
        // Only a success of one that is blocked tells that the suspension is over for all.
        let next = ward.blocked.pop_first().or_else(|| ward.concurrency.pop_first());
        match next {
            Some((_, session)) => {
                ward.interval = Interval::Probing(session.clone());
                self.call(tenant, session, now, effects);
            }
            None => ward.interval = Interval::Idle { since: now },
        }
    }

    fn call(&mut self, tenant: &TenantId, session: SessionId, now: Moment, effects: &mut Vec<FleetEffect>) {
        let deadline = now + self.answer_within;
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.spot = Spot::Called(deadline);
        }
        if let Some(ward) = self.wards.get_mut(tenant) {
            ward.called.insert(session.clone());
        }
        self.timers.insert((deadline, Timer::Call(session.clone())));
        effects.push(FleetEffect::Probe { session });
    }

    /// A called session did not ask in time: the next call is another's.
    fn requeue(&mut self, session: SessionId, now: Moment) {
        let Some(Entry { tenant, queue, .. }) = self.entries.get(&session).cloned() else { return };
        self.park(session, &tenant, queue, Arrival::Unheard, now);
    }

    fn restart_interval(&mut self, tenant: &TenantId, now: Moment) {
        let Some(ward) = self.wards.get_mut(tenant) else { return };
        match ward.interval {
            Interval::Running { since } => {
                if let Some(span) = self.interval {
                    self.timers.remove(&(since + span, Timer::Interval(tenant.clone())));
                }
                ward.interval = Interval::Idle { since: now };
            }
            Interval::Idle { .. } => ward.interval = Interval::Idle { since: now },
            Interval::Probing(_) => {}
        }
        self.mend_timer(tenant);
    }

    /// Starts or stops a tenant's timer after its queues have changed, and forgets a tenant without need.
    fn mend_timer(&mut self, tenant: &TenantId) {
        let Some(ward) = self.wards.get_mut(tenant) else { return };
        if let Some(span) = self.interval {
            match ward.interval {
                Interval::Idle { since } if ward.has_queued() => {
                    ward.interval = Interval::Running { since };
                    self.timers.insert((since + span, Timer::Interval(tenant.clone())));
                }
                Interval::Running { since } if !ward.has_queued() => {
                    ward.interval = Interval::Idle { since };
                    self.timers.remove(&(since + span, Timer::Interval(tenant.clone())));
                }
                Interval::Idle { .. } | Interval::Running { .. } | Interval::Probing(_) => {}
            }
        }
        if ward.is_needless() {
            self.wards.remove(tenant);
        }
    }
}
