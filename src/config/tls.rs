//! `[server.tls]` and `[admin.tls]`: the files, and what must be true of them.
//!
//! The files are checked when the configuration is read, so that `check-config` says all that is wrong with them,
//! and in the same way again each time they change while the process runs.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::reader::Section;

/// Bytes of a file of certificates at most: a bundle of all public authorities has some 200 KB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// How long before its end a certificate is warned of: a renewal that runs by itself is done by then.
const WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

const DAY_S: u64 = 24 * 3600;

/// The TLS of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain in PEM, the listener's own certificate first.
    pub cert: PathBuf,
    /// Its private key in PEM, not encrypted.
    pub key: PathBuf,
    /// The authorities in PEM of which a client must have a certificate; without it, clients need none.
    pub client_ca: Option<PathBuf>,
    /// When the certificate ends, as it was when the configuration was read.
    pub expires: SystemTime,
}

/// What the files were at one time. Two of them differ when [`TlsFiles::fingerprint`] does.
pub struct TlsFiles {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What a listener serves with.
pub struct LoadedTls {
    /// For the handshakes: TLS 1.2 and 1.3, HTTP/1.1.
    pub server: Arc<ServerConfig>,
    /// When the certificate ends.
    pub expires: SystemTime,
}

/// What is wrong with the files. Nothing of a key is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {text}")]
pub struct TlsMistake {
    /// The key of the section whose file it is: `cert`, `key` or `client_ca`.
    pub key: &'static str,
    /// What is wrong, with the path.
    pub text: String,
}

impl TlsMistake {
    fn new(key: &'static str, path: &Path, text: &str) -> Self {
        Self { key, text: format!("the file {} {text}", path.display()) }
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One cannot be read, or is larger than 1 MiB.
    pub fn read(&self) -> Result<TlsFiles, TlsMistake> {
        Ok(TlsFiles {
            cert: read_bounded("cert", &self.cert)?,
            key: read_bounded("key", &self.key)?,
            client_ca: self.client_ca.as_deref().map(|path| read_bounded("client_ca", path)).transpose()?,
        })
    }

    /// Makes of the files what a listener serves with.
    ///
    /// # Errors
    ///
    /// A file does not hold what it should, the key is not the certificate's, or the certificate has ended or not
    /// begun at `now`.
    pub fn load(&self, files: &TlsFiles, now: SystemTime) -> Result<LoadedTls, TlsMistake> {
        let chain = certificates("cert", &self.cert, &files.cert)?;
        let expires = check_time(&self.cert, chain.first(), now)?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| {
            let text = "holds no private key; PKCS#8, PKCS#1 or SEC1 in PEM is expected, not encrypted";
            TlsMistake::new("key", &self.key, text)
        })?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| TlsMistake::new("cert", &self.cert, &format!("cannot be used: {error}")))?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(path), Some(bytes)) => builder.with_client_cert_verifier(verifier(path, bytes, provider)?),
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| {
            let text = if matches!(error, rustls::Error::InconsistentKeys(_)) {
                format!("is not the key of the certificate in {}", self.cert.display())
            } else {
                format!("cannot be used: {error}")
            };
            TlsMistake::new("key", &self.key, &text)
        })?;
        // WebSocket upgrades need HTTP/1.1.
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(LoadedTls { server: Arc::new(server), expires })
    }

    /// That the certificate ends soon, at `now`, as one sentence.
    pub(super) fn note(&self, section: &str, now: SystemTime) -> Option<String> {
        let left = self.expires.duration_since(now).unwrap_or_default();
        (left < WARN_BEFORE).then(|| {
            format!(
                "{section}.cert: the certificate in {} ends in {} days, at {}; renew it",
                self.cert.display(),
                left.as_secs() / DAY_S,
                rfc3339(self.expires)
            )
        })
    }
}

impl TlsFiles {
    /// A number that changes with the files.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.cert, &self.key, &self.client_ca).hash(&mut hasher);
        hasher.finish()
    }
}

