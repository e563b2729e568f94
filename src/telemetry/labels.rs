//! The values that labels may have. Closed enums, so that no text from outside becomes a series.

use crate::outbox::Outcome;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The spelling in metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The position in `ALL`.
            pub(super) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How a request ended.
    RequestOutcome {
        /// Answered to its end.
        Completed = "completed",
        /// Ended by an interrupt.
        Interrupted = "interrupted",
        /// Ended by an error or its deadline.
        Failed = "failed",
    }
}

label! {
    /// What became of a trace.
    TraceOutcome {
        /// The collector has it.
        Exported = "exported",
        /// It is lost: the collector did not take it, or too many waited.
        Dropped = "dropped",
        /// It was left out, as `telemetry.otlp.sample_ratio` says.
        SampledOut = "sampled_out",
    }
}

label! {
    /// Which way bytes go.
    Direction {
        /// To the avatar service.
        Up = "up",
        /// From the avatar service.
        Down = "down",
    }
}

label! {
    /// The state of a breaker; the metric's value is the position.
    BreakerLabel {
        /// Attempts pass.
        Closed = "closed",
        /// Probes pass.
        HalfOpen = "half_open",
        /// Nothing passes.
        Open = "open",
    }
}

label! {
    /// The invariants, in the order of the design. A breach is a bug in Greenroom.
    Invariant {
        /// 1: a session has at most one upstream connection.
        OneConnection = "one_connection",
        /// 2: every accepted request ends in exactly one outcome, in time.
        OneOutcome = "one_outcome",
        /// 3: a parked, failed, dormant or stopped session has no connection and makes no attempt.
        QuietWhenParked = "quiet_when_parked",
        /// 4: no tenant sees, names or affects another's sessions.
        TenantIsolation = "tenant_isolation",
        /// 5: no secret leaves in a log, an event, an error, a metric or a response.
        NoSecret = "no_secret",
        /// 6: a crash of one session's code ends that session's turn and nothing else.
        CrashContained = "crash_contained",
        /// 7: memory is bounded by configuration.
        BoundedMemory = "bounded_memory",
        /// 8: what was answered with 2xx survives on a durable store.
        Durable = "durable",
    }
}

impl From<Outcome> for RequestOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Interrupted => Self::Interrupted,
            Outcome::Failed(_) => Self::Failed,
        }
    }
}
