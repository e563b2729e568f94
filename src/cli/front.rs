//! TLS in front of a plain listener on this machine: what `simulate --tls-listen` serves, since the simulator itself
//! has a bad network under its sockets, and none under a TLS stream.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// How long a client may take for its handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// After an accept failed (no file descriptor is left, mostly): time for others to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `behind` on `listener`, for ever. A connection here has one there, for as long as both last.
pub(super) async fn serve(listener: TcpListener, server: Arc<ServerConfig>, behind: SocketAddr) {
    let acceptor = TlsAcceptor::from(server);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let acceptor = acceptor.clone();
                actix_rt::spawn(async move {
                    if let Err(error) = pass(stream, acceptor, behind).await {
                        tracing::debug!(%error, "a connection behind TLS ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn pass(stream: TcpStream, acceptor: TlsAcceptor, behind: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut secured = timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await??;
    let mut plain = TcpStream::connect(behind).await?;
    plain.set_nodelay(true)?;
    copy_bidirectional(&mut secured, &mut plain).await.map(drop)
}
