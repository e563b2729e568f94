//! Where connections leave from: the source addresses, and what is said when this machine has nothing left.
//!
//! From one address to one address of the service the kernel has as many ports as `net.ipv4.ip_local_port_range`
//! spans, 28,232 by default. Each further source address has as many again.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use actix_rt::net::{TcpSocket, TcpStream};
use actix_tls::connect::ConnectError;

use crate::errors::Shortage;

/// How long an address whose ports are used up comes last. To find that out the kernel looks at every port, so
/// that not each attempt should ask it again; and a port that comes free is found a second later.
const REST: Duration = Duration::from_secs(1);

/// The source addresses of all connections to the service.
#[derive(Debug)]
pub struct Sources {
    addresses: Vec<Source>,
    next: AtomicUsize,
    began: Instant,
}

#[derive(Debug)]
struct Source {
    address: IpAddr,
    /// Milliseconds since the pool began, up to which it rests.
    rests_until: AtomicU64,
}

impl Default for Sources {
    /// The system chooses.
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Sources {
    /// Connections leave from `addresses` in turn; none leaves the choice to the system.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        let source = |address| Source { address, rests_until: AtomicU64::new(0) };
        let addresses = addresses.into_iter().map(source).collect();
        Self { addresses, next: AtomicUsize::new(0), began: Instant::now() }
    }

    /// Connects to the first of `targets` that answers, from the first source that has a port for it.
    ///
    /// # Errors
    ///
    /// The last target's. One with a [`Lack`] inside where it is this machine's fault.
    pub(super) async fn connect(&self, targets: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for target in targets {
            match self.connect_to(*target).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, target: SocketAddr) -> io::Result<TcpStream> {
        if self.addresses.is_empty() {
            return dial(target, None).await.map_err(|error| match Shortage::of(&error) {
                Some(what) => Lack { what, target, tried: Vec::new(), error }.into(),
                None => error,
            });
        }
        let mut tried = Vec::new();
        let mut latest = None;
        for source in self.in_turn(target) {
            let error = match dial(target, Some(source.address)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            match Shortage::of(&error) {
                Some(Shortage::Ports) => {
                    source.rests_until.store(self.elapsed_ms() + REST.as_millis() as u64, Ordering::Relaxed);
                    tried.push(source.address);
                    latest = Some(error);
                }
                // Another address has none either.
                Some(what @ Shortage::Descriptors) => {
                    return Err(Lack { what, target, tried, error }.into());
                }
                None => return Err(error),
            }
        }
        match latest {
            Some(error) => Err(Lack { what: Shortage::Ports, target, tried, error }.into()),
            None => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("upstream.bind_addresses has no address of the family of {target}"),
            )),
        }
    }

    /// The sources of the target's family, from the next one on; those that rest come last.
    fn in_turn(&self, target: SocketAddr) -> impl Iterator<Item = &Source> {
        let count = self.addresses.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed) % count;
        let now = self.elapsed_ms();
        let (later, sooner) = self.addresses.split_at(first);
        let mut order: Vec<&Source> = sooner
            .iter()
            .chain(later)
            .filter(|source| source.address.is_ipv4() == target.is_ipv4())
            .collect();
        order.sort_by_key(|source| source.rests_until.load(Ordering::Relaxed) > now);
        order.into_iter()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn dial(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        late_port(&socket);
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(target).await
}

/// Lets the kernel choose the port as it connects: then a port counts as used only towards the address that it is
/// used for, and one that waits in TIME_WAIT can be taken again.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn late_port(socket: &TcpSocket) {
    // An older kernel does without, and has fewer ports.
    let _ = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn late_port(_socket: &TcpSocket) {}

impl Shortage {
    /// What an error of the system says that there is no more of.
    fn of(error: &io::Error) -> Option<Self> {
        if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse) {
            return Some(Self::Ports);
        }
        let is_out = [nix::libc::EMFILE, nix::libc::ENFILE].map(Some).contains(&error.raw_os_error());
        is_out.then_some(Self::Descriptors)
    }
}

/// The error of a name that was not found, unless the resolver lacked a descriptor, which it does not say.
pub(super) fn unless_short(error: ConnectError) -> ConnectError {
    let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
    match UdpSocket::bind(unbound).err().and_then(|error| Some((Shortage::of(&error)?, error))) {
        Some((what @ Shortage::Descriptors, error)) => {
            ConnectError::Io(Lack { what, target: unbound, tried: Vec::new(), error }.into())
        }
        Some((Shortage::Ports, _)) | None => error,
    }
}

/// What this machine had no more of, as a person reads it.
#[derive(Debug)]
pub(super) struct Lack {
    what: Shortage,
    target: SocketAddr,
    tried: Vec<IpAddr>,
    error: io::Error,
}

impl Lack {
    /// The lack inside an error of the HTTP client.
    pub(super) fn of(error: &awc::error::ConnectError) -> Option<&Self> {
        let awc::error::ConnectError::Io(error) = error else { return None };
        error.get_ref()?.downcast_ref()
    }

    pub(super) fn what(&self) -> Shortage {
        self.what
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, target, tried, error } = self;
        match what {
            Shortage::Descriptors => write!(
                f,
                "Greenroom has no file descriptor left for a connection ({error}): raise the limit of open files \
                 (LimitNOFILE, ulimit -n); each running session takes one, and each client of the ingress another"
            ),
            Shortage::Ports if tried.is_empty() => write!(
                f,
                "Greenroom's machine has no local port left towards {target} ({error}): add addresses to \
                 upstream.bind_addresses, or widen net.ipv4.ip_local_port_range"
            ),
            Shortage::Ports => {
                let tried: Vec<String> = tried.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "Greenroom's machine has no local port left towards {target} from {} ({error}): add addresses to \
                     upstream.bind_addresses, or widen net.ipv4.ip_local_port_range",
                    tried.join(", ")
                )
            }
        }
    }
}

impl Error for Lack {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl From<Lack> for io::Error {
    fn from(lack: Lack) -> Self {
        Self::new(lack.error.kind(), lack)
    }
}

#[cfg(test)]
mod tests;