fn read_bounded(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsMistake> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| TlsMistake::new(key, path, &format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(TlsMistake::new(key, path, &format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsMistake> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsMistake::new(key, path, &format!("is no PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(TlsMistake::new(key, path, "holds no certificate; PEM is expected"));
    }
    Ok(certificates)
}

fn verifier(
    path: &Path,
    pem: &[u8],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsMistake> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca", path, pem)? {
        roots.add(certificate).map_err(|error| {
            TlsMistake::new(
                "client_ca",
                path,
                &format!("holds a certificate that is no authority's: {error}"),
            )
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| TlsMistake::new("client_ca", path, &format!("cannot be used: {error}")))
}

/// When the certificate ends, if it holds at `now`.
fn check_time(
    path: &Path,
    certificate: Option<&CertificateDer<'_>>,
    now: SystemTime,
) -> Result<SystemTime, TlsMistake> {
    let (_, parsed) = certificate
        .and_then(|certificate| X509Certificate::from_der(certificate).ok())
        .ok_or_else(|| TlsMistake::new("cert", path, "holds a certificate that cannot be read"))?;
    let begins = calendar(parsed.validity().not_before.timestamp());
    let expires = calendar(parsed.validity().not_after.timestamp());
    if expires <= now {
        let text = format!("holds a certificate that ended at {}; renew it", rfc3339(expires));
        return Err(TlsMistake::new("cert", path, &text));
    }
    if begins > now {
        let text = format!("holds a certificate that only begins at {}", rfc3339(begins));
        return Err(TlsMistake::new("cert", path, &text));
    }
    Ok(expires)
}

fn calendar(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or_default())
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Authorities that are trusted beside the public ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// The file that they were read from.
    pub path: PathBuf,
    /// Their certificates, of which there is one at least.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those in the PEM file at `path`, the value of `key`.
    fn read(key: &'static str, path: PathBuf) -> Result<Self, TlsMistake> {
        let bytes = read_bounded(key, &path)?;
        let certificates = certificates(key, &path, &bytes)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| {
                TlsMistake::new(key, &path, &format!("holds a certificate that is no authority's: {error}"))
            })?;
        }
        Ok(Self { path, certificates })
    }
}

/// Reads the authorities whose file `ca` names.
pub(super) fn read_authorities(section: &Section<'_>) -> Option<Authorities> {
    let path = section.text("ca", "a path", |text| Ok(section.report.directory.join(text)))?;
    Authorities::read("ca", path).map_err(|mistake| section.mistake(mistake.key, mistake.text)).ok()
}

/// Reads a section `tls`; `None` where the file has none, or one with mistakes. Only operators have client
/// certificates: tenants have keys.
pub(super) fn read_tls(section: &Section<'_>, with_client_ca: bool) -> Option<Tls> {
    let path = |key| section.text(key, "a path", |text| Ok(section.report.directory.join(text)));
    let (cert, key) = (path("cert"), path("key"));
    let client_ca = if with_client_ca { path("client_ca") } else { None };
    let (cert, key) = match (cert, key, &client_ca) {
        (Some(cert), Some(key), _) => (cert, key),
        (None, None, None) => return None,
        (cert, _, _) => {
            let missing = if cert.is_some() { "key" } else { "cert" };
            // What is there and is no path was told already.
            if section.node(missing).is_none() {
                section.mistake(missing, "is missing: TLS needs both, \"cert\" and \"key\"");
            }
            return None;
        }
    };
    let mut tls = Tls { cert, key, client_ca, expires: UNIX_EPOCH };
    match tls.read().and_then(|files| tls.load(&files, SystemTime::now())) {
        Ok(loaded) => {
            tls.expires = loaded.expires;
            Some(tls)
        }
        Err(mistake) => {
            section.mistake(mistake.key, mistake.text);
            None
        }
    }
}
