//! Certificates of authorities that the test makes up, and a client that speaks HTTP over TLS.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};

use super::{http::Answer, process::DEADLINE};

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    /// Writes the certificate, then the key, as a renewal does.
    pub(crate) fn write(&self, cert: &Path, key: &Path) {
        std::fs::write(cert, &self.cert).unwrap();
        std::fs::write(key, &self.key).unwrap();
    }
}

/// An authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for 127.0.0.1, changed by `change`.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn server(&self) -> Pair {
        self.issue(|_| ())
    }
}

/// The two files of a listener.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    pub(crate) fn write(directory: &Path, name: &str, pair: &Pair) -> Self {
        let cert = directory.join(format!("{name}.crt"));
        let key = directory.join(format!("{name}.key"));
        pair.write(&cert, &key);
        Self { cert, key }
    }

    pub(crate) fn toml(&self) -> String {
        format!("cert = {:?}\nkey = {:?}\n", self.cert, self.key)
    }
}

/// A client of one listener that trusts one authority.
#[derive(Clone)]
pub(crate) struct TlsClient {
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

impl TlsClient {
    pub(crate) fn new(address: SocketAddr, trusts: &Authority, own: Option<&Pair>) -> Self {
        Self::with(address, trusts, own, rustls::ALL_VERSIONS, &["http/1.1"])
    }

    pub(crate) fn with(
        address: SocketAddr,
        trusts: &Authority,
        own: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusts.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        // A resumed session would not show the certificate that is presented now.
        config.resumption = rustls::client::Resumption::disabled();
        Self { address, config: Arc::new(config) }
    }

    /// A connection after its handshake.
    pub(crate) fn connect(&self) -> io::Result<Stream> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(connection, socket))
    }

    /// The answer to a GET over a connection of its own.
    pub(crate) fn get(&self, path: &str, key: Option<&str>) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.write_all(request(self.address, path, key, "close").as_bytes())?;
        let mut raw = Vec::new();
        // An end without a TLS close is an error here, and is none where the answer is whole.
        let ended = stream.read_to_end(&mut raw);
        Answer::parse(&raw).map_or_else(
            || Err(ended.err().unwrap_or_else(|| io::Error::other("the connection ended without an answer"))),
            Ok,
        )
    }

    /// The certificate that a new connection is shown.
    pub(crate) fn shown(&self) -> io::Result<CertificateDer<'static>> {
        let stream = self.connect()?;
        Ok(stream.conn.peer_certificates().unwrap()[0].clone().into_owned())
    }
}

/// A GET by hand.
pub(crate) fn request(address: SocketAddr, path: &str, key: Option<&str>, connection: &str) -> String {
    let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\n{authorization}\r\n")
}
