//! A broken connection: what is sent again, and from where.

use super::{
    Ledger,
    config::{Continuity, MAX_BREAKS},
    control::Hold,
    record::Outcome,
    request::{Attempt, Intake, Open, Position, Progress},
};
use crate::{errors::ErrorCode, recovery::Moment};

/// Why a request is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    Off,
    Twice,
    Answered,
    Played,
    CopiesGone,
}

impl Lost {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "",
            Self::Twice => ", as the one before it did: the request may be the reason",
            Self::Answered => " after the answer had begun, and it cannot be sent from where that stopped",
            Self::Played => " when it had been played to its end, and the last frame did not come",
            Self::CopiesGone => ", and the copy of its audio had been dropped for want of room",
        }
    }
}

impl Ledger {
    /// The connection broke: by [`Continuity`], what was sent on it waits again, or fails with this code.
    pub fn connection_lost(&mut self, code: ErrorCode, now: Moment) {
        self.controls.clear();
        self.names.clear();
        for key in self.index.keys_where(|open| matches!(open.progress, Progress::Sent(_))) {
            let from = self.index.get(key).map_or(Err(Lost::Off), |open| self.resend_from(open, now));
            match from {
                Ok(from) => {
                    self.index.edit(key, &self.config, |open| {
                        open.record.breaks += 1;
                        open.wait_again(from, now);
                    });
                }
                Err(lost) => {
                    let why = lost.as_str();
                    let reason = format!("the connection that its audio was sent on ended{why}: {code}");
                    self.index.edit(key, &self.config, |open| open.record.breaks += 1);
                    self.settle(key, Outcome::Failed(code), Some(reason), now);
                }
            }
        }
    }

    /// The first byte of the request's audio that is to be sent again.
    fn resend_from(&self, open: &Open, now: Moment) -> Result<u64, Lost> {
        let Progress::Sent(attempt) = &open.progress else { return Ok(open.start()) };
        if self.config.continuity == Continuity::Off {
            return Err(Lost::Off);
        }
        if open.record.breaks + 1 >= MAX_BREAKS {
            return Err(Lost::Twice);
        }
        let from = self.unheard_from(open, attempt, now)?;
        if from < open.start() { Err(Lost::CopiesGone) } else { Ok(from) }
    }

    /// Whether the rest of a request can be sent: of a format that is not known to be PCM it cannot be cut off.
    fn resumes(&self) -> bool {
        self.config.continuity == Continuity::Resume && self.config.bytes_per_second.is_some()
    }

    fn unheard_from(&self, open: &Open, attempt: &Attempt, now: Moment) -> Result<u64, Lost> {
        let played = match attempt.position {
            Position::Unknown if attempt.frames == 0 => return Ok(attempt.base),
            Position::Unknown => return Err(Lost::Answered),
            Position::Over => return Err(Lost::Played),
            Position::Playing { .. } | Position::Standing(_) if !self.resumes() => {
                return Err(Lost::Answered);
            }
            Position::Standing(bytes) => bytes,
            Position::Playing { bytes, at } => {
                let until = match open.hold {
                    Hold::None => now,
                    Hold::Paused { since, .. } => since.max(at),
                };
                bytes.saturating_add(self.bytes_in(until.since(at)))
            }
        };
        // A player that starves does not play on: it cannot be beyond what was sent.
        let from = attempt.base.saturating_add(played).min(open.sent_end()) & !1;
        if open.intake == Intake::Ended && from >= open.record.audio_bytes & !1 {
            return Err(Lost::Played);
        }
        Ok(from)
    }
}
