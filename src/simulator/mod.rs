//! The avatar service on one machine, with scripted faults.
//!
//! The console's token endpoint, the ingress WebSocket and a control API on one address. It accepts any API
//! key, app id and avatar id except avatar ids that begin with `missing`; it refuses session tokens that it
//! did not give out, that have expired, or that were presented before (every attempt needs a fresh one: a
//! token is used up by the upgrade that presents it, granted or not). It shares [`crate::wire`] with the
//! product and nothing else.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use greenroom::simulator::{Effect, Fault, Filter, Point, SimulatorConfig, start};
//!
//! let simulator = start(SimulatorConfig::default()).await?;
//! let fault = Fault::new(Point::AfterChunks(3), Effect::close(4503, "dependency"));
//! simulator.add_fault(fault.only(Filter::avatar("a1")).times(1)).expect("the fault is possible");
//! println!("{} {}", simulator.console_url(), simulator.ingress_url());
//! assert_eq!(simulator.stats().violations.total, 0);
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The control API
//!
//! | call | body | answer |
//! | --- | --- | --- |
//! | `POST /_sim/faults` | a [`Fault`], or a list of them | 201 `{"ids": [1]}`; 400 `{"message"}`, and none is taken |
//! | `GET /_sim/faults` | | a list of [`PlannedFault`] |
//! | `DELETE /_sim/faults` | | 204 |
//! | `POST /_sim/drop` | [`Filter`]'s fields, `share` (0 to 1), `reset` | `{"dropped": n}`: the connections that end without a close frame |
//! | `POST /_sim/strike` | `{"match", "share", "do"}`: any effect of a live connection, now | `{"struck": n}` |
//! | `POST /_sim/down` | `{"down": true, "for_ms": 5000}` | `{"down": true}`; the control connection that asked stays open and can end the outage, otherwise `for_ms` does |
//! | `POST /_sim/credits` | `{"api_key", "seconds"}`, negative to take away | `{"api_key", "seconds_left"}`; a key without a limit has one from then on |
//! | `GET /_sim/stats` | | [`Stats`] |
//! | `GET /_sim/record?avatar_id=&since=` | | a list of [`Event`]: the last 10,000, of an avatar id (`*` at its end matches any rest), from a time in ms on |
//!
//! # What is not known of the service, and what the simulator does
//!
//! Each of [`Unknowns`] is a switch. Beyond these:
//!
//! - After a ServerError of its own (a refused handshake, a broken rule) it closes with 1008, 1003 for a text
//!   frame, 1007 for undecodable protobuf. An idle session ends with 1008 too; the reason tells why.
//! - ClientInterrupt stops the request's frames and is answered by one final frame: `end=true`, no
//!   animation. A request that has ended, or that was never begun, gets no answer.
//! - Requests play side by side; in egress mode too, unless [`Unknowns::egress_preempts`].

mod accounts;
mod audio;
mod chance;
mod config;
mod connection;
mod control;
mod conversation;
mod fault_check;
mod fault_file;
mod faults;
mod handshake;
mod hub;
mod listener;
mod pacing;
mod payload;
mod plan;
mod record;
mod recorder;
mod socket;
mod stats;
mod token;
mod tokens;
mod upgrade;

use std::{io, net::SocketAddr, sync::Arc};

pub use config::{Arrival, Limits, Pace, SimulatorConfig, Unknowns};
pub use fault_check::FaultError;
pub use fault_file::FaultFile;
pub use faults::{Close, Effect, Fault, Filter, Nonsense, Point, Who};
pub use payload::{FRAME_HEADER_BYTES, check_frame_payload, frame_payload, monotonic_now, read_stamp};
pub use plan::PlannedFault;
pub use record::{Digest, Event, Happening};
pub use stats::{Attempts, Connections, RequestState, RequestStats, SessionStats, Stats, Violations};

use hub::Hub;
use listener::Threads;

/// A running simulator. Dropping it ends it too, without waiting.
pub struct Simulator {
    hub: Arc<Hub>,
    /// `None` only while it is being stopped.
    threads: Option<Threads>,
    addr: SocketAddr,
}

/// Starts a simulator on threads and runtimes of its own: it can be awaited in an actix system, in any tokio
/// runtime, and where the caller's clock is paused.
///
/// # Errors
///
/// The address cannot be bound, or a thread cannot be started.
pub async fn start(config: SimulatorConfig) -> io::Result<Simulator> {
    let hub = Hub::new(config);
    let threads = listener::start(&hub).await?;
    Ok(Simulator { hub, addr: threads.addr, threads: Some(threads) })
}

