//! The service's own limits on a live connection: token, credits, duration, silence.

use std::time::{Duration, Instant, SystemTime};

use super::{Connection, Doom, Fate, Flow, Phase};
use crate::simulator::handshake::Egress;

/// Others of the same API key come and go, which changes when its credits run out.
const CREDITS_CHECK: Duration = Duration::from_millis(50);
/// The close code behind a ServerError of the simulator's own, as everywhere in it.
const CLOSE_POLICY: u16 = 1008;
/// gRPC's UNAVAILABLE, in which the service relays that a room is silent.
const UNAVAILABLE: u16 = 14;

/// A limit that was reached.
struct Reached {
    /// Of the ServerError.
    error_code: u16,
    close_code: u16,
    reason: String,
}

impl Reached {
    fn coded(code: u16, reason: &str) -> Self {
        Self { error_code: code, close_code: code, reason: reason.into() }
    }
}

impl Connection {
    /// When the soonest limit is to be looked at.
    pub(super) fn limit_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let token = self.token_left().map(|left| now + left);
        let credits = self
            .hub()
            .credits_run_out(&self.who)
            .filter(|_| self.is_served())
            .map(|due| due.min(now + CREDITS_CHECK));
        let idle = self.idle_limit().map(|(limit, _)| self.audio_at + limit);
        let duration = self.duration_due();
        [token, credits, idle, duration].into_iter().flatten().min()
    }

    fn is_served(&self) -> bool {
        matches!(self.fate, Fate::Served { .. })
    }

    /// How long the token is still good, where its expiry ends the connection.
    fn token_left(&self) -> Option<Duration> {
        let Fate::Served { token_expires } = self.fate else { return None };
        let closes = self.hub().config.token_expiry_closes;
        closes.then(|| token_expires.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO))
    }

    fn duration_due(&self) -> Option<Instant> {
        let Phase::Confirmed { since, .. } = &self.phase else { return None };
        self.hub().config.limits.max_duration.map(|limit| *since + limit)
    }

    /// How long the session may be without audio, and what is said then.
    fn idle_limit(&self) -> Option<(Duration, Reached)> {
        let Phase::Confirmed { conversation, .. } = &self.phase else { return None };
        let limit = self.hub().config.limits.idle_timeout?;
        let silent = |error_code, reason| Reached { error_code, close_code: CLOSE_POLICY, reason };
        Some(match conversation.egress() {
            Egress::LiveKit { idle_timeout } => {
                let limit = idle_timeout.map_or(limit, |seconds| Duration::from_secs(seconds.into()));
                (limit, silent(UNAVAILABLE, "livekit silence timeout".into()))
            }
            Egress::None | Egress::Agora => {
                (limit, silent(UNAVAILABLE, format!("no audio input for {}s", limit.as_secs_f64())))
            }
        })
    }

    /// The limit that the connection has reached, if any.
    fn reached(&self) -> Option<Reached> {
        let now = Instant::now();
        if self.token_left().is_some_and(|left| left.is_zero()) {
            return Some(Reached::coded(4010, "session token expired"));
        }
        if self.is_served() && self.hub().credits_run_out(&self.who).is_some_and(|due| due <= now) {
            return Some(Reached::coded(4001, "credits exhausted"));
        }
        if self.duration_due().is_some_and(|due| due <= now) {
            return Some(Reached::coded(4002, "maximum session duration reached"));
        }
        let (limit, reached) = self.idle_limit()?;
        (self.audio_at + limit <= now).then_some(reached)
    }

    /// Ends the connection if a limit is reached.
    pub(super) async fn enforce_limits(&mut self) -> Flow {
        let Some(Reached { error_code, close_code, reason }) = self.reached() else {
            return Flow::Continue(());
        };
        if self.hub().config.unknowns.error_before_close {
            self.server_error(i32::from(error_code), &reason, false)?;
        }
        self.close(close_code, &reason).await
    }

    /// Carries out a refusal that was decided at the upgrade.
    pub(super) async fn end_refused(&mut self, doom: Doom) -> Flow {
        let Doom { code, reason, as_error } = doom;
        if as_error {
            return self.refuse(i32::from(code), &reason, CLOSE_POLICY).await;
        }
        if self.hub().config.unknowns.error_before_close {
            self.server_error(i32::from(code), &reason, false)?;
        }
        self.close(code, &reason).await
    }
}
