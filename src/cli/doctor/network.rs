//! The way to an address, step by step: its name, TCP, TLS. The client of the service makes these in one, so that only
//! their sum is known of it.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;
use tokio::{net::lookup_host, task::spawn_blocking, time::timeout};
use url::{Host, Url};

use super::report::{Outcome, Report};
use crate::errors::{Egress, Evidence, Observed, Phase, SessionError};

/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;

/// One of the two addresses of an upstream.
pub(super) struct Place<'a> {
    /// What it is called in the configuration.
    pub(super) key: &'static str,
    pub(super) url: &'a Url,
    /// The phase in which a session would notice.
    pub(super) phase: Phase,
}

fn failed(started: Instant, phase: Phase, why: impl Into<String>) -> Outcome {
    let evidence = Evidence::new(phase, Observed::NoAnswer, Egress::None);
    let error = Box::new(SessionError::classified(evidence, why));
    Outcome::Failed { took: started.elapsed(), error }
}

/// Goes the way to `place`, within `limit` for each step. Answers whether it is open.
pub(super) async fn reach(
    place: &Place<'_>,
    limit: Duration,
    tls: &Arc<rustls::ClientConfig>,
    report: &mut Report,
) -> bool {
    let step = |name: &str| format!("{} {name}", place.key);
    let (Some(host), Some(port)) = (place.url.host(), place.url.port_or_known_default()) else {
        report.step(&step("name"), &failed(Instant::now(), place.phase, "the address has no host"));
        return false;
    };
    let is_tls = matches!(place.url.scheme(), "https" | "wss");
    let addresses = match resolve(&host, port, place.phase, limit).await {
        Ok((addresses, outcome)) => {
            report.step(&step("name"), &outcome);
            addresses
        }
        Err(outcome) => {
            report.step(&step("name"), &outcome);
            return false;
        }
    };
    let stream = match connect(&addresses, place.phase, limit).await {
        Ok((stream, outcome)) => {
            report.step(&step("tcp"), &outcome);
            stream
        }
        Err(outcome) => {
            report.step(&step("tcp"), &outcome);
            return false;
        }
    };
    if !is_tls {
        return true;
    }
    let outcome = secure(host, stream, place.phase, limit, Arc::clone(tls)).await;
    let is_open = matches!(outcome, Outcome::Passed { .. });
    report.step(&step("tls"), &outcome);
    is_open
}

async fn resolve(
    host: &Host<&str>,
    port: u16,
    phase: Phase,
    limit: Duration,
) -> Result<(Vec<SocketAddr>, Outcome), Outcome> {
    let started = Instant::now();
    let addresses: Vec<SocketAddr> = match host {
        Host::Ipv4(address) => vec![SocketAddr::from((*address, port))],
        Host::Ipv6(address) => vec![SocketAddr::from((*address, port))],
        Host::Domain(name) => match timeout(limit, lookup_host((*name, port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => {
                return Err(failed(started, phase, format!("the name {name} is not found: {error}")));
            }
            Err(_) => {
                return Err(failed(
                    started,
                    phase,
                    format!("no answer about {name} within {} ms", limit.as_millis()),
                ));
            }
        },
    };
    if addresses.is_empty() {
        return Err(failed(started, phase, format!("the name {host} has no address")));
    }
    let found: Vec<String> =
        addresses.iter().take(ADDRESSES).map(|address| address.ip().to_string()).collect();
    let outcome = Outcome::Passed { took: started.elapsed(), found: format!("{host}: {}", found.join(", ")) };
    Ok((addresses, outcome))
}

async fn connect(
    addresses: &[SocketAddr],
    phase: Phase,
    limit: Duration,
) -> Result<(TcpStream, Outcome), Outcome> {
    let started = Instant::now();
    let mut why = Vec::new();
    for address in addresses.iter().take(ADDRESSES) {
        let connected = timeout(limit, tokio::net::TcpStream::connect(address)).await;
        match connected.map(|connected| connected.and_then(tokio::net::TcpStream::into_std)) {
            Ok(Ok(stream)) => {
                let found = if why.is_empty() {
                    address.to_string()
                } else {
                    format!("{address}, after {}", why.join("; "))
                };
                return Ok((stream, Outcome::Passed { took: started.elapsed(), found }));
            }
            Ok(Err(error)) => why.push(format!("{address}: {error}")),
            Err(_) => why.push(format!("{address}: nothing within {} ms", limit.as_millis())),
        }
    }
    Err(failed(started, phase, format!("no connection: {}", why.join("; "))))
}

async fn secure(
    host: Host<&str>,
    stream: TcpStream,
    phase: Phase,
    limit: Duration,
    tls: Arc<rustls::ClientConfig>,
) -> Outcome {
    let started = Instant::now();
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|error| error.to_string()),
        Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::V4(address))),
        Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::V6(address))),
    };
    let name = match name {
        Ok(name) => name,
        Err(why) => return failed(started, phase, why),
    };
    let done = timeout(limit, spawn_blocking(move || handshake(name, stream, limit, tls))).await;
    match done {
        Ok(Ok(Ok(found))) => Outcome::Passed { took: started.elapsed(), found },
        Ok(Ok(Err(error))) => failed(started, phase, format!("TLS: {error}")),
        Ok(Err(error)) => failed(started, phase, format!("TLS: {error}")),
        Err(_) => failed(started, phase, format!("no TLS handshake within {} ms", limit.as_millis())),
    }
}

fn handshake(
    name: ServerName<'static>,
    mut stream: TcpStream,
    limit: Duration,
    tls: Arc<rustls::ClientConfig>,
) -> io::Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut connection = rustls::ClientConnection::new(tls, name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    connection.send_close_notify();
    // The handshake is what was asked for; a peer that is gone after it has done its part.
    let _ = connection.write_tls(&mut stream);
    Ok(connection.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS").to_owned())
}
