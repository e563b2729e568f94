//! Interrupts and pauses: what they change, and what the service is told of them.

use std::collections::VecDeque;

use super::{
    Ledger, Outgoing,
    index::Key,
    record::Outcome,
    request::{Open, Progress},
};
use crate::recovery::Moment;

/// Controls that may wait for the socket before pauses and resumes of the same request replace each other. Beyond
/// it there is at most one more for each open request, since each is interrupted once.
const MAX_CONTROLS: usize = 64;

/// What the service is told of a request, besides its audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// End it.
    Interrupt,
    /// Stop playing it.
    Pause,
    /// Play it on.
    Resume,
}

/// What an interrupt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptFate {
    /// The request is interrupted, and [`Ledger::next_to_send`] gives the word to the service, which has audio of
    /// it.
    Told,
    /// The request is interrupted; the service has nothing of it on this connection.
    Dropped,
    /// The request had this outcome before.
    AlreadyEnded(Outcome),
    /// No such request is known.
    Unknown,
}

/// What a pause or a resume did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldFate {
    /// [`Ledger::next_to_send`] gives the word to the service.
    Told,
    /// It is noted: the service is told when it has the request's audio.
    Noted,
    /// The request had this outcome before.
    AlreadyEnded(Outcome),
    /// No such request is known.
    Unknown,
}

/// Who knows of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The service is to be told when it has the audio.
    Owed,
    /// The service was told.
    Given,
    /// The service has said that it is so.
    Confirmed,
}

/// Whether a request is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    None,
    Paused { since: Moment, word: Word },
}

impl Hold {
    /// The connection that knew of the pause is gone.
    pub(super) const fn owe(&mut self) {
        if let Self::Paused { word, .. } = self {
            *word = Word::Owed;
        }
    }

    /// Whether the service is to be told now that it has the audio.
    pub(super) fn pay(&mut self) -> bool {
        match self {
            Self::Paused { word: word @ Word::Owed, .. } => {
                *word = Word::Given;
                true
            }
            Self::Paused { word: Word::Given | Word::Confirmed, .. } | Self::None => false,
        }
    }
}

impl Open {
    /// Pauses, by a client's wish.
    fn pause(&mut self, now: Moment) -> HoldFate {
        let known = matches!(self.progress, Progress::Sent(_));
        match self.hold {
            Hold::None => {
                let word = if known { Word::Given } else { Word::Owed };
                self.hold = Hold::Paused { since: now, word };
            }
            Hold::Paused { word: Word::Owed, .. } => return HoldFate::Noted,
            Hold::Paused { word: Word::Given | Word::Confirmed, .. } => {}
        }
        if known { HoldFate::Told } else { HoldFate::Noted }
    }

    /// Ends a pause: the deadlines move by the time for which they stood still.
    pub(super) fn play_on(&mut self, now: Moment) -> HoldFate {
        let known = matches!(self.progress, Progress::Sent(_));
        let Hold::Paused { since: paused, word } = self.hold else {
            return if known { HoldFate::Told } else { HoldFate::Noted };
        };
        let moved = |at: Moment| at + now.since(at.max(paused));
        self.last_chunk_at = moved(self.last_chunk_at);
        if let Progress::Waiting { since } = &mut self.progress {
            *since = moved(*since);
        }
        self.hold = Hold::None;
        match word {
            Word::Owed => HoldFate::Noted,
            Word::Given | Word::Confirmed => HoldFate::Told,
        }
    }

    /// The service says that it is paused, whoever wished so.
    pub(super) const fn paused_by_service(&mut self, now: Moment) {
        match &mut self.hold {
            Hold::None => self.hold = Hold::Paused { since: now, word: Word::Confirmed },
            Hold::Paused { word, .. } => *word = Word::Confirmed,
        }
    }
}

/// What the service is to be told, in order.
#[derive(Clone, Debug)]
pub(super) struct Controls(VecDeque<(String, Control)>);

impl Controls {
    pub(super) const fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn push(&mut self, upstream_id: String, control: Control) {
        if self.0.len() >= MAX_CONTROLS {
            // The last word on playing is the one that counts.
            self.0.retain(|(id, earlier)| *id != upstream_id || *earlier == Control::Interrupt);
        }
        self.0.push_back((upstream_id, control));
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        self.0.pop_front().map(|(req_id, control)| Outgoing::Control { req_id, control })
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Ledger {
    /// Ends a request by a client's wish.
    pub fn interrupt(&mut self, req_id: &str, now: Moment) -> InterruptFate {
        let Some(key) = self.index.key(req_id) else {
            return self.ended_outcome(req_id).map_or(InterruptFate::Unknown, InterruptFate::AlreadyEnded);
        };
        match self.settle(key, Outcome::Interrupted, None, now) {
            Some(upstream_id) => {
                self.controls.push(upstream_id, Control::Interrupt);
                InterruptFate::Told
            }
            None => InterruptFate::Dropped,
        }
    }

    /// Pauses a request: until it is resumed its deadline stands still, for `max_pause` at most. A request that the
    /// service has nothing of is paused there after its audio.
    pub fn pause(&mut self, req_id: &str, now: Moment) -> HoldFate {
        self.hold(req_id, Control::Pause, |open| open.pause(now))
    }

    /// Lets a paused request play on.
    pub fn resume(&mut self, req_id: &str, now: Moment) -> HoldFate {
        self.hold(req_id, Control::Resume, |open| open.play_on(now))
    }

    fn hold(
        &mut self,
        req_id: &str,
        control: Control,
        change: impl FnOnce(&mut Open) -> HoldFate,
    ) -> HoldFate {
        let Some(key) = self.index.key(req_id) else {
            return self.ended_outcome(req_id).map_or(HoldFate::Unknown, HoldFate::AlreadyEnded);
        };
        let fate = self.index.edit(key, &self.config, change).unwrap_or(HoldFate::Unknown);
        if fate == HoldFate::Told {
            self.tell(key, control);
        }
        fate
    }

    /// Tells the service, where it knows the request.
    pub(super) fn tell(&mut self, key: Key, control: Control) {
        if let Some(upstream_id) = self.index.get(key).and_then(Open::upstream_id) {
            self.controls.push(upstream_id.to_owned(), control);
        }
    }
}
