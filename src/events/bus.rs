//! Everything that happens, in order, to whoever looks on.
//!
//! The latest events are kept in one ring. Whoever looks on holds its own place in it and reads at its own pace, so
//! that a slow reader costs no memory and slows nobody down: where the ring has run past its place, it is told so.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{Event, EventId, What};
use crate::recovery::{Moment, SessionId, TenantId};

/// Events that are kept for whoever was away or is slow: a few minutes of a busy process, and the whole start of an
/// incident, in a megabyte or two.
const KEPT: usize = 4096;

/// Events that one reading gives, so that a reader that is far behind does not hold the lock for long.
const AT_ONCE: usize = 256;

#[derive(Default)]
struct Ring {
    kept: VecDeque<Arc<Event>>,
    /// Events before the first one that is kept.
    dropped: u64,
    /// The latest of those.
    last_dropped: Option<EventId>,
    last: u64,
}

struct Inner {
    ring: Mutex<Ring>,
    capacity: usize,
    /// How many events there were; closed when no more come.
    published: watch::Sender<u64>,
    closed: watch::Sender<bool>,
}

/// Where events are published and followed. Cheap to clone.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

impl Default for Bus {
    fn default() -> Self {
        Self::with_capacity(KEPT)
    }
}

/// From where on somebody follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// What happens from now on.
    Now,
    /// What happened after this event.
    After(EventId),
}

/// Events that a follower does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// How many; not known where they are of an earlier process or from before the ring's beginning.
    pub missed: Option<u64>,
    /// The last event before them, where there was one.
    pub after: Option<EventId>,
    /// The first event behind them, where there is one yet.
    pub before: Option<EventId>,
}

/// What a follower hears.
#[derive(Clone, Debug)]
pub enum Heard {
    /// An event.
    Event(Arc<Event>),
    /// Some are lost to it.
    Gap(Gap),
}

/// Follows the events at its own pace.
pub struct Follower {
    bus: Bus,
    /// How many events there were before the next one.
    place: u64,
    last: Option<EventId>,
    /// Whether it begins with events that it asked for and that are not there.
    lacks: bool,
    published: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
}

impl Bus {
    /// A bus that keeps the latest `capacity` events.
    pub fn with_capacity(capacity: usize) -> Self {
        let inner = Inner {
            ring: Mutex::default(),
            capacity: capacity.max(1),
            published: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        };
        Self(Arc::new(inner))
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing here panics half-way through a change, so a poisoned lock holds a whole value.
        self.0.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what happened at `now`, which is the time since 1970.
    pub fn publish(
        &self,
        now: Moment,
        tenant: Option<TenantId>,
        session: Option<SessionId>,
        what: What,
    ) -> Arc<Event> {
        let mut ring = self.ring();
        let micros = u64::try_from(now.since_start().as_micros()).unwrap_or(u64::MAX);
        ring.last = micros.max(ring.last + 1);
        let event = Arc::new(Event { id: EventId(ring.last), at: now, tenant, session, what });
        if ring.kept.len() == self.0.capacity {
            ring.last_dropped = ring.kept.pop_front().map(|event| event.id);
            ring.dropped += 1;
        }
        ring.kept.push_back(Arc::clone(&event));
        let published = ring.dropped + ring.kept.len() as u64;
        drop(ring);
        // Two that publish at once may say their numbers in either order; the higher one stands.
        self.0.published.send_if_modified(|seen| {
            let is_news = published > *seen;
            *seen = published.max(*seen);
            is_news
        });
        event
    }

    /// Follows from `since` on.
    pub fn follow(&self, since: Since) -> Follower {
        let (published, closed) = (self.0.published.subscribe(), self.0.closed.subscribe());
        let ring = self.ring();
        let end = ring.dropped + ring.kept.len() as u64;
        let (place, last, lacks) = match since {
            Since::Now => (end, None, false),
            Since::After(id) => {
                let index = ring.kept.partition_point(|event| event.id <= id);
                let follows = index > 0 || ring.last_dropped.is_some_and(|dropped| dropped <= id);
                // What came after a number of an earlier process, or one that was not given yet, nobody knows.
                (ring.dropped + index as u64, Some(id), !follows || id.0 > ring.last)
            }
        };
        drop(ring);
        Follower { bus: self.clone(), place, last, lacks, published, closed }
    }

    /// Tells whoever follows that no more will come, when it has heard all.
    pub fn close(&self) {
        self.0.closed.send_replace(true);
    }
}

impl Follower {
    /// What was published and is not heard yet, at most some hundred; nothing where there is nothing yet.
    pub fn ready(&mut self) -> Vec<Heard> {
        let bus = self.bus.clone();
        let ring = bus.ring();
        let mut heard = Vec::new();
        if self.place < ring.dropped || self.lacks {
            let missed = (!self.lacks).then(|| ring.dropped - self.place);
            self.place = self.place.max(ring.dropped);
            self.lacks = false;
            let index = usize::try_from(self.place - ring.dropped).unwrap_or(usize::MAX);
            let before = ring.kept.get(index).map(|event| event.id);
            heard.push(Heard::Gap(Gap { missed, after: self.last, before }));
        }
        let index = usize::try_from(self.place - ring.dropped).unwrap_or(usize::MAX);
        heard.extend(ring.kept.iter().skip(index).take(AT_ONCE).map(|event| Heard::Event(Arc::clone(event))));
        drop(ring);
        for told in &heard {
            if let Heard::Event(event) = told {
                self.place += 1;
                self.last = Some(event.id);
            }
        }
        heard
    }

    /// Passes over all that was published until now.
    pub fn skip(&mut self) {
        let bus = self.bus.clone();
        let ring = bus.ring();
        self.place = ring.dropped + ring.kept.len() as u64;
        self.lacks = false;
    }

