//! TLS for one run: a certificate for this machine, and whoever trusts it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::upstream::tls_config_trusting;

/// The files of a certificate for 127.0.0.1 and of its authority.
pub(super) struct Certificate {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificate {
    /// Makes them in `folder`, which goes with the run.
    pub(super) fn make(folder: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own_key = || KeyPair::generate().map_err(io::Error::other);
        let authority = CertifiedIssuer::self_signed(params, own_key()?).map_err(io::Error::other)?;
        let key = own_key()?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(io::Error::other)?;
        let cert = params.signed_by(&key, &authority).map_err(io::Error::other)?;
        let write = |name: &str, pem: String| {
            let path = folder.join(name);
            fs::write(&path, pem).map(|()| path)
        };
        Ok(Self {
            ca: write("ca.crt", authority.pem())?,
            cert: write("server.crt", cert.pem())?,
            key: write("server.key", key.serialize_pem())?,
        })
    }
}

/// The TLS settings of a client that trusts the authority in a file.
pub(super) fn trusting(ca: &Path) -> io::Result<Arc<rustls::ClientConfig>> {
    let certificate = CertificateDer::from_pem_file(ca).map_err(io::Error::other)?;
    Ok(tls_config_trusting(&[certificate]))
}
