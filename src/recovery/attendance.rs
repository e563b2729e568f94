//! Whether anybody is there for a session.
//!
//! A session that was made over HTTP belongs to whoever made it, and lives until it is deleted. One that a drop-in
//! client made belongs to that client's connection: it ends with it, or a while after it where the client may come
//! back. Nobody is there then who would pay for an attempt.

use std::time::Duration;

use super::Moment;

/// How a client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It said good-bye: close code 1000 or 1001.
    Closed,
    /// Its connection ended without that, and it may come back.
    Vanished,
    /// It gave its upgrade up, or the deadline of that has passed.
    Abandoned,
}

/// Whether anybody is there for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attendance {
    /// Its owner is, until the session is deleted; clients come and go.
    Owned,
    /// The client is that it lives for.
    Attended,
    /// That client is gone, and the session ends at this moment unless one comes back.
    Deserted {
        /// When it ends.
        until: Moment,
    },
}

impl Attendance {
    /// A client has come.
    pub const fn join(&mut self) {
        if let Self::Deserted { .. } = self {
            *self = Self::Attended;
        }
    }

    /// The client has left. `has_stood` says whether the session was ever confirmed: one that never was has nothing
    /// that a client could come back for.
    pub fn leave(&mut self, how: Departure, has_stood: bool, linger: Duration, now: Moment) {
        if let Self::Attended = self {
            let linger = match how {
                Departure::Vanished | Departure::Abandoned if has_stood => linger,
                Departure::Vanished | Departure::Abandoned | Departure::Closed => Duration::ZERO,
            };
            *self = Self::Deserted { until: now + linger };
        }
    }

    /// The client was told the session's end: it is parked, or failed.
    pub fn dismiss(&mut self, linger: Duration, now: Moment) {
        if let Self::Attended = self {
            *self = Self::Deserted { until: now + linger };
        }
    }

    /// When the session ends if nobody comes.
    pub const fn next_timeout(&self) -> Option<Moment> {
        match self {
            Self::Deserted { until } => Some(*until),
            Self::Owned | Self::Attended => None,
        }
    }

    /// Whether the session is to be deleted.
    pub fn is_over(&self, now: Moment) -> bool {
        self.next_timeout().is_some_and(|until| until <= now)
    }

    /// Whether somebody is there for whom a parked or failed session may try again.
    pub const fn may_revive(&self) -> bool {
        match self {
            Self::Owned | Self::Attended => true,
            Self::Deserted { .. } => false,
        }
    }

    /// Whether the fleet may call the session when it is parked. A client is told that its session is parked, and
    /// leaves: then nobody is there for whom a call would be answered.
    pub const fn waits_parked(&self) -> bool {
        match self {
            Self::Owned => true,
            Self::Attended | Self::Deserted { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(20);

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_ends_as_its_client_left_it() {
        for (how, has_stood, ends) in [
            (Departure::Closed, true, 5),
            (Departure::Closed, false, 5),
            (Departure::Vanished, true, 25),
            (Departure::Vanished, false, 5),
            (Departure::Abandoned, true, 25),
            (Departure::Abandoned, false, 5),
        ] {
            let mut attendance = Attendance::Attended;
            attendance.leave(how, has_stood, LINGER, at(5));
            assert_eq!(attendance.next_timeout(), Some(at(ends)), "{how:?}, has stood: {has_stood}");
            assert!(!attendance.may_revive());
            assert!(attendance.is_over(at(ends)) && (ends == 5 || !attendance.is_over(at(ends - 1))));
        }
    }

    #[test]
    fn a_client_that_comes_back_in_time_keeps_the_session() {
        let mut attendance = Attendance::Attended;
        attendance.leave(Departure::Vanished, true, LINGER, at(5));
        attendance.join();
        assert_eq!((attendance, attendance.next_timeout()), (Attendance::Attended, None));
        assert!(!attendance.is_over(at(1000)) && attendance.may_revive());
    }

    #[test]
    fn who_has_left_once_does_not_leave_later() {
        let mut attendance = Attendance::Attended;
        attendance.dismiss(LINGER, at(5));
        attendance.leave(Departure::Vanished, true, LINGER, at(24));
        attendance.dismiss(LINGER, at(24));
        assert_eq!(attendance.next_timeout(), Some(at(25)));
    }

    #[test]
    fn an_owned_session_outlives_its_clients_and_waits_parked() {
        let mut attendance = Attendance::Owned;
        attendance.join();
        attendance.leave(Departure::Closed, true, LINGER, at(5));
        attendance.dismiss(LINGER, at(5));
        assert_eq!((attendance, attendance.next_timeout()), (Attendance::Owned, None));
        assert!(attendance.may_revive() && attendance.waits_parked());
        assert!(!Attendance::Attended.waits_parked());
    }
}