    /// Waits until nothing more will come, whatever is published: whoever waits here costs nobody who publishes anything.
    pub async fn end(&mut self) {
        while !*self.closed.borrow_and_update() {
            if self.closed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until there is something to hear, and gives it; `None` when nothing more will come. Safe to cancel.
    pub async fn next(&mut self) -> Option<Vec<Heard>> {
        loop {
            self.published.borrow_and_update();
            let is_closed = *self.closed.borrow_and_update();
            let heard = self.ready();
            if !heard.is_empty() {
                return Some(heard);
            }
            if is_closed {
                return None;
            }
            tokio::select! {
                changed = self.published.changed() => changed.ok()?,
                changed = self.closed.changed() => changed.ok()?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::ClientAction;

    fn publish(bus: &Bus, count: u64) -> Vec<EventId> {
        let what = What::Client { action: ClientAction::Left };
        let publish = |_| bus.publish(Moment::at(Duration::from_secs(1)), None, None, what.clone()).id;
        (0..count).map(publish).collect()
    }

    fn ids(heard: &[Heard]) -> Vec<EventId> {
        let id = |heard: &Heard| match heard {
            Heard::Event(event) => Some(event.id),
            Heard::Gap(_) => None,
        };
        heard.iter().filter_map(id).collect()
    }

    fn gaps(heard: &[Heard]) -> Vec<Gap> {
        let gap = |heard: &Heard| match heard {
            Heard::Gap(gap) => Some(*gap),
            Heard::Event(_) => None,
        };
        heard.iter().filter_map(gap).collect()
    }

    #[tokio::test]
    async fn what_is_passed_over_is_neither_heard_nor_missed() {
        let bus = Bus::with_capacity(4);
        let mut follower = bus.follow(Since::Now);
        publish(&bus, 9);
        follower.skip();
        let later = publish(&bus, 2);
        let heard = follower.ready();
        assert_eq!((ids(&heard), gaps(&heard)), (later, vec![]));
        publish(&bus, 1);
        assert!(
            futures_util::FutureExt::now_or_never(follower.end()).is_none(),
            "what is published is no end"
        );
        bus.close();
        follower.end().await;
    }

    #[test]
    fn numbers_rise_with_the_clock_and_where_it_stands_still() {
        let bus = Bus::with_capacity(8);
        assert_eq!(publish(&bus, 3), [EventId(1_000_000), EventId(1_000_001), EventId(1_000_002)]);
        let what = What::Client { action: ClientAction::Left };
        let later = bus.publish(Moment::at(Duration::from_secs(2)), None, None, what.clone());
        assert_eq!(later.id, EventId(2_000_000));
        let clock_went_back = bus.publish(Moment::ZERO, None, None, what);
        assert_eq!(clock_went_back.id, EventId(2_000_001));
    }

    #[test]
    fn whoever_follows_hears_each_event_once_and_in_order() {
        let bus = Bus::with_capacity(1000);
        publish(&bus, 5);
        let mut follower = bus.follow(Since::Now);
        assert!(follower.ready().is_empty());
        let published = publish(&bus, 600);
        let mut heard = Vec::new();
        loop {
            let ready = follower.ready();
            if ready.is_empty() {
                break;
            }
            assert!(ready.len() <= AT_ONCE);
            heard.extend(ids(&ready));
        }
        assert_eq!(heard, published);
    }

    #[test]
    fn a_slow_follower_is_told_how_many_it_missed_and_then_goes_on() {
        let bus = Bus::with_capacity(4);
        let mut follower = bus.follow(Since::Now);
        let first = publish(&bus, 1);
        assert_eq!(ids(&follower.ready()), first);
        let published = publish(&bus, 7);
        let heard = follower.ready();
        let gap = Gap { missed: Some(3), after: Some(first[0]), before: Some(published[3]) };
        assert_eq!(gaps(&heard), [gap]);
        assert_eq!(ids(&heard), published[3..]);
        assert!(follower.ready().is_empty());
    }

    #[test]
    fn whoever_was_away_goes_on_behind_its_last_event_as_long_as_that_is_known() {
        let bus = Bus::with_capacity(4);
        let published = publish(&bus, 6);
        for (last, expected, is_whole) in [
            (published[5], &[][..], true),
            (published[3], &published[4..], true),
            // Its own is gone, and the next one is there.
            (published[1], &published[2..], true),
            (published[0], &published[2..], false),
            // Of an earlier process, and of none.
            (EventId(7), &published[2..], false),
            (EventId(published[5].0 + 1), &[][..], false),
        ] {
            let heard = bus.follow(Since::After(last)).ready();
            assert_eq!(ids(&heard), expected, "after {last}");
            assert_eq!(gaps(&heard).is_empty(), is_whole, "after {last}");
        }
        let at_the_start = Bus::with_capacity(4).follow(Since::After(EventId(7))).ready();
        assert_eq!(gaps(&at_the_start), [Gap { missed: None, after: Some(EventId(7)), before: None }]);
    }

    #[tokio::test]
    async fn a_follower_waits_for_what_comes_and_hears_all_before_the_end() {
        let bus = Bus::default();
        let mut follower = bus.follow(Since::Now);
        let waiting = tokio::spawn(async move {
            let first = follower.next().await.map(|heard| ids(&heard));
            (first, follower)
        });
        tokio::task::yield_now().await;
        let first = publish(&bus, 1);
        let (heard, mut follower) = waiting.await.unwrap();
        assert_eq!(heard, Some(first));
        let last = publish(&bus, 1);
        bus.close();
        assert_eq!(follower.next().await.map(|heard| ids(&heard)), Some(last));
        assert!(follower.next().await.is_none());
    }
}