/// [`start`] for callers that cannot await, in a runtime or without one. Blocks until the address is bound.
///
/// # Errors
///
/// As [`start`].
pub fn spawn_thread(config: SimulatorConfig) -> io::Result<Simulator> {
    // A thread of its own, since a runtime cannot be entered where another one is running.
    let started = std::thread::spawn(|| actix_rt::Runtime::new()?.block_on(start(config)));
    started.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts the simulator panicked")))
}

/// Reads a fault plan: JSON, one [`Fault`] or a list of them.
///
/// # Errors
///
/// Says what is wrong and where.
pub fn parse_faults(json: &[u8]) -> Result<Vec<Fault>, String> {
    // A list is told by its bracket, so that an error names the field and not "no variant matches".
    let faults = if json.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(json)
    } else {
        serde_json::from_slice(json).map(|fault| vec![fault])
    };
    let faults: Vec<Fault> = faults.map_err(|error| error.to_string())?;
    for (number, fault) in faults.iter().enumerate() {
        fault.check().map_err(|error| format!("fault {}: {error}", number + 1))?;
    }
    Ok(faults)
}

impl Simulator {
    /// The address that it listens on, with the port that port 0 became.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client is given as the console's URL. The control API is below it.
    pub fn console_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What a client is given as the ingress URL.
    pub fn ingress_url(&self) -> String {
        format!("ws://{}/v2/driveningress", self.addr)
    }

    /// Adds a fault behind those that are planned, and gives its number. It strikes live connections too.
    ///
    /// # Errors
    ///
    /// The effect is not possible at its point, a number is outside its range, or the plan is full.
    pub fn add_fault(&self, fault: Fault) -> Result<u64, FaultError> {
        let ids = self.hub.add_faults(vec![fault])?;
        Ok(ids.into_iter().next().unwrap_or_default())
    }

    /// From here on a fault's `chance` falls as the seed says, see [`SimulatorConfig::seed`].
    pub fn seed_chance(&self, seed: u64) {
        self.hub.seed_chance(seed);
    }

    /// Empties the fault plan. What a fault has begun (a silence, a wait) goes on.
    pub fn clear_faults(&self) {
        self.hub.clear_faults();
    }

    /// The fault plan, with how often each has struck.
    pub fn faults(&self) -> Vec<PlannedFault> {
        self.hub.faults()
    }

    /// Ends the TCP connection of every WebSocket that matches, without a close frame. Gives how many; they
    /// are gone a moment later.
    pub fn drop_connections(&self, filter: &Filter) -> usize {
        self.strike(filter, 1.0, &Effect::Drop { reset: false })
    }

    /// Makes an effect happen now to live connections that match, `share` (0 to 1) of them by lot, and gives
    /// how many. Possible is what is possible at `after_seconds`; anything else does nothing.
    pub fn strike(&self, filter: &Filter, share: f64, effect: &Effect) -> usize {
        if effect.check(Point::AfterSeconds(0.0)).is_err() {
            return 0;
        }
        self.hub.strike_now(filter, share, effect)
    }

    /// Adds connected seconds to an API key's credits, or takes them away, and gives what is left. A key
    /// without a limit has one from then on, of exactly these seconds.
    pub fn top_up(&self, api_key: &str, seconds: f64) -> f64 {
        self.hub.top_up(api_key, seconds)
    }

    /// The outage switch, in force when this returns: new TCP connections are refused, and those that are
    /// open for HTTP calls end. Live WebSockets stay; end them with [`Self::drop_connections`].
    pub async fn set_down(&self, down: bool) {
        if let Some(threads) = &self.threads {
            threads.outage.set(down).await;
        }
    }

    /// What happened, the last 10,000 events in the order of their beginning.
    pub fn record(&self) -> Vec<Event> {
        self.hub.events(&Filter::default(), 0)
    }

    /// What it has seen so far.
    pub fn stats(&self) -> Stats {
        self.hub.stats()
    }

    /// Ends it and all its connections, as a kill of the service would. The port is free when this returns.
    pub async fn stop(mut self) {
        let Some(threads) = self.threads.take() else { return };
        let (done, is_done) = tokio::sync::oneshot::channel();
        // Joining blocks, and the caller may be on a thread that others need.
        std::thread::spawn(move || {
            threads.join();
            let _ = done.send(());
        });
        // An error would be a panic of the thread that joins: it is done then, too.
        let _ = is_done.await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(threads) = &self.threads {
            threads.signal_stop();
        }
    }
}
