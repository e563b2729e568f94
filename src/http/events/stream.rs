//! The stream of events on one connection.
//!
//! The server polls it only while its client takes what was said; meanwhile its place in the ring waits, and nothing
//! is collected for it. The format is the WHATWG HTML standard's, section 9.2.

use std::{convert::Infallible, fmt::Write as _, time::Duration};

use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{super::auth::Scope, Filter, Seat};
use crate::{
    events::{EventId, Follower, Gap, Heard},
    manager::ManagerHandle,
};

/// How often something is said, so that a connection that is gone is noticed on both sides.
const SAID_EVERY: Duration = Duration::from_secs(15);

/// Who reads.
pub(super) struct Holder {
    pub(super) manager: ManagerHandle,
    pub(super) scope: Scope,
    pub(super) key: Option<SecretString>,
}

impl Holder {
    /// Whether the key that opened the stream still does.
    fn may_go_on(&self) -> bool {
        match (&self.scope, &self.key) {
            // The process has one admin key for the whole of its life.
            (Scope::Operator, _) => true,
            (Scope::Tenant(runtime), Some(key)) => {
                let holder = self.manager.authenticate(key.expose_secret());
                holder.is_some_and(|holder| holder.id == runtime.id)
            }
            (Scope::Tenant(_), None) => false,
        }
    }
}

/// One reader.
pub(super) struct Listener {
    follower: Follower,
    filter: Filter,
    holder: Holder,
    ticks: Interval,
    /// The latest event that it was told of, or that was passed over for it.
    place: Option<EventId>,
    _seat: Seat,
}

impl Listener {
    pub(super) fn new(follower: Follower, filter: Filter, holder: Holder, seat: Seat) -> Self {
        let mut ticks = interval_at(Instant::now() + SAID_EVERY, SAID_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { follower, filter, holder, ticks, place: None, _seat: seat }
    }

    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // At once: it tells the reader that the stream is open.
        let greeting = stream::once(std::future::ready(Ok(Bytes::from(sign_of_life(None)))));
        greeting.chain(stream::unfold(self, async |mut listener| {
            let said = listener.say().await?;
            Some((Ok(Bytes::from(said)), listener))
        }))
    }

    /// What is to be said next; `None` at the end.
    async fn say(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                // However much happens, the key is looked at.
                biased;
                _ = self.ticks.tick() => {
                    return self.holder.may_go_on().then(|| sign_of_life(self.place));
                }
                heard = self.follower.next() => {
                    let mut said = String::new();
                    for heard in heard? {
                        self.tell(&heard, &mut said);
                    }
                    if !said.is_empty() {
                        return Some(said);
                    }
                }
            }
        }
    }

    fn tell(&mut self, heard: &Heard, said: &mut String) {
        match heard {
            Heard::Event(event) => {
                self.place = Some(event.id);
                if self.filter.holds(event) {
                    let kind = event.what.kind().as_str();
                    // Writing to a String never fails.
                    let _ = write!(said, "event: {kind}\nid: {}\ndata: {}\n\n", event.id, event.to_json());
                }
            }
            Heard::Gap(gap) => said.push_str(&gap_event(*gap, self.filter.sees_all())),
        }
    }
}

/// A comment, and without an event the place from which the reader may go on: events that are not its own move it too.
fn sign_of_life(place: Option<EventId>) -> String {
    match place {
        Some(place) => format!(": here\nid: {place}\n\n"),
        None => ": here\n\n".to_owned(),
    }
}

fn gap_event(gap: Gap, sees_all: bool) -> String {
    // How much happens to others is not a tenant's to know.
    let missed = gap.missed.filter(|_| sees_all);
    let data = json!({"missed": missed, "from": gap.after.map(|id| id.0), "to": gap.before.map(|id| id.0)});
    format!("event: gap\ndata: {data}\n\n")
}
