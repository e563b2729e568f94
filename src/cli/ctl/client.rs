//! HTTP towards a Greenroom: one call, all pages of a listing, or a stream.

use std::{path::Path, sync::Arc, time::Duration};

use awc::{ClientResponse, error::SendRequestError, http::Method};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::failure::{Failure, Refused};
use crate::upstream::{install_crypto, tls_config};

/// From the call to the head of the answer. Commands are answered when they are on the disk; 30 s is a disk that
/// does not work.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// From one piece of an answer to the next.
const PIECE_WITHIN: Duration = Duration::from_secs(15);
/// Name lookup, TCP and TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The longest answer: a page of 500 sessions with the largest labels and errors is far below it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Sessions of a page: as many as Greenroom gives.
pub(super) const PAGE: usize = 500;

/// Where Greenroom is, and who calls.
#[derive(Clone)]
pub(super) struct Client {
    http: awc::Client,
    base: Url,
    key: Option<SecretString>,
}

/// An answer whose body is still to be read.
type Response = ClientResponse<actix_http::BoxedPayloadStream>;

/// The names and values of a query.
pub(super) type Query = Vec<(&'static str, String)>;

impl Client {
    /// A client of the Greenroom at `base`.
    ///
    /// # Errors
    ///
    /// The file of the CA cannot be read.
    pub(super) fn new(base: Url, key: Option<SecretString>, ca: Option<&Path>) -> Result<Self, Failure> {
        install_crypto();
        let tls = ca.map_or_else(|| Ok(tls_config()), trusting)?;
        let connector =
            awc::Connector::new().rustls_0_23(tls).timeout(CONNECT_WITHIN).handshake_timeout(CONNECT_WITHIN);
        let http = awc::Client::builder()
            .connector(connector)
            // Each wait has a deadline here; a stream has none as a whole.
            .disable_timeout()
            // A redirect would carry the key to wherever it points.
            .disable_redirects()
            .add_default_header(("user-agent", concat!("greenroom-ctl/", env!("CARGO_PKG_VERSION"))))
            .finish();
        Ok(Self { http, base, key })
    }

    /// Where Greenroom is, as it is shown to people.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    fn url(&self, segments: &[&str], query: &Query) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // An id is data: what it holds must not become another path.
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn unreachable(&self, why: impl Into<String>) -> Failure {
        Failure::Unreachable { url: self.address().to_owned(), why: why.into() }
    }

    fn protocol(&self, why: impl Into<String>) -> Failure {
        Failure::Protocol { url: self.address().to_owned(), why: why.into() }
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
        body: Option<&Value>,
    ) -> Result<Response, Failure> {
        let mut request = self.http.request(method, url.as_str());
        if let Some(key) = &self.key {
            request = request.insert_header(("authorization", format!("Bearer {}", key.expose_secret())));
        }
        for header in headers {
            request = request.insert_header((header.0, header.1.as_str()));
        }
        let sent = match body {
            Some(body) => request.send_json(body),
            None => request.send(),
        };
        timeout(ANSWER_WITHIN, sent)
            .await
            .map_err(|_| self.unreachable(format!("nothing came within {} s", ANSWER_WITHIN.as_secs())))?
            .map_err(|error| self.unsent(&error))
    }

    fn unsent(&self, error: &SendRequestError) -> Failure {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let text = cause.to_string();
            if !why.contains(&text) {
                why = format!("{why}: {text}");
            }
            source = cause.source();
        }
        if why.contains("certificate") {
            why.push_str("; --ca FILE names the authority of a private certificate");
        }
        if matches!(error, SendRequestError::Response(_)) {
            self.protocol(why)
        } else {
            self.unreachable(why)
        }
    }

    /// Makes a call and reads its answer, null where that is empty.
    ///
    /// # Errors
    ///
    /// As [`Failure`] says.
    pub(super) async fn call(
        &self,
        method: Method,
        segments: &[&str],
        query: &Query,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let url = self.url(segments, query);
        let response = self.send(method, &url, &[], body).await?;
        self.read(response).await
    }

    /// [`Client::call`] with GET.
    pub(super) async fn get(&self, segments: &[&str], query: &Query) -> Result<Value, Failure> {
        let answer = self.call(Method::GET, segments, query, None).await?;
        if answer.is_null() { Err(self.protocol("an answer without a body")) } else { Ok(answer) }
    }

    /// [`Client::call`] with POST and nothing to say.
    pub(super) async fn post(&self, segments: &[&str]) -> Result<Value, Failure> {
        self.call(Method::POST, segments, &Query::new(), None).await
    }

    async fn read(&self, mut response: Response) -> Result<Value, Failure> {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after_s = header("retry-after").and_then(|text| text.parse().ok());
        let mut text = Vec::new();
        while let Some(piece) = self.next_piece(&mut response).await? {
            if text.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.protocol(format!("an answer of more than {MAX_ANSWER_BYTES} bytes")));
            }
            text.extend_from_slice(&piece);
        }
        let body = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_slice::<Value>(&text) };
        match body {
            Ok(body) if (200..300).contains(&status) => Ok(body),
            Ok(body) => match Refused::of(status, retry_after_s, &body) {
                Some(refused) => Err(Failure::Refused(Box::new(refused))),
                None => Err(self.protocol(format!("HTTP {status} without a problem's code"))),
            },
            Err(_) => Err(self.protocol(format!("HTTP {status} with a body that is no JSON"))),
        }
    }

    async fn next_piece(
        &self,
        from: &mut (impl Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin),
    ) -> Result<Option<Bytes>, Failure> {
        match timeout(PIECE_WITHIN, from.next()).await {
            Ok(piece) => {
                piece.transpose().map_err(|error| self.unreachable(format!("the answer broke off: {error}")))
            }
            Err(_) => Err(self.unreachable("the answer stopped midway")),
        }
    }

    /// Gives the items of a listing to `each`, page by page, until there are no more or `most` were given. Answers
    /// whether there are more.
    ///
    /// # Errors
    ///
    /// As [`Failure`] says; `each`'s own.
    pub(super) async fn pages(
        &self,
        segments: &[&str],
        list: &str,
        query: &Query,
        most: usize,
        mut each: impl FnMut(Vec<Value>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut left = most;
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.clone();
            query.push(("limit", left.min(PAGE).to_string()));
            query.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
            let mut page = self.get(segments, &query).await?;
            let Value::Array(mut items) = page[list].take() else {
                return Err(self.protocol(format!("a listing without \"{list}\"")));
            };
            let over = items.len() > left;
            items.truncate(left);
            left -= items.len();
            each(items)?;
            let next = page["next_cursor"].as_str().map(str::to_owned);
            if left == 0 || next.is_none() {
                return Ok(over || next.is_some());
            }
            // A cursor that does not move would be read for ever.
            if next == cursor {
                return Err(self.protocol("the same page is given again and again"));
            }
            cursor = next;
        }
    }

    /// All items of a listing.
    ///
    /// # Errors
    ///
    /// As [`Failure`] says.
    pub(super) async fn all(
        &self,
        segments: &[&str],
        list: &str,
        query: &Query,
    ) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        self.pages(segments, list, query, usize::MAX, |items| {
            all.extend(items);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Errors
    ///
    /// As [`Failure`] says.
    pub(super) async fn events(&self, query: &Query, last_id: Option<&str>) -> Result<Response, Failure> {
        let url = self.url(&["v1", "events"], query);
        let mut headers = vec![("accept", "text/event-stream".to_owned())];
        headers.extend(last_id.map(|id| ("last-event-id", id.to_owned())));
        let response = self.send(Method::GET, &url, &headers, None).await?;
        let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        if response.status().is_success() && is_stream {
            return Ok(response);
        }
        match self.read(response).await {
            Err(failure) => Err(failure),
            Ok(_) => Err(self.protocol("the answer is no stream of events")),
        }
    }
}

/// TLS that trusts the authorities of a PEM file, and no other.
fn trusting(path: &Path) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let unusable = |why: String| Failure::File(format!("--ca {}: {why}", path.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))? {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in it; PEM is expected".to_owned()));
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
